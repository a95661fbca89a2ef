"""Measured objects and their outlines as other programs read them."""

import json

import jsonschema
import matplotlib
import numpy as np
import pandas as pd
import pytest

from tests.documents import CONFIG_README, blocks
from tests.measurement.measured import theirs
from tests.measurement.test_outlines import filled
from tests.records.whole import whole
from tests.stages.scored import store
from tests.stages.segmented import Segmented, store_prediction
from unetpipe.config import MeasureConfig
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import ConfigError
from unetpipe.measurement.outlines import Polygon
from unetpipe.measurement.volume import MeasureInputs
from unetpipe.records.measurements import Measurements, Outlines
from unetpipe.runtime.files import write_record
from unetpipe.stages.collect_measurements import collect_measurements
from unetpipe.stages.export_outlines import export_outlines
from unetpipe.stages.measure_objects import measure_objects
from unetpipe.stages.measure_part import measure_part

TABLES = "needs the extra `tables`"
SIZE = (50, 4, 4)
NUMBER = {"type": "number"}
RING = {"type": "array", "minItems": 4, "items": {"type": "array", "items": NUMBER}}
RINGS = {"type": "array", "minItems": 1, "items": RING}
# What QuPath's reader asks of a feature, after its documentation and RFC 7946.
FEATURES = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "properties": {
                    "type": {"const": "Feature"},
                    "geometry": {
                        "type": "object",
                        "required": ["type", "coordinates", "plane"],
                        "oneOf": [
                            {
                                "properties": {
                                    "type": {"const": "Polygon"},
                                    "coordinates": RINGS,
                                }
                            },
                            {
                                "properties": {
                                    "type": {"const": "MultiPolygon"},
                                    "coordinates": {"type": "array", "items": RINGS},
                                }
                            },
                        ],
                        "properties": {
                            "plane": {
                                "type": "object",
                                "required": ["c", "z", "t"],
                                "additionalProperties": {"type": "integer"},
                            }
                        },
                    },
                    "properties": {
                        "type": "object",
                        "required": ["objectType", "name"],
                        "properties": {
                            "objectType": {"enum": ["detection", "annotation"]},
                            "name": {"type": "string"},
                            "classification": {
                                "type": "object",
                                "required": ["name"],
                            },
                            "measurements": {
                                "type": "object",
                                "additionalProperties": NUMBER,
                            },
                        },
                    },
                },
            },
        },
    },
}


