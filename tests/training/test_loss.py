"""Weighted cross-entropy, eq. (1), against torch's own and against its definition."""

import pytest
import torch
from torch.nn import functional

from unetpipe.targets.affinities import UNKNOWN, learn_affinities
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.loss import (
    affinity_energy,
    mean_loss,
    voxel_weights,
    weighted_cross_entropy,
)

TWO = UNetSpec()
FOUR = UNetSpec(num_classes=4)
SIGMOID = UNetSpec(head="sigmoid")
PAIRS = UNetSpec(ndim=3, depth=2, head="sigmoid", targets="affinities")
FLAT_PAIRS = UNetSpec(head="sigmoid", targets="affinities")


def draw(spec, *, shape=(2, 5, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], spec.out_channels, *shape[1:], generator=generator)
    target = torch.randint(
        spec.num_classes, shape, generator=generator, dtype=torch.uint8
    )
    return logits.requires_grad_(), target


def loss_of(logits, target, weights, spec):
    return mean_loss(*weighted_cross_entropy(logits, target, weights, spec))


@pytest.mark.parametrize("spec", [TWO, FOUR], ids=["two classes", "four classes"])
def test_uniform_weights_equal_plain_cross_entropy(spec):
    logits, target = draw(spec)
    weights = torch.full(target.shape, 3.0)
    torch.testing.assert_close(
        loss_of(logits, target, weights, spec),
        functional.cross_entropy(logits, target.long()),
    )


def test_class_weights_equal_those_of_torch():
    logits, target = draw(FOUR)
    class_weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    torch.testing.assert_close(
        loss_of(logits, target, voxel_weights(target, None, class_weights), FOUR),
        functional.cross_entropy(logits, target.long(), weight=class_weights),
    )


def test_a_sigmoid_takes_binary_cross_entropy():
    logits, target = draw(SIGMOID)
    torch.testing.assert_close(
        loss_of(logits, target, torch.ones(target.shape), SIGMOID),
        functional.binary_cross_entropy_with_logits(logits[:, 0], target.float()),
    )


def test_the_energy_is_the_sum_of_weight_times_log_probability():
    """Two voxels by hand: 2 * -log(0.9) + 5 * -log(0.2)."""
    p = torch.tensor([[0.9, 0.8], [0.1, 0.2]])  # classes, voxels
    target = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    energy, weight = weighted_cross_entropy(
        p.log().reshape(1, 2, 1, 2), target, torch.tensor([[[2.0, 5.0]]]), TWO
    )
    expected = -2 * torch.tensor(0.9).log() - 5 * torch.tensor(0.2).log()
    torch.testing.assert_close(energy, expected)
    assert weight.item() == 7


@pytest.mark.parametrize("spec", [TWO, FOUR, SIGMOID], ids=["two", "four", "sigmoid"])
def test_zero_weight_gives_zero_gradient(spec):
    logits, target = draw(spec)
    weights = torch.ones(target.shape)
    weights[0, 2:4] = 0
    loss_of(logits, target, weights, spec).backward()
    assert (logits.grad[0, :, 2:4] == 0).all()
    assert (logits.grad[0, :, :2] != 0).all()


@pytest.mark.parametrize("spec", [TWO, SIGMOID], ids=["softmax", "sigmoid"])
def test_unlabelled_voxels_count_for_nothing(spec):
    logits, target = draw(spec)
    half = loss_of(logits[:, :, :3], target[:, :3], torch.ones(2, 3, 6), spec)
    target[:, 3:] = 255
    weights = voxel_weights(target, torch.full(target.shape, 9.0), torch.ones(2))
    assert (weights[:, 3:] == 0).all()
    whole = loss_of(logits, target, torch.ones(target.shape), spec)
    torch.testing.assert_close(whole, half)
    whole.backward()
    assert (logits.grad[:, :, 3:] == 0).all()


def test_a_patch_that_nobody_annotated_has_no_loss_and_no_gradient():
    logits, target = draw(TWO)
    target[:] = 255
    weights = voxel_weights(target, None, torch.ones(2))
    loss = loss_of(logits, target, weights, TWO)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("size", [1, 2, 4, 8, 1000])
