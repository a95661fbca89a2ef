"""Plan: what a run takes, before anything ran and in the middle of it."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from tests.stages.predicted import Chain
from unetpipe.config import Config
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import DataError, ResourceError
from unetpipe.runtime.files import read_record, write_record
from unetpipe.runtime.text import count_noun
from unetpipe.stages.plan import plan
from unetpipe.tiling.forecast import Rate, Volume, Wanted, forecast_prediction
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.patch_size import choose_patch
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.history import History, HistoryRow

NETWORK = {"base_channels": 4, "depth": 2}
TABLE = ("network  volume", "unet     vol")


def row(
    volume: str, axes: str, sections: str, labels_at: str = "", image: str = "vol.tif"
) -> dict:
    """Return a row of a sheet as the rule passes it on."""
    labels = "labels.tif;labels.tif" if ";" in labels_at else "labels.tif"
    text = "volume\timage\tlabels\tsections\trole\taxes\tlabels_at\n"
    text += f"{volume}\t{image}\t{labels}\t{sections}\ttrain\t{axes}\t{labels_at}\n"
    return parse_sheet(text).rows[0].model_dump(mode="json")


def run(
    folder: Path,
    *,
    axes="",
    volumes=("vol",),
    sections="all",
    labels_at="",
    images="vol.tif",
    jobs=(),
    lots=(),
    **config,
) -> dict:
    """Plan a run of one network; return ``plan.json``."""
    settings = Config(**{"network": NETWORK, **config}).model_dump(mode="json")
    plan(
        config=settings,
        volumes=[
            {
                "rows": [row(v, axes, sections, labels_at, images.format(v))],
                "is_trained_on": True,
            }
            for v in volumes
        ],
        networks=[
            {
                "model": "unet",
                "network": settings["network"],
                "training": settings["training"],
                "volumes": list(volumes),
                "trained_on": list(volumes),
            }
        ],
        manifest=folder / "manifest.json",
        results=folder / "results",
        command="snakemake --configfile c.yaml",
        jobs={str(path): path in lots for path in jobs},
        record=folder / "results" / "plan.json",
    )
    return read_record(folder / "results" / "plan.json")


def test_the_phantom_is_planned_before_anything_ran(tmp_path, capsys):
    planned = run(tmp_path, phantom={"shape": (4, 64, 64)}, prediction={"parts": 3})
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith(TABLE[0])
    assert (tmp_path / "results" / "plan.txt").read_text() == said
    (forecast,) = planned["predictions"]
    assert planned["volumes"][0]["known_from"] == "configuration"
    assert forecast["num_parts"] == 3
    assert forecast["rate_from"].startswith("assumed for ")
    assert forecast["bytes_written"] == 4 * 64 * 64
    assert "of computing in 3 parts a volume, " in said
    assert planned["disk"]["free_bytes"] > planned["disk"]["needed_bytes"] > 0


@pytest.mark.parametrize(
    ("has_gpu", "has_bf16", "rate"),
    [(False, False, 9e10), (False, True, 18e10), (True, True, 2e13)],
)
def test_jobs_are_forecast_with_their_own_threads(
    tmp_path, monkeypatch, has_gpu, has_bf16, rate
):
    """Not with that of the job which plans: a job's share is told by the engine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("unetpipe.runtime.machine.num_processors", lambda: 3)
    monkeypatch.setattr("unetpipe.report.run_plan.has_cuda_driver", lambda: has_gpu)
    has = "unetpipe.report.run_plan.has_bf16_instructions"
    monkeypatch.setattr(has, lambda: has_bf16)
    planned = run(
        tmp_path,
        phantom={"shape": (4, 64, 64)},
        prediction={"precision": "int8"},
        training={"precision": "auto"},
    )
    [training], [forecast] = planned["trainings"], planned["predictions"]
    assert training["flop"] / training["seconds"] == pytest.approx(rate)
    assert forecast["flop"] / forecast["seconds"] == pytest.approx(9e10), "int8"
    assert forecast["rate_from"] == "assumed for 3 threads"


def test_where_nothing_is_left_to_predict_no_table_is_empty(tmp_path, capsys):
    segmented = tmp_path / "results/unet/vol/segmentation.json"
    write_record(segmented, {})
    run(tmp_path, phantom={"shape": (4, 64, 64)})
    said = capsys.readouterr().out.splitlines()
    assert not [line for line in said if not line or line.startswith("network  ")]
    assert any(line.startswith("predicting: 0 s of computing") for line in said)


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        ({"compression": "zlib", "rowsperstrip": 48}, True),
        ({"compression": "zlib", "rowsperstrip": 8}, False),
        ({"compression": "zlib", "tile": (16, 16)}, False),
        ({"rowsperstrip": 48}, False),
    ],
)
def test_files_that_are_decoded_as_wholes_are_told_with_what_helps(
    tmp_path, monkeypatch, options, is_told
):
    monkeypatch.setattr("unetpipe.report.run_plan.LARGE_PIECE", 48 * 80)
    image = np.zeros((5, 48, 80), np.uint8)
    tifffile.imwrite(tmp_path / "vol.tif", image, photometric="minisblack", **options)
    found = run(tmp_path, source=str(tmp_path))["warnings"]
    assert len(found) == is_told
    assert all("pieces of 48 x 80" in text and "tiffcp -t" in text for text in found)


