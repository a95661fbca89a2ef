"""The report: one page, everything inside it, from made-up records and small stores."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from unetpipe.errors import DataError
from unetpipe.geometry import iterate_grid, whole_volume
from unetpipe.history import History, HistoryRow
from unetpipe.page.figures import INVENTED, MISSED
from unetpipe.page.pictures import SectionViewer
from unetpipe.records import read_record, write_record
from unetpipe.stages.report import report
from unetpipe.unet_spec import UNetSpec
from unetpipe.volumes import (
    create_labels_group,
    create_volume,
    open_volume,
    shard_shape,
    write_shard,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CIRCUMSTANCES = {
    "host": "node7",
    "platform": "Linux",
    "python": "3.11.7",
    "libraries": {"torch": "2.13.0", "zarr": "3.1.6", "scipy": None},
    "finished": "2026-01-02T03:04:05Z",
    "seconds": 1.5,
    "device": "cpu",
}
SHAPE = (4, 60, 64)


def store(path: Path, voxels: np.ndarray, **options) -> Path:
    shape = voxels.shape[-3:]
    create_volume(
        path,
        shape=shape,
        dtype=voxels.dtype,
        chunk=(1, 64, 64),
        shard=(1, 1024, 1024),
        voxel_size_nm=(50, 4, 4),
        channels=("grey",) if voxels.ndim == 4 else None,
        **options,
    )
    array = open_volume(path, mode="r+")
    for index in iterate_grid(whole_volume(shape), shard_shape(array)):
        write_shard(array, index, voxels[..., index[0] : index[0] + 1, :, :])
    return path


def cells(shape: tuple[int, int, int]) -> np.ndarray:
    """Return four cells a section, apart by a border of two voxels."""
    labels = np.zeros(shape, np.uint32)
    half_y, half_x = shape[1] // 2, shape[2] // 2
    labels[:, : half_y - 1, : half_x - 1] = 1
    labels[:, : half_y - 1, half_x + 1 :] = 2
    labels[:, half_y + 1 :, : half_x - 1] = 3
    labels[:, half_y + 1 :, half_x + 1 :] = 4
    return labels


def ingested(folder: Path, name: str, labels: np.ndarray | None, **changes) -> Path:
    shape = labels.shape if labels is not None else SHAPE
    rng = np.random.default_rng(3)
    image = rng.integers(0, 60, (1, *shape)).astype(np.uint8)
    if labels is not None:
        image[0] += 120 * (labels > 0).astype(np.uint8)
    record = {
        "volume": name,
        "shape": list(shape),
        "num_channels": 1,
        "dtype": "uint8",
        "axes_of_file": "zyx",
        "voxel_size_nm": [50, 4, 4],
        "image": {
            "store": str(store(folder / name / "image.ome.zarr", image)),
            "content_sha256": "1" * 64,
            "files": [{"path": f"{z}.png", "size": 9, "sha256": "2"} for z in range(4)],
        },
        "statistics": [],
        "num_nan": 0,
        "labels": None,
        "warnings": [],
        "circumstances": CIRCUMSTANCES,
    }
    if labels is not None:
        path = store(folder / name / "labels.ome.zarr", labels, is_labels=True)
        record["labels"] = {
            "store": str(path),
            "label_kind": "instances",
            "unlabelled": None,
        }
    write_record(folder / name / "ingest.json", record | changes)
    return folder / name / "ingest.json"


def trained(folder: Path, model: str = "unet", **changes) -> dict[str, object]:
    home = folder / model
    spec = UNetSpec(base_channels=4, num_classes=changes.pop("num_classes", 2))
    rows = [{"volume": "brain", "sections": [0, 1]}]
    write_record(
        home / "model.json",
        {
            "spec": spec.to_json(),
            "num_classes": spec.num_classes,
            "weights_sha256": "3" * 64,
            "thresholds": {"segmentation": 0.4, "v_rand": 0.4},
            "validation": {"v_rand": 0.9},
            "step": 20,
            "recipe": {"train": rows, "validate": [{**rows[0], "sections": [2]}]},
        },
    )
    write_record(
        home / "train.json",
        {
            "steps": 30,
            "metric": "v_rand",
            "seconds": 75.0,
            "resumed_at": [],
            "patch": [1, 252, 252],
            "class_weights": [2.5, 0.5],
            "warnings": [],
            "circumstances": CIRCUMSTANCES,
            **changes,
        },
    )
    history = History(home / "history.csv")
    history.append(
        [
            HistoryRow(s, 1 / s, 0.01, s / 9, 0.5 + s / 99 if s % 10 == 0 else None)
            for s in range(1, 31)
        ]
    )
    return {
        "model": model,
        "record": str(home / "train.json"),
        "model_json": str(home / "model.json"),
        "history": str(history.path),
    }


def predicted(
    folder: Path, volume: str, mask: np.ndarray, metrics: dict | None
) -> dict[str, object]:
    home = folder / "unet" / volume
    segmentation = store(home / "segmentation-1.ome.zarr", mask)
    objects = create_labels_group(segmentation, ("objects",)) / "objects"
    store(objects, (cells(mask.shape) * (mask > 0)).astype(np.uint32), is_labels=True)
    records = {
        "probe": {
            "stride": [1, 64, 64],
            "input_shape": [1, 252, 252],
            "tile_efficiency": 0.3,
            "device": "cpu",
            "circumstances": CIRCUMSTANCES,
        },
        "plan": {
            "identity_sha256": "4" * 64,
            "outputs": {"probability": {"store": str(home / "probability.ome.zarr")}},
            "geometry": {"chunk": [1, 64, 64], "shard": [1, 64, 64]},
            "precision": "fp32",
            "flip_fraction": 0.0,
            "threads": 2,
            "projected": {"num_tiles": 4, "flop": 8e9, "peak_rss_bytes": 7e8},
            "circumstances": CIRCUMSTANCES,
        },
        "prediction": {
            "identity": {"precision": "fp32"},
            "content_sha256": "5" * 64,
            "devices": ["cpu"],
            "parts": [
                {
                    "num_voxels": 15360,
                    "seconds": 3.0,
                    "seconds_computing": 2.0,
                    "peak_rss_bytes": 3e8,
                }
            ],
            "circumstances": CIRCUMSTANCES,
        },
        "segmentation": {
            "store": str(segmentation),
            "objects": str(objects),
            "threshold": 0.4,
            "threshold_source": "validation rows",
            "num_objects": 4,
            "num_foreground_voxels": int((mask > 0).sum()),
            "circumstances": CIRCUMSTANCES,
        },
    }
    for name, record in records.items():
        write_record(home / f"{name}.json", record)
    paths = {name: str(home / f"{name}.json") for name in (*records, "metrics")}
    if metrics is None:
        return {"model": "unet", "volume": volume, **paths, "metrics": None}
    write_record(home / "metrics.json", metrics)
    return {"model": "unet", "volume": volume, **paths}


def row(predictor: str, metric: str, score: float, **changes) -> dict[str, object]:
    return {
        "predictor": predictor,
        "metric": metric,
        "definition": f"what {metric} means",
        "better": "lower" if metric.endswith("error") else "higher",
        "best": {"threshold": 0.30000000000000004, "score": score + 0.0111},
        "chosen": {"threshold": 0.4, "score": score},
        "per_section": [score - 0.02, score + 0.02],
        "interval": [score - 0.03, score + 0.03],
        "num_sections": 2,
        **changes,
    }


def scored() -> dict[str, object]:
    rows = [
        row("constant", "v_rand", 0.2),
        row("unet", "v_rand", 0.91),
        row("unet", "warping_error", 0.000353),
        row("unet", "v_info", 0.0, chosen={"threshold": 0.4, "score": None}),
        row("unet", "dice_class_1", 0.8, best=None, interval=None),
    ]
    return {
        "volume": "brain",
        "role_sections": {"test": [2, 3]},
        "left_out": [],
        "tables": [{"role": "test", "sections": [2, 3], "rows": rows}],
        "sections_best": [3, 2],
        "sections_worst": [2, 3],
        "seconds": 2.0,
        "circumstances": CIRCUMSTANCES,
    }


@pytest.fixture
def run(tmp_path: Path) -> dict[str, object]:
    """Return the arguments of a report on two volumes, one of them annotated."""
    write_record(
        tmp_path / "manifest.json",
        {"source": "<b>zip</b>", "kind": "folder", "circumstances": CIRCUMSTANCES},
    )
    labels = cells(SHAPE)
    mask = (labels > 0).astype(np.uint8)
    mask[3, :10] = 0  # missed
    mask[3, 29:31] = 1  # invented
    return {
        "name": "made-up",
        "config": {"name": "made-up", "network": {"base_channels": 4}},
        "manifest": tmp_path / "manifest.json",
        "ingests": [
            ingested(tmp_path, "brain", labels),
            ingested(tmp_path, "liver", None, warnings=["the file is odd"]),
        ],
        "trainings": [trained(tmp_path)],
        "predictions": [
            predicted(tmp_path, "brain", mask, scored()),
            predicted(tmp_path, "liver", mask, None),
        ],
        "output": tmp_path / "out" / "report.html",
    }


class Links(HTMLParser):
    """Collects everything that a page refers to, and its plain text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "poster", "action"):
                self.links.append(value)
            if name == "id":
                self.ids.add(value)

    def handle_data(self, data):
        self.words.append(data)


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
    assert not re.search(r"url\(|@import|https?://", page)


