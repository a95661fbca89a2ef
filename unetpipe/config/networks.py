"""Which networks a run trains, by variant, fold and seed; and which it joins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

from unetpipe.config.loading import with_variant
from unetpipe.config.run import ONLY, Config
from unetpipe.config.training import NetworkConfig
from unetpipe.errors import ConfigError

ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True)
class Network:
    """One network of a run.

    ``variant`` and ``fold`` are empty where the run has none; ``config`` is the run's
    configuration with what the variant changes, and the network's own seed. ``folder``
    is where a network comes from that is not trained here; of several such networks
    each counts as a variant.
    """

    name: str
    variant: str
    fold: str
    seed: int
    config: Config
    folder: str = ""


def list_networks(
    config: Config,
    folds: Sequence[str],
    architectures: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Network]:
    """Return the networks of a run by name, variant by variant.

    A name says what tells a network from the others: ``unet`` if there is only one,
    ``fold-2``, ``no-dropout-fold-2-seed-1``.

    Parameters
    ----------
    config : Config
    folds : list of str
        Names of the sheet's folds; one empty name where there are none.
    architectures : mapping
        The section ``network`` of each network that ``trained`` names.

    Raises
    ------
    ConfigError
        If a variant cannot be, or folds are to be trained with trained networks.
    """
    if config.trained is not None:
        return _list_trained(config, folds, architectures)
    seeds: Sequence[int | None] = config.seeds or (None,)
    networks = {}
    for variant, fold, seed in product(config.variants or ("",), folds, seeds):
        settings = with_variant(config, variant) if variant else config
        if seed is not None:
            training = settings.training.model_copy(update={"seed": seed})
            settings = settings.model_copy(update={"training": training})
        parts = [
            variant,
            fold and f"fold-{fold}",
            "" if seed is None else f"seed-{seed}",
        ]
        name = "-".join(filter(None, parts)) or ONLY
        networks[name] = Network(name, variant, fold, settings.training.seed, settings)
    return networks


def _list_trained(
    config: Config,
    folds: Sequence[str],
    architectures: Mapping[str, Mapping[str, Any]],
) -> dict[str, Network]:
    """Return the networks that are used as they are, by name."""
    if any(folds):
        raise ConfigError(
            f"the sheet has the folds {', '.join(folds)}, for each of which a network "
            "would be trained, but `trained` names networks that are; empty the column "
            "fold, or remove the key"
        )
    folders = config.folders_of_trained
    return {
        name: Network(
            name,
            name if len(folders) > 1 else "",
            "",
            config.training.seed,
            config.model_copy(
                update={"network": NetworkConfig(**architectures.get(name, {}))}
            ),
            folder,
        )
        for name, folder in folders.items()
    }


@dataclass(frozen=True, slots=True)
class Joined:
    """An ensemble: what the networks of one variant predict together.

    ``config`` is that of its first member; the others differ in fold and seed.
    ``variant`` is empty where the run has none.
    """

    name: str
    variant: str
    members: tuple[str, ...]
    config: Config


def list_ensembles(
    config: Config, networks: Mapping[str, Network]
) -> dict[str, Joined]:
    """Return the ensembles of a run by name: ``ensemble``, or ``<variant>-ensemble``.

    Parameters
    ----------
    config : Config
    networks : mapping
        From ``list_networks``.

    Raises
    ------
    ConfigError
        If ensembles are wanted, but there is one network of each variant.
    """
    if not config.ensemble:
        return {}
    joined = {}
    for variant in config.variants or ("",):
        members = tuple(
            name
            for name, one in networks.items()
            if one.variant == variant or one.folder
        )
        if len(members) < 2:
            raise ConfigError(
                f"ensemble is true, but {members[0]} is the only network of its kind; "
                "give the sheet several folds or the configuration several seeds, or "
                "remove the key"
            )
        name = "-".join(filter(None, [variant, ENSEMBLE]))
        if name in networks:
            raise ConfigError(
                f"trained calls a network {name}, as the ensemble is called; call it "
                "otherwise, or remove the key ensemble"
            )
        joined[name] = Joined(name, variant, members, networks[members[0]].config)
    return joined