def test_volumes_with_other_channels_than_those_that_teach_are_refused(
    tmp_path, capsys
):
    shown = np.zeros((3, 48, 80, 3), np.uint8)
    shown[0] = 7 * np.arange(3)  # the others are black, and so have one channel
    for k, name in enumerate("abc"):
        tifffile.imwrite(tmp_path / f"{name}.tif", shown[k], photometric="rgb")
    told = "  volume b: 1 channel, where volume a has 3; name fitting ones in the "
    told += "column channels, or, of a picture whose red, green and blue are equal, "
    told += "the axes yxc"
    with pytest.raises(DataError) as refused:
        run(tmp_path, source=str(tmp_path), images="{}.tif", volumes="abc")
    assert str(refused.value).splitlines() == [
        f"the run would fail: {told.strip()}",
        told.replace("volume b", "volume c"),
    ]
    run(tmp_path, axes="yxc", source=str(tmp_path), images="{}.tif", volumes="abc")


def planned_at_scales(
    folder: Path, sizes: dict[str, str], scale: str | float = "keep", **network
) -> list[str]:
    """Plan a network that learns from volume a and meets all; return the warnings."""
    rows = {}
    for name, size in sizes.items():
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((5, 48, 80), np.uint8))
        text = (
            f"volume\timage\trole\tvoxel_size_nm\n{name}\t{name}.tif\tpredict\t{size}"
        )
        rows[name] = parse_sheet(text).rows[0].model_dump(mode="json")
    own = {"network": NETWORK | network, "ingest": {"scale": scale}}
    settings = Config(**own, source=str(folder))
    values = settings.model_dump(mode="json")
    plan(
        config=values,
        volumes=[{"rows": [row], "is_trained_on": False} for row in rows.values()],
        networks=[
            {
                "model": "unet",
                "network": values["network"],
                "training": values["training"],
                "volumes": list(rows),
                "trained_on": ["a"],
            }
        ],
        manifest=folder / "manifest.json",
        results=folder / "results",
        command="snakemake",
        record=folder / "results" / "plan.json",
    )
    return read_record(folder / "results" / "plan.json")["warnings"]


@pytest.mark.parametrize(
    ("ndim", "far", "told"),
    [
        (2, "50,8,8", "unet on b: voxels are 8 nm along y and x, .* at 4 nm .2 times"),
        (2, "100,4,4", None),
        (3, "100,4,4", "unet on b: voxels are 100 nm along z, .* at 50 nm .2 times"),
        (2, "50,4.01,4", None),
        (2, "", None),
    ],
)
def test_a_volume_at_another_scale_than_the_network_learns_at_is_told(
    tmp_path, capsys, ndim, far, told
):
    found = planned_at_scales(tmp_path, {"a": "50,4,4", "b": far}, ndim=ndim)
    assert len(found) == (told is not None)
    assert all(re.match(told, text) for text in found)
    assert [f"warning: {t}" for t in found] == [
        line for line in capsys.readouterr().out.splitlines() if "warning" in line
    ]


def test_what_is_resampled_is_planned_at_its_new_size_and_not_warned_of(tmp_path):
    sizes = {"a": "50,4,4", "b": "50,8,8"}
    assert planned_at_scales(tmp_path, sizes, scale="match") == []
    assert len(planned_at_scales(tmp_path, sizes, scale=0.5)) == 1
    planned = read_record(tmp_path / "results" / "plan.json")["volumes"]
    assert [v["shape"] for v in planned] == [[5, 24, 40]] * 2
    assert [v["voxel_size_nm"] for v in planned] == [[50, 8, 8], [50, 16, 16]]


def test_the_scale_of_a_trained_network_is_that_of_its_description(
    tmp_path, make_model
):
    weights, described = make_model()
    record = read_record(described)
    write_record(described, record | {"voxel_size_nm": [50, 16, 16]})
    (tmp_path / "results").mkdir()
    weights.parent.rename(tmp_path / "results" / "unet")
    found = planned_at_scales(tmp_path, {"a": "50,4,4", "b": "50,16,16"})
    assert [text.split(":")[0] for text in found] == ["unet on a"]


