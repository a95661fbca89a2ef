"""Networks that were trained earlier or elsewhere: found, checked, and made settings.

Only descriptions are read here, no weights: it happens before any job starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpipe.config.networks import Network
from unetpipe.errors import ConfigError, DataError, UnetpipeError
from unetpipe.records.model import Model


@dataclass(frozen=True, slots=True)
class Adopted:
    """A network that the configuration names with the key ``trained``.

    Attributes
    ----------
    name : str
        In this run.
    folder : str
        Holds its ``model.safetensors`` and ``model.json``; ``~`` expanded.
    network : dict
        The section ``network`` of a configuration that would train it.
    percentiles : list of float, or None
        What its images have to be normalised by: ``ingest.percentiles``.
    """

    name: str
    folder: str
    network: dict[str, Any]
    percentiles: list[float] | None = None


def read_adopted(trained: Any) -> list[Adopted]:
    """Return the networks that ``trained`` names, in their order.

    Parameters
    ----------
    trained : mapping of str to str
        Folders by name; anything else is left to the configuration to refuse.

    Raises
    ------
    ConfigError
        Listing each folder that holds no network, with folders that do.
    """
    if not isinstance(trained, Mapping):
        return []
    found, problems = [], []
    for name, folder in trained.items():
        if isinstance(folder, str):
            try:
                found.append(_read(str(name), folder))
            except UnetpipeError as error:
                problems.append(f"trained: {error}")
    if len({one.network["num_classes"] for one in found}) > 1:
        counts = ", ".join(
            f"{one.name} has {one.network['num_classes']}" for one in found
        )
        problems.append(
            f"trained: networks of different numbers of classes ({counts}) cannot "
            "share volumes; apply them in runs of their own"
        )
    if len({str(one.percentiles) for one in found}) > 1:
        ranks = ", ".join(f"{one.name} {one.percentiles}" for one in found)
        problems.append(
            f"trained: networks that learnt with other ingest.percentiles ({ranks}) "
            "cannot share volumes; apply them in runs of their own"
        )
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def with_architecture(
    values: Mapping[str, Any], adopted: Sequence[Adopted]
) -> dict[str, Any]:
    """Return a configuration whose section ``network`` is that of adopted networks.

    Their images are normalised as those that they have learnt from.

    Parameters
    ----------
    values : mapping
        The configuration, as read.
    adopted : sequence of Adopted
        Of several the first tells.

    Raises
    ------
    ConfigError
        Listing every key of the section that says something else than a network does.
    """
    section, ingest = values.get("network") or {}, values.get("ingest") or {}
    if not adopted or not isinstance(section, Mapping):
        return dict(values)
    problems = [
        f"network.{key} is {given}, but the network in {one.folder} has "
        f"{key} {one.network[key]}; remove the key: a trained network brings its own"
        for key, given in section.items()
        for one in adopted
        if key in one.network and _differs(given, one.network[key])
    ]
    learnt, name = adopted[0].percentiles, "percentiles"
    if not isinstance(ingest, Mapping):
        ingest = {}
    elif name in ingest and _as_list(ingest[name]) != learnt:
        problems.append(
            f"ingest.percentiles is {ingest[name]}, but the network in "
            f"{adopted[0].folder} has learnt with {learnt}; remove the key: a trained "
            "network brings its own"
        )
    if problems:
        raise ConfigError("\n".join(problems))
    given = {"network": {**section, **adopted[0].network}}
    if learnt:
        given["ingest"] = {**ingest, name: learnt}
    return {**values, **given}


def check_network_apart(adopted: Sequence[Adopted], results: Path) -> None:
    """Refuse to adopt a network into the very folder that it lies in.

    Parameters
    ----------
    adopted : sequence of Adopted
    results : Path
        Folder of the run.

    Raises
    ------
    ConfigError
        With the folders of kept networks, which may be adopted.
    """
    for one in adopted:
        own = results / one.name
        if Path(one.folder).resolve() == own.resolve():
            kept = ", ".join(map(str, sorted(own.glob("weights-*"))))
            raise ConfigError(
                f"trained: {one.folder} is this run's own network, which would be "
                "replaced by itself; change `name`, so that results go elsewhere, or "
                f"name a network that is kept in it ({kept or 'there is none yet'})"
            )


def check_parent_networks(networks: Mapping[str, Network], results: Path) -> None:
    """Refuse to go on from networks that are not there.

    Parameters
    ----------
    networks : mapping
        Those of the run, by name.
    results : Path
        Folder of the run. What is trained already needs its parent no more.

    Raises
    ------
    ConfigError
        Naming each folder that holds no network, with folders that do.
    """
    for name, network in networks.items():
        given = network.config.training.start_from
        if given is None or (results / name / "train.json").exists():
            continue
        try:
            _check_files(given)
        except ConfigError as error:
            raise ConfigError(f"training.start_from: {error}") from None


def _read(name: str, given: str) -> Adopted:
    folder = Path(given).expanduser()
    _check_files(given)
    try:
        description = Model.read(folder / "model.json")
    except DataError as error:
        raise ConfigError(
            f"{folder / 'model.json'} does not describe a network of this package "
            f"({error}); name a folder that train_unet wrote"
        ) from None
    spec = description.spec
    network = {"targets": spec.targets, "affinity_offsets": (), **spec.to_json()}
    del network["in_channels"]  # those of the image
    ranks = description.percentiles
    return Adopted(name, str(folder), network, list(ranks) if ranks else None)


def _check_files(given: str) -> None:
    """Raise ConfigError unless a folder holds a network."""
    folder = Path(given).expanduser()
    for file in ("model.json", "model.safetensors"):
        if not (folder / file).is_file():
            raise ConfigError(f"{given} holds no {file}; {_where(folder)}")


def _where(folder: Path) -> str:
    """Say which folders hold a network, below one that does not."""
    found = [path.parent for path in sorted(folder.glob("*/model.json"))]
    found += [path.parent for path in sorted(folder.glob("*/weights-*/model.json"))]
    if not found:
        return "name the folder of a trained network, like results/old/unet"
    return f"name one of the folders below it: {', '.join(map(str, found))}"


def _as_list(given: Any) -> Any:
    return list(given) if isinstance(given, tuple) else given


def _differs(given: Any, known: Any) -> bool:
    if isinstance(known, list):  # pooling: empty means 2 on every axis
        return bool(given) and [list(step) for step in given] != known
    return bool(given != known)