def test_nothing_that_weighs_gives_no_gradient_to_any_number_of_processes(size):
    logits, target = draw(TWO)
    target[:] = 255
    weights = voxel_weights(target, None, torch.ones(2))
    energy, weight = weighted_cross_entropy(logits, target, weights, TWO)
    (mean_loss(energy, weight) * size).backward()
    assert (logits.grad == 0).all()


def test_weights_add_the_border_term_to_the_class_weight():
    target = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    border = torch.tensor([[[7.0, 0.0, 3.0]]])
    weights = voxel_weights(target, border, torch.tensor([2.0, 0.5]))
    assert weights.tolist() == [[[9.0, 0.5, 0.0]]]


def test_sums_of_two_halves_add_up_to_the_loss_of_the_whole():
    """What several processes need; the mean of their losses would be wrong."""
    logits, target = draw(TWO)
    weights = torch.rand(target.shape) * torch.tensor([1.0, 10.0]).reshape(2, 1, 1)
    halves = [
        weighted_cross_entropy(logits[i : i + 1], target[i : i + 1], weights[i], TWO)
        for i in range(2)
    ]
    energy, weight = (sum(parts) for parts in zip(*halves, strict=True))
    whole = loss_of(logits, target, weights, TWO)
    torch.testing.assert_close(mean_loss(energy, weight), whole)
    mean_of_means = sum(mean_loss(*half) for half in halves) / 2
    assert (mean_of_means - whole).abs().item() > 1e-3


def test_the_loss_is_computed_in_32_bits():
    logits, target = draw(TWO)
    energy, _ = weighted_cross_entropy(
        logits.to(torch.bfloat16), target, torch.ones(target.shape), TWO
    )
    assert energy.dtype == torch.float32


def draw_pairs(spec, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], spec.out_channels, *shape[1:], generator=generator)
    return logits.requires_grad_(), torch.randint(0, 3, shape, generator=generator)


@pytest.mark.parametrize(
    ("spec", "shape"), [(PAIRS, (2, 4, 12, 11)), (FLAT_PAIRS, (2, 12, 11))]
)
def test_the_loss_of_affinities_is_that_of_torch_over_known_pairs(spec, shape):
    logits, ids = draw_pairs(spec, shape)
    ids[:, ..., 3:5, 2] = UNKNOWN
    weights = torch.rand(2 * spec.out_channels, generator=torch.Generator())
    energy, weight = affinity_energy(logits, ids, weights, spec)
    expected, total = 0.0, 0.0
    for n in range(shape[0]):
        whole = ids[n].reshape((1,) * (4 - len(shape)) + shape[1:])
        found = learn_affinities(whole.numpy(), spec.affinity_offsets)
        found = torch.from_numpy(found).reshape(logits.shape[1:])
        for k in range(spec.out_channels):
            for alike in (0, 1):
                chosen = logits[n, k][found[k] == alike]
                goal = torch.full_like(chosen, alike)
                each = functional.binary_cross_entropy_with_logits(
                    chosen, goal, reduction="sum"
                )
                expected = expected + weights[2 * k + alike] * each
                total += float(weights[2 * k + alike]) * chosen.numel()
    torch.testing.assert_close(energy, expected)
    assert float(weight) == pytest.approx(total, rel=1e-5)


def test_pairs_that_leave_the_patch_teach_nothing():
    logits, ids = draw_pairs(PAIRS, (1, 4, 12, 11))
    energy, _ = affinity_energy(logits, ids, torch.ones(2 * PAIRS.out_channels), PAIRS)
    energy.backward()
    for k, (z, y, x) in enumerate(PAIRS.affinity_offsets):
        taught = logits.grad[0, k] != 0
        assert not taught[: max(0, -z)].any()
        assert not taught[:, : max(0, -y)].any()
        assert not taught[:, :, : max(0, -x)].any()
        assert taught[max(0, -z) :, max(0, -y) :, max(0, -x) :].all()
