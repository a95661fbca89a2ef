"""Drawn cells that move, touch, divide, leave, and are lost; and what always holds."""

import weakref

import numpy as np
import pytest

from tests.tracking.drawn import draw
from unetpipe.tracking.lineages import DIVISION, GAP, NEW, Motion, Tracker


def track(drawn, motion=None, edges=(1.0, 1.0)):
    tracker = Tracker(int(drawn.max()), edges, motion or Motion())
    for frame in drawn:
        tracker.see(frame)
    return tracker.tracks()


def followed(frames, motion=None):
    """Return the tracks, and for each cell its tracks over the frames."""
    drawn, ids = draw(*frames)
    tracks = track(drawn, motion)
    cells: dict[str, list[int]] = {}
    for (_, name), number in sorted(ids.items()):
        cells.setdefault(name, []).append(int(tracks.of_objects[number]))
    return tracks, cells


def test_cells_that_move_keep_their_tracks() -> None:
    frames = [
        {"a": (2 + 3 * t, 2, 8, 8), "b": (30, 50 - 3 * t, 8, 8)} for t in range(6)
    ]
    tracks, cells = followed(frames)
    assert cells == {"a": [1] * 6, "b": [2] * 6}
    assert tracks.first[1:].tolist() == [0, 0]
    assert tracks.last[1:].tolist() == [5, 5]
    assert tracks.parents.tolist() == [0, 0, 0]
    assert tracks.begins[1:].tolist() == [NEW, NEW]


def test_cells_that_touch_are_told_apart() -> None:
    frames = [
        {"a": (10 + 2 * t, 10, 8, 8), "b": (10 + 2 * t, 18, 8, 8)} for t in range(6)
    ]
    assert followed(frames)[1] == {"a": [1] * 6, "b": [2] * 6}


def test_a_cell_that_moves_farther_than_it_is_wide_needs_a_reach() -> None:
    frames = [{"a": (2, 2 + 12 * t, 6, 6)} for t in range(5)]
    assert followed(frames)[1] == {"a": [1, 2, 3, 4, 5]}
    assert followed(frames, Motion(reach=13))[1] == {"a": [1] * 5}


def test_a_cell_goes_on_with_its_last_step() -> None:
    places = (0, 5, 14, 26, 42)  # each step is at most 5 longer than the last
    frames = [{"a": (2, 2 + x, 4, 4)} for x in places]
    assert followed(frames, Motion(reach=5))[1] == {"a": [1] * 5}


def divided(growth=0):
    mother = {"m": (20, 20, 10, 16)}
    daughters = [
        {"d": (20, 18 - t, 10, 8 + growth), "e": (20, 30 + t, 10, 8)} for t in range(3)
    ]
    return [mother, mother, *daughters]


def test_a_division_ends_the_mother_and_begins_two_tracks() -> None:
    tracks, cells = followed(divided())
    assert cells == {"m": [1, 1], "d": [2] * 3, "e": [3] * 3}
    assert tracks.parents.tolist() == [0, 0, 1, 1]
    assert tracks.last.tolist() == [0, 1, 4, 4]
    assert tracks.begins[1:].tolist() == [NEW, DIVISION, DIVISION]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_an_object_that_falls_apart_for_a_moment_has_not_divided(frames: int) -> None:
    whole = {"a": (20, 20, 10, 16)}
    halves = {"a": (20, 19, 10, 9), "b": (20, 29, 10, 7)}
    tracks, cells = followed([whole, *[halves] * frames, *[whole] * 4])
    if frames < 3:
        assert cells == {"a": [1] * (5 + frames), "b": [2] * frames}
        assert not tracks.parents.any()
    else:
        assert cells == {"a": [1] + [2] * 7, "b": [3] * 3}


def test_what_is_seen_to_the_end_is_not_gone() -> None:
    """Nobody knows whether what is there in the last frame stays."""
    frames = divided()[:3]
    tracks, _ = followed(frames)
    assert tracks.parents.tolist() == [0, 0, 1, 1]
    alone = {"e": frames[-1]["e"]}
    tracks, cells = followed([*frames, alone])
    assert cells == {"m": [1, 1], "d": [2], "e": [1, 1]}
    assert not tracks.parents.any()


def test_a_lost_cell_is_found_by_its_overlap_too() -> None:
    frames = [{"a": (20, 20, 8, 8)}, {}, {"a": (20, 22, 8, 8)}]
    tracks, _ = followed(frames, Motion(reach=1))
    assert tracks.parents.tolist() == [0, 0, 1]


def test_divisions_can_be_switched_off() -> None:
    tracks, cells = followed(divided(), Motion(divides=False))
    assert sorted(map(tuple, cells.values())) == [(1, 1), (1, 1, 1), (2, 2, 2)]
    assert not tracks.parents.any()


