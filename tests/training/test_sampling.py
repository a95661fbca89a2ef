"""Patches: the right voxels, the right context, the same sequence for everybody."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.targets.annotated import annotate
from unetpipe.targets.annotated import AnnotatedVolume
from unetpipe.targets.weight_map import balance_classes, count_classes
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.intensity import normalise
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import Augmentation, seeded_generator
from unetpipe.training.loop import _drawn
from unetpipe.training.loss import affinity_energy, voxel_weights
from unetpipe.training.sampling import PatchSampler

SPEC = UNetSpec(depth=1, base_channels=2)  # 28 -> 12, 8 voxels to each side
VOLUMETRIC = UNetSpec(ndim=3, depth=1, base_channels=2, pooling=((1, 2, 2),))
CPU = torch.device("cpu")
NONE = Augmentation()
FULL = Augmentation(
    shift_vox=4, rotation_degrees=180, flip=True, elastic_sigma_vox=3, grey_scale=0.2
)


def coordinates_volume(shape=(3, 30, 34)):
    """An image whose channels are z, y and x, and a target that names its voxel."""
    z, y, x = np.indices(shape)
    return AnnotatedVolume(
        name="coordinates",
        image=np.stack([z, y, x]).astype(np.float32),
        target=((37 * z + 5 * y + x) % 251).astype(np.uint8),
        border=(1000 * z + 40 * y + x).astype(np.float32),
        mean=np.zeros(3, np.float32),
        std=np.ones(3, np.float32),
        sections=tuple(range(shape[0])),
        num_known=(shape[1] * shape[2],) * shape[0],
    )


def sampler(volumes, spec, *, augmentation=NONE, shape=None, seed=0):
    shape = shape or spec.input_shape_for((1, 12, 12))
    return PatchSampler(volumes, spec, shape, augmentation, seed=seed)


def batch(sampler, step, size=1):
    return sampler.render(sampler.batch(step, range(size)), CPU)


@pytest.mark.parametrize("spec", [SPEC, VOLUMETRIC], ids=["2d", "3d"])
def test_without_augmentation_a_patch_is_exactly_the_crop(spec):
    """Beyond the faces too: there it is the mirror, without edge repeat."""
    spec = UNetSpec(**{**spec.to_json(), "in_channels": 3})
    volume = coordinates_volume((3, 30, 34) if spec.ndim == 2 else (9, 30, 34))
    draws = sampler([volume], spec)
    shape = draws._output
    for step in range(20):
        one = batch(draws, step)
        image = one.image[0] if spec.ndim == 3 else one.image[0].unsqueeze(1)
        target = one.target if spec.ndim == 2 else one.target[0]
        border = one.border if spec.ndim == 2 else one.border[0]
        z, y, x = image.numpy().astype(int)
        for axis, size in enumerate(volume.target.shape):
            line = np.moveaxis((z, y, x)[axis], axis, 0)[:, 0, 0]
            steps = np.abs(np.diff(line))
            assert (steps == 1).all() or volume.target.shape[axis] == 1 or axis == 0
            assert line.min() >= 0
            assert line.max() < size
        inner = tuple(
            slice((n - o) // 2, (n - o) // 2 + o)
            for n, o in zip(z.shape, shape, strict=True)
        )
        z, y, x = z[inner], y[inner], x[inner]
        np.testing.assert_array_equal(target, volume.target[z, y, x])
        np.testing.assert_array_equal(border, volume.border[z, y, x])


def test_the_context_is_real_where_there_is_some():
    """A patch in the middle of a section sees its neighbours, not mirrors."""
    spec = UNetSpec(depth=1, base_channels=2, in_channels=3)
    draws = sampler([coordinates_volume((1, 400, 400))], spec, augmentation=FULL)
    checked = 0
    for step in range(8):
        _, window = draws._draw_window(seeded_generator(0, step, 0))
        if min(window.start[1:]) < 40 or max(window.stop[1:]) > 360:
            continue
        checked += 1
        patch = draws.patch(step, 0)
        one = draws.render([patch], CPU)
        scale, shift = patch.grey
        y = (one.image[0, 1] - shift[1]) / scale[1]
        x = (one.image[0, 2] - shift[2]) / scale[2]
        # A deformed patch still holds where its voxels came from.
        corner = torch.tensor([window.start[1] - 8, window.start[2] - 8])
        box = patch.image[1:, 0, 0, 0]
        torch.testing.assert_close(
            torch.stack([y, x]),
            patch.image_coordinates + box.reshape(2, 1, 1),
            rtol=0,
            atol=0.1,  # bicubic weights bend a ramp a little
        )
        assert ((torch.stack([y, x]).mean(dim=(1, 2)) - corner - 13.5).abs() < 15).all()
    assert checked > 3


def test_image_target_and_weights_stay_aligned_under_augmentation():
    volume = annotate((1, 200, 200))
    clean = volume.target * 1.0
    aligned = AnnotatedVolume(
        name="aligned",
        image=clean[None].astype(np.float32),
        target=volume.target,
        border=volume.target * 2.0,
        mean=np.zeros(1, np.float32),
        std=np.ones(1, np.float32),
        sections=(0,),
        num_known=(40000,),
    )
    still = Augmentation(**{**vars_of(FULL), "grey_scale": 0.0})
    draws = sampler([aligned], SPEC, augmentation=still, shape=(1, 108, 108))
    moved = 0
    for step in range(5):
        one = batch(draws, step)
        image = one.image[0, 0, 8:-8, 8:-8]
        target = one.target[0].float()
        assert ((image - target).abs() < 0.5).float().mean() > 0.98
        assert torch.equal(one.border[0], 2 * target)
        moved += int(target.any())
    assert moved == 5


def vars_of(augmentation):
    return {name: getattr(augmentation, name) for name in augmentation.__slots__}


def test_voxels_are_equally_likely_to_be_seen_on_the_faces_half_as_often():
    """The mirror does not repeat the edge, so inner voxels come twice a period."""
    volume = coordinates_volume((2, 20, 26))
    spec = UNetSpec(depth=1, base_channels=2, in_channels=3)
    draws = sampler([volume], spec, shape=(1, 28, 28))
    seen = np.zeros(volume.target.shape, int)
    for step in range(3000):
        stack, window = draws._draw_window(seeded_generator(step))
        z, y, x = stack.read(np.indices(seen.shape), window)
        np.add.at(seen, (z, y, x), 1)
    inner = seen[:, 1:-1, 1:-1]
    assert inner.min() > 0.65 * inner.mean()
    assert inner.max() < 1.5 * inner.mean()
    assert seen[:, 0, 1:-1].mean() == pytest.approx(0.5 * inner.mean(), rel=0.3)
    assert seen[:, 1:-1, -1].mean() == pytest.approx(0.5 * inner.mean(), rel=0.3)


def test_sections_are_drawn_by_their_known_voxels():
    volume = annotate((3, 48, 56), num_known=(0, 100, 300))
    draws = sampler([volume], SPEC)
    starts = [
        draws._draw_window(torch.Generator().manual_seed(s))[0].start
        for s in range(1000)
    ]
    counts = np.bincount(starts, minlength=3)
    assert counts[0] == 0
    assert 200 < counts[1] < 300


def test_only_the_sections_of_the_row_are_read():
    class Guarded:
        """Refuses to read any section but 1 and 3."""

        shape = (5, 30, 34)

        def __getitem__(self, index):
            z = index[-3]
            assert (z.start, z.stop) in [(1, 2), (3, 4)]
            return coordinates_volume((5, 30, 34)).target[index]

    volume = coordinates_volume((5, 30, 34))
    guarded = AnnotatedVolume(
        name="guarded",
        image=volume.image,
        target=Guarded(),
        border=None,
        mean=volume.mean,
        std=volume.std,
        sections=(1, 3),
        num_known=(1, 1),
    )
    spec = UNetSpec(depth=1, base_channels=2, in_channels=3)
    draws = sampler([guarded], spec, augmentation=FULL)
    zs = {int(batch(draws, step).image[0, 0].median().round()) for step in range(20)}
    assert zs <= {1, 2, 3, 4}  # grey values vary by a fifth
    assert draws.render(draws.batch(0, [0]), CPU).border is None


def test_in_three_dimensions_sections_that_follow_each_other_are_one_piece():
    volume = annotate((9, 20, 20), sections=(0, 1, 2, 5, 6), num_known=(1, 2, 3, 4, 5))
    stacks = [(p.start, p.stop, p.num_known) for p in volume.stacks(3)]
    assert stacks == [(0, 3, 6), (5, 7, 9)]
    assert [p.start for p in volume.stacks(2)] == [0, 1, 2, 5, 6]


def test_a_piece_is_mirrored_at_its_own_faces():
    volume = coordinates_volume((9, 4, 4))
    stack = AnnotatedVolume(
        **{n: getattr(volume, n) for n in volume.__slots__}
        | {"sections": (3, 4, 5), "num_known": (1, 1, 1)}
    ).stacks(3)[0]
    z = stack.read(volume.image, Roi((-2, 0, 0), (5, 1, 1)))[0].ravel()
    assert z.tolist() == [5, 4, 3, 4, 5, 4, 3]


def test_any_worker_draws_the_same_patches():
    """A patch depends on (seed, step, index), not on what was drawn before."""
    forward, backward = (sampler([annotate()], SPEC, augmentation=FULL) for _ in "ab")
    ahead = {(s, i): forward.patch(s, i) for s in range(3) for i in range(2)}
    for (step, index), expected in reversed(ahead.items()):
        found = backward.patch(step, index)
        assert found.seed == expected.seed
        assert found.is_copied == expected.is_copied
        for name in set(expected.__slots__) - {"seed", "is_copied"}:
            assert torch.equal(getattr(found, name), getattr(expected, name))
    assert len({patch.seed for patch in ahead.values()}) == len(ahead)
    other = sampler([annotate()], SPEC, augmentation=FULL, seed=1).patch(0, 0)
    assert not torch.equal(other.image_coordinates, ahead[0, 0].image_coordinates)


def test_patches_are_normalised_by_the_statistics_of_the_volume():
    volume = annotate((1, 60, 60))
    draws = sampler([volume], SPEC, shape=(1, 44, 44))
    grey = batch(draws, 0).image.numpy()
    expected = normalise(volume.image, mean=volume.mean, std=volume.std)
    assert abs(expected.mean()) < 1e-3
    assert np.isin(grey, expected).all()


def test_a_batch_stacks_channels_and_sections_as_the_network_wants_them():
    two = UNetSpec(depth=1, base_channels=2, in_channels=2)
    flat = batch(sampler([annotate(channels=2)], two), 0, size=3)
    assert flat.image.shape == (3, 2, 28, 28)
    assert flat.target.shape == flat.border.shape == (3, 12, 12)
    deep = batch(sampler([annotate((12, 48, 56))], VOLUMETRIC, augmentation=FULL), 0)
    inputs = VOLUMETRIC.input_shape_for((1, 12, 12))
    assert deep.image.shape == (1, 1, *inputs)
    assert deep.target.shape == (1, *VOLUMETRIC.output_shape(inputs))


class Copies(TorchDispatchMode):
    """Notes the memory of what is copied to another device."""

    def __init__(self):
        super().__init__()
        self.sources = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in args:
            if (
                isinstance(tensor, torch.Tensor)
                and isinstance(made, torch.Tensor)
                and made.device != tensor.device
            ):
                self.sources.append(tensor.data_ptr())
                assert kwargs["non_blocking"]
        return made


@pytest.fixture
def pinned(monkeypatch):
    """Memory that was pinned; without a GPU it is only copied."""
    tensors = []

    def pin(tensor):
        tensors.append(tensor.clone())
        return tensors[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    return tensors


@pytest.mark.parametrize("spec", [SPEC, VOLUMETRIC], ids=["2d", "3d"])
@pytest.mark.parametrize("augmentation", [NONE, FULL], ids=["none", "full"])
def test_rendering_reads_nothing_from_the_device_and_copies_pinned_memory_only(
    pinned, spec, augmentation
):
    """Tensors of the device ``meta`` hold nothing that anybody could wait for."""
    draws = sampler([annotate()], spec, augmentation=augmentation)
    patches = [patch.pinned() for patch in draws.batch(0, range(2))]
    with Copies() as copies:
        rendered = draws.render(patches, torch.device("meta"))
    assert rendered.image.shape == draws.render(patches, CPU).image.shape
    assert copies.sources
    assert set(copies.sources) <= {tensor.data_ptr() for tensor in pinned}


def test_a_pinned_patch_is_the_same_patch(pinned):
    draws = sampler([annotate()], SPEC, augmentation=FULL)
    [patch] = draws.batch(3, [1])
    one, other = (draws.render([p], CPU) for p in (patch, patch.pinned()))
    assert len(pinned) == 6
    assert torch.equal(one.image, other.image)
    assert torch.equal(one.target, other.target)
    assert torch.equal(one.border, other.border)
    assert one.seeds == other.seeds


def test_the_thread_that_draws_also_pins_for_a_gpu(pinned):
    draws = sampler([annotate()], SPEC, augmentation=FULL)
    _drawn(draws, 0, range(2), CPU)
    assert not pinned
    patches = _drawn(draws, 0, range(2), torch.device("cuda"))
    assert len(pinned) == 12
    assert all(any(patch.image is tensor for tensor in pinned) for patch in patches)


def sparse_volume():
    """Labels in a corner of a large section: a cell in the middle of it."""
    target = np.full((1, 200, 220), 255, np.uint8)
    target[0, 3:23, 60:90] = 0
    target[0, 8:12, 70:74] = 1
    return AnnotatedVolume(
        name="sparse",
        image=np.zeros((1, 1, 200, 220), np.float32),
        target=target,
        border=None,
        mean=np.zeros(1, np.float32),
        std=np.ones(1, np.float32),
        sections=(0,),
        num_known=(600,),
        num_foreground=(16,),
    )


def count_centres(draws, shape, *, num):
    centres = np.zeros(shape, int)
    for step in range(num):
        _, window = draws._draw_window(seeded_generator(step))
        centre = (a + o // 2 for a, o in zip(window.start, draws._output, strict=True))
        centres[tuple(centre)] += 1
    return centres


@pytest.mark.parametrize("spec", [SPEC, VOLUMETRIC], ids=["2d", "3d"])
def test_patches_are_drawn_where_labels_are(spec):
    volume = sparse_volume()
    centres = count_centres(sampler([volume], spec), volume.target.shape, num=2000)
    known = volume.target != 255
    assert centres[~known].sum() == 0
    assert centres[known].max() <= 15  # 3.3 are expected
    assert (centres[known] > 0).mean() > 0.9


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_the_foreground_is_drawn_as_often_as_is_asked(fraction):
    volume = sparse_volume()
    shape = SPEC.input_shape_for((1, 12, 12))
    draws = PatchSampler(
        [volume], SPEC, shape, NONE, seed=0, foreground_fraction=fraction
    )
    centres = count_centres(draws, volume.target.shape, num=1000)
    hits = centres[volume.target == 1].sum() / 1000
    assert hits == pytest.approx(fraction + (1 - fraction) * 16 / 600, abs=0.05)


def test_classes_keep_their_weight_over_the_training_whatever_a_patch_holds():
    """Cells in a corner: half of all weight is theirs, and stays theirs in the loss."""
    rng = np.random.default_rng(0)
    target = np.zeros((1, 400, 400), np.uint8)
    y, x = np.mgrid[:400, :400]
    for cy, cx in rng.integers(10, 130, (12, 2)):
        target[0, (y - cy) ** 2 + (x - cx) ** 2 < 64] = 1
    weights = balance_classes(count_classes(target, 2))
    volume = AnnotatedVolume(
        name="corner",
        image=np.zeros((1, 1, 400, 400), np.float32),
        target=target,
        border=None,
        mean=np.zeros(1, np.float32),
        std=np.ones(1, np.float32),
        sections=(0,),
        num_known=(160000,),
    )
    draws = sampler([volume], SPEC, shape=(1, 100, 100))
    divisor = draws.average_weight(weights)
    share = np.zeros(2)
    for step in range(600):
        drawn = torch.from_numpy(batch(draws, step).target.numpy())
        of_voxels = voxel_weights(drawn, None, torch.from_numpy(weights)) / divisor
        share += [float(of_voxels[drawn == k].sum()) / 600 for k in (0, 1)]
    assert share.sum() == pytest.approx(1, abs=0.15)
    assert share[1] / share.sum() == pytest.approx(0.5, abs=0.06)


def volume_of(ids):
    """Return a volume of cells all over, whose grey values are their ids."""
    return AnnotatedVolume(
        name="ids",
        image=ids[None].astype(np.float32),
        target=np.ones(ids.shape, np.uint8),
        border=None,
        mean=np.zeros(1, np.float32),
        std=np.ones(1, np.float32),
        sections=tuple(range(len(ids))),
        num_known=(ids[0].size,) * len(ids),
        instances=ids.astype(np.uint16),
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_ids_of_pairs_turn_with_the_image(ndim):
    """Affinities are made of what the network sees, so offsets need not turn."""
    spec = UNetSpec(
        ndim=ndim, depth=1, base_channels=2, head="sigmoid", targets="affinities"
    )
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 5, (9, 10, 11)).repeat(3, 0).repeat(4, 1).repeat(4, 2)
    volume = volume_of(ids)
    turned = Augmentation(shift_vox=0, flip=True)
    shape = spec.input_shape_for((12 if ndim == 3 else 1, 12, 12))
    draws = sampler([volume], spec, augmentation=turned, shape=shape)
    seen = set()
    for step in range(12):
        one = batch(draws, step)
        margins = [
            (i - o) // 2
            for i, o in zip(one.image.shape[2:], one.target.shape[1:], strict=True)
        ]
        inside = (0, 0, *(slice(m, -m or None) for m in margins))
        assert torch.equal(one.image[inside].long(), one.target[0])
        plain = batch(sampler([volume], spec, shape=shape), step)
        seen.add(torch.equal(plain.target, one.target))
    assert seen == {True, False}, "some were flipped"


def test_the_divisor_is_the_weight_of_the_pairs_of_an_average_patch():
    spec = UNetSpec(depth=1, base_channels=2, head="sigmoid", targets="affinities")
    ids = np.arange(1, 31).reshape(1, 5, 6).repeat(2, 0).repeat(9, 1).repeat(9, 2)
    volume = volume_of(ids)
    weights = np.linspace(1, 2, 2 * spec.out_channels).astype(np.float32)
    draws = sampler([volume], spec)
    total = 0.0
    for step in range(200):
        one = batch(draws, step)
        logits = torch.zeros(1, spec.out_channels, *one.target.shape[1:])
        pairs = torch.from_numpy(weights)
        total += float(affinity_energy(logits, one.target, pairs, spec)[1])
    assert draws.average_weight(weights) == pytest.approx(total / 200, rel=1e-5)
