"""The challenge's layout, in and out, and agreement with another scorer of it."""

import json

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from tests.records.whole import whole
from tests.stages.challenge_scores import scores_of
from tests.stages.ctc import drawn_sequence, write_sequence
from tests.stages.ingested import ingest_volume
from tests.stages.scored import Scored, find_row, store
from unetpipe.config import IngestConfig
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import DataError
from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.images.frames import read_frame
from unetpipe.runtime.files import read_record, write_record
from unetpipe.segmentation.ctc import TrackIds, ctc_mask_names, name_result_folder
from unetpipe.stages.export_ctc import export_ctc
from unetpipe.storage.volumes import open_volume


def export(folder, objects, files, volume="vol"):
    """Write objects, (z, y, x), as a segmentation, and export it."""
    store(folder / "objects", objects, unlabelled=0, chunk=(2, 256, 256))
    segmentation = whole("segmentation", {"objects": str(folder / "objects")})
    write_record(folder / "segmentation.json", segmentation)
    told = {"size": 1, "sha256": "1"}
    image = {"files": [{"path": path, **told} for path in files]}
    ingest = {"volume": volume, "shape": list(objects.shape), "image": image}
    write_record(folder / "ingest.json", whole("ingest", ingest))
    export_ctc(
        segmentation=folder / "segmentation.json",
        ingest=folder / "ingest.json",
        folder=folder,
        record=folder / "ctc.json",
    )
    return read_record(folder / "ctc.json")


def frames_of(num_frames, digits=3):
    return [f"some/01/t{t:0{digits}d}.tif" for t in range(num_frames)]


def test_masks_are_16_bit_files_named_like_their_frames(tmp_path):
    objects = drawn_sequence().astype(np.uint64) * 2**40
    record = export(tmp_path, objects, frames_of(6, digits=4))
    assert record["folder"] == str(tmp_path / "01_RES")
    masks = sorted((tmp_path / "01_RES").glob("mask*.tif"))
    assert [path.name for path in masks] == [f"mask{t:04d}.tif" for t in range(6)]
    for t, path in enumerate(masks):
        mask = tifffile.imread(path)
        assert mask.dtype == np.uint16
        np.testing.assert_array_equal(mask, drawn_sequence()[t])
    tracks = (tmp_path / "01_RES" / "res_track.txt").read_text().splitlines()
    assert tracks == [f"{k} 0 5 0" for k in range(1, 5)]
    assert [file["path"] for file in record["files"]] == sorted(
        [path.name for path in masks] + ["res_track.txt"]
    )


def test_objects_of_each_frame_are_tracks_of_one_frame(tmp_path):
    objects = drawn_sequence().astype(np.uint32)
    objects[objects > 0] += 4 * np.nonzero(objects)[0].astype(np.uint32)
    record = export(tmp_path, objects, frames_of(6))
    lines = (tmp_path / "01_RES" / "res_track.txt").read_text().splitlines()
    assert record["num_objects"] == len(lines) == 24
    assert lines[:5] == ["1 0 0 0", "2 0 0 0", "3 0 0 0", "4 0 0 0", "5 1 1 0"]