def test_the_page_tells_scores_definitions_thresholds_and_baselines(run) -> None:
    text = Links(write(run)).text
    assert "what v_rand means" in text
    assert "0.9100 at 0.4" in text
    assert "0.9211 at 0.3 " in text, "the best threshold, without floating-point dust"
    assert "constant map 0.2000 at 0.4" in text
    assert "0.8800 to 0.9400" in text, "the interval"
    assert "0.8900 to 0.9300" in text, "the range of single sections"
    assert "0.000353" in text
    assert "undefined" in text
    assert "Best: section 3" in text
    assert "Worst: section 2" in text


def test_the_page_tells_what_was_trained_on_what(run) -> None:
    text = Links(write(run)).text
    params = UNetSpec(base_channels=4).num_parameters
    assert f"{params:,}" in text
    assert "trained for 30 steps on 2 sections of brain, in 1 min 15 s on cpu" in text
    assert "30; kept: step 20" in text
    assert "train: 0-1 validate: 2 test: 2-3" in text
    assert "4 × 60 × 64" in text
    assert "0.png and 3 more" in text


def test_the_page_carries_recipe_machines_times_and_commands(run) -> None:
    text = Links(write(run)).text
    for digit in "1345":
        assert digit * 64 in text
    assert "node7" in text
    assert "torch 2.13.0, zarr 3.1.6" in text
    assert "scipy" not in text, "a library that is absent has no version"
    assert "1 part, 7,680 voxels a second and worker" in text
    assert "napari --plugin napari-ome-zarr" in text
    assert "base_channels: 4" in text


