"""The report of a network: one page, everything inside it, from made-up records."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from pyarrow import parquet

from tests.small_stores import store_voxels
from tests.stages.reported import (
    CIRCUMSTANCES,
    SHAPE,
    Links,
    arguments,
    cells,
    decode,
    defined,
    ingested,
    made_up_run,
    predicted,
    row,
    scored,
    trained,
)
from unetpipe.errors import DataError
from unetpipe.images.tiff_metadata import tiff_voxel_size
from unetpipe.measurement.columns import name_columns
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.measurements import Measurements
from unetpipe.records.model import Model
from unetpipe.records.tracks import LinkedObjects
from unetpipe.records.volume import IngestedVolume, Manifest
from unetpipe.records.weight_map import WeightMap
from unetpipe.report.page.commands import viewer_commands
from unetpipe.report.page.painting import INVENTED, MISSED
from unetpipe.report.page.run import Network, Result, Run, read_reported_result
from unetpipe.report.page.section_viewer import SectionViewer
from unetpipe.report.page.views import show_volume
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.report import report
from unetpipe.storage.volumes import open_volume, write_shard
from unetpipe.tiling.unet_spec import UNetSpec


@pytest.fixture(scope="module")
def made_up(tmp_path_factory) -> Path:
    """Return a folder with the records and stores of a run, made once."""
    folder = tmp_path_factory.mktemp("made_up")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made_up_run(Path())
    return folder


@pytest.fixture
def run(made_up, tmp_path: Path, monkeypatch) -> dict[str, object]:
    """Return the arguments of a report on two volumes, one of them annotated."""
    shutil.copytree(made_up, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return arguments(Path())


@pytest.fixture(scope="module")
def text(made_up, tmp_path_factory) -> str:
    """Return the words of the page of the run as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made_up)
        page = tmp_path_factory.mktemp("page") / "report.html"
        return Links(write({**arguments(Path()), "output": page})).text


def first_result(run) -> Result:
    """Return what was made of the first volume."""
    return read_reported_result(run["predictions"][0])


def write(run: dict) -> str:
    report(**run)
    return run["output"].read_text()


def test_the_page_refers_to_nothing_outside_itself(run) -> None:
    page = write(run)
    links = Links(page)
    assert len([a for a in links.links if a.startswith("data:")]) >= 12
    for link in links.links:
        inside = link.startswith("#") and link[1:] in links.ids
        assert inside or link.startswith("data:image/"), link[:80]
    assert not {"script", "link", "iframe", "object", "base"} & links.tags
    assert not re.search(r"url\(|@import", page)


def test_the_page_tells_scores_definitions_thresholds_and_baselines(text) -> None:
    assert "foreground-restricted Rand F after border thinning" in text
    assert "Version 1; Arganda-Carreras et al. 2015, doi:10.3389" in text
    assert "0.9100 at 0.4" in text
    constant = "constant map 0.2000 at 0.4"
    assert constant in text
    apart = text.partition("Best threshold of the test sections, not honestly choo")[2]
    assert "0.9211 at 0.3 " in apart, "the best threshold, without floating-point dust"
    assert text.count("0.9211") == apart.count("0.9211") == 1
    assert "0.8800 to 0.9400, n = 2" in text, "the interval"
    assert "0.8900 to 0.9300" in text, "the range of single sections"
    assert "0.000353" in text
    assert "Best: section 3" in text
    assert "Worst: section 2" in text


def test_the_page_tells_what_was_trained_on_what(text) -> None:
    params = UNetSpec(base_channels=4).num_parameters
    assert f"{params:,}" in text
    assert "trained for 30 steps on 2 sections of brain, in 1 min 15 s on cpu" in text
    assert "30; kept: step 20" in text
    assert "train: 0-1 validate: 2 test: 2-3" in text
    assert "4 × 60 × 64" in text
    assert "0.png and 3 more" in text


def test_the_page_carries_recipe_machines_times_and_commands(text) -> None:
    for digit in "1345":
        assert digit * 64 in text
    assert "node7" in text
    assert "torch 2.13.0, zarr 3.1.6" in text
    assert "scipy" not in text, "a library that is absent has no version"
    assert "1 part, 7,680 voxels a second while computing" in text
    assert "predict_part 2 6 s 0.00167 5,120 " in text, "both volumes together"
    assert "3 s, 7.2 s projected" in text
    for start in ("napari --plugin napari-ome-zarr", "python -c", "npx http-server"):
        assert start in text
    assert "base_channels: 4" in text


