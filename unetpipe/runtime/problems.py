"""Collect problems, so that a user meets all of them at once."""

from types import TracebackType

from unetpipe.errors import ConfigError, DataError


class Problems:
    """A context that notes what goes wrong within it and goes on.

    Only ``DataError`` and ``ConfigError`` are noted; others pass.

    Examples
    --------
    >>> problems = Problems("volume a")
    >>> with problems:
    ...     raise DataError("it is empty; give another")
    >>> problems.raise_any()
    Traceback (most recent call last):
    unetpipe.errors.DataError: volume a: it is empty; give another
    """

    def __init__(self, about: str) -> None:
        self.about = about
        self.texts: list[str] = []

    def raise_any(self) -> None:
        """Raise one ``DataError`` with all that was noted, if anything was.

        Raises
        ------
        DataError
            One line for each problem.
        """
        if len(self.texts) == 1:
            raise DataError(f"{self.about}: {self.texts[0]}")
        if self.texts:
            head = f"{self.about}: {len(self.texts)} problems"
            raise DataError("\n  ".join([head, *self.texts]))

    def __enter__(self) -> "Problems":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, (DataError, ConfigError)):
            return False
        self.texts.append(str(error))
        return True
