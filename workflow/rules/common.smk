"""The run as checked, and Snakemake's side of what the rules look up.

Everything that needs no Snakemake is in the package, where it is typed and tested:
`config/layout.py` has every path, `config/lookups.py` and `config/described.py` what
rules ask about the run.
"""

import inspect
import re
import sys

from snakemake.cli import parse_config
from snakemake.exceptions import WorkflowError

from unetpipe.config import NAME_PATTERN
from unetpipe.config.awaited import Awaited
from unetpipe.config.checked_run import check_run
from unetpipe.config.described import Described
from unetpipe.config.layout import Layout
from unetpipe.config.lookups import PREDICTED_ROLES, SCORED_ROLES, Lookups
from unetpipe.config.lot_steps import LotSteps
from unetpipe.config.lots import find_lots
from unetpipe.config.run_jobs import records_of_jobs
from unetpipe.errors import UnetpipeError
from unetpipe.report.page.templates import templates_version
from unetpipe.runtime.command import check_disk, check_once, own_command
from unetpipe.runtime.fingerprints import code_fingerprint, script_fingerprint
from unetpipe.runtime.machine import limit_processors


def checked_run():
    """Return what a run is made of, or end with all that is wrong, and nothing else.

    An exception would be framed by the places in these files where it passed.
    """
    try:
        if workflow.is_main_process:
            check_once(sys.argv[1:])
            check_disk(workflow.storage_settings.default_storage_provider)
        files = [str(path) for path in workflow.configfiles]
        return check_run(config, files, find=given_or_own, place=placed)
    except UnetpipeError as error:
        logger.error(str(error))
        sys.exit(1)


if workflow.is_main_process:
    # On a cluster each job has its own.
    limit_processors(getattr(workflow.global_resources["_cores"], "value", None))
RUN = checked_run()
if workflow.is_main_process:  # jobs would say it again
    for line in RUN.left_out.values():
        logger.warning(line)
CONFIG, NETWORKS, ENSEMBLES = RUN.config, RUN.networks, RUN.ensembles
PATHS = Layout(CONFIG.name, placed)
RUNS = Lookups(RUN, PATHS)
SHOWN = Described(RUNS)
LOTS = find_lots(RUNS)
STEPS = LotSteps(RUNS, LOTS)
AWAITED = Awaited(SHOWN, LOTS)


wildcard_constraints:
    volume=NAME_PATTERN.strip("^$"),
    model=NAME_PATTERN.strip("^$"),
    part=r"\d+",
    place=r"[^/]+/[^/]+",
    kind="ingest|prediction|segmentation",


def by_name(ask, *given):
    """Return an input function: a lookup by the wildcards that its arguments name."""
    names = [*inspect.signature(ask).parameters][len(given) :]

    def found(wildcards):
        try:
            return ask(*given, *(getattr(wildcards, name) for name in names))
        except UnetpipeError as error:
            raise WorkflowError(str(error)) from None

    return found


def fingerprint(stage, *modules):
    """Return the fingerprint of a rule's script, its stage and what they compute with.

    Snakemake would go by the date of the script, which every checkout changes.
    """
    script = own_file(f"scripts/{stage.split('.')[-1]}.py")
    return f"{code_fingerprint(stage, *modules)}-{script_fingerprint(script)}"


def originals_of(wildcards, input):
    """Return sizes and dates of originals, which records tell (see agreement.smk)."""
    return RUNS.local_originals(wildcards.volume)


def one_of(names):
    """Return a regular expression for these names; none of them: it matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def grows(amount):
    """Return a resource that grows with each attempt: MB or minutes."""

    def scaled(wildcards, attempt):
        return amount * attempt

    return scaled


def memory_of_part(wildcards, attempt):
    """Return the projected memory of a part, more after each failure."""
    return RUNS.planned_memory_mb(wildcards.model, wildcards.volume) * attempt


def typed_command():
    """Return what the user types in a shell to run this workflow so configured."""
    return own_command(
        Path(workflow.main_snakefile),
        workflow.overwrite_configfiles,
        workflow.config_settings.config or {},
        parse_config,
    )
