"""Readers against noise: whatever comes, one of our errors, and never a half result.

The same cases each time (derandomized), a few hundred of each kind. To look further::

    HYPOTHESIS_PROFILE=deep pytest tests/test_fuzz.py
"""

import contextlib
import io
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingestion.test_archives import write_tar, write_zip
from unetpipe.config import Config, check_config, repeated_keys
from unetpipe.config.sheet import COLUMNS, LABEL_KINDS, ROLES, parse_sheet
from unetpipe.errors import ConfigError, DataError, UnetpipeError
from unetpipe.images import open_image
from unetpipe.ingestion.archives import unpack_archive

STACK = np.random.default_rng(0).integers(0, 255, (3, 20, 24), np.uint8)
GREY = {"photometric": "minisblack"}
TIFFS = {
    "plain": GREY,
    "zlib": {"compression": "zlib", **GREY},
    "tiles": {"tile": (16, 16), "compression": "lzw", **GREY},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}, **GREY},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "big": {"bigtiff": True, "compression": "zstd", **GREY},
}
# The first bytes of a file decide most: headers, tags, offsets.
PLACES = st.one_of(st.integers(0, 400), st.integers(0, 1 << 16))
DAMAGE = st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=12)
CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["v", "a.tif", "all", "0-3,5", "9-2", "1,1,1", "nan,1,1", "1e999,1,1", "zyx",
         "none", "7" * 5000, "0-9999999", "\u0665", *ROLES, *LABEL_KINDS]
    ),
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.dates(), st.binary(max_size=4),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from(
        [*Config.model_fields, "threads", "roi", "parts", "steps", "shape"]
    ),
    SCALARS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


def cases(number: int) -> settings:
    """Return at least so many cases, more in a deep run."""
    return settings(max_examples=max(number, settings.default.max_examples))


def damaged(content: bytes, damage: list[tuple[int, int]], keep: float) -> bytes:
    spoilt = bytearray(content)
    for place, value in damage:
        spoilt[place % len(spoilt)] = value
    return bytes(spoilt[: max(1, int(len(spoilt) * keep))])


def tiff(flavour: str) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, STACK, **TIFFS[flavour])
    return file.getvalue()


@given(st.lists(st.lists(CELLS, min_size=1, max_size=11), max_size=6), st.booleans())
@cases(150)
def test_any_sheet_is_read_or_refused(rows, has_header) -> None:
    head = ["\t".join(COLUMNS)] if has_header else []
    text = "\n".join([*head, *("\t".join(cells) for cells in rows)])
    with contextlib.suppress(ConfigError):
        for row in parse_sheet(text).rows:
            assert row.role in ROLES


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused_as_a_sheet(text) -> None:
    with contextlib.suppress(ConfigError):
        parse_sheet(text)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
@cases(150)
def test_any_values_are_a_configuration_or_refused(values) -> None:
    with contextlib.suppress(ConfigError):
        assert check_config(values).name


@given(st.text(max_size=200))
def test_any_text_repeats_keys_or_not(text) -> None:
    assert all("keep one" in line for line in repeated_keys(text))


@pytest.mark.parametrize("flavour", TIFFS)
@given(damage=DAMAGE, keep=st.sampled_from([1.0, 1.0, 0.97, 0.5, 0.1]))
@cases(120)
def test_any_damaged_tiff_is_read_or_refused(flavour, damage, keep) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.tif").write_bytes(damaged(tiff(flavour), damage, keep))
        with (
            contextlib.suppress(UnetpipeError),
            open_image("a.tif", Path(folder)) as image,
        ):
            sections = image.read_sections(0, image.zyx[0])
            assert sections.shape == image.shape


@given(damage=DAMAGE, keep=st.sampled_from([1.0, 0.9, 0.2]))
def test_any_damaged_png_is_read_or_refused(damage, keep) -> None:
    content = imagecodecs.png_encode(STACK[0])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.png").write_bytes(damaged(content, damage, keep))
        with (
            contextlib.suppress(DataError),
            open_image("a.png", Path(folder)) as image,
        ):
            assert image.read_sections(0, 1).shape == image.shape


@pytest.mark.parametrize("write", [write_zip, write_tar])
@given(damage=DAMAGE, keep=st.sampled_from([1.0, 1.0, 0.9, 0.5]))
def test_any_damaged_archive_is_unpacked_whole_or_not_at_all(
    write, damage, keep
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = write(Path(folder, "a"))
        archive.write_bytes(damaged(archive.read_bytes(), damage, keep))
        try:
            unpack_archive(archive, Path(folder, "out"))
        except UnetpipeError:
            assert [p.name for p in Path(folder).iterdir()] == ["a"]
