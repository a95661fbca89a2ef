"""The size of a training patch, and what a step on it needs."""

import json
import re
from dataclasses import replace
from math import prod

import pytest

from unetpipe.errors import ConfigError
from unetpipe.tiling.patch_size import (
    LARGEST_STEP,
    check_normalised,
    check_pairs,
    choose_patch,
    project_memory,
)
from unetpipe.tiling.unet_spec import UNetSpec

PAPER = UNetSpec()
NORMALISED = UNetSpec(padding="same", normalization="batch")
SAME = UNetSpec(padding="same")


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ([(1, 512, 512)], (1, 572, 572)),
        ([(1, 2048, 2048)], (1, 572, 572)),
        ([(1, 256, 256)], (1, 444, 444)),  # its output of 260 covers the section
        ([(1, 100, 2048)], (1, 300, 572)),
        ([(1, 100, 200), (1, 200, 100)], (1, 396, 396)),
    ],
)
def test_the_default_is_the_papers_tile_or_what_the_sections_need(sections, expected):
    assert choose_patch(None, PAPER, sections) == expected
    PAPER.check_input_shape(expected)


def test_padded_networks_need_no_more_than_the_section():
    assert choose_patch(None, SAME, [(1, 250, 300)]) == (1, 256, 304)
    assert choose_patch(None, SAME, [(1, 5000, 5000)]) == (1, 576, 576)
    assert choose_patch((1, 100, 64), SAME, [(1, 250, 300)]) == (1, 112, 64)


def test_volumetric_patches_have_a_depth():
    spec = UNetSpec(ndim=3, depth=3, base_channels=8)
    patch = choose_patch(None, spec, [(200, 300, 300)])
    assert patch == (116, 132, 132)
    assert spec.output_shape(patch) == (28, 44, 44)
    thin = choose_patch(None, spec, [(10, 300, 300)])
    assert spec.output_shape(thin)[0] >= 10


@pytest.mark.parametrize(("wanted", "given"), [(572, 572), (571, 572), (573, 588)])
def test_a_wanted_patch_is_rounded_up_to_a_legal_size(wanted, given):
    assert choose_patch((1, wanted, 1), PAPER, [(1, 512, 512)]) == (1, given, 204)


def test_a_patch_that_sees_mirrors_of_mirrors_is_refused():
    with pytest.raises(ConfigError, match=r"1100 voxels along x.*would be 916.*444"):
        choose_patch((1, 444, 1100), PAPER, [(1, 256, 256)])
    assert choose_patch((1, 572, 572), PAPER, [(1, 256, 256)]) == (1, 572, 572)


def test_the_papers_step_needs_about_two_gibibytes():
    """0.6 GiB of feature maps, twice that for their gradients, 31 M parameters."""
    needed = project_memory(PAPER, (1, 572, 572), 1) / 2**30
    assert 1.8 < needed < 2.6
    twice = project_memory(PAPER, (1, 572, 572), 2) / 2**30
    assert 1.5 < twice - needed < 2.1


def test_moments_averaged_weights_and_buckets_of_gradients_are_counted() -> None:
    plain = project_memory(PAPER, (1, 572, 572), 1)
    adaptive = project_memory(PAPER, (1, 572, 572), 1, is_adaptive=True)
    averaged = project_memory(PAPER, (1, 572, 572), 1, is_averaged=True)
    shared = project_memory(PAPER, (1, 572, 572), 1, is_team=True)
    assert adaptive - plain == 4 * PAPER.num_parameters
    assert averaged - plain == 2 * 4 * PAPER.num_parameters
    assert shared - plain == 4 * PAPER.num_parameters


@pytest.mark.parametrize(
    ("spec", "patch", "batch", "is_refused"),
    [
        (NORMALISED, (1, 16, 16), 1, True),
        (NORMALISED, (1, 16, 16), 2, False),
        (NORMALISED, (1, 16, 32), 1, False),
        (replace(NORMALISED, depth=3, pooling=()), (1, 16, 16), 1, False),
        (replace(NORMALISED, normalization="none"), (1, 16, 16), 1, False),
        (replace(NORMALISED, ndim=3, depth=2, pooling=()), (4, 4, 4), 1, True),
    ],
)
def test_batch_normalisation_of_one_value_a_channel_is_refused(
    spec, patch, batch, is_refused
):
    if not is_refused:
        check_normalised(spec, patch, batch)
        return
    with pytest.raises(ConfigError, match=r"training\.batch_size 2"):
        check_normalised(spec, patch, batch)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_largest_patch_sees_whole_sections_or_fits_the_memory(ndim):
    spec = UNetSpec(ndim=ndim, base_channels=32, depth=3)
    sections = [(1 if ndim == 2 else 40, 300, 340)]
    whole = choose_patch("largest", spec, sections)
    assert all(map(int.__ge__, spec.output_shape(whole), sections[0])) or ndim == 3
    huge = choose_patch("largest", spec, [(1 if ndim == 2 else 900, 5000, 7000)])
    assert project_memory(spec, huge, 1) <= LARGEST_STEP
    grown = tuple(n + g for n, g in zip(huge, spec.pooling_grid, strict=True))
    grown = (huge[0] if ndim == 2 else grown[0], *grown[1:])
    assert project_memory(spec, grown, 1) > LARGEST_STEP
    usual = choose_patch(None, spec, [(1 if ndim == 2 else 900, 5000, 7000)])
    told = [prod(spec.output_shape(p)) / spec.flop(p) for p in (huge, usual)]
    assert told[0] > told[1]


PAIRS = UNetSpec(
    ndim=3,
    depth=2,
    head="sigmoid",
    targets="affinities",
    pooling=((1, 2, 2), (2, 2, 2)),
)


@pytest.mark.parametrize(
    ("sections", "patch", "said"),
    [
        (
            (18, 70, 94),
            (26, 60, 60),
            r"\[-2, 0, 0\] or \[-4, 0, 0\].*use training.patch",
        ),
        ((4, 70, 94), (30, 60, 60), r"no annotated voxels .*\[-4, 0, 0\] apart"),
        ((1, 70, 94), (30, 60, 60), r"\[-1, 0, 0\] or \[-2, 0, 0\] or"),
    ],
)
def test_an_affinity_that_nothing_teaches_is_refused(sections, patch, said):
    """What is never supervised may be anything, and a mutex watershed obeys it."""
    with pytest.raises(ConfigError, match=said) as error:
        check_pairs(PAIRS, patch, [sections])
    left = re.search(r"affinity_offsets: (\[.*\])\)", str(error.value))
    fewer = replace(PAIRS, affinity_offsets=tuple(map(tuple, json.loads(left[1]))))
    check_pairs(fewer, patch, [sections])
    if larger := re.search(r"use training.patch (\[.*?\])", str(error.value)):
        wanted = tuple(json.loads(larger[1]))
        check_pairs(PAIRS, choose_patch(wanted, PAIRS, [sections]), [sections])
