"""What differs from the sections around is named, and nothing else."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage

from tests.ingestion.test_section_statistics import watch
from unetpipe import open_image
from unetpipe.ingestion.odd_sections import describe_odd, find_odd_sections


def alike(
    num: int = 20,
    side: int = 64,
    seed: int = 0,
    drift: float = 0.0,
    dtype: DTypeLike = np.uint8,
) -> NDArray[Any]:
    """Return sections of one tissue that changes from one to the next."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(num + 4, side, side))
    tissue = ndimage.gaussian_filter(noise, (2, 1.2, 1.2))[2:-2]
    tissue = 40 * tissue / tissue.std() + 120
    tissue *= (1 + drift * np.arange(num) / num)[:, None, None]
    return np.clip(tissue + rng.normal(0, 4, tissue.shape), 0, 255).astype(dtype)


def odd(voxels: NDArray[Any]) -> dict[str, list[int]]:
    """Return the odd sections of (z, y, x), by kind."""
    found = find_odd_sections(watch(voxels[None]))
    return {one.what: list(one.sections) for one in found}


@pytest.mark.parametrize("drift", [0, -0.6])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("seed", range(3))
def test_of_twenty_alike_none_is_odd(seed, dtype, drift):
    assert odd(alike(seed=seed, dtype=dtype, drift=drift)) == {}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("drift", [-0.6, 0.2])
def test_a_long_series_that_bleaches_has_no_odd_ends(drift, dtype):
    for seed in range(3):
        assert odd(alike(num=60, seed=seed, dtype=dtype, drift=drift)) == {}


@pytest.mark.parametrize(
    "shown", [slice(3, 27), slice(12, 18), slice(0, 5), slice(20, 30), slice(15, 30)]
)
def test_of_a_padded_stack_only_the_padding_is_odd(shown):
    voxels = np.full((30, 64, 64), 9, np.uint8)
    voxels[shown] = alike(num=30)[shown]
    padding = sorted(set(range(30)).difference(range(30)[shown]))
    assert odd(voxels) == {"blank": padding}


def test_unrelated_images_are_not_odd():
    rng = np.random.default_rng(0)
    grey = rng.uniform(90, 160, (20, 1, 1))
    noise = rng.normal(grey, rng.uniform(2, 20, (20, 1, 1)), (20, 40, 40))
    assert odd(np.clip(noise, 0, 255).astype(np.uint8)) == {}
    assert odd(np.repeat(noise[:1], 20, 0)) == {}


DAMAGES = {
    "blank": lambda s, before: s * 0 + 120,
    "duplicated": lambda s, before: before,
    "saturated": lambda s, before: np.where(s > 130, 255, s),
    "darker": lambda s, before: s * 0.5 + 10,
    "brighter": lambda s, before: s * 0.8 + 70,
    "of other contrast": lambda s, before: (s - 120) / 3 + 120,
    "blurred": lambda s, before: ndimage.gaussian_filter(s, 2) * 1.0,
    "noisier": lambda s, before: s + np.random.default_rng(1).normal(0, 30, s.shape),
    "displaced": lambda s, before: np.roll(s, (12, -9), (0, 1)),
}


@pytest.mark.parametrize("what", ["darker", "brighter", "duplicated"])
@pytest.mark.parametrize("place", [3, 59])
def test_an_odd_section_at_the_end_of_a_long_series_is_named(what, place):
    voxels = alike(num=60, drift=-0.3).astype(np.float32)
    voxels[place] = DAMAGES[what](voxels[place], voxels[place - 1])
    assert odd(np.clip(voxels, 0, 255).astype(np.uint8)) == {what: [place]}


@pytest.mark.parametrize("place", [1, 9, 19])
@pytest.mark.parametrize("what", DAMAGES)
def test_one_odd_section_of_twenty_is_named(what, place):
    voxels = alike().astype(np.float32)
    voxels[place] = DAMAGES[what](voxels[place], voxels[place - 1])
    assert odd(np.clip(voxels, 0, 255).astype(np.uint8)) == {what: [place]}


def test_of_several_damages_each_is_named():
    voxels = alike().astype(np.float32)
    for place, what in ((3, "blank"), (4, "blank"), (11, "duplicated")):
        voxels[place] = DAMAGES[what](voxels[place], voxels[place - 1])
    assert odd(voxels) == {"blank": [3, 4], "duplicated": [11]}


def test_of_three_sections_the_blank_one_is_named():
    voxels = alike(num=3)
    voxels[1] = 7
    assert odd(voxels) == {"blank": [1]}


def test_a_blank_channel_of_one_section_is_named():
    voxels = np.stack([alike(seed=1), alike(seed=2)])
    voxels[1, 5] = 0
    (found,) = find_odd_sections(watch(voxels))
    assert (found.what, found.sections) == ("blank", (5,))


