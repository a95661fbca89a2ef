"""What the page tells as odd."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.records.whole import FOLDER
from unetpipe.records.model import Model
from unetpipe.records.volume import (
    IngestedVolume,
    LabelledBox,
    StoredImage,
    StoredLabels,
)
from unetpipe.report.page.warnings import (
    at_another_scale,
    normalised_otherwise,
    warn_of_equal_volumes,
)


def volume(name, pixels, dtype="uint8"):
    image = StoredImage(store=Path(name), content_sha256="c", pixel_sha256=pixels)
    return IngestedVolume(
        **{"volume": name, "shape": (1, 8, 8), "num_channels": 1, "dtype": dtype},
        **{"voxel_size_nm": (1, 1, 1), "labels": None, "image": image},
        statistics=(),
    )


@pytest.mark.parametrize(
    ("learnt", "said_by", "is_told"),
    [
        ((1, 2, 2), "file", True),
        ((1, 2, 2), "nobody", False),
        ((1, 1, 1), "sheet", False),
        (None, "file", False),
    ],
)
def test_a_volume_at_another_scale_than_the_network_learnt_at_is_told(
    learnt, said_by, is_told
):
    read = Model.read(FOLDER / "model.json")
    description = read.model_copy(update={"voxel_size_nm": learnt})
    seen = volume("a", "x").model_copy(update={"voxel_size_from": said_by})
    network = Mock(spec_set=["description"], description=description)
    told = at_another_scale(network, seen) or ""
    assert ("voxels are 1 nm along y and x" in told) is is_told


@pytest.mark.parametrize(
    ("pixels", "names"),
    [("aba", [("0", "2")]), ("abc", []), ("aabb", [("0", "1"), ("2", "3")])],
)
def test_volumes_of_equal_voxels_are_told(pixels, names):
    volumes = {str(k): volume(str(k), p) for k, p in enumerate(pixels)}
    told = [" and ".join(pair) + " hold the same voxels" for pair in names]
    assert [text.split(":")[0] for text in warn_of_equal_volumes(volumes)] == told


def test_boxes_of_an_image_are_no_twins_of_it():
    """Corrected crops are boxes of an image that is predicted beside them."""
    image, boxes = volume("a", "x"), volume("a-corrected", "x")
    box = LabelledBox(start=(0, 0, 0), stop=(1, 4, 4))
    labels = StoredLabels(
        **{"store": Path("l"), "content_sha256": "c", "dtype": "uint8", "num_ids": 1},
        **{"label_kind": "instances", "unlabelled": 255, "boxes": (box,)},
    )
    corrected = boxes.model_copy(update={"labels": labels})
    assert warn_of_equal_volumes({"a": image, "a-corrected": corrected}) == []
    assert len(warn_of_equal_volumes({"a": image, "b": boxes})) == 1


def test_equal_bytes_of_another_type_are_no_twins():
    assert (
        warn_of_equal_volumes({"a": volume("a", "x"), "b": volume("b", "x", "int8")})
        == []
    )


def test_a_volume_that_is_normalised_otherwise_than_the_network_learnt_is_told():
    plain = Model.read(FOLDER / "model.json")
    robust = plain.model_copy(update={"percentiles": (1, 99)})
    assert normalised_otherwise(plain, volume("a", "x")) is None
    told = normalised_otherwise(robust, volume("a", "x")) or ""
    assert "learnt with volume percentiles 1 and 99" in told
