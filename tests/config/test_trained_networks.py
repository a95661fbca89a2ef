"""The key `trained`: which networks a run uses as they are, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.config.test_checked_run import problems, values
from unetpipe.config.checked_run import check_run
from unetpipe.errors import ConfigError
from unetpipe.runtime.files import write_record
from unetpipe.tiling.unet_spec import UNetSpec

SHEET = "volume\timage\tlabels\trole\tfold\na\ta.tif\tb.tif\t{role}\t{fold}\n"


def network(folder: Path, percentiles: Any = None, **spec: object) -> str:
    """Write what a training leaves, weights apart; return the folder's name."""
    values: dict[str, Any] = {"base_channels": 4, "depth": 2, **spec}
    told: dict[str, Any] = {"spec": UNetSpec(**values).to_json()}
    if percentiles:
        told["percentiles"] = percentiles
    write_record(folder / "model.json", {**told, "weights_sha256": "1" * 64})
    (folder / "model.safetensors").touch()
    return str(folder)


def test_a_trained_network_needs_no_annotated_rows_and_brings_its_architecture(
    tmp_path: Path,
) -> None:
    folder = network(tmp_path / "old", num_classes=3, in_channels=2)
    run = check_run(values(tmp_path, role="predict", trained=folder))
    assert run.networks["unet"].folder == folder
    settings = run.config.network
    assert (settings.num_classes, settings.depth, settings.base_channels) == (3, 2, 4)
    assert (
        settings.spec(2).to_json()
        == UNetSpec(base_channels=4, depth=2, num_classes=3, in_channels=2).to_json()
    )


def test_several_networks_are_compared_under_the_names_they_are_given(
    tmp_path: Path,
) -> None:
    folders = {"old": network(tmp_path / "1"), "new": network(tmp_path / "2", depth=3)}
    run = check_run(values(tmp_path, role="test", trained=folders, ensemble=True))
    assert [n.variant for n in run.networks.values()] == ["old", "new"]
    assert [n.config.network.depth for n in run.networks.values()] == [2, 3]
    assert run.ensembles["ensemble"].members == ("old", "new")


def test_a_trained_network_brings_what_its_images_are_normalised_by(
    tmp_path: Path,
) -> None:
    robust, plain = network(tmp_path / "1", [1, 99]), network(tmp_path / "2")
    for given in ({}, {"ingest": {"parts": 2}}, {"ingest": {"percentiles": [1, 99]}}):
        run = check_run(values(tmp_path, role="predict", trained=robust, **given))
        assert run.config.ingest.percentiles == (1, 99)
    odd = {"ingest": {"percentiles": [2, 98]}}
    for folder, learnt in ((robust, r"\[1.*99.*\]"), (plain, "None")):
        found = problems(values(tmp_path, role="predict", trained=folder, **odd))
        assert re.search(rf"percentiles is \[2, 98\], but .* with {learnt}", found)
    both = {"old": plain, "new": robust}
    found = problems(values(tmp_path, role="predict", trained=both))
    assert "other ingest.percentiles" in found


def test_rows_to_train_on_are_passed_over(tmp_path: Path) -> None:
    given = values(tmp_path, trained=network(tmp_path / "old"))
    sheet = tmp_path / "sheet.tsv"
    more = "b\tb.tif\t\tpredict\nb\tb.tif\tb.tif\ttrain\n"
    sheet.write_text(sheet.read_text() + more.replace("\t\t", "\tb.tif\t"))
    (tmp_path / "a.tif").unlink()
    found = check_run(given).sheet
    assert found.volumes == ("b",), "what is only trained on need not even be there"
    assert [row.role for row in found.rows] == ["predict", "train"], "stored as before"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"variants": {"one": {}}}, "variants asks for networks to be trained"),
        ({"seeds": [1, 2]}, "seeds asks for networks to be trained"),
        ({"ensemble": True}, "unet is the only network of its kind"),
        (
            {"network": {"depth": 4, "ndim": 2}},
            r"network.depth is 4, but the network in .*old has depth 2; remove the key",
        ),
    ],
)
def test_what_a_trained_network_leaves_no_room_for_is_refused(
    tmp_path: Path, more: dict[str, object], said: str
) -> None:
    folder = network(tmp_path / "old")
    found = problems(values(tmp_path, role="predict", trained=folder, **more))
    assert re.search(said, found), found


def test_folds_would_have_to_be_trained(tmp_path: Path) -> None:
    given = values(tmp_path, trained=network(tmp_path / "old"))
    (tmp_path / "sheet.tsv").write_text(SHEET.format(role="test", fold="1"))
    assert "the sheet has the folds 1" in problems(given)


def test_a_folder_without_a_network_is_told_with_folders_that_hold_one(
    tmp_path: Path,
) -> None:
    network(tmp_path / "old" / "unet")
    network(tmp_path / "old" / "unet" / "weights-11111111")
    given = values(tmp_path, role="predict", trained=str(tmp_path / "old"))
    found = problems(given)
    assert f"{tmp_path / 'old'} holds no model.json; name one of the folders" in found
    assert "old/unet, " in found
    assert "old/unet/weights-11111111" in found
    given["trained"] = str(tmp_path / "nowhere")
    assert "name the folder of a trained network" in problems(given)


def test_networks_of_different_classes_cannot_share_volumes(tmp_path: Path) -> None:
    folders = {
        "old": network(tmp_path / "1"),
        "new": network(tmp_path / "2", num_classes=3),
    }
    found = problems(values(tmp_path, role="predict", trained=folders))
    assert "(old has 2, new has 3)" in found


def test_a_run_cannot_replace_its_own_network_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("results/mine/unet")
    network(own)
    network(own / "weights-11111111")
    given = values(tmp_path, role="predict", name="mine", trained=str(own))
    found = problems(given)
    assert "this run's own network" in found
    assert "results/mine/unet/weights-11111111" in found
    given["trained"] = "results/mine/unet/weights-11111111"
    assert list(check_run(given).networks) == ["unet"]


def test_a_module_has_its_own_network_below_its_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = values(tmp_path, role="predict", name="mine")
    for folder in ("results/mine/unet", "seg/results/mine/unet"):
        network(Path(folder))
    given["trained"] = "seg/results/mine/unet"
    with pytest.raises(ConfigError, match="this run's own network"):
        check_run(given, place="seg/{}".format)
    given["trained"] = "results/mine/unet"
    assert list(check_run(given, place="seg/{}".format).networks) == ["unet"]


@pytest.mark.parametrize("trained", [3, [], {}, {"volumes": "x"}, {"a": 1}])
def test_values_of_any_kind_are_problems_not_crashes(
    tmp_path: Path, trained: object
) -> None:
    assert "trained" in problems(values(tmp_path, role="predict", trained=trained))


def test_a_description_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = network(tmp_path / "old")
    write_record(tmp_path / "old" / "model.json", {"spec": {"layers": 3}})
    found = problems(values(tmp_path, role="predict", trained=folder))
    assert "does not describe a network of this package" in found
