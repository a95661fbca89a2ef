"""The loop: it learns, it repeats itself bit for bit, and no signal loses its work."""

import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.targets.annotated import annotate
from tests.variants import mostly_slow
from unetpipe.errors import DataError, ResourceError
from unetpipe.network.determinism import deterministic_algorithms
from unetpipe.network.unet import UNet
from unetpipe.targets.weight_map import balance_classes, count_classes
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.checkpoints import Checkpoints
from unetpipe.training.history import read_history
from unetpipe.training.journal import Place
from unetpipe.training.loop import Interrupted, layout_of_maps, train
from unetpipe.training.optimiser import Optimisation, learning_rate_at
from unetpipe.training.sampling import PatchSampler
from unetpipe.training.validation import Validator

CPU = torch.device("cpu")
SPEC = UNetSpec(depth=1, base_channels=4)
FULL = Augmentation(
    shift_vox=4,
    rotation_degrees=180,
    flip=True,
    elastic_sigma_vox=2,
    grey_scale=0.2,
    grey_shift=0.2,
)
QUICK = Optimisation(steps=12, validate_every=5, checkpoint_every=4, momentum=0.9)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Run:
    """One training in one folder; calling it again goes on."""

    def __init__(self, folder, *, spec=SPEC, volume=None, augmentation=FULL, **more):
        self.folder, self.spec = folder, spec
        self.volume = volume or annotate()
        self.augmentation = augmentation
        self.sampler_class = more.get("sampler_class", PatchSampler)
        self.metric = more.get("metric", "v_rand")
        self.initialization = more.get("initialization", "he")
        self.seed = more.get("seed", 0)
        self.patch = more.get("patch") or spec.input_shape_for((1, 20, 20))

    def __call__(self, optimisation):
        weights = balance_classes(
            count_classes(self.volume.target, self.spec.num_classes)
        )
        self.checkpoints = Checkpoints(self.folder, {"recipe": 1})
        torch.manual_seed(self.seed)
        self.network = UNet(self.spec, initialization=self.initialization)
        validator = None
        if self.metric:
            validator = Validator(
                [self.volume],
                self.metric,
                class_weights=weights,
                precision="fp32",
                device=CPU,
                largest_input=10**5,
            )
        return train(
            self.network,
            self.sampler_class(
                [self.volume],
                self.spec,
                self.patch,
                self.augmentation,
                seed=self.seed,
            ),
            validator,
            self.checkpoints,
            optimisation,
            class_weights=torch.from_numpy(weights),
            place=Place(CPU),
            state=self.checkpoints.load_state(last_step=optimisation.steps),
        )

    @property
    def history(self):
        return read_history(self.checkpoints.folder / "history.csv")

    @property
    def losses(self):
        return [row.loss for row in self.history]


def assert_same_weights(one, two):
    assert one.network.keys() == two.network.keys()
    for name, tensor in one.network.items():
        assert torch.equal(tensor, two.network[name]), name


def improvement(losses, num=5):
    return np.mean(losses[-num:]) / np.mean(losses[:num])


def test_one_patch_can_be_overfitted(tmp_path):
    """Fifty steps on a patch without augmentation, and its loss is next to nothing."""

    class OnePatch(PatchSampler):
        def patch(self, step, index):
            return super().patch(0, 0)

    run = Run(
        tmp_path,
        spec=replace(SPEC, dropout=0.0, base_channels=8),
        augmentation=Augmentation(),
        sampler_class=OnePatch,
        metric=None,
    )
    run(Optimisation(steps=50, learning_rate=0.02, momentum=0.9))
    assert run.losses[0] > 0.3
    assert run.losses[-1] < 0.05


def test_the_paper_preset_learns_the_cells(tmp_path):
    run = Run(tmp_path, spec=UNetSpec(depth=2, base_channels=4))
    done = run(
        Optimisation(steps=80, learning_rate=0.1, momentum=0.5, validate_every=40)
    )
    assert improvement(run.losses) < 0.5
    assert done.best.score > 0.7
    assert 0 < done.best.thresholds["segmentation"] < 1


def test_the_first_step_of_adamw_is_the_papers_formula(tmp_path):
    """Bias-corrected moments of one gradient: a step of the learning rate, by sign."""
    before = Run(tmp_path / "before")(replace(ADAPTIVE, learning_rate=1e-30, steps=1))
    after = Run(tmp_path / "after")(replace(ADAPTIVE, learning_rate=1e-3, steps=1))
    for name, old in before.network.items():
        gradient = after.optimizer["state"][_index_of(before, name)]["exp_avg"] / 0.1
        direction = gradient / (gradient.abs() + 1e-8)
        expected = old - 1e-3 * (direction + 0.1 * old)
        torch.testing.assert_close(after.network[name], expected)


