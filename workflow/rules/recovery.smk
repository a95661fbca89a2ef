"""What an earlier run left behind is mended before, and told after, this one."""

import sys

from snakemake.io import apply_wildcards, strip_wildcard_constraints

from unetpipe.report import endings, run_progress
from unetpipe.report.page.unfinished import is_unfinished
from unetpipe.runtime.command import told_of_stores
from unetpipe.runtime.killed_runs import (
    LOCKS,
    WITHOUT_LOCK,
    forget_run,
    mend_dates,
    mend_earlier_run,
    note_run,
)
from unetpipe.runtime.renamed_runs import take_over_records
from unetpipe.storage.keeping import keep_networks

# `snakemake status --nolock` runs beside another run, and touches nothing of it.
ONLY_LOOKS = "--nolock" in sys.argv
# These tell something themselves: where results are would scroll it away.
ONLY_ASKS = not {"plan", "report_unfinished", "status", "verify"}.isdisjoint(sys.argv)

# The lock of a workflow that uses this one as a module is not ours to remove. A run that
# goes on beside the lock's owner would take all locks away as it ends.
if workflow.is_main_process and not IS_MODULE and not ONLY_LOOKS:
    if told := mend_earlier_run():
        logger.warning(told)
        if LOCKS.exists() and not any(map(WITHOUT_LOCK.fullmatch, sys.argv)):
            sys.exit(1)
    if not any(map(WITHOUT_LOCK.fullmatch, sys.argv)):
        if told := take_over_records(Path(PATHS.results)):
            logger.info(told)


if workflow.is_main_process and not IS_MODULE:
    if told := told_of_stores(sys.argv, PATHS.folders):
        logger.warning(told)


# One line in place of banners and numbers; `--verbose` has all, as has Snakemake's log.
OUTPUT = workflow.output_settings
if workflow.is_main_process and not IS_MODULE and not (OUTPUT.verbose or OUTPUT.dryrun):
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            known = run_progress.former_seconds(Path(PATHS.benchmarks))
            progress = run_progress.RunProgress(known)
            handler.addFilter(
                run_progress.Quiet(progress, handler, shows_progress=not ONLY_ASKS)
            )


def describe_results():
    """Return where the results are; other workflows that use this one call it too."""
    return endings.describe_results(RUNS)


def made_whole(page, *outputs):
    """Return an input function that finds no files, but a page of what was done then.

    Pages and catalogue of a run that failed are of dates and inputs that may well be
    those of today: `report_unfinished` wrote them, not their rules.
    """

    def nothing(wildcards):
        if is_unfinished(Path(apply_wildcards(page, wildcards))):
            found = {apply_wildcards(str(path), wildcards) for path in outputs}
            workflow.dag.forcefiles.update(found)
        return []

    return nothing


def write_unfinished():
    """Write the pages of what is done as rule report_unfinished; tell whether it did."""
    from unetpipe.stages.collect_catalogue import collect_catalogue
    from unetpipe.stages.report import report
    from unetpipe.stages.report_run import report_run
    from unetpipe.stages.report_unfinished import report_unfinished

    declared = workflow.get_rule("report_unfinished").params
    files, names = {"input": {}, "output": {}}, Wildcards()
    given = dict(declared.items())
    params = fill_params(given, files, names, apply_wildcards, get_function_params)
    return report_unfinished(
        **{k: v for k, v in params.items() if k != "code"},
        write_page=report,
        write_run_page=report_run,
        write_catalogue=collect_catalogue,
    )


onstart:
    if not ONLY_LOOKS:
        note_run()
        try:
            keep_networks(Path(PATHS.results), [*NETWORKS, *ENSEMBLES])
        except (UnetpipeError, OSError) as error:  # its rule says more
            logger.warning(str(error))
    mend_dates(Path(PATHS.results), [Path(PATHS.manifest)])


onsuccess:
    if not ONLY_LOOKS:
        forget_run()
    if not ONLY_ASKS:
        print(describe_results())


onerror:
    if not ONLY_LOOKS:
        forget_run()
    patterns = {
        rule.name: strip_wildcard_constraints(str(rule.log[0]))
        for rule in workflow.rules
        if rule.log
    }
    write = None if ONLY_ASKS or ONLY_LOOKS else write_unfinished
    for told in endings.describe_failure(RUNS, log, patterns, sys.argv[1:], write):
        print(told, flush=True)
