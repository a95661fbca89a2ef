"""A network that was trained elsewhere: taken over whole, checked, and told of."""

from pathlib import Path

import numpy as np
import pytest

from tests.stages.reported import (
    SHAPE,
    Links,
    ingested,
    metrics_of,
    predicted,
    trained,
)
from unetpipe.config import PredictionConfig
from unetpipe.errors import ConfigError, DataError, IntegrityError
from unetpipe.records.volume import IngestedVolume, Manifest
from unetpipe.report.page.run import Run, read_reported_result, read_reported_training
from unetpipe.report.page.summary import summarise
from unetpipe.report.page.templates import render
from unetpipe.report.page.timings import describe_machines, list_jobs
from unetpipe.report.page.views import show_training
from unetpipe.report.page.warnings import collect_warnings
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.stages.adopt_network import adopt_network
from unetpipe.stages.join_networks import join_networks
from unetpipe.stages.probe_prediction import probe_prediction
from unetpipe.tiling.unet_spec import UNetSpec


def adopt(source: Path, target: Path, num_classes: int = 2) -> Path:
    adopt_network(
        folder=source,
        num_classes=num_classes,
        model=target / "model.safetensors",
        model_json=target / "model.json",
        history=target / "history.csv",
        record=target / "train.json",
    )
    return target


def run_of(folder: Path, volumes=(), results=()) -> Run:
    """Return what the report reads of a network, and of a run without weight maps."""
    files = {"record": "train.json", "model_json": "model.json"}
    paths = {key: folder / name for key, name in files.items()}
    network = read_reported_training(
        {"model": "unet", **paths, "history": folder / "history.csv"}, folder
    )
    manifest = Manifest(root=".", circumstances=network.trained)
    return Run("new", manifest, dict(volumes), (), network, tuple(results))


def say(run: Run) -> str:
    """Return the paragraph that the page begins with."""
    page = render("summary.html", {"summary": summarise(run)}).decode()
    return Links(page).text


def test_all_that_a_training_left_is_taken_over_and_where_it_is_from(
    tmp_path, make_model
):
    weights, description = make_model(name="old")
    about = trained(tmp_path, "aside")
    for name in ("record", "history"):
        Path(about[name]).rename(weights.parent / Path(about[name]).name)
    one = adopt(weights.parent, tmp_path / "one")
    for name in ("model.safetensors", "model.json", "history.csv"):
        assert (one / name).read_bytes() == (weights.parent / name).read_bytes()
    before, record = (read_record(p / "train.json") for p in (weights.parent, one))
    (place,) = record.pop("adopted")
    assert record == before
    assert place["folder"] == str(weights.parent)
    two = adopt(one, tmp_path / "two")
    places = read_record(two / "train.json")["adopted"]
    assert [p["folder"] for p in places] == [str(one), str(weights.parent)]
    kept = two / f"weights-{read_record(description)['weights_sha256'][:8]}"
    assert hash_file(kept / "model.safetensors") == hash_file(weights)


def test_a_report_tells_that_an_adopted_network_is_an_ensemble(tmp_path, make_model):
    weights, _ = make_model(name="old", num_members=3)
    run = run_of(adopt(weights.parent, tmp_path / "bare"))
    text = say(run)
    assert "An ensemble of 3 networks, each a two-dimensional U-Net of" in text
    assert f"convolutions) was taken over from {weights.parent};" in text
    facts = show_training(run.network)["facts"]
    assert facts["Parameters"].startswith("3 networks of ")


def test_a_report_tells_of_an_adopted_network_what_is_known(tmp_path, make_model):
    weights, _ = make_model(name="old")
    bare = run_of(adopt(weights.parent, tmp_path / "bare"))
    told = f" was taken over from {weights.parent}; how it was trained is not known."
    assert told in say(bare)
    shown = show_training(bare.network)
    assert shown["charts"] == []
    assert shown["facts"]["Taken over from"] == str(weights.parent)
    assert "Steps" not in shown["facts"]
    jobs = [job.rule for job in list_jobs(bare)]
    assert jobs == ["download_dataset", "adopt_network"]
    (machine,) = describe_machines(bare)
    assert list(machine["stages"]) == ["download_dataset", "adopt_network"]

    told = trained(tmp_path, "told")
    home = Path(told["record"]).parent
    (home / "train.json").rename(weights.parent / "train.json")
    (home / "history.csv").rename(weights.parent / "history.csv")
    rows = [{"volume": "brain", "sections": [0, 1]}]
    write_record(
        weights.parent / "model.json",
        read_record(weights.parent / "model.json")
        | {"step": 20, "recipe": {"train": rows}},
    )
    full = run_of(adopt(weights.parent, tmp_path / "full"))
    assert "/old; it was trained for 30 steps on 2 sections of brain, in" in say(full)
    facts = show_training(full.network)["facts"]
    assert facts["Steps"] == "30; kept: step 20"


def test_test_sections_that_a_network_was_trained_on_are_warned_of(
    tmp_path, make_model
):
    mask = np.ones(SHAPE, np.uint8)

    def warn(test: list[int], name: str, image: str) -> list[str]:
        home = tmp_path / f"{test}-{image[0]}"
        row = {"volume": name, "sections": [0, 1, 3], "image": image}
        learnt = {"train": [row], "validate": []}
        weights, _ = make_model(name=f"{home.name}/old", recipe=learnt)
        metrics = metrics_of("brain", role_sections={"test": test})
        volume = IngestedVolume.read(ingested(home, "brain", None))
        result = read_reported_result(predicted(home, "brain", mask, metrics))
        folder = adopt(weights.parent, home / "new")
        return collect_warnings(run_of(folder, {"brain": volume}.items(), [result]))

    (warning,) = warn([2, 3], "other-name", "1" * 64)
    assert "it was trained on the test sections 3 of brain" in warning
    assert "flatter" in warning
    assert warn([2], "other-name", "1" * 64) == []
    assert warn([3], "brain", "2" * 64) == []  # the same name, other voxels


def test_weights_that_are_not_those_described_are_refused(tmp_path, make_model):
    weights, _ = make_model(name="old")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(IntegrityError, match="restore it, or name another network"):
        adopt(weights.parent, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_number_of_classes_is_refused(tmp_path, make_model):
    weights, _ = make_model(name="old")
    with pytest.raises(ConfigError, match=r"2 classes, network.num_classes is 3"):
        adopt(weights.parent, tmp_path / "new", num_classes=3)


def test_a_volume_of_other_channels_is_refused_in_words(
    tmp_path, make_volume, make_model
):
    model, model_json = make_model(UNetSpec(base_channels=2, depth=1, in_channels=2))
    with pytest.raises(DataError, match=r"vol has 1 channel, the network takes 2; ch"):
        probe_prediction(
            ingest=make_volume((1, 20, 20)),
            model=model,
            model_json=model_json,
            prediction=PredictionConfig(threads=1),
            record=tmp_path / "probe.json",
        )


def test_an_ensemble_cannot_be_joined_with_others(tmp_path, make_model):
    members = [make_model(name=name) for name in ("one", "two")]
    members.append(make_model(name="three", num_members=2))
    with pytest.raises(ConfigError, match="three is an ensemble itself"):
        join_networks(
            names=["one", "two", "three"],
            models=[model for model, _ in members],
            model_jsons=[description for _, description in members],
            model=tmp_path / "model.safetensors",
            model_json=tmp_path / "model.json",
        )
