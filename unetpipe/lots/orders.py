"""What a lot's job is told: of each volume its steps, as rules' scripts get them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = ".safetensors"  # their hash stands in a record beside them


class Names:
    """What a script reads of its job: values by name, or by place.

    Parameters
    ----------
    values : mapping
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        vars(self).update(self._values)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return [*self._values.values()][key]
        return self._values[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield names and values."""
        yield from self._values.items()


class Lazily:
    """A parameter that is worked out only when it is handed to a job.

    Parameters
    ----------
    make : callable
        Returns a dictionary, as which it is handed over.
    """

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (self._make(),)


def fill_params(
    params: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    wildcards: Any,
    fill: Callable[[str, Any], str],
    arguments_of: Callable[[Any], Iterable[str]],
) -> dict[str, Any]:
    """Return the values of a rule's parameters, as its script would get them.

    Parameters
    ----------
    params : mapping
        Values, patterns, and functions of the wildcards, of input and output too.
    files : mapping
        ``input`` and ``output``: files by name.
    wildcards : object
    fill : callable
        Puts wildcards into a pattern.
    arguments_of : callable
        Names the arguments of a function among the parameters.
    """
    given = {key: Names(named) for key, named in files.items()}
    found = {}
    for name, value in params.items():
        if callable(value):
            wanted = given.keys() & set(arguments_of(value))
            found[name] = value(wildcards, **{key: given[key] for key in wanted})
        else:
            found[name] = fill(value, wildcards) if isinstance(value, str) else value
    return found


@dataclass(frozen=True, slots=True)
class StepOrder:
    """One step of one volume.

    Attributes
    ----------
    rule : str
        Whose script it is.
    script : str
        The file.
    wildcards, input, output, params : mapping
        As the script of a job of its own would get them.
    counted : tuple of str
        Those of its files that another version of makes another result.
    log : str
        Of the lot.
    """

    rule: str
    script: str
    wildcards: Mapping[str, str]
    input: Mapping[str, Any]
    output: Mapping[str, str]
    params: Mapping[str, Any]
    counted: tuple[str, ...]
    log: str

    @property
    def name(self) -> str:
        """The rule, and the part if it has several."""
        part = self.wildcards.get("part")
        return self.rule if part is None else f"{self.rule} {part}"

    @property
    def record(self) -> Path:
        """What tells what was asked of it."""
        return Path(self.output["record"])

    def as_job(self) -> "LotJob":
        """Return what its script sees."""
        return LotJob(
            wildcards=Names(self.wildcards),
            input=Names(self.input),
            output=Names(self.output),
            params=Names(self.params),
            log=[self.log],
        )


@dataclass(frozen=True, slots=True)
class LotJob:
    """The job that a script runs for, as far as scripts look at it."""

    wildcards: Names
    input: Names
    output: Names
    params: Names
    log: list[str]


def read_orders(
    told: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, list[StepOrder]]:
    """Return the steps of each volume from plain values, as the workflow tells them."""
    return {volume: [StepOrder(**one) for one in of] for volume, of in told.items()}