def test_the_page_tells_what_int8_costs(run, tmp_path) -> None:
    calibration = {
        "weights_sha256": "3" * 64,
        "quantised_sha256": "4" * 64,
        "patch": [1, 252, 252],
        "num_patches": 32,
        "rows": [],
        "metric": "v_rand",
        "score_fp32": 0.91234,
        "score_int8": 0.91129,
        "circumstances": CIRCUMSTANCES,
    }
    write_record(tmp_path / "calibration.json", calibration)
    run["training"]["calibration"] = str(tmp_path / "calibration.json")
    plan = Path(run["predictions"][0]["plan"])
    changes = {"precision": "int8", "flip_fraction": 0.00123}
    write_record(plan, read_record(plan) | changes)
    text = Links(write(run)).text
    assert "0.9113 on validation sections, in fp32 0.9123; scales from 32" in text
    assert "Labels unlike those of fp32" in text
    assert "0.123 % of those of a tile" in text


def test_methods_tell_what_was_done_and_cite_each_work_once(text) -> None:
    page = text.partition("Methods, to paste into a paper")[2]
    paragraph = page.partition("The whole configuration")[0]
    assert "Images were segmented by a U-Net [1] with 4 poolings" in paragraph
    assert re.search(r"parameters, in unetpipe .+ with PyTorch .+ \[2\]\.", paragraph)
    assert re.search(r"It was trained on \d+ sections?", paragraph)
    assert "Voxels of a probability above" in paragraph
    cited = re.findall(r"\[(\d)\]", paragraph)
    assert sorted(set(cited)) == [str(n) for n in range(1, len(set(cited)) + 1)]
    assert all(cited.count(n) >= 2 for n in cited)  # in the text, and below it
    assert "None" not in paragraph
    assert "were measured" not in paragraph


def test_methods_tell_which_measures_are_not_those_of_scikit_image(
    run, tmp_path
) -> None:
    names = ("area", "intensity_sum", "touches_border")
    columns = name_columns(names, ["a"], is_flat=True)
    table = {column.name: [1.0] for column in columns}
    parquet.write_table(pa.table(table), tmp_path / "measured.parquet")
    Measurements(
        **{"volume": "brain", "identity_sha256": "1", "num_objects": 1},
        **{"num_too_large": 0, "largest_box_vox": 1, "neighbour_reach_nm": 1},
        scikit_image="0.26.0",
        columns=columns,
        table={"parquet": {"path": tmp_path / "measured.parquet", "sha256": "1"}},
        circumstances=Circumstances.here(),
    ).write(Path("measurements.json"))
    run["predictions"][0]["measurements"] = "measurements.json"
    page = Links(write(run)).text.partition("Methods, to paste into a paper")[2]
    assert re.search(
        r"Of each object area were measured, as scikit-image 0\.26\.0 \[\d\] defines "
        r"them\. Measured besides were intensity sum, touches border, by unetpipe\.",
        page,
    )


def test_tracks_are_counted_on_the_page_and_told_in_methods(run) -> None:
    counts = {"num_objects": 9, "num_tracks": 1200, "num_divisions": 1, "num_gaps": 2}
    LinkedObjects(
        **{"volume": "brain", "identity_sha256": "1", "num_frames": 4},
        **counts,
        **{"reach_vox": None, "longest_gap": 1, "divisions": True},
        **{"tracks": {}, "objects": {}},
        circumstances=Circumstances.here(seconds=1.0),
    ).write(Path("tracks.json"))
    run["predictions"][0]["tracks"] = "tracks.json"
    page = Links(write(run)).text
    assert "1,200 over 4 frames, 1 division, 2 gaps closed" in page
    assert "linked to 1,200 tracks with 1 division." in page
    assert (
        "an object could move by the width of the median object and be lost for up to "
        "1 frame, and one could become two." in page
    )