def test_a_cell_that_comes_in_beside_another_is_no_daughter() -> None:
    stays = {"a": (20, 20, 10, 16)}
    comes = stays | {"b": (31, 20, 10, 16)}  # near, but both are twice as large
    tracks, cells = followed([stays, stays, comes, comes])
    assert cells == {"a": [1] * 4, "b": [2] * 2}
    assert not tracks.parents.any()


def test_a_cell_that_leaves_ends_its_track() -> None:
    stays = {"a": (20, 20, 8, 8)}
    tracks, cells = followed([stays | {"b": (40, 0, 8, 8)}, stays, stays, stays])
    assert cells == {"a": [1] * 4, "b": [2]}
    assert tracks.last.tolist() == [0, 3, 0]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_cell_that_is_lost_for_a_while_is_the_child_of_itself(lost: int) -> None:
    """Tracks have no gaps, as the challenge wants it."""
    stays = {"a": (20, 20, 8, 8)}
    whole = stays | {"b": (40, 40, 8, 8)}
    tracks, cells = followed([whole, whole, *[stays] * lost, whole, whole])
    assert cells["a"] == [1] * (4 + lost)
    assert cells["b"] == [2, 2, 3, 3]
    assert tracks.parents[3] == (2 if lost < 3 else 0)
    assert tracks.begins[3] == (GAP if lost < 3 else NEW)
    without, _ = followed([whole, stays, whole], Motion(longest_gap=0))
    assert not without.parents.any()


def test_empty_frames_are_gaps_of_all() -> None:
    cells = {"a": (20, 20, 8, 8), "b": (40, 40, 8, 8)}
    tracks, found = followed([{}, cells, {}, cells, {}])
    assert found == {"a": [1, 3], "b": [2, 4]}
    assert tracks.parents.tolist() == [0, 0, 0, 1, 2]
    assert track(np.zeros((3, 8, 8), int)).num_tracks == 0
    assert Tracker(0, (1, 1), Motion()).tracks().num_tracks == 0


def random_frames(seed):
    """Return cells that come, go, move, split and overlap as they like."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((8, 40, 40), np.int64)
    last = 0
    for frame in drawn:
        for _ in range(rng.integers(0, 7)):
            y, x = rng.integers(0, 34, 2)
            height, width = rng.integers(3, 14, 2)
            frame[y : y + height, x : x + width] = rng.integers(1, 9)
        kept, places = np.unique(frame, return_inverse=True)
        numbers = np.where(kept > 0, last + np.cumsum(kept > 0), 0)
        frame[...] = numbers[places].reshape(frame.shape)
        last = max(last, int(numbers.max()))
    return drawn


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_tracks_are_as_the_challenge_wants_them(seed: int) -> None:
    drawn = random_frames(seed)
    tracks = track(drawn, Motion(reach=20, longest_gap=2))
    shown = [np.unique(tracks.of_objects[frame]) for frame in drawn]
    for number in range(1, tracks.num_tracks + 1):
        seen = [t for t, found in enumerate(shown) if number in found]
        assert seen == list(range(tracks.first[number], tracks.last[number] + 1))
        parent, begins = tracks.parents[number], tracks.begins[number]
        assert (parent == 0) == (begins == NEW)
        children = np.flatnonzero(tracks.parents == number)
        assert len(children) in (0, 1, 2)
        if begins == GAP:
            assert 1 < tracks.first[number] - tracks.last[parent] <= 3
        if begins == DIVISION:
            assert tracks.first[number] - tracks.last[parent] == 1
            assert np.count_nonzero(tracks.parents == parent) == 2
    for t, frame in enumerate(drawn):  # two objects of a frame are never one track
        ids = np.unique(frame[frame > 0])
        assert len(set(tracks.of_objects[ids])) == len(ids)
        assert (tracks.frames[ids] == t).all()


def test_numbers_of_objects_decide_nothing() -> None:
    """The same objects are linked, whatever their ids are within a frame."""
    drawn = random_frames(3)
    turned = drawn.copy()
    for frame in turned:
        ids = np.unique(frame[frame > 0])
        swap = dict(zip(ids.tolist(), ids[::-1].tolist(), strict=True))
        frame[...] = np.vectorize(lambda k, swap=swap: swap.get(k, 0))(frame)
    motion = Motion(reach=20)
    one, other = track(drawn, motion), track(turned, motion)
    pairs = {
        *zip(one.of_objects[drawn].flat, other.of_objects[turned].flat, strict=True)
    }
    assert len(pairs) == len(dict(pairs)) == one.num_tracks + 1


def test_a_pair_of_frames_is_kept_and_no_more() -> None:
    drawn, _ = draw(*[{"a": (2 + t, 2, 8, 8)} for t in range(6)])
    tracker, kept = Tracker(6, (1, 1), Motion()), []
    for frame in drawn:
        copied = frame.copy()
        kept.append(weakref.ref(copied))
        tracker.see(copied)
        del copied
        assert sum(one() is not None for one in kept) == 1
