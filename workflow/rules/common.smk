"""Configuration and sheet, validated once; every path pattern; small lookups."""

import re
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

from unetpipe import code_version
from unetpipe.config import NAME_PATTERN, check_config
from unetpipe.datasets import source_kind
from unetpipe.errors import UnetpipeError
from unetpipe.images.cells import find_files
from unetpipe.machine import num_processors
from unetpipe.networks import list_ensembles, list_networks
from unetpipe.page.pages import templates_version
from unetpipe.records import read_record
from unetpipe.sheet import load_sheet


def validated():
    """Return configuration and sheet, or stop with all their problems at once."""
    try:
        settings = check_config(dict(config))
        sheet = load_sheet(Path(settings.volumes))
        problems = missing_files(settings.source, sheet)
        networks = list_networks(settings, sheet.folds)
        ensembles = list_ensembles(settings, networks)
    except UnetpipeError as error:
        raise WorkflowError(str(error)) from None
    problems += [
        f"compare: {folder} holds no train.json; name the folder of a trained network, "
        "like results/old/unet"
        for folder in settings.compare
        if not Path(folder, "train.json").exists()
    ]
    problems += [
        f"{settings.volumes}: no row has the role train"
        + (f" in fold {fold}" if fold else "")
        + "; give it annotated sections"
        for fold in sheet.folds
        if not sheet.of_fold(fold, "train")
    ]
    if ensembles and not sheet.volumes_of("", "test", "predict"):
        problems.append(
            f"ensemble: true, but {settings.volumes} has no row without a fold in the "
            "role predict or test, so nothing is left for the ensemble; add one, or "
            "remove the key"
        )
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise WorkflowError("\n  ".join([count, *problems]))
    return settings, sheet, networks, ensembles


def missing_files(source, sheet):
    """Return what a local folder lacks of the files that the sheet names."""
    if source_kind(source) != "folder":
        return []
    root = Path(source).expanduser()
    cells = {
        (row.volume, cell): None
        for row in sheet.rows
        for cell in (row.image, row.labels)
        if cell
    }
    return [
        f"volume {volume}: {cell!r} is not in {root.absolute()}; correct the sheet or "
        "`source`"
        for volume, cell in cells
        if not find_files(cell, root)
    ]


CONFIG, SHEET, NETWORKS, ENSEMBLES = validated()

RESULTS = f"results/{CONFIG.name}"
MANIFEST = f"resources/{CONFIG.name}/manifest.json"
VOLUME = f"{RESULTS}/volumes/{{volume}}"
MODEL = f"{RESULTS}/{{model}}"
PREDICTED = f"{MODEL}/{{volume}}"
LOGS = f"logs/{CONFIG.name}"
BENCHMARKS = f"benchmarks/{CONFIG.name}"
# A job on a cluster holds two Snakemakes besides its own process.
SNAKEMAKE_MB = 300


wildcard_constraints:
    volume=NAME_PATTERN.strip("^$"),
    model=NAME_PATTERN.strip("^$"),
    part=r"\d+",


def code_versions(stage, *modules):
    """Return fingerprints of a rule's script, its stage and what they compute with.

    Snakemake would go by the date of the script, which every checkout changes.
    """
    script = Path(workflow.basedir).parent / "scripts" / f"{stage.split('.')[-1]}.py"
    return {
        **code_version.code_versions(stage, *modules),
        "script": code_version.script_version(script),
    }


def section(name, without=()):
    """Return one section of the configuration as plain values."""
    return getattr(CONFIG, name).model_dump(mode="json", exclude=set(without))


def section_of_network(name):
    """Return an input function: a section of the configuration of one network."""

    def values(wildcards):
        settings = NETWORKS[wildcards.model].config
        return getattr(settings, name).model_dump(mode="json")

    return values


def choosing_of_network(wildcards):
    """Return what training must know of segmentation: what chooses thresholds."""
    settings = NETWORKS[wildcards.model].config
    keys = {"choose_by"}
    if {settings.training.validation_metric, settings.segmentation.choose_by} & {
        "seg",
        "f1",
    }:
        keys |= {"connectivity", "smallest_object_vox"}
    return settings.segmentation.model_dump(mode="json", include=keys)


