"""Configuration and sheet, validated once; every path pattern; small lookups."""

import re
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

from unetpipe import code_version
from unetpipe.config import NAME_PATTERN, check_config
from unetpipe.errors import UnetpipeError
from unetpipe.machine import num_processors
from unetpipe.networks import list_ensembles, list_networks
from unetpipe.originals import find_files, source_kind
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


def threads_of(name):
    """Return the threads that torch takes in a section of the configuration."""
    wanted = getattr(CONFIG, name).threads
    return num_processors() if wanted == "auto" else wanted


def grows(amount):
    """Return a resource that grows with each attempt: MB or minutes."""

    def scaled(wildcards, attempt):
        return amount * attempt

    return scaled