def _index_of(state, name):
    return list(state.network).index(name)


def test_adamw_learns_the_cells_in_fewer_steps_than_the_paper_takes(tmp_path):
    """Half the steps of ``test_the_paper_preset_learns_the_cells``."""
    run = Run(tmp_path, spec=UNetSpec(depth=2, base_channels=4))
    done = run(
        Optimisation(
            steps=40,
            optimizer="adamw",
            momentum=0.9,
            learning_rate=0.01,
            validate_every=40,
        )
    )
    assert improvement(run.losses) < 0.5
    assert done.best.score > 0.7


STILL_GREY = replace(FULL, grey_scale=0.0, grey_shift=0.0)
SAME_PADDING = UNetSpec(
    depth=2,
    base_channels=4,
    padding="same",
    normalization="batch",
    head="sigmoid",
    dropout=0.0,
)


@pytest.mark.parametrize(
    ("spec", "volume", "metric", "steps", "good"),
    [
        pytest.param(
            UNetSpec(
                depth=1, base_channels=8, num_classes=4, in_channels=2, dropout=0.1
            ),
            annotate(channels=2, num_classes=4),
            "dice",
            240,
            0.25,  # one class everywhere reaches 0.08: the background does not count
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(SAME_PADDING, None, "loss", 60),
            0.3,  # chance is 0.69
            marks=pytest.mark.slow,
        ),
        (
            UNetSpec(ndim=3, depth=1, base_channels=3, pooling=((1, 2, 2),)),
            annotate((9, 36, 36)),
            "v_rand",
            100,
            0.6,
        ),
    ],
    ids=["four classes and two channels", "same padding", "volumetric"],
)
def test_other_networks_learn_through_the_same_loop(
    tmp_path, spec, volume, metric, steps, good
):
    run = Run(
        tmp_path, spec=spec, volume=volume, metric=metric, augmentation=STILL_GREY
    )
    done = run(
        Optimisation(
            steps=steps, learning_rate=0.05, momentum=0.8, validate_every=steps // 4
        )
    )
    assert improvement(run.losses) < 0.8
    scores = [row.validation for row in run.history if row.validation is not None]
    assert len(scores) == 4
    assert done.best.score == (min(scores) if metric == "loss" else max(scores))
    assert (done.best.score < good) == (metric == "loss")
    assert bool(done.best.thresholds) == (metric == "v_rand")


def test_the_same_seed_gives_the_same_bits(tmp_path):
    one, two = (Run(tmp_path / name) for name in "ab")
    first, second = one(QUICK), two(QUICK)
    assert one.losses == two.losses
    assert_same_weights(first, second)
    other = Run(tmp_path / "c", seed=3)
    other(QUICK)
    assert other.losses != one.losses


ADAPTIVE = replace(QUICK, optimizer="adamw", weight_decay=0.1)


@pytest.mark.parametrize(
    ("quick", "stop_at"),
    mostly_slow(
        [*((QUICK, n) for n in (5, 1, 4, 11)), *((ADAPTIVE, n) for n in (1, 5))]
    ),
)
def test_stopping_and_resuming_equals_never_stopping(tmp_path, quick, stop_at):
    """Dropout, augmentation, momentum, batch statistics, best checkpoint and all."""
    spec = replace(SPEC, normalization="batch")
    whole = Run(tmp_path / "whole", spec=spec)
    expected = whole(quick)
    parts = Run(tmp_path / "parts", spec=spec)
    parts(replace(quick, steps=stop_at))
    found = parts(quick)
    assert parts.losses == whole.losses
    assert_same_weights(found, expected)
    assert found.best == expected.best
    assert found.resumed_at == [stop_at]
    assert [row.validation for row in parts.history[4::5]] == [
        row.validation for row in whole.history[4::5]
    ]


WIDE = UNetSpec(base_channels=16)