@pytest.mark.parametrize("axes", ["", "zyx"])
def test_a_folder_is_planned_from_the_headers_of_its_files(tmp_path, axes):
    image = np.zeros((5, 48, 80), np.uint16)
    tifffile.imwrite(tmp_path / "vol.tif", image, photometric="minisblack")
    planned = run(tmp_path, source=str(tmp_path), axes=axes)
    (volume,) = planned["volumes"]
    assert volume == {
        "name": "vol",
        "shape": [5, 48, 80],
        "num_channels": 1,
        "itemsize": 2,
        "known_from": "file header",
        "voxel_size_nm": None,
        "num_labelled": None,
    }
    assert not (tmp_path / "results" / "volumes").exists()


def test_a_single_part_is_not_shared_out(tmp_path, capsys):
    run(tmp_path, phantom={"shape": (4, 64, 64)}, prediction={"parts": 1})
    (line,) = (s for s in capsys.readouterr().out.splitlines() if "predicting" in s)
    assert line.endswith(" of computing")


def test_what_is_not_fetched_yet_is_named_with_the_command_that_does(tmp_path, capsys):
    planned = run(tmp_path, source="https://example.org/a.zip")
    assert planned["predictions"] == []
    said = capsys.readouterr().out
    wanted = tmp_path / "manifest.json"
    assert f"not here yet: snakemake --configfile c.yaml -- {wanted}" in said
    tifffile.imwrite(tmp_path / "vol.tif", np.zeros((2, 32, 32), np.uint8))
    write_record(tmp_path / "manifest.json", {"root": str(tmp_path)})
    planned = run(tmp_path, source="https://example.org/a.zip")
    assert planned["volumes"][0]["shape"] == [2, 32, 32]


def test_all_volumes_that_cannot_be_read_are_named_at_once(tmp_path):
    (tmp_path / "vol.tif").write_bytes(b"II*\0 no image")
    with pytest.raises(DataError) as error:
        run(tmp_path, source=str(tmp_path), volumes=("one", "two"))
    assert "volume one: " in str(error.value)
    assert "volume two: " in str(error.value)


def test_sections_beyond_the_image_are_told_before_anything_runs(tmp_path):
    tifffile.imwrite(tmp_path / "vol.tif", np.zeros((5, 48, 80), np.uint8))
    assert run(tmp_path, source=str(tmp_path), axes="zyx", sections="0-4")
    with pytest.raises(DataError) as error:
        run(tmp_path, source=str(tmp_path), axes="zyx", sections="0,7")
    told = "volume vol: the sheet names section 7, the image has sections 0 to 4"
    assert told in str(error.value)


