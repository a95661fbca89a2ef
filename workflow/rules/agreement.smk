"""Results that do not answer what is asked today, or lack a file, are made again.

Snakemake compares parameters with notes of its own, which copied results lack, and
misses no file from which finished results were made. Here each record tells for itself.
"""

from functools import cache, partial

from snakemake.io import apply_wildcards, is_flagged
from snakemake.iocontainers import Wildcards

from unetpipe.config.agreement import Agreement, AskedRule, Job, record_of

AGREEMENT = Agreement(RUNS, STEPS)
TOLD = set()


def name_of(rule):
    """Return a rule's own name, whatever a module calls it."""
    below = Path(str(rule.log[0])).relative_to(PATHS.logs)
    return below.parts[0].removesuffix(".log")


def is_ours(rule):
    return bool(rule.log) and str(rule.log[0]).startswith(f"{PATHS.logs}/")


@cache
def asked_rule(rule):
    """Return what tells what the jobs of a rule are asked for."""
    return AskedRule(name_of(rule), dict(rule.params.items()), PATHS.results)


def job_of(rule, wildcards):
    """Return a job with its files."""

    def fill(path):
        return apply_wildcards(str(path), wildcards)

    named = {name: fill(path) for name, path in rule.output.items()}
    outputs = [fill(path) for path in rule.output]
    return Job(name_of(rule), dict(wildcards.items()), outputs, record_of(named))


def tell_of_silent_records():
    """Say once that some records cannot tell what was asked of them."""
    if AGREEMENT.silent and workflow.is_main_process and "silent" not in TOLD:
        TOLD.add("silent")
        logger.warning(
            f"{min(AGREEMENT.silent)} is of a version that did not note what was asked "
            "of it: it, and any like it, is compared by Snakemake's notes only."
        )


def told_in_record(rule):
    """Return a parameter for the script: what the record is to tell."""

    # That of the input keeps it from being a reason to run.
    def asked(wildcards, input):
        return asked_rule(rule).of(wildcards).to_json()

    return asked


def made_again(rule):
    """Return an input function that finds no files, but jobs that have to run."""

    def nothing(wildcards):
        job, ask = job_of(rule, wildcards), partial(asked_rule(rule).of, wildcards)
        triggers = map(str, workflow.rerun_triggers)
        again, told = AGREEMENT.judge(job, ask if "params" in triggers else None)
        tell_of_silent_records()
        if told and rule.name not in TOLD:
            TOLD.add(rule.name)
            logger.info(f"{told}: it is made again.")
        if again:
            workflow.dag.forcefiles.update(job.outputs)
        return []

    return nothing


def disagreements(wildcards, input):
    """Return which records do not answer what is asked today, and why, in words."""
    found = {}
    for record in AGREEMENT.wanted():
        for one in filter(lambda one: one.is_producer(record), OURS):
            names = Wildcards(fromdict=one.get_wildcards(record))
            asked = asked_rule(one).of(names)
            found |= AGREEMENT.disagreements(job_of(one, names), record, asked)
            tell_of_silent_records()
    return found


BY_NAME = {name_of(one): one for one in workflow.rules if is_ours(one)}
OURS = [one for one in workflow.rules if is_ours(one) and one.output]
for one in OURS:
    if record_of({name: str(path) for name, path in one.output.items()}):
        if workflow.is_main_process:
            one.set_input(agreement=made_again(one))
        one.set_params(asked=told_in_record(one))