def test_the_first_picture_is_of_a_section_that_is_not_the_best(run) -> None:
    """One of two scored sections: the worse."""
    page = write(run)
    head = page.partition("</header>")[0]
    (caption,) = re.findall(r'<img .* alt="(.*?)">', head)
    assert caption == (
        "Objects found in section 2 of brain, the worse of two scored sections"
    )
    assert head.index("segmented into") < head.index("it scores")
    assert "has 0.2000" in Links(head).text, "the best baseline"


def test_a_volume_without_labels_is_shown_unscored(text) -> None:
    assert "predicted only" in text
    assert "Not annotated, so not scored." in text


def test_warnings_stand_at_the_top(text) -> None:
    assert "liver: the file is odd" in text
    assert text.index("liver: the file is odd") < text.index("Voxel size")


def test_a_run_without_warnings_says_so(run) -> None:
    run["ingests"].pop()
    run["predictions"].pop()
    metrics = scored()
    metrics["seams"]["rows"].pop(0)
    metrics["role_sections"] = {"test": [3]}  # 2 has chosen the checkpoint
    write_record(Path(run["predictions"][0]["metrics"]), metrics)
    assert "No stage had anything to warn of." in Links(write(run)).text


def test_visible_seams_are_a_warning_and_a_table(text) -> None:
    warning = "unet on brain: tile faces along x show: the probability jumps 1.100"
    assert warning in text
    assert "tile faces along x 1.1000 1.0500 to 1.2000 40 shows" in text
    assert "tile faces along y 1.0100 0.9000 to 1.1000 40 like inside" in text


def test_names_from_outside_are_escaped(run) -> None:
    run["config"]["name"] = "<i>&"
    run["training"] |= {"model": "<script>x"}
    page = write(run)
    assert "&lt;b&gt;zip&lt;/b&gt;" in page
    assert "&lt;i&gt;&amp;: &lt;script&gt;x" in page
    assert not re.search("<b>zip|<i>&|<script", page)


def test_the_same_records_give_the_same_bytes(run) -> None:
    assert write(run) == write(run)


def test_a_missing_record_is_named_and_leaves_no_page(run) -> None:
    Path(run["predictions"][0]["plan"]).unlink()
    with pytest.raises(DataError, match=r"plan\.json does not exist"):
        report(**run)
    assert not run["output"].exists()


def test_weight_maps_tell_how_many_cells_there_are(run, tmp_path: Path) -> None:
    path = tmp_path / "weight_map.json"
    write_record(
        path,
        {
            "volume": "brain",
            "border_term": {"store": "gone", "content_sha256": "1"},
            "target": {"store": "gone", "content_sha256": "2"},
            "class_counts": [[1, 1]] * 4,
            "num_cells": [4] * 4,
            "circumstances": CIRCUMSTANCES,
        },
    )
    text = Links(write({**run, "weight_maps": [path]})).text
    assert "16 cells in sections" in text
    assert "compute_weight_map 1 1.5 s 0.000417 10.2 thousand" in text


def test_several_volumes_have_one_row_each_in_the_overview(run, tmp_path: Path) -> None:
    labels = cells(SHAPE)
    run["ingests"].append(ingested(tmp_path, "heart", labels))
    mask = (labels > 0).astype(np.uint8)
    metrics = scored("heart", v_rand=0.75)
    run["predictions"].append(predicted(tmp_path, "heart", mask, metrics))
    text = Links(write(run)).text
    assert "brain test 2 0.9100" in text
    assert "heart test 2 0.7500 undefined 0.000353 0.7000 0.8000" in text
    assert "4 test sections of 2 volumes it scores 0.8300" in text


def test_pictures_and_commands_begin_with_a_test_volume(run) -> None:
    run["predictions"].reverse()
    assert [p["volume"] for p in run["predictions"]] == ["liver", "brain"]
    page = write(run)
    _, _, scores = page.partition('<section id="scores">')
    assert 0 < scores.index("<strong>brain") < scores.index("<strong>liver")
    _, _, look = page.partition('<section id="look">')
    assert 0 < look.index("brain") < look.index("liver")