def test_what_cannot_fit_on_the_disk_is_refused_with_both_numbers(
    tmp_path, capsys, monkeypatch
):
    usage = SimpleNamespace(free=100_000)
    monkeypatch.setattr("unetpipe.report.run_plan.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match=r"\(\d+ bytes\) free, about .* are needed"):
        run(tmp_path, phantom={"shape": (4, 640, 640)})
    assert "still needed" in capsys.readouterr().out
    disk = json.loads((tmp_path / "results" / "plan.json").read_text())["disk"]
    assert disk["needed_bytes"] > disk["free_bytes"] == 100_000


def test_a_box_is_planned_as_the_tiles_that_touch_it(tmp_path):
    box = {"stride": (1, 16, 32), "roi": ((1, 3), (15, 17), (0, 32))}
    planned = run(tmp_path, phantom={"shape": (4, 64, 64)}, prediction=box)
    assert planned["predictions"][0]["num_tiles"] == 2 * 2 * 1


def test_a_finished_prediction_is_forecast_as_it_was_planned(
    tmp_path, make_volume, make_model
):
    ingest = make_volume((3, 40, 60))
    folder = tmp_path / "results"
    chain = Chain(folder / "unet" / "vol", ingest, make_model())
    chain.run()
    (folder / "volumes" / "vol").mkdir(parents=True)
    (folder / "volumes" / "vol" / "ingest.json").write_text(ingest.read_text())
    planned = run(tmp_path, prediction=chain.prediction.model_dump(mode="json"))
    (forecast,) = planned["predictions"]
    made = read_record(chain.folder / "plan.json")
    assert planned["volumes"][0]["known_from"] == "record"
    assert forecast["rate_from"] == "last receipts"
    geometry = TileGrids.from_json(made["geometry"])
    assert forecast["num_tiles"] == made["projected"]["num_tiles"]
    assert forecast["num_shards"] == geometry.num_shards
    assert forecast["flop"] == made["projected"]["flop"]
    assert forecast["peak_rss_bytes"] == made["projected"]["peak_rss_bytes"]
    parts = read_record(chain.folder / "prediction.json")["parts"]
    seconds = sum(part["seconds_computing"] for part in parts)
    assert forecast["seconds"] == pytest.approx(seconds)
    (chain.folder / "prediction.json").unlink()
    planned = run(tmp_path, prediction=chain.prediction.model_dump(mode="json"))
    assert planned["predictions"][0]["rate_from"] == "probe"
    assert planned["predictions"][0]["seconds"] == pytest.approx(
        3600 * made["projected"]["hours"]
    )


def test_a_training_is_forecast_from_its_own_history(tmp_path):
    path = tmp_path / "results" / "unet" / "state" / "1f0c9a2e" / "history.csv"
    path.parent.mkdir(parents=True)
    History(path).append([HistoryRow(n, 0.5, 1e-3, 2.0 * n) for n in range(1, 11)])
    planned = run(tmp_path, training={"steps": 50})
    (training,) = planned["trainings"]
    assert training["seconds"] == pytest.approx(100.0)
    assert training["rate_from"] == "its own history"
    spec = UNetSpec(**NETWORK)
    patch = choose_patch(None, spec, [(1, 256, 256)])
    assert training["flop"] == 50 * 3 * spec.flop(patch)


def test_twice_the_volume_costs_twice_the_work():
    def forecast(sections, parts=1):
        return forecast_prediction(
            Volume("v", (sections, 4096, 4096), 1, 1, "record"),
            UNetSpec(),
            Wanted("fp32", "cpu", None, None, 1, (1, 1, 1), parts),
            Rate(1e12, "test"),
        )

    one, two = forecast(80), forecast(160)
    assert (two.flop, two.num_tiles) == (2 * one.flop, 2 * one.num_tiles)
    assert two.seconds == 2 * one.seconds == 2 * one.flop / 1e12
    assert two.peak_rss_bytes == one.peak_rss_bytes
    assert forecast(80, parts=9).flop == one.flop


def test_what_lies_there_is_not_planned_again(tmp_path, capsys):
    done = tmp_path / "results" / "unet"
    names = ("train.json", "vol/segmentation.json", "vol/measurements.json")
    settings = {"phantom": {"shape": (4, 64, 64)}, "jobs": [done / n for n in names]}
    before = run(tmp_path, **settings)
    assert before["num_jobs"] == 3
    (done / "vol").mkdir(parents=True)
    (done / "train.json").write_text("{}")
    trained = run(tmp_path, **settings)
    assert trained["trainings"] == []
    assert trained["num_jobs"] == 2
    (done / "vol" / "segmentation.json").write_text("{}")
    after = run(tmp_path, **settings)
    assert after["predictions"] == []
    assert after["num_jobs"] == 1


def test_a_lot_is_one_job_for_all_its_volumes_and_costs_less(tmp_path, capsys):
    volumes = [f"v{number}" for number in range(20)]
    settings = {"phantom": {"shape": (1, 64, 64)}, "volumes": volumes}
    jobs = [tmp_path / name / f"{step}.json" for name in volumes for step in range(9)]
    alone = run(tmp_path, **settings, jobs=jobs)
    records = [tmp_path / name for name in ("stored.json", "predicted.json")]
    shared = run(tmp_path, **settings, jobs=records, lots=records[1:])
    assert alone["num_jobs"] == 20 * 9
    assert shared["num_jobs"] == 2
    one, other = alone["whole"], shared["whole"]
    assert one["processor_seconds"] - other["processor_seconds"] > 5 * 20
    assert other["num_files"] == one["num_files"] > 20 * 20
    said = capsys.readouterr().out
    assert f"files: about {other['num_files']}" in said
    assert f" on {count_noun(other['num_cores'], 'core')}; " in said
    records[1].touch()
    assert run(tmp_path, **settings, jobs=records, lots=records[1:])["num_jobs"] == 1


@pytest.mark.parametrize(
    ("labels_at", "told"),
    [("1,2,3;1,20,3", None), ("1,2,3;1,4,3", "share voxels"), ("4,0,0", "leave the")],
)
def test_boxes_of_labels_are_counted_or_refused_before_the_run(
    tmp_path, labels_at, told
):
    for name, shape in (("vol", (5, 48, 80)), ("labels", (2, 16, 16))):
        image = np.zeros(shape, np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="minisblack")
    if told:
        with pytest.raises(DataError, match=told):
            run(tmp_path, source=str(tmp_path), labels_at=labels_at)
        return
    planned = run(tmp_path, source=str(tmp_path), labels_at=labels_at)
    assert planned["volumes"][0]["num_labelled"] == 2 * 2 * 16 * 16
