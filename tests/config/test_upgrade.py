"""Results of the release before: kept, recognised, and only what changed is redone."""

import shutil
from pathlib import Path

import pytest

from tests.config.test_agreement import agreement, lay  # noqa: F401
from tests.records.test_version_0_1 import FOLDER
from unetpipe.config.agreement import Agreement
from unetpipe.records.asked import Asked, note_asked
from unetpipe.records.model import Model
from unetpipe.storage.keeping import keep_network, kept_networks

NAMES = {"model": "fold-1", "volume": "a"}
LAID = ("ingest", "training", "plan", "prediction", "segmentation", "probe")


@pytest.fixture
def former(agreement: Agreement) -> dict[str, Path]:  # noqa: F811
    """The records that version 0.1 wrote, as the results of a run."""
    layout = agreement._lookups.layout
    found = {}
    for name in LAID:
        record = "train" if name == "training" else name
        path = Path(getattr(layout, name).format(**NAMES))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FOLDER / f"{record}.json", path)
        found[name] = path
    return found


def asked(name: str, **settings: object) -> Asked:
    return Asked.of(name, {"settings": 1} | settings, "results/demo")


def test_records_that_tell_nothing_are_taken_as_they_are(agreement, former) -> None:  # noqa: F811
    assert {Path(path) for path in agreement.wanted()} == set(former.values())
    for name, record in former.items():
        assert agreement.differing(str(record), asked(name)) == ()
    assert len(agreement.silent) == len(former), "said once, not compared"


def test_only_what_is_asked_otherwise_is_redone(agreement, former) -> None:  # noqa: F811
    for name, record in former.items():
        note_asked(record, asked(name, code="0.1").to_json())
    later = {name: asked(name, code="0.1") for name in former}
    later["segmentation"] = asked("segmentation", code="0.2")
    redone = [n for n in former if agreement.differing(str(former[n]), later[n])]
    assert redone == ["segmentation"]


def test_the_network_of_the_release_before_is_kept(tmp_path) -> None:
    shutil.copy(FOLDER / "model.json", tmp_path / "model.json")
    shutil.copy(FOLDER / "train.json", tmp_path / "train.json")
    (tmp_path / "model.safetensors").write_bytes(b"weights of 0.1")
    home = keep_network(tmp_path)
    for name in ("model.safetensors", "model.json", "train.json"):
        (tmp_path / name).unlink()  # as a rule's outputs are before it runs again
    assert kept_networks(tmp_path) == [home]
    assert (home / "model.safetensors").read_bytes() == b"weights of 0.1"
    assert Model.read(home / "model.json") == Model.read(FOLDER / "model.json")
