"""Rule calibrate_network: the network in int8, and what that costs."""

import logging
import time
from pathlib import Path

import torch

from unetpipe.config import PredictionConfig
from unetpipe.network.openvino_network import OpenVinoUNet
from unetpipe.network.quantisation import quantise, unpack_quantised_network
from unetpipe.network.unet import UNet
from unetpipe.network.weights import load_network
from unetpipe.records.calibration import Calibration
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.runtime.machine import choose_threads
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.targets.rows import open_annotated_rows
from unetpipe.tiling.orientations import choose_orientations
from unetpipe.training.calibration import draw_patches, judge_int8, learnt_patch

log = logging.getLogger(__name__)


def calibrate_network(
    *,
    rows: list[AnnotatedRow],
    model: Path,
    model_json: Path,
    prediction: PredictionConfig,
    quantised: Path,
    record: Path,
) -> None:
    """Quantise a network with scales from its training rows, and score it.

    Parameters
    ----------
    rows : list of AnnotatedRow
        Training and validation rows of the network.
    model, model_json : Path
        Its weights and description.
    prediction : PredictionConfig
        Threads, and the orientations that are averaged.
    quantised : Path
        Where to write the network in int8.
    record : Path
        Where to write ``calibration.json``, last: the hash of it, and the score that
        chose the checkpoint, on the validation rows, in fp32 and in int8.

    Raises
    ------
    ConfigError
        If the extra ``openvino`` is not installed.
    """
    began = time.monotonic()
    described = Model.read(model_json)
    torch.set_num_threads(choose_threads(prediction.threads))
    network = load_network(model, described)
    assert isinstance(network, UNet)  # ensembles have their members' files
    spec, patch = described.spec, learnt_patch(described)
    train_rows, validate_rows = (
        open_annotated_rows(
            rows, role, spec.num_classes, with_border=False, targets=spec.targets
        )
        for role in ("train", "validate")
    )
    patches = draw_patches(train_rows.volumes, spec, patch)
    content = quantise(network, patches)
    judged = judge_int8(
        network,
        OpenVinoUNet(spec, unpack_quantised_network(content), "int8"),
        described,
        validate_rows.volumes,
        choose_orientations(prediction.average),
    )
    write_bytes_atomic(quantised, content)
    made = Calibration(
        weights_sha256=described.weights_sha256,
        quantised_sha256=hash_file(quantised),
        patch=patch,
        num_patches=len(patches),
        rows=tuple(train_rows.identity),
        metric=judged.metric,
        score_fp32=judged.fp32,
        score_int8=judged.int8,
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    )
    made.write(record)
    if made.is_undefined:
        log.warning(
            "%s of the validation rows is undefined in int8, so that planning will "
            "refuse it",
            made.metric,
        )
    elif made.score_loss is None:
        log.warning("no validation row defines a score, so none tells what int8 costs")
    else:
        log.info(
            "%s is %.4f in fp32, %.4f in int8", judged.metric, judged.fp32, judged.int8
        )
