"""However a section is cut, and wherever it waits, scores have their bits."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from tests.metrics.oracles import as_columns
from tests.metrics.sections import thin_borders
from unetpipe.errors import ResourceError
from unetpipe.metrics import columns, labelling, scratch, simple_points, thinning
from unetpipe.metrics.columns import Columns, Proposal, Truth
from unetpipe.metrics.isbi import score_columns
from unetpipe.metrics.warping import warp_columns


def noisy_section(seed, shape=(37, 53)):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    noise = 0.3 * ndimage.gaussian_filter(rng.standard_normal(shape), 0.7)
    levels = np.rint(255 * np.clip(0.5 + smooth + noise, 0, 1)).astype(np.uint8)
    return levels, smooth > 0


def thin_slowly(mask):
    """One queue for the whole section, as the flooding is described."""
    labels, num_cells = ndimage.label(mask)
    if not num_cells:
        return np.ones_like(labels)
    labels[~mask] = -1
    framed = np.pad(labels, 1, constant_values=-3)
    steps = ((0, -1), (0, 1), (-1, 0), (1, 0))
    queue = [
        (y, x)
        for x in range(1, framed.shape[1] - 1)
        for y in range(1, framed.shape[0] - 1)
        if framed[y, x] == -1 and any(framed[y + a, x + b] > 0 for a, b in steps)
    ]
    waits = set(queue)
    for y, x in queue:  # grows meanwhile
        own, flag = None, False
        for a, b in steps:
            near = (y + a, x + b)
            if near in waits:
                continue
            if framed[near] > 0:
                if own is None or (own == 0 and flag):
                    own = framed[near]
                elif own > 0 and own != framed[near]:
                    own, flag = 0, False
            elif framed[near] == 0 and own is None:
                own, flag = 0, True
            elif framed[near] == -1:
                waits.add(near)
                queue.append(near)
        framed[y, x] = own
        waits.discard((y, x))
    return framed[1:-1, 1:-1]


def is_equal(one, two):
    return all(
        np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True)
        for name in one.__slots__
    )


@pytest.mark.parametrize("seed", range(3))
def test_pieces_and_files_change_no_bit(seed, monkeypatch):
    levels, cells = noisy_section(seed)
    section = as_columns(levels / 255, cells)
    expected = score_columns(*section), warp_columns(*section)
    monkeypatch.setattr(columns, "PIECE_VOXELS", 100 + seed)
    for module in (thinning, simple_points):
        monkeypatch.setattr(module, "PIECE_VOXELS", 50 + seed)
    monkeypatch.setattr(scratch, "MOST_JUMPS", 3)
    monkeypatch.setattr(simple_points, "SCATTERED_PLACES", 11)
    monkeypatch.setattr(scratch, "MOST_BYTES", 1000 * seed)
    monkeypatch.setattr(simple_points, "SCATTERED_BYTES", 1000 * seed)
    assert is_equal(expected[0], score_columns(*section))
    assert is_equal(expected[1], warp_columns(*section))


def test_levels_score_like_the_probabilities_that_they_stand_for():
    levels, cells = noisy_section(3)
    values = (np.arange(256) / 255).astype(np.float32)
    turned = np.ascontiguousarray(levels.T)
    by_level = Proposal(Columns(*turned.shape), turned, values)
    proposal, truth = as_columns(values[levels], cells)
    assert is_equal(score_columns(by_level, truth), score_columns(proposal, truth))
    assert is_equal(warp_columns(by_level, truth), warp_columns(proposal, truth))


@pytest.mark.parametrize("seed", range(4))
def test_borders_are_thinned_as_one_queue_thins_them(seed):
    levels, _ = noisy_section(seed, shape=(19, 26))
    for level in (60, 128, 200, 255):
        mask = levels > level
        np.testing.assert_array_equal(thin_borders(mask), thin_slowly(mask))


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 2100)])
def test_a_strip_has_its_components(shape):
    mask = np.arange(shape[0] * shape[1]).reshape(shape) % 2 == 0
    labels = labelling.label_truth(Truth.of(mask))[1:-1, 1:-1].T
    np.testing.assert_array_equal(np.where(mask, labels, 0), ndimage.label(mask)[0])


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    def refuse(file, start, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(ResourceError, match="no room on the disk for 8 MB of scratch"):
        scratch.Scratch(tmp_path).zeros((1 << 23,), np.uint8)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_reserves_nothing_will_do(tmp_path, monkeypatch, code):
    def refuse(file, start, length):
        raise OSError(code, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert not scratch.Scratch(tmp_path).zeros((1 << 23,), np.uint8).any()


def test_components_are_numbered_by_their_first_voxels_row_by_row():
    _, mask = noisy_section(5)
    labels = labelling.label_truth(Truth.of(mask))[1:-1, 1:-1].T
    np.testing.assert_array_equal(np.where(mask, labels, 0), ndimage.label(mask)[0])


def test_a_constant_map_is_scored_once_for_all_thresholds_alike(monkeypatch):
    _, cells = noisy_section(1)
    flat = np.zeros(cells.T.shape, np.uint8)
    constant = Proposal(Columns(*flat.shape), flat, np.full(1, 0.5, np.float32))
    orders = {constant.order(t) for t in np.linspace(0.1, 0.9, 9)}
    assert len(orders) == 2
    floats = as_columns(np.full(cells.shape, 0.5), cells)
    assert is_equal(
        warp_columns(constant, floats[1]), warp_columns(floats[0], floats[1])
    )


def test_what_was_not_warped_is_unknown():
    levels, cells = noisy_section(2)
    section = as_columns(levels / 255, cells)
    whole = warp_columns(*section)
    only = np.arange(9) == 4
    part = warp_columns(*section, only=only)
    np.testing.assert_array_equal(part.is_known, only)
    np.testing.assert_array_equal(part.mistakes[only], whole.mistakes[only])
    assert not part.mistakes[~only].any()


GROWTH = """
import sys
import numpy as np
from pathlib import Path
from unetpipe.metrics import isbi, simple_points
from unetpipe.metrics.columns import Columns, Proposal, Truth
from unetpipe.metrics.isbi import score_columns
from unetpipe.metrics.scratch import Scratch
from unetpipe.metrics.warping import warp_columns
isbi.SCATTERED_BYTES = simple_points.SCATTERED_BYTES = 18 << 20  # the larger is above
side = int(sys.argv[1])
columns, scratch = Columns(side, side), Scratch(Path(sys.argv[2]))
truth = Truth.empty(columns, scratch)
levels = scratch.zeros((side, side), np.uint8)
rng = np.random.default_rng(0)
for piece in columns.pieces(scratch):
    x, y = np.mgrid[piece, :side]
    cells = (x % 32 > 3) & (y % 32 > 3)
    truth.cells[piece] = truth.drawn[piece] = cells
    levels[piece] = np.clip(200 * cells + rng.normal(20, 40, cells.shape), 0, 255)
values = (np.arange(256) / 255).astype(np.float32)
proposal, at = Proposal(columns, levels, values, scratch), np.array([0.5])
score_columns(proposal, truth, thresholds=at)
warp_columns(proposal, truth, thresholds=at)
status = Path("/proc/self/status").read_text()
print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_section(tmp_path):
    """Sixteen times the area: its arrays alone would take 200 MB more."""
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", GROWTH, str(side), str(tmp_path)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for side in (1024, 4096)
    ]
    print(f"\n1024 and 4096 squared: {peaks[0] >> 20} and {peaks[1] >> 20} MB")
    assert peaks[1] < 1.35 * peaks[0]
