"""Threads that keep order, stay bounded, and fail loudly."""

import threading
import time

import pytest

from unetpipe.errors import DataError, ResourceError
from unetpipe.runtime.background import Writer, ahead, named_in_errors, prefetch


def test_items_come_in_order_and_at_most_depth_ahead():
    started = []
    results = []
    for item, square in prefetch(
        range(20), lambda i: started.append(i) or i * i, depth=2
    ):
        time.sleep(0.002)
        assert len(started) <= item + 5
        results.append((item, square))
    assert results == [(i, i * i) for i in range(20)]


def test_an_error_in_the_reader_is_raised_at_its_turn():
    def read(item):
        if item == 3:
            raise OSError("disk gone")
        return item

    seen = []
    with pytest.raises(OSError, match="disk gone"):
        for item, _ in prefetch(range(9), read):
            seen.append(item)
    assert seen == [0, 1, 2]


def test_leaving_early_stops_the_reader():
    before = threading.active_count()
    for item, _ in prefetch(range(10**9), lambda i: i):
        if item == 3:
            break
    deadline = time.monotonic() + 600
    while threading.active_count() > before:
        assert time.monotonic() < deadline, "the reader goes on"
        time.sleep(0.01)


def test_the_writer_writes_all_in_order_before_it_is_left():
    written = []
    with Writer(lambda i: (time.sleep(0.001), written.append(i))) as writer:
        for i in range(20):
            writer.put(i)
    assert written == list(range(20))


def test_an_error_in_the_writer_stops_the_caller():
    def fail(item):
        if item == 2:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Writer(fail) as writer:
        for i in range(1000):
            writer.put(i)
            time.sleep(0.001)


def test_an_error_in_the_last_item_is_not_lost():
    def fail(item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Writer(fail) as writer:
        writer.put(0)


def test_an_error_of_the_caller_drops_what_waits():
    written = []
    with pytest.raises(KeyError), Writer(written.append, depth=5) as writer:
        writer.put(1)
        raise KeyError
    assert not any(thread.name == "writer" for thread in threading.enumerate())


def num_ahead():
    return sum(thread.name == "ahead" for thread in threading.enumerate())


def until_none_is_left():
    deadline = time.monotonic() + 600
    while num_ahead():
        assert time.monotonic() < deadline, "a thread outlived its chain"
        time.sleep(0.01)
    return True


def test_a_chain_of_threads_ends_from_its_last_link_to_its_first():
    def doubled(items):
        try:
            for item in items:
                yield 2 * item
        finally:
            items.close()

    first = ahead(iter(range(10**9)))
    second = ahead(doubled(first))
    del first
    assert [next(second), next(second)] == [0, 2]
    assert num_ahead() == 2
    second.close()
    assert until_none_is_left()


def test_an_error_in_the_first_link_reaches_the_last():
    def broken():
        yield 1
        raise OSError("disk gone")

    chain = ahead(ahead(ahead(broken())))
    assert next(chain) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(chain)
    assert until_none_is_left()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (DataError("not finite; use fp32"), DataError, "block 3: not finite; use fp32"),
        (OSError(28, "No space left on device"), ResourceError, "block 3: .*No space"),
        (MemoryError(), ResourceError, "block 3: out of memory; make room"),
        (KeyError("mean"), RuntimeError, "block 3: KeyError: 'mean'"),
    ],
)
def test_an_error_says_where_it_happened_and_keeps_its_kind(error, kind, said):
    with pytest.raises(kind, match=said) as caught, named_in_errors("block 3"):
        raise error
    assert caught.value.__cause__ is error


def test_a_keyboard_interrupt_is_nobodys_error():
    with pytest.raises(KeyboardInterrupt), named_in_errors("block 3"):
        raise KeyboardInterrupt
