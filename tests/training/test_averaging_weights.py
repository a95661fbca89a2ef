"""Means of weights: what is in them, when, and that interruptions do not show."""

from dataclasses import replace

import pytest
import torch

from tests.training.test_loop import QUICK, SPEC, Run, assert_same_weights
from unetpipe.network.unet import UNet
from unetpipe.network.weights import unpack_weights
from unetpipe.training.averaging import AveragedWeights, Averaging
from unetpipe.training.optimiser import Optimisation


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def networks(num, **more):
    torch.manual_seed(0)
    return [UNet(replace(SPEC, **more)) for _ in range(num)]


def test_the_plain_mean_holds_the_weights_of_every_so_many_steps():
    averaged = AveragedWeights(
        Averaging("swa", averaging_start=2, averaging_every=2), None
    )
    steps = networks(6)
    for number, network in enumerate(steps, start=1):
        averaged.update(network, number)
    assert averaged.num_averaged == 2
    found = averaged.network(steps[0]).state_dict()
    for name, value in found.items():
        expected = (steps[3].state_dict()[name] + steps[5].state_dict()[name]) / 2
        torch.testing.assert_close(value, expected)


def test_the_fading_mean_forgets_the_first_weights():
    averaged = AveragedWeights(Averaging("ema", averaging_decay=0.5))
    one, two = networks(2)
    for step in range(1, 60):
        averaged.update(one if step < 30 else two, step)
    for name, value in averaged.weights.items():
        torch.testing.assert_close(value, two.state_dict()[name])


def test_without_averaging_there_is_no_mean():
    averaged = AveragedWeights(Averaging())
    (network,) = networks(1)
    averaged.update(network, 1)
    assert averaged.network(network) is None


def test_batch_statistics_are_averaged_and_their_counter_is_not():
    averaged = AveragedWeights(Averaging("swa"))
    pair = networks(2, normalization="batch")
    for step, network in enumerate(pair, start=1):
        network.down[0][1].running_mean.fill_(float(step))
        network.down[0][1].num_batches_tracked.fill_(step)
        averaged.update(network, step)
    assert averaged.weights["down.0.1.running_mean"].unique().tolist() == [1.5]
    assert averaged.weights["down.0.1.num_batches_tracked"].item() == 2


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_the_mean_is_scored_and_survives_interruption(tmp_path, kind):
    averaging = Averaging(kind, averaging_decay=0.7, averaging_start=2)
    optimisation = replace(QUICK, averaging=averaging, learning_rate=0.05)
    whole = Run(tmp_path / "whole")
    expected = whole(optimisation)
    parts = Run(tmp_path / "parts")
    parts(replace(optimisation, steps=7))
    found = parts(optimisation)
    assert parts.losses == whole.losses
    assert found.num_averaged == expected.num_averaged == 10
    for name, value in expected.averaged.items():
        assert torch.equal(found.averaged[name], value), name
    scores = [(r.validation, r.averaged) for r in whole.history if r.validation]
    assert len(scores) == 3
    assert all(averaged is not None for _, averaged in scores)
    assert found.best == expected.best
    assert found.best.score == max(max(pair) for pair in scores)


def test_the_better_of_weights_and_mean_is_kept(tmp_path):
    """Steps far too long: the mean of where they land is better than any of them."""
    wild = Optimisation(
        steps=60,
        learning_rate=0.15,
        momentum=0.5,
        validate_every=60,
        averaging=Averaging("swa", averaging_start=20),
    )
    run = Run(tmp_path, metric="loss")
    done = run(wild)
    last = run.history[-1]
    assert done.best.is_averaged == (last.averaged < last.validation)
    kept = unpack_weights(run.checkpoints.read_best(done.best))
    expected = done.averaged if done.best.is_averaged else done.network
    for name, value in kept.items():
        assert torch.equal(value, expected[name])


def test_averaging_leaves_the_training_as_it_is(tmp_path):
    plain, averaged = Run(tmp_path / "a"), Run(tmp_path / "b")
    one = plain(QUICK)
    two = averaged(replace(QUICK, averaging=Averaging("ema")))
    assert plain.losses == averaged.losses
    assert_same_weights(one, two)