def test_several_classes_have_their_own_colours_and_rows(run, tmp_path: Path) -> None:
    labels = cells((2, 40, 40)).astype(np.uint8) % 3
    several = {**run, "training": trained(tmp_path, "many", num_classes=3)}
    ingest = ingested(tmp_path, "tissue", labels)
    record = read_record(ingest)
    record["labels"]["label_kind"] = "classes"
    write_record(ingest, record)
    metrics = scored()
    rows = [
        row(who, f"{name}_class_{k}", 0.5, best=None, interval=None)
        for who in ("unet", "constant")
        for name in ("iou", "dice")
        for k in range(3)
    ]
    metrics["tables"] = [{"role": "test", "sections": [0, 1], "rows": rows}]
    metrics |= {
        "definitions": defined(rows),
        "objects": [],
        "sections_best": [0],
        "sections_worst": [1],
    }
    one = predicted(tmp_path, "tissue", labels, metrics) | {"model": "many"}
    text = Links(write({**several, "ingests": [ingest], "predictions": [one]})).text
    assert "class 1 class 2 wrong class" in text
    assert "class 0 (background) U-Net 0.5000" in text
    assert "class 2 constant map 0.5000" in text
    assert "Dice twice" not in text
    assert "labels classes, 0 cells" not in text
    assert "Dice 2 TP / (2 TP + FP + FN) of voxels, all sections pooled" in text


def viewer(run, *, num_classes: int = 2, **labels) -> SectionViewer:
    ingest = read_record(run["ingests"][0])
    ingest["labels"] |= labels
    volume = IngestedVolume.model_validate(ingest)
    return SectionViewer(volume, first_result(run), num_classes=num_classes)


def test_errors_are_shown_where_they_are(run) -> None:
    image, labels, probability, errors = viewer(run).compared(3)
    assert [p["caption"] for p in (image, labels, probability, errors)] == [
        *("image", "labels", "probability", "errors")
    ]
    pixels = decode(errors["address"])
    truth = cells(SHAPE)[3] > 0
    missed, invented = np.zeros_like(truth), np.zeros_like(truth)
    missed[:10] = truth[:10]
    invented[29:31] = ~truth[29:31]
    assert ((pixels == MISSED).all(axis=-1) == missed).all()
    assert ((pixels == INVENTED).all(axis=-1) == invented).all()
    coloured = decode(labels["address"]).any(axis=-1)
    assert (coloured == truth).all()
    likely = decode(probability["address"]) > 128
    assert (likely == (truth & ~missed | invented)).mean() > 0.98, "JPEG rims apart"


def test_wrong_classes_are_shown_where_they_are(run) -> None:
    shown = viewer(run, num_classes=5, label_kind="classes").compared(0)
    errors = decode(shown[-1]["address"])
    wrong = cells(SHAPE)[0] > 1  # the mask says class 1 inside all four
    assert ((errors == INVENTED).all(axis=-1) == wrong).all()
    assert (errors[~wrong] == 255).all()


def test_unlabelled_voxels_are_no_errors(run) -> None:
    errors = decode(viewer(run, unlabelled=1).compared(3)[-1]["address"])
    first = errors[:10, :20]
    assert (first == first[0, 0]).all()
    assert first[0, 0].tolist() not in ([255] * 3, list(MISSED), list(INVENTED))


def test_without_the_probability_the_other_pictures_are_shown(run, tmp_path) -> None:
    shutil.rmtree("unet/brain/probability.ome.zarr")
    captions = [p["caption"] for p in viewer(run).compared(3)]
    assert captions == ["image", "labels", "errors"]


def test_a_merge_is_zoomed_into(run) -> None:
    store = read_record(Path(run["predictions"][0]["segmentation"]))["objects"]
    objects = open_volume(Path(store), mode="r+")
    ids = cells(SHAPE)[3:]
    ids[ids == 2] = 1
    write_shard(objects, (3, 0, 0), ids)
    text = Links(write(run)).text
    assert "Merge: 2 objects found as one, 899 voxels on the wrong side" in text
    assert "true objects objects found" in text


def test_huge_sections_are_cropped_and_the_page_says_so(run, tmp_path: Path) -> None:
    labels = cells((1, 700, 1000))
    ingest = IngestedVolume.read(ingested(tmp_path, "large", labels))
    large = SectionViewer(ingest)
    assert decode(large.raw(0)["address"]).shape == (700, 768)
    assert large.cropped == "middle 768 voxels of 700 x 1000"
    small = SectionViewer(ingest, side=100).raw(0)
    assert decode(small["address"]).shape == (88, 96)
    assert (small["size"], small["is_small"]) == ((96, 88), True)