def test_the_sentence_names_sections_and_what_to_do():
    voxels = alike()
    voxels[[4, 5, 9]] = 0
    (told,) = describe_odd(find_odd_sections(watch(voxels[None])), 20)
    assert told.startswith("3 sections of 20 look blank")
    assert "4-5, 9" in told
    assert "column sections" in told
    voxels = alike()
    voxels[7] = 0
    (told,) = describe_odd(find_odd_sections(watch(voxels[None])), 20)
    assert told.startswith("1 section of 20 looks blank")
    assert "look at it before" in told


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("spots", [1, 2])
@pytest.mark.parametrize("thickness", [0, 0.7])
def test_a_few_bright_spots_are_no_displaced_section(spots, thickness, noise):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        voxels = np.zeros((32, 128, 128))
        place = (rng.integers(0, n, 32 * spots) for n in voxels.shape)
        voxels[tuple(place)] = rng.uniform(0.5, 1.5, 32 * spots)
        voxels = ndimage.gaussian_filter(voxels, (thickness, 2, 2))[4:-4]
        voxels = 20 + 200 * voxels / voxels.max()
        voxels += rng.normal(0, noise, voxels.shape)
        assert "displaced" not in odd(np.clip(voxels, 0, 255).astype(np.uint8))


def overexposed(kind: str, share: float, side: int = 200) -> NDArray[Any]:
    """Return one image whose brightest ``share`` lies above 1, where a camera ends."""
    rng = np.random.default_rng(4)
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), 5)
    noise /= noise.std()
    image = noise + 5 if kind == "tissue" else np.exp(1.5 * noise)
    image *= rng.normal(1, 0.01, image.shape)
    return np.asarray(image / np.quantile(image, 1 - share))


CAMERAS = {
    "8 bit": (255, np.uint8),
    "12 bit in 16": (4095, np.uint16),
    "16 bit": (65535, np.uint16),
    "float": (1.0, np.float32),
}


@pytest.mark.parametrize("share", [0.08, 0.2, 0.4])
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("kind", ["tissue", "cells"])
def test_a_single_saturated_image_is_named(kind, camera, share):
    top, dtype = CAMERAS[camera]
    image = np.clip(overexposed(kind, share) * top, 0, top).astype(dtype)
    found = find_odd_sections(watch(image[None, None]))
    (told,) = describe_odd(found, 1)
    assert told.startswith("1 section of 1 looks saturated (")
    exposed = np.clip(overexposed(kind, 0.002) * top, 0, top).astype(dtype)
    assert odd(exposed[None]) == {}


def test_all_sections_of_a_saturated_stack_are_named():
    tissue = np.clip(alike().astype(np.float64) * 2, 0, 255).astype(np.uint8)
    assert odd(tissue) == {"saturated": list(range(20))}


def drawn_on_white() -> NDArray[np.float64]:
    """Return grey cells on a ground that is the greatest value, as bright field is."""
    rng = np.random.default_rng(5)
    image = 250 - 60 * (ndimage.gaussian_filter(rng.normal(size=(200, 200)), 6) > 0.04)
    return ndimage.gaussian_filter(image + rng.normal(0, 3, image.shape), 1)


UNSATURATED = {
    "white ground": lambda s: np.clip(drawn_on_white() * 1.05, 0, 255),
    "mask": lambda s: 255.0 * (s > 130),
    "few levels": lambda s: np.clip(s // 40, 0, 3),
    "dark": lambda s: np.random.default_rng(6).poisson(0.3, s.shape),
    "padded with white": lambda s: (
        np.pad(np.minimum(s, 215)[10:], ((10, 0), (0, 0)))
        + 255 * (np.arange(64)[:, None] < 10)
    ),
    "opaque": lambda s: s * 0 + 255,
}


@pytest.mark.parametrize("what", UNSATURATED)
def test_an_image_that_holds_its_greatest_value_often_may_be_no_saturated_one(what):
    image = UNSATURATED[what](alike(num=1)[0].astype(np.float64)).astype(np.uint8)
    assert odd(image[None]) == {}
    assert odd(image[None].astype(np.float32)) == {}


def test_no_published_image_is_called_saturated(real_data):
    """Fluorescence of dark ground, electron micrographs, DIC: each image by itself."""
    nuclei = sorted(real_data.glob("dsb2018-nuclei/stage1_train/*/images/*.png"))
    others = [
        next(real_data.glob(f"{place}/*.*"), None)
        for place in ("isbi2012-em/test/image", "ctc-dic-c2dh-hela/01")
    ]
    if not nuclei or None in others:
        pytest.skip(f"{real_data} lacks dsb2018-nuclei, isbi2012-em or DIC-HeLa")
    for path in (*nuclei, *others):
        with open_image(str(path)) as image:
            voxels = np.asarray(image.dask)
        assert find_odd_sections(watch(voxels)) == (), path
        # A longer exposure: of dim images with the levels that a camera would have.
        grey = ndimage.gaussian_filter(voxels[0].astype(np.float64), (0, 1, 1))
        longer = np.clip(grey * 255 / np.quantile(grey, 0.92), 0, 255)
        assert odd(np.rint(longer)) == {"saturated": [0]}, path