def stored_weight_map():
    """Return how border terms are stored: with borders if any network wants them."""
    wanted = any(n.config.weight_map.enabled for n in NETWORKS.values())
    return section("weight_map") | {"enabled": wanted}


def one_of(names):
    """Return a regular expression for these names; none of them: it matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def without_validation(*roles):
    """Return the roles of an ensemble: its members chose on validation sections."""
    return [role for role in roles if role != "validate"]


def rows_of_network(model, *roles):
    """Return the rows of the sheet that a network uses in these roles.

    An ensemble uses those without a fold: each other section may have taught a member.
    """
    if model in ENSEMBLES:
        return SHEET.of_fold("", *without_validation(*roles))
    return SHEET.of_fold(NETWORKS[model].fold, *roles)


def rows_of_volume(wildcards):
    """Return a volume's rows of the sheet."""
    return [asdict(row) for row in SHEET.of_volume(wildcards.volume)]


def local_originals(wildcards):
    """Return size and date of a volume's files where the source is a local folder.

    As parameters, not as inputs: dates of two machines are then never compared, only
    whether a file is still the one that was read.
    """
    root = Path(CONFIG.source).expanduser()
    if not root.is_dir():
        return {}
    row = SHEET.of_volume(wildcards.volume)[0]
    try:
        paths = [
            path
            for cell in (row.image, row.labels)
            if cell
            for path in find_files(cell, root)
        ]
    except UnetpipeError as error:
        raise WorkflowError(f"volume {row.volume}: {error}") from None
    return {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in paths}


def rows_to_train(model):
    """Return where a network's training and validation sections lie."""
    return [
        {
            "ingest": f"{RESULTS}/volumes/{row.volume}/ingest.json",
            "weight_map": f"{RESULTS}/volumes/{row.volume}/weight_map.json",
            "sections": row.sections,
            "role": row.role,
        }
        for row in rows_of_network(model, "train", "validate")
    ]


def training_rows(wildcards):
    """Return where a network's training and validation sections lie."""
    return rows_to_train(wildcards.model)


def first_training_row(wildcards):
    """Return the first row that a network learns from."""
    return training_rows(wildcards)[0]


def first_training_records(name):
    """Return a record of each volume that the first network learns from."""
    return sorted({row[name] for row in rows_to_train(next(iter(NETWORKS)))})


def training_records(name):
    """Return an input function: a record of each volume that a network learns from."""

    def records(wildcards):
        return sorted({row[name] for row in training_rows(wildcards)})

    return records


def scored_rows(wildcards):
    """Return the sections of a volume on which a network is scored."""
    return [
        {"role": row.role, "sections": row.sections}
        for row in rows_of_network(wildcards.model, "validate", "test")
        if row.volume == wildcards.volume
    ]


def annotated_volumes():
    """Return the volumes that some network learns from."""
    rows = [r for r in SHEET.rows if r.role in ("train", "validate")]
    return list(dict.fromkeys(row.volume for row in rows))


def threads_of(name):
    """Return the threads that torch takes in a section of the configuration."""
    wanted = getattr(CONFIG, name).threads
    return num_processors() if wanted == "auto" else wanted


def grows(amount):
    """Return a resource that grows with each attempt: MB or minutes."""

    def scaled(wildcards, attempt):
        return amount * attempt

    return scaled


def segmentation_parts(step):
    """Return the records of one step's parts."""
    return [
        f"{PREDICTED}/{step}/{part}.json" for part in range(CONFIG.segmentation.parts)
    ]


def steps_of_segmentation():
    """Return the records of all steps that have jobs of their own."""
    if CONFIG.segmentation.parts == 1:
        return []
    merged = f"{PREDICTED}/segment/merge.json"
    return [*segmentation_parts("segment"), merged, *segmentation_parts("relabel")]