def test_the_scale_bar_is_a_round_length(run) -> None:
    record = IngestedVolume.read(run["ingests"][0])
    # 64 voxels of 4 nm are 256 nm; 30 % of that is 76.8 nm.
    assert SectionViewer(record).raw(0)["scale_bar"] == {
        "percent": round(100 * 50 / 256, 2),
        "text": "50 nm",
    }
    record = record.model_copy(update={"voxel_size_nm": (1.0, 1.0, 1.0)})
    assert SectionViewer(record).raw(0)["scale_bar"] is None


def test_the_command_for_fiji_writes_hyperstacks_of_imagej(run, tmp_path: Path) -> None:
    volume = IngestedVolume.read(run["ingests"][0])
    volume = volume.model_copy(update={"voxel_size_from": "file"})
    result = first_result(run)
    write_tiff(viewer_commands(volume, result)["Fiji"])
    image, axes, size_nm = read_tiff("brain_image.tif")
    assert (image.shape, axes, image.dtype) == (SHAPE, "ZYX", np.uint8)
    assert size_nm == pytest.approx(volume.voxel_size_nm)
    objects, axes, size_nm = read_tiff("brain_objects.tif")
    np.testing.assert_array_equal(objects[0], cells(SHAPE)[0])
    assert size_nm == pytest.approx(volume.voxel_size_nm)
    series = volume.model_copy(update={"is_depth_known": False, "volume": "s"})
    write_tiff(viewer_commands(series, result)["Fiji"])
    assert read_tiff("s_image.tif")[2][0] is None
    assert read_tiff("s_image.tif")[2][1:] == pytest.approx(volume.voxel_size_nm[1:])
    unknown = volume.model_copy(update={"voxel_size_from": "nobody", "volume": "u"})
    framed = replace(result, linked=LinkedObjects.model_construct())
    write_tiff(viewer_commands(unknown, framed)["Fiji"])
    assert read_tiff("u_image.tif")[1:] == ("TYX", (None, None, None))


def write_tiff(commands: list[str]) -> None:
    """Run the command as a user would."""
    python = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}"}
    (command,) = commands
    subprocess.run(command, shell=True, check=True, cwd=Path(), env=environment)


def read_tiff(name: str) -> tuple[np.ndarray, str, tuple[float | None, ...]]:
    """Return what ImageJ sees: voxels, axes and the size of a voxel."""
    with tifffile.TiffFile(name) as handle:
        assert handle.is_imagej
        series = handle.series[0]
        size = tiff_voxel_size(handle, series).zyx_nm
        return series.asarray(), series.axes, size


def test_the_neuroglancer_address_names_stores_that_the_server_reaches(run) -> None:
    values = read_record(run["ingests"][0])
    values["image"]["store"] = "results/it's/image.ome.zarr"
    volume, paths = IngestedVolume.model_validate(values), run["predictions"][0]
    plan = read_record(Path(paths["plan"]))
    plan["outputs"]["probability"]["store"] = "/elsewhere/p.ome.zarr"
    write_record(Path(paths["plan"]), plan)
    made = read_record(Path(paths["segmentation"]))
    made |= {"store": "results/s.zarr", "objects": "results/s.zarr/o"}
    write_record(Path(paths["segmentation"]), made)
    result = first_result(run)
    server, address = viewer_commands(volume, result)["neuroglancer"]
    assert "--cors" in server
    _, quoted = shlex.split(address)
    layers = json.loads(quoted.partition("#!")[2])["layers"]
    assert [(layer["type"], layer["source"]) for layer in layers] == [
        ("image", "zarr3://http://localhost:8080/results/it's/image.ome.zarr"),
        ("segmentation", "zarr3://http://localhost:8080/results/s.zarr/o"),
    ]


