"""Training on the device: patches, rates, the same bits again, several GPUs."""

import hashlib
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.training import InMemory, Loops, _annotate, _patch
from tests.gpu_check.checked import Checked
from unetpipe.config import AugmentationConfig
from unetpipe.network.determinism import deterministic_algorithms
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.checkpoints import Checkpoints
from unetpipe.training.journal import Place
from unetpipe.training.loop import train
from unetpipe.training.optimiser import Optimisation
from unetpipe.training.sampling import PatchSampler

TOGETHER = """
import os, torch
from torch import distributed
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.distributed import joined_team
kind = os.environ["GPU_CHECK_DEVICE"]
with joined_team(torch.device(kind)) as (team, device):
    torch.manual_seed(0)
    network = UNet(UNetSpec(base_channels=int(os.environ["GPU_CHECK_WIDTH"]), depth=2))
    module = team.wrap(network.to(device))
    image = torch.randn(1, 1, 140, 140, device=device)
    for _ in range(5):
        module.zero_grad()
        module(image).float().square().mean().backward()
        team.any(False)
    mine = torch.stack([p.grad.double().sum() for p in network.parameters()])
    theirs = [torch.empty_like(mine) for _ in range(team.size)]
    distributed.all_gather(theirs, mine)
    if team.is_first:
        print("EQUAL", all(torch.equal(mine, other) for other in theirs), flush=True)
"""


def training(checked: Checked) -> None:
    """Patches as on a processor, no wait in a step, rates, repeats and resumes."""
    spec = UNetSpec(
        base_channels=checked.size(quick=2, real=64),
        depth=checked.size(quick=2, real=4),
    )
    volume = _annotate(checked.settings.folder / "annotated", checked.settings)
    volume = replace(
        volume,
        image=np.asarray(volume.image[...]),
        target=np.asarray(volume.target[...]),
        border=np.asarray(volume.border[...]),
    )
    patch = _patch(spec, checked.size(quick=60, real=572))
    usual = Augmentation(**AugmentationConfig().model_dump())
    sampler = PatchSampler([volume], spec, patch, usual, seed=0)
    _check_patches(checked, sampler)
    loops = Loops(
        checked.settings, spec, volume, patch, checked.size(quick=2, real=100)
    )
    for name, seconds in (
        ("real loop", loops._train(PatchSampler)),
        ("on one patch in memory", loops._train(InMemory)),
        ("bare loop", loops._bare(loops.layout)),
    ):
        flop = 3 * spec.flop(patch) / seconds
        checked.tell(
            f"{name}: {1e3 * seconds:.1f} ms a step, {flop / 1e12:.2f} TFLOP/s, "
            f"{checked.settings.precision}",
            seconds=seconds,
        )
    _check_repeats(checked, sampler, spec)


def together(checked: Checked) -> None:
    """Two GPUs, or two processes, have the same gradients."""
    count = torch.cuda.device_count() if checked.is_cuda else 2
    if count < 2:
        checked.tell("one GPU: training on several is not checked")
        return
    script = checked.settings.folder / "together.py"
    script.write_text(TOGETHER)
    width = checked.size(quick=2, real=64)
    root = Path(__file__).parents[2]
    for number in sorted({2, count}):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [*command, f"--nproc-per-node={number}", str(script)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ
            | {"PYTHONPATH": str(root), "GPU_CHECK_DEVICE": checked.device.type}
            | {"GPU_CHECK_WIDTH": str(width), "OMP_NUM_THREADS": "1"},
        )
        is_equal = "EQUAL True" in done.stdout
        said = "" if is_equal else (done.stdout + done.stderr).strip()[-300:]
        checked.check(f"{number} processes train together", is_equal, said)


def _check_patches(checked: Checked, sampler: PatchSampler) -> None:
    count = checked.size(quick=2, real=30)
    began = time.perf_counter()
    for step in range(count):
        patches = sampler.batch(step, [0])
    checked.tell(
        f"a patch is drawn in {(time.perf_counter() - began) / count * 1e3:.1f} ms"
    )
    if not checked.is_cuda:
        return
    pinned = [patch.pinned() for patch in patches]
    there = sampler.render(pinned, checked.device)
    here = sampler.render(patches, torch.device("cpu"))
    off = float((there.image.cpu() - here.image).abs().max())
    differing = float((there.target.cpu() != here.target).float().mean())
    checked.check(
        "patches are those of a processor", off < 1e-3 and differing < 1e-4, off
    )
    checked.settings.synchronise()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sampler.render(pinned, checked.device)
    torch.cuda.set_sync_debug_mode("default")
    waits = [f"{Path(w.filename).name}:{w.lineno}" for w in seen]
    checked.check("rendering never waits for the GPU", not waits, waits)


def _check_repeats(checked: Checked, sampler: PatchSampler, spec: UNetSpec) -> None:
    steps = checked.size(quick=4, real=20)
    scratch = checked.settings.folder

    def run(folder: str, num_steps: int, state=None):
        torch.manual_seed(0)
        checkpoints = Checkpoints(scratch / folder, {})
        o = Optimisation(steps=num_steps, batch_size=2, precision=_precision(checked))
        with deterministic_algorithms(deterministic=True), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # pooling has no deterministic version to name
            done = train(
                UNet(spec),
                sampler,
                None,
                checkpoints,
                o,
                class_weights=torch.ones(2),
                place=Place(checked.device),
                state=state,
            )
        return _hash_of(done.network), checkpoints

    whole, _ = run("whole", steps)
    checked.check("trained again, the same bits", run("again", steps)[0] == whole)
    _, half = run("half", steps // 2)
    saved = half.load_state(last_step=steps)
    resumed, _ = run("half", steps, saved)
    checked.check("resumed, the bits of an uninterrupted training", resumed == whole)


def _precision(checked: Checked):
    return checked.settings.precision


def _hash_of(weights) -> str:
    digest = hashlib.sha256()
    for tensor in weights.values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
