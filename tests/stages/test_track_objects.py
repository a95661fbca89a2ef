"""Tracks of drawn and annotated cells, written, exported, scored by another tool."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tifffile
from pyarrow import parquet

from tests.records.whole import whole
from tests.stages.challenge_scores import scores_of
from tests.stages.scored import store
from tests.tracking.drawn import draw
from unetpipe.config.tracking import TrackConfig
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.stages.export_ctc import export_ctc
from unetpipe.stages.track_objects import track_objects
from unetpipe.storage.named_files import changed_files

# A cell stays, one divides, one is lost for a frame.
STAYS = {"a": (4, 4, 10, 10)}
FRAMES = [
    STAYS | {"m": (30, 20, 10, 16), "b": (50, 4, 8, 8)},
    STAYS | {"d": (30, 18, 10, 8), "e": (30, 30, 10, 8)},
    STAYS | {"d": (30, 17, 10, 8), "e": (30, 31, 10, 8), "b": (50, 5, 8, 8)},
]
MEASURES = ("SEG", "DET", "TRA", "LNK")
LINES = ["1 0 2 0", "2 0 0 0", "3 0 0 0", "4 1 2 2", "5 1 2 2", "6 2 2 3"]


def link(folder, objects, files, size=(50.0, 4.0, 4.0), unit="nm", **settings):
    """Write objects, (z, y, x), as a segmentation; link and export them."""
    num_objects = int(objects.max())
    large = {"unlabelled": 0, "chunk": (2, 256, 256)}
    store(folder / "objects", objects.astype(np.uint32), **large)
    where = np.zeros((num_objects, 3))
    for axis, places in enumerate(np.nonzero(objects)):
        sums = np.bincount(objects[objects > 0], places, num_objects + 1)
        where[:, axis] = sums[1:] / np.bincount(objects.ravel())[1:] * size[axis]
    columns = {f"centroid_{axis}_{unit}": where[:, k] for k, axis in enumerate("zyx")}
    table = {"id": np.arange(1, num_objects + 1), "voxels": [1] * num_objects}
    parquet.write_table(pa.table(table | columns), folder / "objects.parquet")
    written = {"path": str(folder / "objects.parquet"), "sha256": "1"}
    segmentation = {
        "objects": str(folder / "objects"),
        "num_objects": num_objects,
        "table": {"parquet": written},
        "identity": {"voxel_size_nm": list(size)},
    }
    write_record(folder / "segmentation.json", whole("segmentation", segmentation))
    image = {"files": [{"path": path, "size": 1, "sha256": "1"} for path in files]}
    ingest = {"volume": "vol", "shape": list(objects.shape), "image": image}
    write_record(folder / "ingest.json", whole("ingest", ingest))
    track_objects(
        segmentation=folder / "segmentation.json",
        settings=TrackConfig(enabled=True, **settings),
        tracks=folder / "tracks.parquet",
        objects=folder / "tracked_objects.parquet",
        record=folder / "tracks.json",
    )
    export_ctc(
        segmentation=folder / "segmentation.json",
        ingest=folder / "ingest.json",
        folder=folder,
        record=folder / "ctc.json",
        tracks=[folder / "tracks.json"],
    )
    return read_record(folder / "tracks.json")


def write_gold(folder, drawn, tracks, lines):
    """Write drawn cells as their own annotation."""
    for kind, name in (("TRA", "man_track"), ("SEG", "man_seg")):
        (folder / kind).mkdir(parents=True)
        for t, frame in enumerate(drawn):
            path = folder / kind / f"{name}{t:03d}.tif"
            tifffile.imwrite(path, tracks[frame].astype(np.uint16))
    (folder / "TRA" / "man_track.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("num_frames", [1, 3])
def test_without_objects_the_tables_have_their_columns(tmp_path, num_frames) -> None:
    files = [f"01/t{t:03d}.tif" for t in range(num_frames)]
    record = link(tmp_path, np.zeros((num_frames, 40, 40), int), files)
    assert (record["num_tracks"], record["num_objects"]) == (0, 0)
    table = parquet.read_table(tmp_path / "tracks.parquet")
    assert table.schema.field("begins").type == pa.string()
    assert (tmp_path / "01_RES/res_track.txt").read_text() == ""


def test_drawn_cells_are_linked_as_they_were_drawn(tmp_path) -> None:
    drawn, ids = draw(*FRAMES)
    files = [f"01/t{t:03d}.tif" for t in range(3)]
    record = link(tmp_path, drawn, files)
    counts = ("num_frames", "num_objects", "num_tracks", "num_divisions", "num_gaps")
    assert [record[key] for key in counts] == [3, 10, 6, 1, 1]
    result = tmp_path / "01_RES"
    assert (result / "res_track.txt").read_text().splitlines() == LINES
    assert read_record(tmp_path / "ctc.json")["are_tracks"]
    names = {"a": [1, 1, 1], "m": [2], "b": [3, 6], "d": [4, 4], "e": [5, 5]}
    truth = np.zeros(len(ids) + 1, int)
    for name, tracks in names.items():
        own = sorted(number for (_, of), number in ids.items() if of == name)
        truth[own] = tracks
    write_gold(tmp_path / "01_GT", drawn, truth, LINES)
    scores = scores_of(result, tmp_path / "01_GT", MEASURES)
    assert {k: scores[k] for k in ("SEG", "DET", "TRA", "LNK", "Valid")} == {
        **{"SEG": 1, "DET": 1, "TRA": 1, "LNK": 1, "Valid": 1}
    }
    tracks = pd.read_csv(tmp_path / "tracks.csv")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tracks.parquet"), tracks)
    told = tracks[["track", "first_frame", "last_frame", "parent"]].to_numpy()
    assert [" ".join(map(str, row)) for row in told] == LINES
    assert tracks["begins"].tolist() == [*["new"] * 3, *["division"] * 2, "gap"]
    objects = pd.read_csv(tmp_path / "tracked_objects.csv")
    assert dict(zip(objects["id"], objects["track"], strict=True)) == dict(
        enumerate(truth.tolist()[1:], start=1)
    )
    assert objects["frame"].tolist() == [t for t, _ in sorted(ids)]
    assert objects["centroid_y_nm"][0] == 4 * 8.5  # rows 4 to 13


def test_places_in_frames_of_unknown_size_are_voxels(tmp_path) -> None:
    link(tmp_path, draw(*FRAMES)[0], [], (1.0, 1.0, 1.0), "vox")
    objects = pd.read_csv(tmp_path / "tracked_objects.csv")
    assert objects["centroid_y_vox"][0] == 8.5


def test_an_object_that_is_changed_is_found_by_its_table(tmp_path) -> None:
    link(tmp_path, draw(*FRAMES)[0], [])
    record = tmp_path / "tracks.json"
    assert changed_files(record) == []
    (tmp_path / "tracks.csv").write_text("track\n")
    assert len(changed_files(record)) == 1


def test_voxels_that_are_no_squares_are_reckoned_with(tmp_path) -> None:
    frames = [{"a": (4 + 6 * t, 4, 4, 8)} for t in range(3)]  # 6 rows of twice the edge
    drawn, _ = draw(*frames)
    for size, reach, wanted in ((8.0, 11, 3), (8.0, 12, 1), (4.0, 6, 1)):
        folder = tmp_path / f"{size}-{reach}"
        folder.mkdir()
        record = link(folder, drawn, [], (50.0, size, 4.0), reach_vox=reach)
        assert record["num_tracks"] == wanted


def test_linking_again_gives_the_same_files(tmp_path) -> None:
    hashes = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        link(tmp_path / name, draw(*FRAMES)[0], [])
        files = sorted((tmp_path / name).glob("track*.[cp]*"))
        assert len(files) == 4
        hashes.append([hash_file(path) for path in files])
    assert hashes[0] == hashes[1]


@pytest.mark.slow
@pytest.mark.parametrize("sequence", ["01", "02"])
def test_gold_markers_of_hela_are_linked_nearly_as_people_did(
    real_data, tmp_path, sequence
) -> None:
    """Markers are smaller than cells, so the width of a cell is told as the reach."""
    root = real_data / "ctc-dic-c2dh-hela"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    gold = sorted((root / f"{sequence}_GT" / "TRA").glob("man_track*.tif"))
    objects, last = np.zeros((len(gold), 512, 512), np.int64), 0
    for frame, path in zip(objects, gold, strict=True):
        ids, places = np.unique(tifffile.imread(path), return_inverse=True)
        order = np.random.default_rng(last).permutation(len(ids) - 1) + 1
        frame[...] = np.concatenate([[0], last + order])[places].reshape(frame.shape)
        last += len(ids) - 1
    files = [f"{sequence}/t{t:03d}.tif" for t in range(len(gold))]
    record = link(tmp_path, objects, files, reach_vox=60)
    scores = scores_of(tmp_path / f"{sequence}_RES", root / f"{sequence}_GT", MEASURES)
    assert scores["Valid"] == scores["DET"] == 1
    assert scores["TRA"] > 0.995
    assert scores["LNK"] > 0.98
    print(f"\n{sequence}: TRA {scores['TRA']:.4f}, LNK {scores['LNK']:.4f}, {record}")
