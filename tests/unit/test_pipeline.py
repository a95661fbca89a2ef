"""Threads that keep order, stay bounded, and fail loudly."""

import threading
import time

import pytest

from unetpipe.pipeline import Writer, prefetch


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
    time.sleep(0.3)
    assert threading.active_count() == before


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
    assert threading.active_count() < 20
