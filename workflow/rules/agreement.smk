"""Results that do not answer what is asked today, or lack a file, are made again.

Snakemake compares parameters with notes of its own, which copied results lack, and
misses no file from which finished results were made. Here each record tells for itself.
"""

from functools import cache, partial

from snakemake.io import apply_wildcards, is_flagged
from snakemake.iocontainers import Wildcards

from unetpipe.config.agreement import Agreement, describe_differing, record_of
from unetpipe.records.asked import ORIGINALS, Asked

AGREEMENT = Agreement(RUNS, STEPS)
TOLD = set()


def name_of(rule):
    """Return a rule's own name, whatever a module calls it."""
    below = Path(str(rule.log[0])).relative_to(PATHS.logs)
    return below.parts[0].removesuffix(".log")


def is_ours(rule):
    return bool(rule.log) and str(rule.log[0]).startswith(f"{PATHS.logs}/")


@cache
def settings_of(rule):
    """Return the parameters of a rule: those of all its jobs, and how to find others."""
    fixed, found = {}, {}
    for name, value in rule.params.items():
        if name == ORIGINALS:
            found[name] = partial(value, input=None)
        elif not callable(value):
            fixed[name] = value
        elif [*inspect.signature(value).parameters] == ["wildcards"]:
            found[name] = value
    return Asked.of(name_of(rule), fixed, PATHS.results), found


def asked_of(rule, wildcards, without=()):
    """Return what a job is asked for: its parameters, but those from its files."""
    asked, found = settings_of(rule)
    values = {n: ask(wildcards) for n, ask in found.items() if n not in without}
    own = Asked.of(asked.rule, values, PATHS.results)
    return Asked(rule=asked.rule, settings=asked.settings | own.settings)


def differing(record, asked):
    """Return what was asked otherwise of a record; say once if some cannot tell."""
    found = AGREEMENT.differing(record, asked)
    if AGREEMENT.silent and workflow.is_main_process and "silent" not in TOLD:
        TOLD.add("silent")
        logger.warning(
            f"{record} is of a version that did not note what was asked of it: it, and "
            "any like it, is compared by Snakemake's notes only."
        )
    return found


def told_in_record(rule):
    """Return a parameter for the script: what the record is to tell."""

    # That of the input keeps it from being a reason to run.
    def asked(wildcards, input):
        return asked_of(rule, wildcards).to_json()

    return asked


def made_again(rule):
    """Return an input function that finds no files, but jobs that have to run."""

    def nothing(wildcards):
        outputs = [apply_wildcards(str(path), wildcards) for path in rule.output]
        names = dict(rule.output.items())
        record = record_of(
            {
                name: apply_wildcards(str(path), wildcards)
                for name, path in names.items()
            }
        )
        about = name_of(rule), dict(wildcards.items())
        again = bool(AGREEMENT.missing(about[0], outputs, about[1]))
        again = again or bool(
            record and AGREEMENT.is_overtaken(about[0], record, about[1])
        )
        if (
            record
            and Path(record).exists()
            and "params" in map(str, workflow.rerun_triggers)
        ):
            differs = differing(record, asked_of(rule, wildcards))
            again = again or bool(differs)
            told = describe_differing(record, differs)
            if told and rule.name not in TOLD:
                TOLD.add(rule.name)
                logger.info(f"{told}: it is made again.")
        if again:
            workflow.dag.forcefiles.update(outputs)
        return []

    return nothing


def disagreements(wildcards, input):
    """Return which records do not answer what is asked today, and why, in words."""
    found = {}
    for record in AGREEMENT.wanted():
        for one in filter(lambda one: one.is_producer(record), OURS):
            wildcards = Wildcards(fromdict=one.get_wildcards(record))
            outputs = [apply_wildcards(str(path), wildcards) for path in one.output]
            for path in AGREEMENT.missing(
                name_of(one), outputs, dict(wildcards.items())
            ):
                found[path] = f"{path} is missing"
            asked = asked_of(one, wildcards)
            if told := describe_differing(record, differing(record, asked)):
                found[record] = told
    return found


BY_NAME = {name_of(one): one for one in workflow.rules if is_ours(one)}
OURS = [one for one in workflow.rules if is_ours(one) and one.output]
for one in OURS:
    if record_of({name: str(path) for name, path in one.output.items()}):
        if workflow.is_main_process:
            one.set_input(agreement=made_again(one))
        one.set_params(asked=told_in_record(one))
