"""Rule join_networks: several networks of one architecture as one. No torch."""

import logging
import time
from pathlib import Path
from statistics import median_low
from typing import Any

from safetensors.numpy import load_file
from safetensors.numpy import save as save_safetensors

from unetpipe.errors import ConfigError, IntegrityError
from unetpipe.runtime.files import (
    circumstances,
    hash_file,
    read_record,
    write_bytes_atomic,
    write_record,
)
from unetpipe.storage.keeping import keep_network

log = logging.getLogger(__name__)


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
    described = [read_record(path) for path in model_jsons]
    _check_alike(dict(zip(names, described, strict=True)))
    weights: dict[str, Any] = {}
    for number, (path, description) in enumerate(zip(models, described, strict=True)):
        found = hash_file(path)
        if found != description["weights_sha256"]:
            raise IntegrityError(
                f"{path} has sha256 {found}, its model.json says "
                f"{description['weights_sha256']}; the file is damaged or replaced: "
                "delete it and repeat the same command"
            )
        weights |= {f"members.{number}.{k}": v for k, v in load_file(path).items()}
    write_bytes_atomic(model, save_safetensors(weights))
    first = described[0]
    write_record(
        model_json,
        {key: first[key] for key in ("num_classes", "normalisation") if key in first}
        | {
            "spec": first["spec"],
            "num_members": len(names),
            "members": [
                {"name": name, "weights_sha256": description["weights_sha256"]}
                for name, description in zip(names, described, strict=True)
            ],
            "weights_sha256": hash_file(model),
            **_learnt(described),
            "thresholds": _median_thresholds(described),
            "thresholds_are": "medians over the members",
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )
    keep_network(model.parent)
    log.info("%s holds %s", model, ", ".join(names))


def _check_alike(described: dict[str, dict[str, Any]]) -> None:
    """Refuse members whose halos, classes or channels may differ."""
    for name, description in described.items():
        if "num_members" in description:
            raise ConfigError(
                f"{name} is an ensemble itself; an ensemble takes single networks: "
                "name its members instead"
            )
    (first, reference), *others = described.items()
    for name, description in others:
        mine, theirs = description["spec"], reference["spec"]
        differing = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
        if differing:
            raise ConfigError(
                f"{name} has another architecture than {first}: {differing[0]} is "
                f"{mine.get(differing[0])}, not {theirs.get(differing[0])}; an "
                "ensemble takes networks of one architecture: train them anew with "
                "the same configuration, or set ensemble: false"
            )


def _learnt(described: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what members learnt from and were chosen by, if it is known of all."""
    if not all("recipe" in one for one in described):
        return {}
    rows: dict[str, list[Any]] = {"train": [], "validate": []}
    for one in described:
        for role, known in rows.items():
            known += [row for row in one["recipe"].get(role, ()) if row not in known]
    return {"recipe": rows}


def _median_thresholds(described: list[dict[str, Any]]) -> dict[str, float]:
    """Return the medians, each a member's own, of thresholds that all members have."""
    chosen: list[dict[str, float]] = [d.get("thresholds", {}) for d in described]
    shared = set.intersection(*(set(one) for one in chosen))
    return {name: median_low(one[name] for one in chosen) for name in sorted(shared)}
