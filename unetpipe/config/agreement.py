"""Whether results answer what a run asks today, by their own records.

Snakemake compares parameters with notes of its own, which a copy of the results lacks,
and misses no file that only finished results were made from. Both are told here::

    outputs of a job    --missing-->    those that are gone
    record, Asked today --differing-->  what was asked otherwise
    both                --judge-->      whether the job has to run, and why
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unetpipe.config.checked_run import stored_volumes
from unetpipe.config.lookups import SCORED_ROLES, Lookups
from unetpipe.config.lot_steps import LotSteps
from unetpipe.errors import DataError
from unetpipe.records.asked import CODE, ORIGINALS, Asked, differing
from unetpipe.records.lots import LOT_RULES, FinishedLot

# The output that has what was asked, the first of these names that a rule has.
RECORDS = ("record", "manifest", "model_json")
# What was dropped on purpose is not missing.
DROPPED_WITH = ("predict_part", "finish_prediction")
# What a lot is asked for is told by each of its records.
UNTOLD = (CODE, "members")


def record_of(outputs: Mapping[str, str]) -> str | None:
    """Return the output of a rule that is its record; None: it leaves only pages."""
    names = [name for name in RECORDS if outputs.get(name, "").endswith(".json")]
    return outputs[names[0]] if names else None


@dataclass(frozen=True, slots=True)
class Job:
    """What a rule makes for some wildcards.

    Attributes
    ----------
    rule : str
    names : mapping
        The wildcards.
    outputs : sequence of str
    record : str or None
        The one of them that tells what was asked.
    """

    rule: str
    names: Mapping[str, str]
    outputs: Sequence[str]
    record: str | None


class AskedRule:
    """What the jobs of a rule are asked for: its parameters, but those from files.

    Parameters
    ----------
    rule : str
    params : mapping
        Values, and functions of the wildcards; one of the input too is left out, unless
        it finds the originals.
    results : str
        The folder of the run.
    """

    def __init__(self, rule: str, params: Mapping[str, Any], results: str) -> None:
        fixed, found = {}, dict[str, Callable[[Any], Any]]()
        for name, value in params.items():
            if name == ORIGINALS:
                found[name] = partial(value, input=None)
            elif not callable(value):
                fixed[name] = value
            elif [*inspect.signature(value).parameters] == ["wildcards"]:
                found[name] = value
        self._rule, self._results, self._found = rule, results, found
        self._fixed = Asked.of(rule, fixed, results).settings

    def of(self, wildcards: Any, without: Iterable[str] = ()) -> Asked:
        """Return what the job of these wildcards is asked for."""
        left_out = set(without)
        values = {n: f(wildcards) for n, f in self._found.items() if n not in left_out}
        own = Asked.of(self._rule, values, self._results)
        return Asked(rule=self._rule, settings=self._fixed | own.settings)


class Agreement:
    """The results of a run against what is asked of them.

    Parameters
    ----------
    lookups : Lookups
    steps : LotSteps

    Attributes
    ----------
    silent : set of str
        Records of earlier versions, met so far, that do not tell what was asked.
    """

    def __init__(self, lookups: Lookups, steps: LotSteps) -> None:
        self._lookups = lookups
        self._lots = steps
        self.silent = set[str]()

    def missing(
        self, rule: str, outputs: Iterable[str], names: Mapping[str, str]
    ) -> list[str]:
        """Return the outputs of a job that should lie there and do not.

        Parameters
        ----------
        rule : str
        outputs : iterable of str
        names : mapping
            The job's wildcards.
        """
        if rule in LOT_RULES:
            outputs = [*outputs, *self._left_by_lot(**names)]
        gone = [path for path in outputs if not Path(path).exists()]
        if gone and rule in DROPPED_WITH:
            dropped = self._lookups.layout.dropped.format_map(names)
            if Path(dropped).exists():
                return []
        if gone and rule == "download_dataset":
            volumes = self._lookups.sheet.volumes
            if len(stored_volumes(self._lookups.layout, volumes)) == len(volumes):
                return []
        return gone

    def is_overtaken(self, rule: str, record: str, names: Mapping[str, str]) -> bool:
        """Tell whether other jobs have made anything of a lot's volumes since.

        Another lot, or jobs of their own, may have made it for other settings: the lot
        looks at each record again.

        Parameters
        ----------
        rule, record : str
            Of the lot; of what is none the answer is no.
        names : mapping
            The job's wildcards.
        """
        if rule not in LOT_RULES or not Path(record).exists():
            return False
        date = Path(record).stat().st_mtime_ns
        left = map(Path, self._left_by_lot(**names))
        return any(p.exists() and p.stat().st_mtime_ns > date for p in left)

    def _left_by_lot(self, lot: str, model: str | None = None) -> list[str]:
        """Return the volumes' records, but of those that could not be stored yet."""
        layout, records = self._lookups.layout, self._lots.records(lot, model)
        done = Path(layout.ingested_lot.format(lot=lot))
        try:
            found = FinishedLot.read_if_there(done) if model is None else None
        except DataError:  # it is made again
            return records
        failed = found.failed if found else ()
        folders = tuple(f"{layout.volume.format(volume=v)}/" for v in failed)
        return [path for path in records if not path.startswith(folders)]

    def differing(self, record: str, now: Asked) -> tuple[str, ...]:
        """Return the names of what was asked otherwise of a record."""
        if not Path(record).exists():
            return ()
        found = differing(Path(record), now)
        if found is None:
            self.silent.add(record)
        return found or ()

    def judge(self, job: Job, ask: Callable[[], Asked] | None) -> tuple[bool, str]:
        """Tell whether a job has to run, and in words what was asked otherwise.

        Parameters
        ----------
        job : Job
        ask : callable, optional
            Finds what is asked of it today. None: settings are not looked at.
        """
        record, told = job.record, ""
        again = bool(self.missing(job.rule, job.outputs, job.names))
        if record is None:
            return again, told
        again = again or self.is_overtaken(job.rule, record, job.names)
        if ask and Path(record).exists():
            names = self.differing(record, ask())
            again, told = again or bool(names), describe_differing(record, names)
        return again, told

    def disagreements(self, job: Job, record: str, now: Asked) -> dict[str, str]:
        """Return why a finished job has to run again: a file, and what is with it."""
        gone = self.missing(job.rule, job.outputs, job.names)
        found = {path: f"{path} is missing" for path in gone}
        if told := describe_differing(record, self.differing(record, now)):
            found[record] = told
        return found

    def wanted(self) -> list[str]:
        """Return the records that a run asks for and that lie there, parts apart."""
        ask, layout = self._lookups, self._lookups.layout
        annotated, scored = ask.annotated_volumes(), ask.predicted_pairs(*SCORED_ROLES)
        found = [layout.manifest]
        found += [layout.ingest.format(volume=v) for v in ask.sheet.volumes]
        found += [layout.weight_map.format(volume=v) for v in annotated]
        found += [layout.training.format(model=m) for m in ask.networks]
        found += [layout.model.format(model=m) for m in ask.ensembles]
        for pattern in (layout.probe, layout.plan, layout.prediction):
            found += ask.predicted(pattern)
        found += ask.predicted(layout.segmentation)
        found += [layout.metrics.format(model=m, volume=v) for m, v in scored]
        found += [*ask.measurements(), *ask.exported_models(), *ask.export_records()]
        return [path for path in found if Path(path).exists()]


def describe_differing(record: str, names: Sequence[str]) -> str:
    """Return what was asked otherwise of a record, in words; empty: at most the code.

    Other code is no fault of a result: it is made again, and nobody needs to be told.
    """
    if "record" in names:
        return f"{record} cannot be read"
    if "rule" in names:
        return f"{record} was made by another rule"
    told = [name.replace("_", " ") for name in names if name not in UNTOLD]
    if not told:
        return ""
    return f"{record} was made with other settings ({', '.join(told)})"
