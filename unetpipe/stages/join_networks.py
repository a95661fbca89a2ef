"""Rule join_networks: several networks of one architecture as one. No torch."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median_low, mode
from typing import Any

from safetensors.numpy import load_file
from safetensors.numpy import save as save_safetensors

from unetpipe.errors import ConfigError
from unetpipe.network.weights import check_weights
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import LearntRow, Member, Model, TrainedFrom
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.storage.keeping import keep_network
from unetpipe.targets.likeness import join_learnt
from unetpipe.tiling.scale import common_voxel_size

log = logging.getLogger(__name__)

# What an ensemble has of its first member.
TOLD = {"num_classes", "normalisation", "percentiles"}


def join_networks(
    *,
    names: list[str],
    models: list[Path],
    model_jsons: list[Path],
    model: Path,
    model_json: Path,
) -> None:
    """Write the weights of all members into one file, and what they are together.

    A threshold is the median of the members' own: each was chosen on validation rows
    that its network did not train on, and no row is held out from all of them. Of an
    even number it is the lower one in the middle: scores are computed at thresholds
    that a member may choose, not half-way between two of them.

    Parameters
    ----------
    names : list of str
        Of the members, in the order in which their probabilities are summed.
    models, model_jsons : list of Path
        Their weights and descriptions, in the same order.
    model, model_json : Path
        The files to write.

    Raises
    ------
    ConfigError
        If the members are of different architectures.
    IntegrityError
        If a weights file is not the one that its description was written for.
    """
    began = time.monotonic()
    described = [Model.read(path) for path in model_jsons]
    _check_alike(dict(zip(names, described, strict=True)))
    weights: dict[str, Any] = {}
    for number, (path, member) in enumerate(zip(models, described, strict=True)):
        check_weights(path, member, "delete it and repeat the same command")
        weights |= {f"members.{number}.{k}": v for k, v in load_file(path).items()}
    write_bytes_atomic(model, save_safetensors(weights))
    first = described[0]
    known = {name: getattr(first, name) for name in TOLD & first.model_fields_set}
    learnt = _learnt(described)
    if learnt is not None:
        known["recipe"] = learnt
    Model(
        **known,
        spec=first.spec,
        num_members=len(names),
        members=tuple(
            Member(name=name, weights_sha256=member.weights_sha256)
            for name, member in zip(names, described, strict=True)
        ),
        weights_sha256=hash_file(model),
        thresholds=_median_thresholds(described),
        thresholds_are="medians over the members",
        learnt_sections=join_learnt([one.learnt_sections for one in described]),
        voxel_size_nm=common_voxel_size(member.voxel_size_nm for member in described),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(model_json)
    keep_network(model.parent)
    log.info("%s holds %s", model, ", ".join(names))


def _check_alike(described: dict[str, Model]) -> None:
    """Refuse members whose halos, classes or channels may differ."""
    for name, description in described.items():
        if description.is_ensemble:
            raise ConfigError(
                f"{name} is an ensemble itself; an ensemble takes single networks: "
                "name its members instead"
            )
    (first, reference), *others = described.items()
    for name, description in others:
        mine, theirs = asdict(description.spec), asdict(reference.spec)
        differing = sorted(key for key in mine if mine[key] != theirs[key])
        if differing:
            raise ConfigError(
                f"{name} has another architecture than {first}: {differing[0]} is "
                f"{mine[differing[0]]}, not {theirs[differing[0]]}; an "
                "ensemble takes networks of one architecture: train them anew with "
                "the same configuration, or set ensemble: false"
            )


def _learnt(described: list[Model]) -> TrainedFrom | None:
    """Return what members learnt from and were chosen by, if it is known of all."""
    if any(one.recipe is None for one in described):
        return None
    train_rows: dict[str, LearntRow] = {}
    validate_rows: dict[str, LearntRow] = {}
    for one in described:
        train_rows |= {repr(row): row for row in one.learnt("train")}
        validate_rows |= {repr(row): row for row in one.learnt("validate")}
    return TrainedFrom(
        train_rows=tuple(train_rows.values()),
        validate_rows=tuple(validate_rows.values()),
    )


def _median_thresholds(described: list[Model]) -> dict[str, float]:
    """Return the medians, each a member's own, of thresholds that all members have.

    Distances of seeds are those of members with the kind of seeds that most have.
    """
    chosen = [one.thresholds for one in described]
    shared = set.intersection(*(set(one) for one in chosen))
    alike = chosen
    if "seeds" in shared:
        kind = mode(one["seeds"] for one in chosen)
        alike = [one for one in chosen if one["seeds"] == kind]
    return {
        name: median_low(
            one[name] for one in (alike if name.startswith("seed") else chosen)
        )
        for name in sorted(shared)
    }
