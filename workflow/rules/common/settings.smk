"""Configuration and sheet, validated once; every path pattern; small lookups."""

import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from unetpipe.runtime.fingerprints import code_fingerprint, script_fingerprint
from unetpipe.config.checked_run import check_run
from unetpipe.config import NAME_PATTERN
from unetpipe.storage.dropping import is_dropped
from unetpipe.errors import UnetpipeError
from unetpipe.runtime.machine import job_threads
from unetpipe.images.files import find_files
from unetpipe.report.page.templates import templates_version
from unetpipe.runtime.files import read_record
from unetpipe.runtime.text import describe_quantity


def validated():
    """Return what a run is made of, or end with all that is wrong, and nothing else.

    An exception would be framed by the places in these files where it passed.
    """
    try:
        files = [str(path) for path in workflow.configfiles]
        return check_run(config, files, find=given_or_own, place=placed)
    except UnetpipeError as error:
        logger.error(str(error))
        sys.exit(1)


RUN = validated()
if workflow.is_main_process:  # jobs would say it again
    for line in RUN.left_out.values():
        logger.warning(line)
CONFIG, SHEET = RUN.config, RUN.sheet
NETWORKS, ENSEMBLES = RUN.networks, RUN.ensembles
MODELS = NETWORKS | ENSEMBLES
# The folders of networks that are not trained here.
ADOPTED = {
    name: str(Path(network.folder).expanduser())
    for name, network in NETWORKS.items()
    if network.folder
}

RESULTS = placed(f"results/{CONFIG.name}")
MANIFEST = placed(f"resources/{CONFIG.name}/manifest.json")
VOLUME = f"{RESULTS}/volumes/{{volume}}"
INGESTED = f"{VOLUME}/ingest"
MODEL = f"{RESULTS}/{{model}}"
PREDICTED = f"{MODEL}/{{volume}}"
LOGS = placed(f"logs/{CONFIG.name}")
BENCHMARKS = placed(f"benchmarks/{CONFIG.name}")
# A job on a cluster holds two Snakemakes besides its own process.
SNAKEMAKE_MB = 300


wildcard_constraints:
    volume=NAME_PATTERN.strip("^$"),
    model=NAME_PATTERN.strip("^$"),
    part=r"\d+",


def fingerprint(stage, *modules):
    """Return the fingerprint of a rule's script, its stage and what they compute with.

    Snakemake would go by the date of the script, which every checkout changes.
    """
    script = own_file(f"scripts/{stage.split('.')[-1]}.py")
    return f"{code_fingerprint(stage, *modules)}-{script_fingerprint(script)}"


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
    keys = {"choose_by", "connectivity", "smallest_object_vox", "method"}
    keys |= {"seed_distance_vox", "seed_reach_vox", "flood_threshold"}
    return settings.segmentation.model_dump(mode="json", include=keys)


def stored_weight_map():
    """Return how border terms are stored: with borders if any network wants them."""
    wanted = any(n.config.weight_map.enabled for n in NETWORKS.values())
    return section("weight_map") | {"enabled": wanted}


def one_of(names):
    """Return a regular expression for these names; none of them: it matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def threads_of(name):
    """Return the processors that a job of a section of the configuration asks for."""
    section = getattr(CONFIG, name)
    return job_threads(section.threads, section.device)


def grows(amount):
    """Return a resource that grows with each attempt: MB or minutes."""

    def scaled(wildcards, attempt):
        return amount * attempt

    return scaled
