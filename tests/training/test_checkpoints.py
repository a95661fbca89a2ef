"""State that survives a kill, a flipped bit and a change of recipe."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file

from unetpipe.errors import IdentityError, IntegrityError
from unetpipe.network.unet import UNet
from unetpipe.network.weights import pack_weights, unpack_weights
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.checkpoints import (
    Best,
    Checkpoints,
    TrainingState,
    describe_differences,
)
from unetpipe.training.history import History, HistoryRow, read_history

RECIPE = {"spec": {"depth": 1}, "seed": 0}


def state_at(step, *, best=None):
    weights = {"w": torch.full((3, 2), float(step))}
    momentum = {"state": {0: {"momentum_buffer": torch.ones(3) * step}}}
    return TrainingState(
        step, weights, momentum, seconds=1.5 * step, best=best, resumed_at=[7]
    )


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "state", RECIPE)


def names(checkpoints, kind):
    return sorted(path.name for path in checkpoints.folder.glob(f"{kind}-*"))


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_state_comes_back_as_it_was_saved(checkpoints):
    checkpoints.save_state(state_at(5))
    loaded = Checkpoints(checkpoints.folder.parent, RECIPE).load_state(last_step=9)
    assert torch.equal(loaded.network["w"], torch.full((3, 2), 5.0))
    momentum = loaded.optimizer["state"][0]["momentum_buffer"]
    assert torch.equal(momentum, torch.full((3,), 5.0))
    assert (loaded.step, loaded.seconds, loaded.resumed_at) == (5, 7.5, [7])
    assert loaded.best is None


def test_the_last_two_states_are_kept(checkpoints):
    for step in (1, 2, 3, 10):
        checkpoints.save_state(state_at(step))
    kept = [name.split("-")[1] for name in names(checkpoints, "state")]
    assert kept == ["00000003", "00000010"]


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_state_is_passed_over_for_the_one_before(checkpoints, how, caplog):
    checkpoints.save_state(state_at(1))
    checkpoints.save_state(state_at(2))
    path = checkpoints.folder / names(checkpoints, "state")[-1]
    damage(path, how)
    assert checkpoints.load_state(last_step=9).step == 1
    assert str(path) in caplog.text
    assert "going back to the state before it" in caplog.text


def test_when_all_states_are_damaged_training_begins_anew(checkpoints):
    checkpoints.save_state(state_at(1))
    damage(checkpoints.folder / names(checkpoints, "state")[0], "flipped")
    assert checkpoints.load_state(last_step=9) is None


def test_a_fresh_folder_has_no_state(checkpoints):
    assert checkpoints.load_state(last_step=9) is None


def test_states_beyond_the_wanted_steps_are_not_used(checkpoints):
    checkpoints.save_state(state_at(10))
    checkpoints.save_state(state_at(20))
    assert checkpoints.load_state(last_step=15).step == 10
    assert checkpoints.load_state(last_step=5) is None


def best_at(checkpoints, step):
    file = checkpoints.save_best({"w": torch.full((2,), float(step))}, step)
    return Best(step, 0.5, {"v_rand": 0.4}, {"v_rand": 0.5}, file)


def test_best_weights_stay_while_a_kept_state_names_them(checkpoints):
    first = best_at(checkpoints, 1)
    checkpoints.save_state(state_at(2, best=first))
    second = best_at(checkpoints, 3)
    assert len(names(checkpoints, "best")) == 2  # no state names the second yet
    checkpoints.save_state(state_at(4, best=second))
    assert names(checkpoints, "best") == [first.file, second.file]
    checkpoints.save_state(state_at(6, best=second))
    assert names(checkpoints, "best") == [second.file]
    loaded = checkpoints.load_state(last_step=9)
    assert loaded.best == second
    assert torch.equal(
        unpack_weights(checkpoints.read_best(loaded.best))["w"], torch.full((2,), 3.0)
    )


def test_a_state_whose_best_weights_are_damaged_is_passed_over(checkpoints):
    first = best_at(checkpoints, 1)
    checkpoints.save_state(state_at(2, best=first))
    second = best_at(checkpoints, 3)
    checkpoints.save_state(state_at(4, best=second))
    damage(checkpoints.folder / second.file, "flipped")
    assert checkpoints.load_state(last_step=9).best == first
    with pytest.raises(IntegrityError, match=r"best-00000003.*damaged"):
        checkpoints.read_best(second)


def test_a_kill_while_writing_leaves_the_old_state_and_no_litter(
    checkpoints, monkeypatch
):
    checkpoints.save_state(state_at(1))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # no clean-up
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save_state(state_at(2))
    assert [p.name[:7] for p in checkpoints.folder.glob(".*")] == [".state-"]
    again = Checkpoints(checkpoints.folder.parent, RECIPE)
    assert again.load_state(last_step=9).step == 1
    assert not list(checkpoints.folder.glob(".*"))


def test_another_recipe_starts_in_another_folder_and_says_what_differs(
    checkpoints, caplog
):
    checkpoints.save_state(state_at(1))
    caplog.set_level(logging.INFO)
    other = Checkpoints(checkpoints.folder.parent, {**RECIPE, "spec": {"depth": 2}})
    assert other.folder != checkpoints.folder
    assert other.load_state(last_step=9) is None
    assert "spec.depth: 1 -> 2" in caplog.text
    assert "seed" not in caplog.text
    assert checkpoints.load_state(last_step=9).step == 1


def test_a_state_in_the_wrong_folder_is_refused(checkpoints):
    checkpoints.save_state(state_at(1))
    other = Checkpoints(checkpoints.folder.parent, {**RECIPE, "spec": {"depth": 2}})
    (path,) = checkpoints.folder.glob("state-*")
    path.rename(other.folder / path.name)
    with pytest.raises(IdentityError, match=r"belongs to recipe .*move the file"):
        other.load_state(last_step=9)


def test_the_folder_says_which_recipe_it_holds(checkpoints):
    assert json.loads((checkpoints.folder / "recipe.json").read_text()) == RECIPE
    assert checkpoints.folder.name == checkpoints.identity_hash[:8]


def test_a_hostile_pickle_is_not_executed(checkpoints, tmp_path):
    class Gadget:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "gadget.pt"
    torch.save({"step": Gadget()}, path)
    content = path.read_bytes()
    checkpoints._publish("state-00000001", ".pt", content)
    assert checkpoints.load_state(last_step=9) is None
    assert not (tmp_path / "executed").exists()


def test_weights_are_safetensors_in_32_bits(tmp_path):
    network = UNet(UNetSpec(depth=1, base_channels=2, normalization="batch"))
    network = network.to(memory_format=torch.channels_last).to(torch.bfloat16)
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack_weights(network.state_dict()))
    loaded = load_file(path)
    assert loaded.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert loaded[name].dtype != torch.bfloat16
        torch.testing.assert_close(loaded[name], tensor.to(loaded[name].dtype))


def test_differences_name_the_key_and_both_values():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    new = {"a": {"b": 1, "c": [1, 3]}, "e": 2}
    assert describe_differences(old, new) == [
        "a.c: [1, 2] -> [1, 3]",
        "d: 1 -> None",
        "e: None -> 2",
    ]
    assert describe_differences(old, old) == []


def test_a_shorter_training_leaves_the_states_of_a_longer_one(tmp_path):
    def save(checkpoints: Checkpoints, step: int) -> None:
        weights = {"w": torch.tensor([float(step)])}
        best = Best(step, 1.0, {}, {}, checkpoints.save_best(weights, step))
        checkpoints.save_state(TrainingState(step, weights, {}, best=best))

    for step in (600, 800):
        save(Checkpoints(tmp_path, {"a": 1}), step)
    shorter = Checkpoints(tmp_path, {"a": 1})
    assert shorter.load_state(last_step=500) is None
    for step in (200, 400):
        save(shorter, step)
    again = Checkpoints(tmp_path, {"a": 1})
    assert again.load_state(last_step=500).step == 400
    assert again.load_state(last_step=1000).step == 800


def test_the_history_of_a_longer_training_comes_back_with_its_state(tmp_path):
    path = tmp_path / "history.csv"
    rows = [HistoryRow(step, 0.5, 0.1, 1.0) for step in range(1, 7)]
    History(path).append(rows)
    History(path, keep=3)
    assert [row.step for row in read_history(path)] == [1, 2, 3]
    History(path, keep=6)
    assert read_history(path) == rows


def test_weights_that_are_newer_than_a_state_outlive_its_saving(checkpoints):
    """A state may be saved while training, and scoring, goes on."""

    def best_at(step):
        file = checkpoints.save_best({"w": torch.full((3,), float(step))}, step)
        return Best(step, 0.5, {}, {}, file)

    old, at_five, newer = best_at(3), best_at(5), best_at(7)
    checkpoints.save_state(state_at(5, best=at_five))
    assert names(checkpoints, "best") == [at_five.file, newer.file]
    checkpoints.save_state(state_at(8, best=newer))
    checkpoints.save_state(state_at(9, best=newer))
    assert names(checkpoints, "best") == [newer.file]
    assert old.file not in names(checkpoints, "best")