def test_a_volume_without_labels_is_shown_unscored(run) -> None:
    text = Links(write(run)).text
    assert "predicted only" in text
    assert "Not annotated, so not scored." in text


def test_warnings_stand_at_the_top(run) -> None:
    text = Links(write(run)).text
    assert "liver: the file is odd" in text
    assert text.index("liver: the file is odd") < text.index("Voxel size")


def test_a_run_without_warnings_says_so(run) -> None:
    run["ingests"].pop()
    run["predictions"].pop()
    assert "No stage had anything to warn of." in Links(write(run)).text


def test_names_from_outside_are_escaped(run) -> None:
    page = write(run)
    assert "&lt;b&gt;zip&lt;/b&gt;" in page
    assert "<b>zip</b>" not in page


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
        {"volume": "brain", "num_cells": [4] * 4, "circumstances": CIRCUMSTANCES},
    )
    text = Links(write({**run, "weight_maps": [path]})).text
    assert "16 cells in sections" in text
    assert "compute_weight_map brain 1.5 s" in text


def test_folds_are_compared_in_one_table(run, tmp_path: Path) -> None:
    run["trainings"].append(trained(tmp_path, "fold-2"))
    run["predictions"].append({**run["predictions"][0], "model": "fold-2"})
    text = Links(write(run)).text
    assert "one of 2 folds" in text
    assert "brain fold-2 test 2 0.9100" in text


