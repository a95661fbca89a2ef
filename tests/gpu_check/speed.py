"""The machine, forward passes on the device, and the engine from store to store."""

import hashlib
import json
import os
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import torch

from tests.benchmarks.inputs import Prediction, save_model, store_volume
from tests.benchmarks.settings import describe_machine
from tests.gpu_check.checked import Checked
from unetpipe.network.devices import has_kernels
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.runtime.files import read_record
from unetpipe.runtime.machine import GIB
from unetpipe.tiling.tile_size import activation_bytes
from unetpipe.tiling.unet_spec import UNetSpec

PREDICT = """
import json, sys
from pathlib import Path
from unetpipe.stages.predict_part import predict_part
said = json.loads(sys.argv[1])
part = said.pop("part")
predict_part(part=part, **{name: Path(path) for name, path in said.items()})
"""


def machine(checked: Checked) -> None:
    """What figures depend on: the card, its matrix products, its memory, its bus."""
    about = describe_machine(checked.settings)
    checked.tell(", ".join(f"{k} {v}" for k, v in about.items()), **about)
    if not checked.is_cuda:
        return
    card = torch.cuda.get_device_properties(checked.device)
    free, total = torch.cuda.mem_get_info(checked.device)
    checked.tell(
        f"{torch.cuda.device_count()} GPUs; cuDNN {torch.backends.cudnn.version()}; "
        f"{card.multi_processor_count} multiprocessors; {free / GIB:.1f} of "
        f"{total / GIB:.1f} GiB free; {os.cpu_count()} processors"
    )
    built = torch.cuda.get_arch_list()
    capability = torch.cuda.get_device_capability(checked.device)
    checked.check("torch has kernels for it", has_kernels(capability, built), built)
    side = 16384
    a, b = (
        torch.randn(side, side, device=checked.device, dtype=torch.bfloat16)
        for _ in range(2)
    )
    flop = 2 * side**3 / checked.seconds(lambda: torch.mm(a, b), times=5)
    there = torch.empty(2**30, dtype=torch.uint8, device=checked.device)
    here = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
    moved = {
        "within": checked.seconds(
            lambda: there[2**29 :].copy_(there[: 2**29]), times=9
        ),
        "to it": checked.seconds(lambda: there[: 2**28].copy_(here, non_blocking=True)),
        "back": checked.seconds(lambda: here.copy_(there[: 2**28], non_blocking=True)),
    }
    rates = {"within": 2**30 / moved["within"]} | {
        way: 2**28 / moved[way] for way in ("to it", "back")
    }
    checked.tell(
        f"bf16 matrix product {flop / 1e12:.0f} TFLOP/s; "
        + ", ".join(f"{way} {rate / 1e9:.0f} GB/s" for way, rate in rates.items()),
        matrix_flop=flop,
        **rates,
    )


def rates(checked: Checked) -> None:
    """Forward passes by themselves, their memory, the kernels that take the time."""
    width, depth = checked.size(quick=2, real=64), checked.size(quick=2, real=4)
    spec, precision = (
        UNetSpec(base_channels=width, depth=depth),
        checked.settings.precision,
    )
    matrix = [
        x.values["matrix_flop"] for x in checked.lines if "matrix_flop" in x.values
    ]
    network = UNet(spec)
    modes = checked.size(quick=("eager",), real=("eager", "autotuned", "compiled"))
    tiles = checked.size(
        quick=((32, 1),), real=((512, 8), (1024, 1), (1024, 4), (2048, 1), (2048, 2))
    )
    for mode in modes:
        if mode == "compiled":
            torch._dynamo.reset()
        predictor = TilePredictor(
            network,
            precision=precision,
            device=checked.device,
            is_compiled=mode == "compiled",
            autotune=mode == "autotuned",
        )
        for side, batch in tiles if mode == "eager" else tiles[2:4]:
            stride = (1, side, side)
            seen = predictor.tile_shape(stride)
            voxels = torch.randint(0, 256, (batch, 1, *seen), dtype=torch.uint8)
            voxels, grey = voxels.to(checked.device), checked.statistics()

            def run(voxels=voxels, stride=stride, predictor=predictor, grey=grey):
                return predictor.quantised(voxels, stride, **grey)

            for _ in range(checked.size(quick=1, real=3)):
                run()
            if checked.is_cuda:
                torch.cuda.reset_peak_memory_stats()
            seconds = checked.seconds(run, times=checked.size(quick=1, real=10))
            flop = batch * spec.flop(seen) / seconds
            share = f", {flop / matrix[0]:.2f} of a matrix product" if matrix else ""
            rate = batch * side**2 / seconds
            checked.tell(
                f"{mode}, {batch} x {side}^2: {rate / 1e6:.1f} Mvoxel/s, "
                f"{flop / 1e12:.2f} TFLOP/s{share}",
                voxels_per_second=rate,
            )
            if checked.is_cuda and mode == "eager":
                peak = torch.cuda.max_memory_allocated()
                projected = batch * activation_bytes(spec, seen, precision, "cuda")
                checked.check(
                    f"{batch} x {side}^2: the peak is below the projection",
                    peak <= projected + GIB,
                    f"{peak / GIB:.2f} of {projected / GIB:.2f} GiB",
                )
        if checked.is_cuda and mode == "eager":
            _tell_kernels(checked, run)


