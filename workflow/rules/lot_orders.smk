"""What a lot's job is told: the scripts of its volumes' rules, with their values.

A lot runs what the jobs of its volumes would run, so their inputs, outputs and parameters
are worked out here from the rules themselves, when the lot's job is handed over.
"""

from functools import cache

from snakemake.common import get_function_params

from unetpipe.lots.orders import WEIGHTS, Lazily, fill_params
from unetpipe.records.asked import ORIGINALS
from unetpipe.runtime.files import hash_of


def asking(item):
    """Return the function behind a declared file, None where it is a path."""
    declared = getattr(item, "_file", item)  # a flag like `ancient` wraps it
    return declared if callable(declared) else getattr(declared, "callable", None)


def fill(item, wildcards):
    """Return the files that are declared, for these wildcards."""
    if ask := asking(item):
        found = ask(wildcards)
        return [found] if isinstance(found, str) else list(found)
    return [apply_wildcards(str(item), wildcards)]


def files_of(declared, wildcards):
    """Return a rule's files by name; and those whose content counts."""
    found, counted = {}, []
    for name, (start, end) in declared._get_names():
        if name == "agreement":
            continue
        items = declared[start : end or start + 1]
        paths = [path for item in items for path in fill(item, wildcards)]
        is_one = end is None and not asking(items[0])
        found[name] = paths[0] if is_one else paths
        counted += [
            path
            for item in items
            if not is_flagged(item, "ancient")
            for path in fill(item, wildcards)
        ]
    return found, counted


def order_of(rule_name, names, log):
    """Return what the script of a rule would be given, as plain values."""
    one, wildcards = BY_NAME[rule_name], Wildcards(fromdict=names)
    inputs, counted = files_of(one.input, wildcards)
    outputs, _ = files_of(one.output, wildcards)
    params = fill_params(
        dict(one.params.items()),
        {"input": inputs, "output": outputs},
        wildcards,
        apply_wildcards,
        get_function_params,
    )
    return {
        "rule": rule_name,
        "script": str(own_file(f"scripts/{rule_name}.py")),
        "wildcards": names,
        "input": inputs,
        "output": outputs,
        "params": params,
        "counted": tuple(p for p in counted if not p.endswith(WEIGHTS)),
        "log": log,
    }


def orders_of(ask, rule_name):
    """Return a parameter with the orders of all steps of a lot."""

    def orders(wildcards, input):
        def make():
            [log] = BY_NAME[rule_name].log
            path = apply_wildcards(str(log), wildcards)
            return {
                volume: [order_of(rule, names, path) for rule, names in steps]
                for volume, steps in ask(**dict(wildcards.items())).items()
            }

        return Lazily(make)

    return orders


def asked_of_volumes(ask):
    """Return a parameter with what is asked of each volume, as a hash."""

    @cache
    def hashes(**names):
        return {
            volume: hash_of([asked_of_step(*step) for step in steps])
            for volume, steps in ask(**names).items()
        }

    def asked(wildcards):
        return hashes(**dict(wildcards.items()))

    return asked


def asked_of_step(rule_name, names):
    """Return what is asked of a step, but for whether its originals are there."""
    wildcards = Wildcards(fromdict=names)
    return asked_rule(BY_NAME[rule_name]).of(wildcards, (ORIGINALS,)).settings


def originals_of_lot(wildcards, input):
    """Return sizes and dates of all originals of a lot; nothing if none is there."""
    return RUNS.originals_of(LOTS.volumes[wildcards.lot])
