"""What `verify`, `plan` and `status` are told of the run."""

import json
import shlex

from snakemake.cli import parse_config


def own_command():
    """Return what the user types in a shell to run this workflow so configured."""
    words = ["snakemake"]
    found = {Path(name).resolve() for name in ("Snakefile", "workflow/Snakefile")}
    if Path(workflow.main_snakefile).resolve() not in found:
        words += ["--snakefile", workflow.main_snakefile, "--directory", Path.cwd()]
    if workflow.overwrite_configfiles:
        words += ["--configfile", *workflow.overwrite_configfiles]
    if given := workflow.config_settings.config:
        words += ["--config", *(as_typed(key, given[key]) for key in given)]
    return shlex.join(map(str, words))


def as_typed(key, value):
    """Return a setting of the command line as `--config` reads it back.

    Sections and lists are told as JSON, which needs no quotes within a shell's quotes.
    """
    if value is None:
        return f"{key}="
    spelled = [str(value), json.dumps(value, ensure_ascii=False)]
    if isinstance(value, (dict, list)):
        spelled.reverse()
    words = [f"{key}={text}" for text in spelled]
    return next((w for w in words if parse_config([w]) == {key: value}), words[0])


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
    """Return the rows of each volume, and whether a network learns from it."""
    return [
        {
            "rows": [plain_row(row) for row in SHEET.of_volume(volume)],
            "is_trained_on": volume in annotated_volumes(),
        }
        for volume in SHEET.volumes
    ]


def rule_that_makes(model):
    """Return the name of the rule that leaves a network behind."""
    if model in ENSEMBLES:
        return "join_networks"
    return "adopt_network" if model in ADOPTED else "train_unet"


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
            "rule": rule_that_makes(model),
            "trained_on": sorted(
                {
                    row.volume
                    for row in rows_of_network(model, "train")
                    if rule_that_makes(model) == "train_unet"
                }
            ),
        }
        for model, network in MODELS.items()
    ]
