"""Read, compute and write at the same time, in order, with bounded memory.

::

    reader thread   |r0|r1|r2|r3|
    this thread        |c0   |c1   |c2   |c3   |
    writer thread            |w0|  |w1|  |w2|  |w3|

At most ``depth`` items wait between two steps. The first error in any thread is raised
in this one, and ends the others.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

from unetpipe.errors import ResourceError, UnetpipeError

Item = TypeVar("Item")
Read = TypeVar("Read")

_POLL_SECONDS = 0.1


class _Failed:
    """An error on its way from one thread to the next."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def ahead(items: Iterable[Item], *, depth: int = 1) -> Generator[Item, None, None]:
    """Yield items in order, drawn ahead in another thread.

    An error of ``items`` is raised here, at its item's turn. Closing the iterator stops
    the thread, which closes ``items`` if that is a generator: so a chain of them ends
    from its last link to its first.
    """
    queue: Queue[object] = Queue(maxsize=depth)
    stop = Event()

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                if not _put(queue, item, stop):
                    return
                del item  # it belongs to the other side now
            _put(queue, _END, stop)
        except BaseException as error:
            _put(queue, _Failed(error), stop)
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (result := queue.get()) is not _END:
            if isinstance(result, _Failed):
                raise result.error
            yield result  # type: ignore[misc]
            del result
    finally:
        stop.set()
        thread.join()


def prefetch(
    items: Iterable[Item], function: Callable[[Item], Read], *, depth: int = 1
) -> Generator[tuple[Item, Read], None, None]:
    """Yield (item, function(item)) in order, computed ahead in another thread.

    Errors and closing: as ``ahead``.
    """
    return ahead(((item, function(item)) for item in items), depth=depth)


class Writer:
    """Calls a function for each item in another thread, in order.

    Use as a context manager: leaving it waits until all is written. The first error in
    the thread is raised at the next ``put`` or on leaving.
    """

    def __init__(self, function: Callable[..., None], *, depth: int = 1) -> None:
        self._function = function
        self._queue: Queue[object] = Queue(maxsize=depth)
        self._stop = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> "Writer":
        """Start the thread."""
        self._thread.start()
        return self

    def put(self, *arguments: object) -> None:
        """Hand over one item; waits while ``depth`` items are waiting."""
        if not _put(self._queue, arguments, self._stop) and self._error:
            raise self._error

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write what was handed over, then stop; after an error stop at once."""
        if kind is None:
            _put(self._queue, _END, self._stop)
        else:
            self._stop.set()
        self._thread.join()
        if kind is None and self._error:
            raise self._error

    def _work(self) -> None:
        while not self._stop.is_set():
            arguments = _get(self._queue, self._stop)
            if arguments is _END:
                return
            try:
                self._function(*arguments)  # type: ignore[misc]
            except BaseException as error:
                self._error = error
                self._stop.set()


@contextmanager
def named_in_errors(where: str) -> Iterator[None]:
    """Say in an error that leaves this block where it happened, and keep its kind.

    A full disk or memory becomes a ``ResourceError``; what nobody foresaw a
    ``RuntimeError``.
    """
    try:
        yield
    except UnetpipeError as error:
        raise type(error)(f"{where}: {error}") from error
    except (OSError, MemoryError) as error:
        said = str(error) or "out of memory"
        raise ResourceError(
            f"{where}: {said}; make room, then repeat the same command: what is "
            "finished is kept"
        ) from error
    except Exception as error:
        raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error


def _put(queue: "Queue[object]", item: object, stop: Event) -> bool:
    """Put an item unless the other side stopped; say whether it was taken."""
    while not stop.is_set():
        try:
            queue.put(item, timeout=_POLL_SECONDS)
        except Full:
            continue
        return True
    return False


def _get(queue: "Queue[object]", stop: Event) -> object:
    while not stop.is_set():
        try:
            return queue.get(timeout=_POLL_SECONDS)
        except Empty:
            continue
    return _END