def _tell_kernels(checked: Checked, run) -> None:
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        run()
        checked.settings.synchronise()
    found = sorted(profile.key_averages(), key=lambda e: -e.self_device_time_total)
    total = sum(event.self_device_time_total for event in found)
    for event in found[:12]:
        share = 100 * event.self_device_time_total / max(total, 1)
        checked.tell(f"  {share:4.1f} %, {event.count} x {event.key[:90]}")


def engine(checked: Checked) -> None:
    """Store to store: rate; the bits of other blocks, a kill, several processes."""
    spec = UNetSpec(
        base_channels=checked.size(quick=2, real=64),
        depth=checked.size(quick=2, real=4),
    )
    folder = checked.settings.folder
    shape = checked.size(quick=(8, 64, 80), real=(64, 4096, 4096))
    torch.manual_seed(0)
    parts = checked.size(quick=2, real=4)
    prediction = Prediction(
        folder / "engine",
        ingest=store_volume(folder / "volume", shape),
        model=save_model(folder / "model", UNet(spec)),
        settings=checked.settings,
        parts=parts,
    )
    done = [prediction.predict(part) for part in range(parts)]
    seconds = sum(part["seconds_computing"] for part in done)
    waiting = sum(part["seconds_waiting"] for part in done)
    checked.tell(
        f"{prediction.describe()}: {prod(shape) / seconds / 1e6:.1f} Mvoxel/s, Zarr to "
        f"Zarr, {waiting / seconds:.2f} of the time waiting for voxels",
        voxels_per_second=prod(shape) / seconds,
    )
    peak = max(part["peak_rss_bytes"] for part in done)
    projected = prediction.record["projected"]["peak_rss_bytes"]
    if not checked.settings.is_quick:
        checked.check(
            "resident memory is below the projection",
            peak <= projected,
            f"{peak / GIB:.1f} of {projected / GIB:.1f} GiB",
        )
    expected = _hash_of(prediction)
    prediction.plan()
    _kill_one(checked, prediction)
    for part in range(parts):
        prediction.predict(part)
    checked.check("killed and resumed, the same bits", _hash_of(prediction) == expected)
    for count in checked.size(quick=(2,), real=(2, 4)):
        prediction.plan()
        began = time.perf_counter()
        _predict_beside(prediction, parts, count)
        rate = prod(shape) / (time.perf_counter() - began)
        checked.tell(f"{count} processes, with their start: {rate / 1e6:.1f} Mvoxel/s")
        is_same = _hash_of(prediction) == expected
        checked.check(f"{count} processes store the same bits", is_same)


def _call(prediction: Prediction, part: int) -> "subprocess.Popen[bytes]":
    said = {
        "plan": prediction.home / "plan.json",
        "model": prediction.weights,
        "model_json": prediction.model_json,
        "record": prediction.home / "parts" / f"{part}.json",
    }
    text = json.dumps({name: str(path) for name, path in said.items()} | {"part": part})
    return subprocess.Popen([sys.executable, "-c", PREDICT, text])


def _kill_one(checked: Checked, prediction: Prediction) -> None:
    """Kill a part once it has stored something."""
    receipts = Path(prediction.record["receipts"])
    with _call(prediction, 0) as process:
        while process.poll() is None and not any(receipts.rglob("*.json")):
            time.sleep(0.02)
        process.kill()
    num_stored = len(list(receipts.rglob("*.json")))
    checked.tell(f"killed with {num_stored} shards stored")


def _predict_beside(prediction: Prediction, parts: int, count: int) -> None:
    waiting, running = list(range(parts)), []
    while waiting or running:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < count:
            running.append(_call(prediction, waiting.pop(0)))
        time.sleep(0.05)


def _hash_of(prediction: Prediction) -> str:
    store = Path(
        read_record(prediction.home / "plan.json")["outputs"]["probability"]["store"]
    )
    digest = hashlib.sha256()
    for path in sorted(store.rglob("c/**/*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
