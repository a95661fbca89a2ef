"""What was asked of a result, so that one of former settings is not taken for today's.

Snakemake notes a rule's parameters beside its own files, which a copy of the results
lacks. So each record has a hash of each parameter, and tells by itself whether it
answers what is asked today::

    parameters of the rule --Asked.of--> a hash of each --note_asked--> the record
    record, parameters of today --differing--> the names of those that differ
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from unetpipe.errors import DataError
from unetpipe.records import Record, Value
from unetpipe.runtime.files import add_to_record, hash_of

KEY = "asked"
CODE = "code"
ORIGINALS = "originals"
DIGITS = 16


class Asked(Value):
    """What a rule was asked for: of each of its parameters a hash."""

    rule: str
    settings: dict[str, str]

    @classmethod
    def of(cls, rule: str, settings: Mapping[str, Any], results: str) -> Self:
        """Return what these parameters ask for.

        Parameters
        ----------
        rule : str
        settings : mapping
            The parameters that decide the output, by name.
        results : str
            The folder of the run. Paths count from there, so that a run may be
            renamed.
        """
        hashes = {
            name: hash_of(_from_run(value, results))[:DIGITS]
            for name, value in settings.items()
            if name != ORIGINALS or value
        }
        return cls(rule=rule, settings=hashes)

    def differing(self, now: Self) -> tuple[str, ...]:
        """Return the names of what is asked otherwise now, in the order of today.

        Originals that are gone are no other originals.
        """
        if self.rule != now.rule:
            return ("rule",)
        gone = {*self.settings, ORIGINALS} - now.settings.keys()
        names = [*now.settings, *sorted(gone - {ORIGINALS})]
        return tuple(
            name for name in names if self.settings.get(name) != now.settings.get(name)
        )


class AnsweredRecord(Record):
    """Any record: what was asked of it; None where an earlier version wrote it."""

    WHAT = "a record of a rule"

    asked: Asked | None = None

    @classmethod
    def _of_format(cls, found: Any, values: dict[str, Any], path: Path) -> Any:
        return values  # this one key means the same in all


def note_asked(record: Path, asked: Mapping[str, Any]) -> None:
    """Add to a record what was asked of it.

    Parameters
    ----------
    record : Path
        That a rule has just written.
    asked : mapping
        ``Asked``, as JSON.
    """
    add_to_record(record, KEY, asked)


def differing(record: Path, now: Asked) -> tuple[str, ...] | None:
    """Return what was asked otherwise of a record; None where it does not tell.

    A record that cannot be read is nobody's answer: it differs as a whole.
    """
    try:
        asked = AnsweredRecord.read(record).asked
    except DataError:
        return ("record",)
    return None if asked is None else asked.differing(now)


def _from_run(value: Any, results: str) -> Any:
    """Return a value with the paths in it as they are within the run's folder."""
    if isinstance(value, Mapping):
        return {str(k): _from_run(v, results) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_from_run(item, results) for item in value]
    if isinstance(value, (str, Path)):
        return str(value).removeprefix(f"{results}/")
    return value