def test_several_classes_have_their_own_colours_and_rows(run, tmp_path: Path) -> None:
    labels = cells((2, 40, 40)).astype(np.uint8) % 3
    several = {**run, "trainings": [trained(tmp_path, "many", num_classes=3)]}
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
    metrics |= {"sections_best": [0], "sections_worst": [1]}
    one = predicted(tmp_path, "tissue", labels, metrics) | {"model": "many"}
    text = Links(write({**several, "ingests": [ingest], "predictions": [one]})).text
    assert "predicted class 2" in text
    assert "class 0 (background) U-Net 0.5000" in text
    assert "class 2 constant map 0.5000" in text
    assert "Dice, class 1" in text


def test_errors_are_shown_where_they_are(run) -> None:
    ingest = read_record(run["ingests"][0])
    segmented = read_record(Path(run["predictions"][0]["segmentation"]))
    viewer = SectionViewer(ingest, segmented)
    errors = decode(viewer.compared(3)[2]["address"])[::2, ::2]
    truth = cells(SHAPE)[3] > 0
    missed, invented = np.zeros_like(truth), np.zeros_like(truth)
    missed[:10] = truth[:10]
    invented[29:31] = ~truth[29:31]
    assert ((errors == MISSED).all(axis=-1) == missed).all()
    assert ((errors == INVENTED).all(axis=-1) == invented).all()


def test_wrong_classes_are_shown_where_they_are(run) -> None:
    ingest = read_record(run["ingests"][0])
    ingest["labels"]["label_kind"] = "classes"
    segmented = read_record(Path(run["predictions"][0]["segmentation"]))
    viewer = SectionViewer(ingest, segmented, num_classes=5)
    errors = decode(viewer.compared(0)[2]["address"])[::2, ::2]
    wrong = cells(SHAPE)[0] > 1  # the mask says class 1 inside all four
    assert ((errors == INVENTED).all(axis=-1) == wrong).all()
    assert (errors[~wrong] == 255).all()


def test_unlabelled_voxels_are_no_errors(run) -> None:
    ingest = read_record(run["ingests"][0])
    ingest["labels"]["unlabelled"] = 1
    segmented = read_record(Path(run["predictions"][0]["segmentation"]))
    errors = decode(SectionViewer(ingest, segmented).compared(3)[2]["address"])
    first = errors[:20, :20]
    assert (first == first[0, 0]).all()
    assert first[0, 0].tolist() not in ([255] * 3, list(MISSED), list(INVENTED))


def test_huge_sections_are_cropped_and_the_page_says_so(run, tmp_path: Path) -> None:
    labels = cells((1, 700, 1000))
    ingest = read_record(ingested(tmp_path, "large", labels))
    viewer = SectionViewer(ingest)
    assert decode(viewer.raw(0)["address"]).shape == (700, 768)
    assert viewer.cropped == "middle 768 voxels of 700 x 1000"


def test_the_scale_bar_is_a_round_length(run) -> None:
    record = read_record(run["ingests"][0])
    # 64 voxels of 4 nm are 256 nm; 30 % of that is 76.8 nm.
    assert SectionViewer(record).raw(0)["scale_bar"] == {
        "percent": round(100 * 50 / 256, 2),
        "text": "50 nm",
    }
    record["voxel_size_nm"] = [1, 1, 1]
    assert SectionViewer(record).raw(0)["scale_bar"] is None


def decode(address: str) -> np.ndarray:
    return imagecodecs.png_decode(base64.b64decode(address.partition(",")[2]))


@pytest.mark.skipif(not CHROMIUM, reason="no chromium: the page was not looked at")
def test_a_browser_shows_the_page_with_its_pictures(run, tmp_path: Path) -> None:
    report(**run)
    shot = tmp_path / "page.png"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        "--hide-scrollbars",
        "--window-size=1200,5000",
    ]
    subprocess.run(
        [
            *(CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--screenshot={shot}", run["output"].as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    pixels = imagecodecs.png_decode(shot.read_bytes())[..., :3]
    assert pixels.shape == (5000, 1200, 3)

    def share(colour: tuple[int, int, int]) -> float:
        return float((pixels == colour).all(axis=-1).mean())

    assert 0.3 < share((255, 255, 255)) < 0.97, "neither blank nor dark"
    assert share((11, 83, 148)) > 1e-4, "our scores stand out"
    assert share(MISSED) > 1e-4, "the map of errors is there"