def test_a_size_that_nobody_knows_is_no_nanometre(run, tmp_path: Path) -> None:
    nobody = {"voxel_size_nm": [1, 1, 1], "voxel_size_from": "nobody"}
    run["ingests"].append(ingested(tmp_path, "heart", None, **nobody))
    measured = nobody | {"voxel_size_from": "file"}
    run["ingests"].append(ingested(tmp_path, "lung", None, **measured))
    film = {"voxel_size_nm": [7, 7, 7], "is_depth_known": False}
    run["ingests"].append(ingested(tmp_path, "film", None, **measured | film))
    text = Links(write(run)).text
    assert re.search(r"heart \S+ . \S+ . \S+ unknown", text)
    assert "unknown \N{MULTIPLICATION SIGN} 7 \N{MULTIPLICATION SIGN} 7" in text
    assert text.count("1 \N{MULTIPLICATION SIGN} 1 \N{MULTIPLICATION SIGN} 1") == 1


def test_a_picture_in_colour_is_shown_in_colour(run) -> None:
    result = first_result(run)
    record = IngestedVolume.read(Path(run["ingests"][0]))
    grey = open_volume(record.image.store)[:]
    path = record.image.store.with_name("colours.zarr")
    store_voxels(
        path,
        np.concatenate([grey, grey // 2, 0 * grey]),
        channels=("r", "g", "b"),
        chunk=(1, 64, 64),
        shard=(1, 1024, 1024),
    )
    image = record.image.model_copy(update={"store": path})
    volume = record.model_copy(update={"num_channels": 3, "image": image})
    for picture in (
        SectionViewer(volume, result).raw(0),
        SectionViewer(volume, result).found(0)[0],
    ):
        red, green, blue = np.moveaxis(decode(picture["address"]).astype(int), -1, 0)
        assert red.mean() > green.mean() > blue.mean()
        assert blue.mean() < 20


def test_test_sections_beside_alike_training_sections_are_told(run) -> None:
    record = read_record(Path(run["ingests"][0]))
    array = open_volume(Path(record["image"]["store"]), mode="r+")
    same = array[:, :1]
    assert "correlate with them" not in Links(write(run)).text
    for z in range(array.shape[1]):
        array[:, z : z + 1] = same
    text = Links(write(run)).text
    assert "test sections 2 of brain lie beside sections that it was trained on" in text
    assert "correlate with them by 1.00" in text


def test_only_voxels_that_are_not_annotated_are_told_so(run) -> None:
    record = IngestedVolume.read(Path(run["ingests"][0]))
    assert record.labels
    labels = record.labels.model_copy(update={"unlabelled": 9})
    volume = record.model_copy(update={"labels": labels})
    counts = WeightMap.model_construct(volume=volume.volume, num_cells=(1,))
    made = run_without_results()
    num_voxels = int(np.prod(volume.shape))
    for known, told in (
        (num_voxels, ""),
        (num_voxels - 1, "some voxels not annotated"),
    ):
        weights = counts.model_copy(update={"class_counts": ((known, 0),)})
        shown = replace(
            made, volumes={volume.volume: volume}, weight_maps=(weights,), results=()
        )
        assert show_volume(shown, volume.volume)["unlabelled"] == told


def run_without_results() -> Run:
    """Return a run without results."""
    manifest = Manifest(source="x", kind="folder", root=".", files=())
    network = Network("unet", Model(spec=UNetSpec(), weights_sha256="3"))
    return Run("made-up", manifest, {}, (), network, ())


def test_a_page_is_written_where_originals_are_gone(run) -> None:
    assert "download_dataset" in Links(write(run)).text
    run["manifest"].unlink()
    assert "download_dataset" not in Links(write(run)).text


def test_how_baselines_were_made_stands_beside_the_scores(run) -> None:
    path = Path(run["predictions"][0]["metrics"])
    made = {"is_bright": False, "sigma_vox": 2.0, "num_sections": 1}
    otsu = {"predictor": "Otsu", "block_vox": None, "offset": None, **made}
    local = {"predictor": "local threshold", "block_vox": 25, "offset": 0.5}
    write_record(path, read_record(path) | {"baselines": [otsu, {**local, **made}]})
    text = Links(write(run)).text
    told = "cells are dark, smoothed by 2 voxels"
    assert f"smoothed Otsu {told} (chosen on 1 validation section)" in text
    assert f"local threshold {told}, against the mean of 25 voxels around" in text
