"""Labels find their image by name, whatever lies beside."""

import pytest

from unetpipe.survey.names import parse_file_name
from unetpipe.survey.pairs import pair_names


def pairs(*paths: str) -> dict[str, str]:
    names = [parse_file_name(path) for path in paths]
    images = [name for name in names if not name.is_labels]
    return pair_names(images, [name for name in names if name.is_labels])[0]


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (("cell.tif", "cell-b_mask.tif"), {"cell.tif": "cell-b_mask.tif"}),
        (
            ("cell.tif", "cell-3.tif", "cell-3_mask.tif"),
            {"cell-3.tif": "cell-3_mask.tif"},
        ),
        (
            ("cell.tif", "cell-3.tif", "cell-3-b_mask.tif", "cell-30-b_mask.tif"),
            {"cell-3.tif": "cell-3-b_mask.tif", "cell.tif": "cell-30-b_mask.tif"},
        ),
        (
            ("cell.tif", "cell-3.tif", "cell-3_mask.tif", "cell-3-b_mask.tif"),
            {"cell-3.tif": "cell-3_mask.tif"},
        ),
        (
            ("cell.tif", "cell-3_mask.tif", "more/cell-3.tif"),
            {"more/cell-3.tif": "cell-3_mask.tif"},
        ),
        (
            ("a/cell.tif", "a/cell-3_mask.tif", "b/cell-3.tif", "b/cell-3_mask.tif"),
            {"a/cell.tif": "a/cell-3_mask.tif", "b/cell-3.tif": "b/cell-3_mask.tif"},
        ),
    ],
)
def test_labels_belong_to_the_longest_name_that_they_begin_with(
    paths: tuple[str, ...], found: dict[str, str]
) -> None:
    assert pairs(*paths) == found


@pytest.mark.parametrize(
    "labels", ["x ids.tif", "x-ids.png", "x_classes.tif", "ids/x.tif", "classes/x.tif"]
)
def test_ids_and_classes_are_labels(labels: str) -> None:
    assert pairs("x.tif", labels) == {"x.tif": labels}
