"""What each JSON record says: one typed model a record, read, written, compared here.

This file has what all records have in common.

::

    file  --Record.read-->  a frozen object whose attributes are typed
    object  --Record.write-->  a file that is absent, old or whole

A record is a class whose fields stand in the order of the file. A field with a default
is one that some records lack, of an earlier version or because there is nothing to say;
what nobody has set is not written, so that a record is written as it was read.
"""

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from unetpipe.errors import DataError
from unetpipe.runtime.files import read_record, write_record

FORMAT_KEY = "format"


class Value(BaseModel):
    """A part of a record: frozen, and blind to fields that a later version adds.

    Raises
    ------
    pydantic.ValidationError
        If a field is missing, or of another type.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        protected_namespaces=(),
        validate_by_name=True,
        validate_by_alias=True,
    )

    def to_json(self) -> dict[str, Any]:
        """Return what is written of it: the fields that somebody has set, in order."""
        return self.model_dump(exclude_unset=True, by_alias=True)


class Record(Value):
    """A JSON file that one rule writes and others read.

    Attributes
    ----------
    WHAT : str
        What the file is, for messages: ``the plan of a prediction``.
    FORMAT : int
        Raised only when a field changes its meaning or goes: more fields are no new
        format. Version 0.1 wrote format 1, which is not written down; another number is
        the first key of the file.
    """

    WHAT: ClassVar[str]
    FORMAT: ClassVar[int] = 1

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file.

        Raises
        ------
        DataError
            If it is missing, is no JSON, lacks a field, or has another format; the
            message names the file and what mends it.
        """
        values = read_record(path)
        found = values.get(FORMAT_KEY, 1)
        if found != cls.FORMAT:
            values = cls._of_format(found, values, path)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise DataError(
                f"{path} is not {cls.WHAT} as this version of unetpipe writes it "
                f"({_first_problem(error)}); delete it and run again"
            ) from None

    @classmethod
    def read_if_there(cls, path: Path) -> Self | None:
        """Read a file; None where there is none."""
        return cls.read(path) if path.exists() else None

    def write(self, path: Path, *, is_synced: bool = True) -> None:
        """Write the file: whole, or not at all; ``is_synced``: and on the disk."""
        write_record(path, self.to_json(), is_synced=is_synced)

    def to_json(self) -> dict[str, Any]:
        """Return what is written, with the format where it is not the first."""
        head = {FORMAT_KEY: self.FORMAT} if self.FORMAT != 1 else {}
        return head | super().to_json()

    @classmethod
    def upgrade(cls, values: dict[str, Any], found: int) -> dict[str, Any] | None:
        """Return the values of an earlier format as this one has them.

        None, unless a record says better: that format cannot be read any more.
        """
        return None

    @classmethod
    def _of_format(cls, found: Any, values: dict[str, Any], path: Path) -> Any:
        is_later = isinstance(found, int) and found > cls.FORMAT
        upgraded = None if is_later else cls.upgrade(values, found)
        if upgraded is None:
            remedy = "use the version that wrote it, or " if is_later else ""
            raise DataError(
                f"{path} has format {found!r}, this version of unetpipe reads "
                f"{cls.WHAT} in format {cls.FORMAT}; {remedy}delete it and run again"
            )
        return upgraded


def _first_problem(error: ValidationError) -> str:
    """Return the first field that is wrong, and how many more are."""
    problems = error.errors(include_url=False, include_context=False)
    first, more = problems[0], len(problems) - 1
    place = ".".join(map(str, first["loc"])) or "the whole"
    said = str(first["msg"]).removeprefix("Value error, ")
    said = "is missing" if first["type"] == "missing" else said
    joiner = " " if first["type"] == "missing" else ": "
    return f"{place}{joiner}{said}" + (f", and {more} more" if more else "")