def test_exporting_again_leaves_nothing_of_the_older_result(tmp_path):
    export(tmp_path, drawn_sequence().astype(np.uint32), frames_of(6))
    (tmp_path / "01_RES" / "mask099.tif").write_bytes(b"")
    for name in ("objects", "segmentation.json"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    export(tmp_path, drawn_sequence(4).astype(np.uint32), frames_of(4))
    assert len(list((tmp_path / "01_RES").glob("mask*.tif"))) == 4


def test_other_images_are_numbered_from_0_under_the_volume_s_name():
    assert name_result_folder("vol", ["a/t000.tif"]) == "vol_RES"
    assert name_result_folder("vol", ["01/t000.tif", "02/t000.tif"]) == "vol_RES"
    assert ctc_mask_names(["t0.tif"], 1001)[-1] == "mask1000.tif"


def test_more_objects_than_16_bits_can_number_begin_anew_in_each_frame():
    frames = np.arange(1, 40_001).reshape(200, 200)
    ids = TrackIds()
    for t in range(2):
        ids.see(t, frames + 40_000 * t)
    assert not ids.are_unique
    np.testing.assert_array_equal(ids.renumber(frames + 40_000), frames)
    one = np.arange(1, 70_001).reshape(1, -1)
    ids.see(2, one)
    with pytest.raises(DataError, match="70000 objects"):
        ids.renumber(one)


def ingest(folder, root, row):
    manifest = {"source": "x", "kind": "folder", "root": str(root), "files": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    columns = {"volume": "01", "image": "01", "role": "test"} | row
    text = "\n".join("\t".join(part) for part in (columns, columns.values()))
    ingest_volume(
        manifest=folder / "manifest.json",
        volume="01",
        rows=[parsed.model_dump() for parsed in parse_sheet(text).rows],
        pixel_sha256={},
        ingest=IngestConfig(chunk=(2, 16, 16), shard=(2, 32, 32)),
        num_classes=2,
        image_store=folder / "image.ome.zarr",
        labels_store=folder / "labels.ome.zarr",
        record=folder / "ingest.json",
    )
    return read_record(folder / "ingest.json")


def test_a_sequence_is_ingested_with_gold_of_some_frames_and_scored(tmp_path):
    """From the challenge's folders to SEG on gold and DET on markers."""
    cells = drawn_sequence()
    write_sequence(tmp_path, cells)
    record = ingest(tmp_path, tmp_path, {"labels": "01_GT/SEG"})
    labels = record["labels"]
    assert labels["unlabelled"] == 2**32 - 1
    assert len(labels["markers"]) == 6
    assert any("4 of 6 frames have no labels" in text for text in record["warnings"])
    stored = open_volume(tmp_path / "labels.ome.zarr")[...]
    assert (stored[0] == labels["unlabelled"]).all()
    found = np.where(cells == 2, 0, cells)  # cell 2 is missed everywhere
    scored = Scored(
        *(tmp_path / "run", found > 0, stored),
        **{"kind": "instances", "unlabelled": labels["unlabelled"]},
        **{"objects": found.astype(np.uint32), "markers": labels["markers"]},
    )
    metrics = scored.evaluate(isbi_scores=False, baselines=False)
    seg = find_row(metrics["objects"], "test", "unet", "ctc_seg")
    assert seg["chosen"]["score"] == pytest.approx(4 / 6)  # 3 of 4 and 1 of 2
    assert seg["n"] == 6
    det = find_row(metrics["objects"], "test", "unet", "ctc_det")
    assert det["chosen"]["score"] == pytest.approx(3 / 4)
    assert det["n"] == 6


def perturbed(frames, seed):
    """Grow, shrink, drop, split and invent cells of silver masks."""
    rng = np.random.default_rng(seed)
    result = np.zeros(frames.shape, np.uint16)
    for frame, out in zip(frames, result, strict=True):
        for k, place in enumerate(ndimage.find_objects(frame), start=1):
            if place is None:
                continue
            around = tuple(slice(max(0, s.start - 8), s.stop + 8) for s in place)
            cell, kind = frame[around] == k, rng.integers(6)
            if kind == 0:
                cell = ndimage.binary_erosion(cell, iterations=8)
            elif kind == 1:
                cell = ndimage.binary_dilation(cell, iterations=6)
            elif kind == 2:
                continue
            out[around][cell] = k
            if kind == 3:
                x = int(np.nonzero(cell)[1].mean())
                out[around][cell & (np.arange(cell.shape[1]) > x)] = 1000 + k
        y, x = rng.integers(0, frame.shape[0] - 20, 2)
        out[y : y + 20, x : x + 20] = 2000
    return result


@pytest.mark.slow
@pytest.mark.parametrize("sequence", ["01", "02"])
def test_py_ctcmetrics_agrees_on_the_hela_sequences(real_data, tmp_path, sequence):
    """Perturbed silver masks against gold, SEG; against markers in all frames, DET."""
    root = real_data / "ctc-dic-c2dh-hela"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    silver = sorted((root / f"{sequence}_ST" / "SEG").glob("*.tif"))
    frames = np.stack([read_frame(path) for path in silver])
    result = perturbed(frames, seed=int(sequence))
    files = [f"{sequence}/{path.name}" for path in sorted((root / sequence).iterdir())]
    ids = result.astype(np.uint32)
    ids[ids > 0] += 4000 * np.nonzero(ids)[0].astype(np.uint32)  # unique by frame
    record = export(tmp_path, ids, files)
    theirs = scores_of(record["folder"], root / f"{sequence}_GT", ("SEG", "DET"))
    counts, everywhere = ObjectCounts(by_section=True), np.ones((512, 512), bool)
    for t in range(84):
        gold = root / f"{sequence}_GT" / "SEG" / f"man_seg{t:03d}.tif"
        markers = root / f"{sequence}_GT" / "TRA" / f"man_track{t:03d}.tif"
        has_gold = gold.exists()
        truth = read_frame(gold) if has_gold else np.zeros((512, 512), np.uint16)
        unknown = truth == 0 if has_gold else everywhere
        counts.add(t, truth, result[t], unknown, everywhere)
        counts.add_markers(t, read_frame(markers), result[t], everywhere)
    ours = {row.metric: row.chosen.score for row in counts.rows("unet", None)}
    assert theirs["Valid"] == 1
    assert 0.3 < theirs["SEG"] < 0.95
    assert 0.1 < theirs["DET"] < 0.95
    assert ours["ctc_seg"] == pytest.approx(theirs["SEG"], abs=1e-12)
    assert ours["ctc_det"] == pytest.approx(theirs["DET"], abs=1e-12)
    print(f"\n{sequence}: SEG {ours['ctc_seg']:.6f}, DET {ours['ctc_det']:.6f}")