@pytest.mark.parametrize(
    ("capability", "precision", "spec", "layout"),
    [
        ("AVX2", "fp32", WIDE, torch.contiguous_format),
        ("DEFAULT", "fp32", WIDE, torch.channels_last),
        ("AVX2", "fp32", UNetSpec(base_channels=8), torch.channels_last),
        ("AVX2", "bf16", WIDE, torch.channels_last),
        ("AVX512", "fp32", WIDE, torch.channels_last),
        ("AVX512_VNNI", "fp32", WIDE, torch.channels_last),
        ("AVX2", "fp32", replace(WIDE, ndim=3), torch.channels_last_3d),
    ],
)
def test_maps_lie_channel_by_channel_where_that_is_faster(
    capability, precision, spec, layout, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert layout_of_maps(spec, CPU, precision) == layout
    if spec.ndim == 2:
        of_gpu = layout_of_maps(spec, torch.device("cuda"), precision)
        assert of_gpu == torch.channels_last


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_in_either_layout_a_resumed_training_has_the_same_bits(
    tmp_path, capability, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    spec = replace(SPEC, base_channels=16)
    whole = Run(tmp_path / "whole", spec=spec)
    expected = whole(QUICK)
    parts = Run(tmp_path / "parts", spec=spec)
    parts(replace(QUICK, steps=6))
    weights = parts.network.parameters()
    kernels = [w for w in weights if w.ndim == 4 and min(w.shape) > 1]
    are_by_channel = {w.is_contiguous() for w in kernels}
    assert are_by_channel == {capability == "AVX2"}, "validation left the layout"
    assert_same_weights(parts(QUICK), expected)


def test_reduced_precision_trains_and_keeps_weights_in_32_bits(tmp_path):
    run = Run(tmp_path)
    done = run(replace(QUICK, precision="bf16", steps=30))
    assert {t.dtype for t in done.network.values()} == {torch.float32}
    assert improvement(run.losses) < 1
    exact = Run(tmp_path / "exact")
    exact(replace(QUICK, steps=30))
    assert exact.losses != run.losses
    np.testing.assert_allclose(exact.losses[0], run.losses[0], rtol=0.02)


class Killing(PatchSampler):
    """Sends a signal to the process while the batch of step 6 is drawn."""

    number = signal.SIGTERM

    def batch(self, step, indices):
        if step == 6:
            os.kill(os.getpid(), self.number)
        return super().batch(step, indices)


@pytest.mark.parametrize(
    "number", mostly_slow([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
)
def test_a_signal_saves_the_state_and_says_how_to_go_on(tmp_path, number, monkeypatch):
    monkeypatch.setattr(Killing, "number", number)
    handler = signal.getsignal(number)
    run = Run(tmp_path / "stopped", sampler_class=Killing)
    slow = replace(QUICK, checkpoint_every=100, steps=40)
    with pytest.raises(Interrupted, match="repeat the command to go on") as caught:
        run(slow)
    assert str(run.checkpoints.folder) in str(caught.value)
    assert signal.getsignal(number) == handler
    stopped_at = len(run.history)
    assert stopped_at < 40
    assert f"after step {stopped_at} of 40" in str(caught.value)
    run.sampler_class = PatchSampler
    found = run(slow)
    assert found.resumed_at == [stopped_at]
    whole = Run(tmp_path / "whole")
    assert_same_weights(found, whole(slow))
    assert run.losses == whole.losses


LONG = replace(QUICK, steps=40, validate_every=20, checkpoint_every=3)
# At which change of a file each of some processes is killed, one after the other.
MOMENTS = random.Random(2015).sample(range(1, 30), 4)
KILLED = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    import torch
    from tests.killing import kill_at_change
    from tests.training import test_loop as t
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    run = t.Run(folder, metric="loss")
    for moment in t.MOMENTS:
        child = os.fork()
        if not child:
            kill_at_change(moment, below=folder)
            run(t.LONG)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        states = sorted(folder.glob("*/state-*"))
        print(code, states[-1].name.split("-")[1] if states else 0)
    """
)


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_nothing(tmp_path):
    """Processes are killed one after another; what they leave goes on to the same."""
    folder = tmp_path / "killed"
    folder.mkdir()
    said = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    codes, left = zip(
        *(map(int, line.split()) for line in said.splitlines()), strict=True
    )
    assert set(codes) == {-signal.SIGKILL}
    assert len(codes) == len(MOMENTS)
    # Where nothing new was saved, the resumption is forgotten too.
    begun_at = sorted(set(left) - {0})
    assert len(begun_at) > 1
    run, whole = (Run(path, metric="loss") for path in (folder, tmp_path / "whole"))
    found, expected = run(LONG), whole(LONG)
    assert found.resumed_at == begun_at
    assert run.losses == whole.losses
    assert_same_weights(found, expected)
    assert found.best == expected.best


def test_a_damaged_state_costs_its_steps_and_nothing_else(tmp_path):
    run = Run(tmp_path / "damaged")
    run(replace(QUICK, steps=10))
    newest = sorted(run.checkpoints.folder.glob("state-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    found = run(QUICK)
    assert found.resumed_at == [8]
    whole = Run(tmp_path / "whole")
    assert_same_weights(found, whole(QUICK))
    assert run.losses == whole.losses


def test_a_loss_that_is_not_finite_stops_with_the_remedy(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(DataError, match=r"loss is nan after step \d+; lower training"):
        run(replace(QUICK, learning_rate=1e30, steps=40))
    assert not list(run.checkpoints.folder.glob("state-*"))


class Clock:
    """Time that passes by 25 seconds a look."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 25
        return self.now


AUTO = replace(QUICK, checkpoint_every="auto")


def test_states_saved_beside_the_training_are_those_of_their_steps(
    tmp_path, monkeypatch
):
    """Later steps do not change what is being saved, nor does saving change a bit."""
    alone = Run(tmp_path / "alone")(QUICK)
    monkeypatch.setattr("unetpipe.training.journal.time", Clock())
    saved = {}
    original = Checkpoints.save_state

    def save_state(self, state):
        saved[state.step] = (threading.current_thread(), state)
        original(self, state)

    monkeypatch.setattr(Checkpoints, "save_state", save_state)
    assert_same_weights(Run(tmp_path / "auto")(AUTO), alone)
    beside = [s for s, (thread, _) in saved.items() if thread.name.startswith("saver")]
    assert len(beside) >= 3
    assert max(saved) == 12
    step = beside[1]
    until = Run(tmp_path / "until")(replace(AUTO, steps=step))
    assert_same_weights(saved[step][1], until)
    momenta = [
        s.optimizer["state"][0]["momentum_buffer"] for s in (saved[step][1], until)
    ]
    assert torch.equal(*momenta)


def test_a_training_goes_on_from_a_state_saved_beside_it(tmp_path, monkeypatch):
    whole = Run(tmp_path / "whole")(QUICK)
    monkeypatch.setattr("unetpipe.training.journal.SECONDS_BETWEEN_SAVES", 0.0)
    run = Run(tmp_path / "killed")
    run(replace(AUTO, steps=7))
    for path in run.checkpoints.folder.glob("state-00000007-*"):
        path.unlink()  # as if killed before the last
    again = run(AUTO)
    assert again.resumed_at == [6]
    assert_same_weights(again, whole)


def test_a_disk_that_is_full_beside_the_training_ends_it(tmp_path, monkeypatch):
    def save_state(self, state):
        raise ResourceError("no room on the disk")

    monkeypatch.setattr("unetpipe.training.journal.SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(Checkpoints, "save_state", save_state)
    run = Run(tmp_path, metric=None)
    with pytest.raises(ResourceError, match="no room on the disk"):
        run(AUTO)
    assert len(run.history) == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_step_that_does_not_fit_the_memory_names_the_remedy(
    tmp_path, monkeypatch, error
):
    def forward(self, image, seeds):
        raise error

    monkeypatch.setattr(UNet, "forward", forward)
    with pytest.raises(
        ResourceError, match=r"a step on 1 patches; lower training\.patch"
    ):
        Run(tmp_path, metric=None)(QUICK)


def test_clipping_bounds_the_first_step_by_rate_times_norm(tmp_path):
    torch.manual_seed(0)
    before = [p.detach().clone() for p in UNet(SPEC).parameters()]
    run = Run(tmp_path, metric=None)
    run(Optimisation(steps=1, learning_rate=0.5, gradient_clip=0.01))
    moved = [
        (p.detach() - b).flatten()
        for p, b in zip(run.network.parameters(), before, strict=True)
    ]
    assert float(torch.cat(moved).norm()) == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_a_larger_batch_holds_more_patches(tmp_path):
    seen = []

    class Counting(PatchSampler):
        def patch(self, step, index):
            seen.append((step, index))
            return super().patch(step, index)

    run = Run(tmp_path, sampler_class=Counting, metric=None)
    run(replace(QUICK, steps=2, batch_size=3))
    assert seen == [(s, i) for s in range(2) for i in range(3)]


def test_the_learning_rate_warms_up_and_follows_its_schedule():
    flat = Optimisation(steps=100, learning_rate=0.1)
    assert {learning_rate_at(s, flat) for s in range(100)} == {0.1}
    warm = replace(flat, warmup_steps=10)
    assert learning_rate_at(0, warm) == pytest.approx(0.01)
    assert learning_rate_at(4, warm) == pytest.approx(0.05)
    assert learning_rate_at(9, warm) == learning_rate_at(50, warm) == 0.1
    cosine = replace(flat, schedule="cosine")
    assert learning_rate_at(0, cosine) == 0.1
    assert learning_rate_at(50, cosine) == pytest.approx(0.05)
    assert learning_rate_at(99, cosine) < 1e-4
    step = replace(flat, schedule="step", schedule_every=30, schedule_factor=0.1)
    rates = [learning_rate_at(s, step) for s in (0, 29, 30, 60)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_history_holds_one_row_a_step_and_the_scores(tmp_path):
    run = Run(tmp_path)
    done = run(replace(QUICK, warmup_steps=4))
    rows = run.history
    assert [row.step for row in rows] == list(range(1, 13))
    assert [row.step for row in rows if row.validation is not None] == [5, 10, 12]
    assert [row.learning_rate for row in rows[:5]] == pytest.approx(
        [0.00025, 0.0005, 0.00075, 0.001, 0.001]
    )
    seconds = [row.seconds for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= done.seconds


def test_validation_changes_nothing_but_the_choice(tmp_path):
    with_scores, without = Run(tmp_path / "a"), Run(tmp_path / "b", metric=None)
    one, two = with_scores(QUICK), without(QUICK)
    assert_same_weights(one, two)
    assert one.best is not None
    assert two.best is None


def test_patience_ends_a_training_that_no_longer_improves(tmp_path):
    """Scores of a network that hardly moves; the first, or a later one, is best."""
    patient = replace(QUICK, learning_rate=1e-9, validate_every=2, steps=30, patience=3)
    run = Run(tmp_path / "whole", metric="dice", spec=replace(SPEC, dropout=0.0))
    done = run(patient)
    assert done.step == done.best.step + 6 < 30
    again = run(patient)
    assert again.step == done.step
    assert len(run.history) == done.step
    parts = Run(tmp_path / "parts", metric="dice", spec=run.spec)
    parts(replace(patient, steps=3))
    assert parts(patient).step == done.step
    assert parts.losses == run.losses
    longer = run(replace(patient, patience=None))
    assert longer.step == 30


@pytest.mark.parametrize("stop_at", mostly_slow([7, 1, 9]))
def test_patience_ends_a_resumed_training_where_it_ends_a_whole_one(
    tmp_path, monkeypatch, stop_at
):
    """Also where the best score is one of the first few, apart from the others."""
    monkeypatch.setattr("unetpipe.training.optimiser.VALIDATE_EVERY", 4)
    monkeypatch.setattr("unetpipe.training.optimiser.VALIDATE_FIRST", (1, 2))
    patient = Optimisation(
        steps=30, learning_rate=1e-30, patience=3, checkpoint_every=1
    )
    run = Run(tmp_path, metric="dice", spec=replace(SPEC, dropout=0.0))
    run(replace(patient, steps=stop_at, patience=None))
    done = run(patient)
    assert done.best.step == 1
    assert done.step == 12, "what is scored every 4 steps counts, whenever it resumed"


def test_deterministic_algorithms_repeat_and_leave_the_process_as_it_was(tmp_path):
    before = torch.are_deterministic_algorithms_enabled()
    runs = [
        Run(tmp_path / name, spec=UNetSpec(depth=2, base_channels=4)) for name in "ab"
    ]
    with deterministic_algorithms(deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        one, two = (run(QUICK) for run in runs)
    assert torch.are_deterministic_algorithms_enabled() == before
    assert runs[0].losses == runs[1].losses
    assert_same_weights(one, two)


def test_without_a_terminal_progress_is_a_line_now_and_then(
    tmp_path, monkeypatch, caplog, capsys
):
    caplog.set_level(logging.INFO)
    Run(tmp_path / "quiet", metric=None)(QUICK)
    assert " a second" not in caplog.text
    monkeypatch.setattr("unetpipe.runtime.progress.SECONDS_BETWEEN_LINES", 0.0)
    Run(tmp_path / "lines", metric=None)(QUICK)
    lines = [r.message for r in caplog.records if " a second" in r.message]
    assert len(lines) == 12
    assert lines[-1].startswith("training: step 12 of 12, loss 0.")
    assert lines[-1].endswith(" a second, 0 s left")
    assert not capsys.readouterr().out