def planned_memory_mb(wildcards, attempt):
    """Return the projected memory of a part, more after each failure."""
    plan = Path(f"{RESULTS}/{wildcards.model}/{wildcards.volume}/plan.json")
    planned = 4 * 2**30
    if plan.exists():
        planned = read_record(plan)["projected"]["peak_rss_bytes"]
    return (planned // 2**20 + SNAKEMAKE_MB) * attempt


def predicted_pairs(*roles):
    """Return (model, volume) of all predictions in these roles."""
    return trained_pairs(*roles) + [
        (model, volume)
        for model in ENSEMBLES
        for volume in SHEET.volumes_of("", *without_validation(*roles))
    ]


def trained_pairs(*roles):
    """Return (model, volume) of the predictions by networks that are no ensembles."""
    return [
        (model, volume)
        for model, network in NETWORKS.items()
        for volume in SHEET.volumes_of(network.fold, *roles)
    ]


def scored_networks():
    """Return what tells the networks of all test scores apart, in their order."""
    return [
        {
            "model": model,
            "volume": volume,
            "variant": NETWORKS[model].variant,
            "fold": NETWORKS[model].fold,
            "seed": NETWORKS[model].seed,
        }
        for model, volume in trained_pairs("test")
    ]


def are_networks_compared():
    """Tell whether several networks are scored."""
    return len({network["model"] for network in scored_networks()}) > 1


def compared(pattern):
    """Fill a path pattern with every network and volume that are compared."""
    return [pattern.format(model=m, volume=v) for m, v in trained_pairs("test")]


def members(pattern):
    """Return an input function: a file of each member of an ensemble."""

    def files(wildcards):
        return [pattern.format(model=m) for m in ENSEMBLES[wildcards.model].members]

    return files


def predicted(pattern, *roles):
    """Fill a path pattern with every model and volume in these roles."""
    pairs = predicted_pairs(*roles)
    return [pattern.format(model=model, volume=volume) for model, volume in pairs]


def describe_results():
    """Return where the results are and how to look at them."""
    lines = []
    for model, volume in predicted_pairs("validate", "test", "predict"):
        record = Path(f"{RESULTS}/{model}/{volume}/segmentation.json")
        prediction = Path(f"{RESULTS}/{model}/{volume}/prediction.json")
        ingest = Path(f"{RESULTS}/volumes/{volume}/ingest.json")
        if record.exists() and ingest.exists() and prediction.exists():
            image = read_record(ingest)["image"]["store"]
            shown = read_record(prediction)["outputs"]["probability"]["store"]
            store = read_record(record)["store"]
            lines += [f"Segmentation of {volume} by {model}: {store}"]
            lines += [f"  look at it:  napari {image} {shown} {store}"]
    page = Path(f"{RESULTS}/report.html")
    if page.exists():
        lines += [f"Report: {page}", f"  look at it:  xdg-open {page}"]
    return "\n".join(["", *lines])


def describe_failure():
    """Return what to do after a failure."""
    return (
        f"\nSomething failed; the lines above name the rule and its log in {LOGS}/.\n"
        "All finished work is kept: mend the cause and repeat the same command."
    )


def training_files(wildcards):
    """Return the files that the report reads of a network."""
    names = {
        "record": "train.json",
        "model_json": "model.json",
        "history": "history.csv",
    }
    return {"model": wildcards.model} | {
        key: f"{RESULTS}/{wildcards.model}/{file}" for key, file in names.items()
    }


def prediction_files(model=None):
    """Return the files that the reports read of each prediction, or of a network's."""
    scored = set(predicted_pairs("validate", "test"))
    names = ("probe", "plan", "prediction", "segmentation", "metrics")
    return [
        {"model": of, "volume": volume}
        | {
            name: (
                f"{RESULTS}/{of}/{volume}/{name}.json"
                if name != "metrics" or (of, volume) in scored
                else None
            )
            for name in names
        }
        for of, volume in predicted_pairs("validate", "test", "predict")
        if model in (None, of)
    ]


def configuration_of(wildcards):
    """Return the whole configuration of a network, as plain values."""
    return NETWORKS[wildcards.model].config.model_dump(mode="json")


def predictions_of(wildcards):
    """Return the files that a network's report reads of its predictions."""
    return prediction_files(wildcards.model)


def reported(name):
    """Return an input function: a record of each prediction of a network."""

    def records(wildcards):
        return [p[name] for p in predictions_of(wildcards) if p[name]]

    return records


def reported_volumes(pattern, *roles):
    """Return an input function: a record of each volume of a network, in its roles."""

    def records(wildcards):
        volumes = SHEET.volumes_of(NETWORKS[wildcards.model].fold, *roles)
        return [pattern.format(volume=volume) for volume in volumes]

    return records


def compared_models():
    """Return the networks that the first page compares, the reference first."""
    ours = [
        {
            "name": f"{CONFIG.name}/{model}" if CONFIG.compare else model,
            "folder": f"{RESULTS}/{model}",
            "volumes": SHEET.volumes_of(network.fold, "validate", "test", "predict"),
        }
        for model, network in NETWORKS.items()
    ]
    earlier = [
        {
            "name": "/".join(Path(folder).parts[-2:]),
            "folder": folder,
            "volumes": [
                volume
                for volume in SHEET.volumes
                if Path(folder, volume, "segmentation.json").exists()
            ],
        }
        for folder in CONFIG.compare
    ]
    return earlier + ours


def earlier_records():
    """Return the records of earlier runs that the first page reads."""
    return [
        str(path)
        for model in compared_models()
        if model["folder"] in CONFIG.compare
        for path in (
            Path(model["folder"], "train.json"),
            *(
                Path(model["folder"], volume, "segmentation.json")
                for volume in model["volumes"]
            ),
        )
    ]


def own_command():
    """Return what the user types to run this workflow with this configuration."""
    files = workflow.overwrite_configfiles
    return " ".join(["snakemake", *(f"--configfile {path}" for path in files)])


def verified_predictions():
    """Return the files of each prediction that is verified."""
    return [
        {
            "prediction": f"{RESULTS}/{model}/{volume}/prediction.json",
            "segmentation": f"{RESULTS}/{model}/{volume}/segmentation.json",
            "ingest": f"{RESULTS}/volumes/{volume}/ingest.json",
            "model": f"{RESULTS}/{model}/model.safetensors",
            "model_json": f"{RESULTS}/{model}/model.json",
        }
        for model, volume in predicted_pairs("validate", "test", "predict")
    ]


def described_volumes():
    """Return what the sheet says of each volume, as far as its size is concerned."""
    return [
        {
            "volume": row.volume,
            "image": row.image,
            "axes": row.axes,
            "has_labels": bool(row.labels),
            "is_trained_on": row.volume in annotated_volumes(),
        }
        for row in (SHEET.of_volume(volume)[0] for volume in SHEET.volumes)
    ]


def described_networks():
    """Return the settings of each network and the volumes that it meets."""
    pairs = predicted_pairs("validate", "test", "predict")
    return [
        {
            "model": model,
            "network": network.config.network.model_dump(mode="json"),
            "training": network.config.training.model_dump(mode="json"),
            "volumes": [volume for name, volume in pairs if name == model],
            "members": list(ENSEMBLES[model].members) if model in ENSEMBLES else [],
            "trained_on": sorted(
                {row.volume for row in rows_of_network(model, "train")}
            ),
        }
        for model, network in {**NETWORKS, **ENSEMBLES}.items()
    ]


def by_ensembles():
    """Return the records of what the ensembles segment, if there are any."""
    return [
        rules.finish_segmentation.output.record.format(model=model, volume=volume)
        for model, volume in predicted_pairs("predict", "test")
        if model in ENSEMBLES
    ]


def exported_models():
    """Return the records of all exported networks, if any are wanted."""
    if not CONFIG.export_model.enabled:
        return []
    return expand(rules.export_model.output.record, model=list(NETWORKS))


def pyramids_of_pair(wildcards):
    """Return the records of the pyramids of a prediction and its image, if any."""
    if CONFIG.pyramid.parts == 1:
        return []
    places = {
        "ingest": f"volumes/{wildcards.volume}",
        "prediction": f"{wildcards.model}/{wildcards.volume}",
        "segmentation": f"{wildcards.model}/{wildcards.volume}",
    }
    return [f"{RESULTS}/{p}/{kind}-pyramid.json" for kind, p in places.items()]


def pyramids():
    """Return the records of all pyramids that have jobs of their own."""
    if CONFIG.pyramid.parts == 1:
        return []
    volumes = expand(
        rules.finish_pyramid.output.record,
        place=[f"volumes/{volume}" for volume in SHEET.volumes],
        kind="ingest",
    )
    predictions = expand(
        rules.finish_pyramid.output.record,
        place=[
            f"{model}/{volume}"
            for model, volume in predicted_pairs("validate", "test", "predict")
        ],
        kind=["prediction", "segmentation"],
    )
    return [*volumes, *predictions]
