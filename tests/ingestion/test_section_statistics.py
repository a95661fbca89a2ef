"""Statistics of sections are the same however an image is cut."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unetpipe.ingestion import section_statistics
from unetpipe.ingestion.section_statistics import SectionWatch
from unetpipe.ingestion.slabs import Box


def watch(voxels, shard=(4, 512, 512)):
    """Show an image in boxes of whole shards; return what is told of its sections."""
    depth, height, width = shard
    _, num, rows, columns = voxels.shape
    corners = [(y, x) for y in range(0, rows, height) for x in range(0, columns, width)]
    with ThreadPoolExecutor(2) as threads:
        watched = SectionWatch(voxels.shape, threads)
        for z in range(0, num, depth):
            for y, x in corners:
                box = voxels[:, z : z + depth, y : y + height, x : x + width]
                watched.add(Box((z, y, x), box.copy(), (y, x) == corners[-1]))
        return watched.told()


def textured(num=6, side=48, seed=0, channels=1):
    rng = np.random.default_rng(seed)
    return rng.normal(100, 20, (channels, num, side, side)).astype(np.uint8)


@pytest.mark.parametrize("side", [256, 11, 7])
@pytest.mark.parametrize("shard", [(1, 5, 5), (2, 48, 7), (6, 13, 48), (3, 1, 3)])
def test_boxes_change_nothing(monkeypatch, side, shard):
    monkeypatch.setattr(section_statistics, "SIDE", side)
    voxels = textured(channels=2)
    assert watch(voxels, shard) == watch(voxels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_small_sections_are_measured_whole(dtype):
    voxels = textured().astype(dtype)
    found = watch(voxels).channels[0]
    section = voxels[0, 2].astype(float)
    assert found.mean[2] == pytest.approx(section.mean(), rel=1e-5)
    assert found.std[2] == pytest.approx(section.std(), rel=1e-5)
    assert found.low[2] == pytest.approx(np.percentile(section, 5), rel=1e-5)
    assert found.greatest_share[2] == pytest.approx(
        np.mean(section == section.max()), rel=1e-5
    )
    steps = np.concatenate([np.diff(section, axis=axis).ravel() for axis in (0, 1)])
    assert found.sharpness[2] == pytest.approx(
        np.mean(steps**2) / (2 * section.var()), rel=1e-5
    )


def test_a_displacement_is_that_of_the_voxels():
    voxels = textured(num=4, side=300)
    for z in (1, 2, 3):
        voxels[0, z] = voxels[0, 0]
    voxels[0, 2] = np.roll(voxels[0, 2], (6, -10), (0, 1))
    found = watch(voxels)
    assert found.displacement[2:] == ((6, -10), (-6, 10))
    assert found.displaced_likeness[2] > 0.9 > 0.1 > found.likeness[2]
    assert found.same == ((1, 0), (3, 0))


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 2, 1, 40), (1, 1, 17, 2)])
def test_thin_images_are_measured(shape):
    voxels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert len(watch(voxels).likeness) == shape[1]