def shown(beginning):
    """Return the block of config/README.md that begins so."""
    (block,) = [b for b in blocks(CONFIG_README) if b.startswith(beginning)]
    return block


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Return a folder with objects across sections and an image of two channels."""
    return segment(tmp_path_factory.mktemp("measured"))


def segment(folder, connectivity="2d", **more):
    """Make objects, of an ingested volume of which more may be told."""
    random = np.random.default_rng(4)
    shape = (3, 24, 24)
    coarse = random.random((3, 8, 8)) < 0.5
    probability = np.where(np.kron(coarse, np.ones((1, 3, 3))), 255, 0)
    probability[:, 10:14, 10:14] = 255
    probability[:, 11:13, 11:13] = 0
    store_prediction(folder, probability[None].astype(np.uint8), (2, 16, 16))
    image = random.integers(0, 255, (2, *shape)).astype(np.uint8)
    store(folder / "image", image, channels=("a", "b"))
    ingest = {
        "volume": "vol",
        "shape": list(shape),
        "num_channels": 2,
        "channel_names": ["a", "b"],
        "voxel_size_nm": SIZE,
        "image": {"store": str(folder / "image")},
    }
    write_record(folder / "ingest.json", whole("ingest", ingest | more))
    made = Segmented(folder, folder, connectivity=connectivity)
    made.run()
    return folder, made.objects(), image


def measured(segmented, target, parts=1, **settings):
    """Measure in so many parts; return the record and the table."""
    folder, _, _ = segmented
    inputs = MeasureInputs(
        segmentation=folder / "segmentation.json",
        ingest=folder / "ingest.json",
        settings=MeasureConfig(**({"properties": "all"} | settings), parts=parts),
    )
    target.mkdir(exist_ok=True)
    records = [target / f"{part}.json" for part in range(parts)]
    for part, record in reversed(list(enumerate(records))):
        table = target / f"{part}.parquet"
        measure_part(inputs=inputs, part=part, table=table, record=record)
    measure_objects(
        inputs=inputs,
        parts=records if parts > 1 else [],
        table=target / "measurements.parquet",
        text=target / "measurements.csv",
        record=target / "measurements.json",
    )
    return Measurements.read(target / "measurements.json")


def outlined(segmented, target, *formats, are_frames=False):
    folder, _, _ = segmented
    target.mkdir(exist_ok=True)
    export_outlines(
        segmentation=folder / "segmentation.json",
        ingest=folder / "ingest.json",
        formats=formats,
        class_names=["nothing", "cell"],
        are_frames=are_frames,
        folder=target,
        record=target / "outlines.json",
    )
    return Outlines.read(target / "outlines.json")


def read_features(content):
    """Return (z, number, polygons) of each feature of a GeoJSON."""
    outlines = []
    for feature in content["features"]:
        shape = feature["geometry"]
        is_one = shape["type"] == "Polygon"
        polygons = [shape["coordinates"]] if is_one else shape["coordinates"]
        assert all(ring[0] == ring[-1] for rings in polygons for ring in rings)
        made = [Polygon(own[0][:-1], [r[:-1] for r in own[1:]]) for own in polygons]
        outlines.append((shape["plane"]["z"], int(feature["properties"]["name"]), made))
    return outlines


def sections_filled(outlines, shape):
    """Fill (z, number, polygons) by another program: ids again."""
    ids = np.zeros(shape, np.int64)
    for z, number, polygons in outlines:
        ids[z] += number * filled(polygons, shape[1:])
    return ids


def test_tables_load_in_pandas_and_are_those_of_scikit_image(segmented, tmp_path):
    _, objects, image = segmented
    record = measured(segmented, tmp_path)
    table = pd.read_parquet(record.table["parquet"].path)
    text = pd.read_csv(record.table["csv"].path)
    pd.testing.assert_frame_equal(text, table, check_dtype=False)
    assert record.num_objects == len(table) == objects.max()
    assert list(table.columns) == ["id", "section", "class", "voxels"] + [
        column.name for column in record.columns
    ]
    section_of = {i: z for z, ids in enumerate(objects) for i in np.unique(ids) if i}
    assert table["section"].tolist() == [section_of[i] for i in table["id"]]
    assert len(set(section_of.values())) > 1
    for name, values in theirs(objects.astype(int), image, SIZE, True).items():
        np.testing.assert_allclose(table[name], values, rtol=1e-9, atol=1e-6)
    assert table["touches_border"].dtype == bool


def test_parts_do_not_change_the_table(segmented, tmp_path):
    one = measured(segmented, tmp_path / "one")
    three = measured(segmented, tmp_path / "three", parts=3)
    for kind in ("parquet", "csv"):
        content = [made.table[kind].path.read_bytes() for made in (one, three)]
        assert content[0] == content[1]


def test_only_what_is_asked_for_is_measured(segmented, tmp_path):
    record = measured(
        segmented,
        tmp_path,
        properties=["intensity_mean", "surface_area", "area"],
        channels=["b"],
    )
    names = [column.name for column in record.columns]
    assert names == ["intensity_mean_b", "area_nm2"]
    assert [column.unit for column in record.columns] == ["grey", "nm2"]
    by_number = measured(segmented, tmp_path, channels=[1])
    assert "intensity_mean_b" in [column.name for column in by_number.columns]


def test_lengths_that_nobody_knows_are_edges_of_voxels(tmp_path):
    made = segment(tmp_path, voxel_size_nm=(1, 1, 1), voxel_size_from="nobody")
    record = measured(made, tmp_path, properties=["area", "perimeter", "centroid"])
    assert [column.name for column in record.columns] == [
        *("area_vox2", "perimeter_vox"),
        *("centroid_z_vox", "centroid_y_vox", "centroid_x_vox"),
    ]
    assert record.columns[0].unit == "vox2"
    table = pd.read_parquet(record.table["parquet"].path)
    assert (table["area_vox2"] == table["voxels"]).all()


def test_lengths_along_time_are_left_out_and_volumes_counted_in_voxels(tmp_path):
    wanted = ["area", "perimeter", "centroid", "surface_area"]
    sizes = {"voxel_size_nm": (4, 4, 4), "is_depth_known": False}
    flat = segment(tmp_path / "flat", **sizes)
    record = measured(flat, tmp_path, properties=wanted)
    names = [column.name for column in record.columns]
    assert names == ["area_nm2", "perimeter_nm", "centroid_y_nm", "centroid_x_nm"]
    table = pd.read_parquet(record.table["parquet"].path)
    assert (table["area_nm2"] == 16 * table["voxels"]).all()
    deep = segment(tmp_path / "deep", connectivity="3d", **sizes)
    record = measured(deep, tmp_path, properties=wanted)
    assert [column.name for column in record.columns] == [
        *("volume_vox3", "centroid_z_vox", "centroid_y_vox", "centroid_x_vox"),
        "surface_area_vox2",
    ]
    table = pd.read_parquet(record.table["parquet"].path)
    assert (table["volume_vox3"] == table["voxels"]).all()
    assert "section" not in table


def test_a_channel_that_is_not_there_is_told_with_those_that_are(segmented, tmp_path):
    with pytest.raises(ConfigError, match=r"'c', but the channels .* are a, b"):
        measured(segmented, tmp_path, channels=["c"])


# anndata asks pandas 3 for an option that pandas has dropped.
@pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option")
def test_a_plot_by_condition_is_one_line(segmented, tmp_path, monkeypatch):
    anndata = pytest.importorskip("anndata", reason=TABLES)
    record = tmp_path / "measurements.json"
    measured(segmented, tmp_path)
    sheet = parse_sheet(shown("volume\timage\trole\twell\tcondition_drug"))
    folder = tmp_path / "results" / "mine"
    folder.mkdir(parents=True)
    packed, h5ad = folder / "measurements.parquet", tmp_path / "all.h5ad"
    collect_measurements(
        volumes=[
            {
                "record": str(record),
                "about": {"model": "unet"} | sheet.of_volume(v)[0].about(),
            }
            for v in sheet.volumes
        ],
        packed=packed,
        table=tmp_path / "all.csv",
        annotated=[h5ad],
    )
    table = pd.read_parquet(packed)
    means = table.groupby("condition_drug")["area_nm2"].mean()
    assert means["none"] == means["blebbistatin"] > 0
    assert list(table.columns[:6]) == [
        *("model", "volume", "well", "field", "condition_drug", "id")
    ]
    data = anndata.read_h5ad(h5ad)
    assert data.shape == (len(table), len(table.columns) - 9)
    assert data.obs["section"].tolist() == table["section"].tolist()
    assert set(data.obs["condition_drug"]) == {"none", "blebbistatin"}
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    told: dict[str, pd.DataFrame] = {}
    exec(shown("import pandas"), told)  # the lines that config/README.md shows
    assert len(told["table"]) == len(table)
    np.testing.assert_allclose(data[:, "area_nm2"].X[:, 0], table["area_nm2"])


def test_geojson_obeys_its_schema_and_filled_is_the_objects(segmented, tmp_path):
    _, objects, _ = segmented
    record = outlined(segmented, tmp_path, "geojson")
    content = json.loads(record.files["geojson"].path.read_text())
    jsonschema.validate(content, FEATURES)
    assert len(content["features"]) == record.num_outlines
    for feature in content["features"]:
        assert feature["properties"]["classification"] == {"name": "cell"}
        known = feature["properties"]["measurements"]
        assert known["voxels"] == np.count_nonzero(objects == known["id"])
        assert known["mean_probability"] == 1.0
    outlines = read_features(content)
    assert any(polygon.holes for _, _, made in outlines for polygon in made)
    np.testing.assert_array_equal(sections_filled(outlines, objects.shape), objects)


def test_outlines_lie_on_the_image_as_its_user_has_it(tmp_path):
    """Of a volume that was learnt from at half the resolution, on its own grid."""
    grid = {"shape": (3, 48, 48), "voxel_size_nm": (50, 2, 2)}
    folder, objects, image = segment(tmp_path, original=grid)
    record = outlined((folder, objects, image), tmp_path / "out", "geojson")
    content = json.loads(record.files["geojson"].path.read_text())
    ids = sections_filled(read_features(content), grid["shape"])
    np.testing.assert_array_equal(ids, objects.repeat(2, 1).repeat(2, 2))


def test_a_roi_set_read_by_roifile_filled_is_the_objects(segmented, tmp_path):
    roifile = pytest.importorskip("roifile", reason=TABLES)
    _, objects, _ = segmented
    record = outlined(segmented, tmp_path, "imagej")
    rois = roifile.roiread(record.files["imagej"].path)
    assert len(rois) == record.num_outlines
    ids = np.zeros(objects.shape, int)
    for roi in rois:
        rings = roi.coordinates(multi=True)
        rings = rings if isinstance(rings, list) else [rings]
        inside = np.zeros(objects.shape[1:], bool)
        for ring in rings:  # of a path the even-odd rule counts
            inside ^= filled([Polygon(ring.tolist())], inside.shape) > 0
        assert (roi.position, roi.c_position, roi.t_position) == (0, 0, 1)
        ids[roi.z_position - 1][inside] = int(roi.name.split("-")[1])
        places = np.argwhere(inside)
        assert [roi.top, roi.left] == places.min(axis=0).tolist()
        assert [roi.bottom, roi.right] == (places.max(axis=0) + 1).tolist()
    np.testing.assert_array_equal(ids, objects)


@pytest.mark.parametrize(
    ("about", "are_frames", "plane", "place"),
    [
        ({"num_channels": 1}, False, {"z": 2, "t": 0}, (3, 0, 0)),
        ({"num_channels": 1}, True, {"z": 0, "t": 2}, (3, 0, 0)),
        ({"num_channels": 2}, True, {"z": 0, "t": 2}, (0, 1, 3)),
        ({"num_channels": 1, "time": 7}, False, {"z": 2, "t": 7}, (0, 3, 8)),
        (
            {"num_channels": 1, "channels_of_file": [1]},
            *(False, {"z": 2, "t": 0}, (0, 3, 1)),
        ),
    ],
)
def test_outlines_lie_in_the_planes_of_the_users_file(
    tmp_path, about, are_frames, plane, place
):
    """ImageJ counts all planes of a file with one axis of them, else by axes."""
    roifile = pytest.importorskip("roifile", reason=TABLES)
    made = segment(tmp_path, **about)
    record = outlined(made, tmp_path, "geojson", "imagej", are_frames=are_frames)
    content = json.loads(record.files["geojson"].path.read_text())
    assert content["features"][-1]["geometry"]["plane"] == {"c": -1} | plane
    roi = roifile.roiread(record.files["imagej"].path)[-1]
    assert (roi.position, roi.z_position, roi.t_position) == place
    assert roi.c_position == 0  # any


def test_equal_outlines_are_equal_files(segmented, tmp_path):
    pytest.importorskip("roifile", reason=TABLES)
    hashes = [
        outlined(segmented, tmp_path / name, "geojson", "imagej").files["imagej"].sha256
        for name in ("one", "two")
    ]
    assert hashes[0] == hashes[1]


def test_without_the_package_the_message_says_what_to_install(
    segmented, tmp_path, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, "roifile", None)
    with pytest.raises(ConfigError, match=r"pip install unetpipe\[tables\]"):
        outlined(segmented, tmp_path, "imagej")
