"""Variants over folds and seeds, and apart what all networks were tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from unetpipe.evaluation.folds import spread_over_networks, spread_over_seeds
from unetpipe.evaluation.pools import Contribution, pool
from unetpipe.records.comparison import EnsembleScores, Shared, SpreadRow, Variant


class ScoredNetwork(TypedDict):
    """A network on a volume, as the workflow tells it.

    ``shared`` are the sections that all networks were tested on, or "all"; ensembles
    are joined.
    """

    model: str
    volume: str
    variant: str
    fold: str
    seed: int
    shared: list[int] | str
    is_joined: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """A network on a volume: who it is, and what its test sections contribute."""

    model: str
    volume: str
    variant: str
    fold: str
    seed: int
    is_joined: bool
    own: Contribution
    shared: Contribution


def compare_variants(
    scored: Sequence[Scored], variants: Mapping[str, dict[str, Any]]
) -> tuple[list[Variant], list[Shared]]:
    """Return the scores of each variant, and apart those on what all share.

    Parameters
    ----------
    scored : list of Scored
        Each network on each volume.
    variants : dict
        Name -> what it changes; empty where there are none. The first is what the
        others are compared with.

    Raises
    ------
    DataError
        If folds were scored at different thresholds.
    """
    compared: list[Variant] = []
    shared: list[Shared] = []
    for variant in variants or {"": {}}:
        of_variant = [one for one in scored if one.variant == variant]
        trained = [one for one in of_variant if not one.is_joined]
        joined = [one for one in of_variant if one.is_joined]
        compared.append(
            _own_scores(trained, variant, variants.get(variant, {}), _first(compared))
        )
        shared += _shared_scores(trained, joined, variant, _first(shared))
    return compared, shared


def _own_scores(
    trained: Sequence[Scored],
    variant: str,
    changes: dict[str, Any],
    first: Sequence[SpreadRow],
) -> Variant:
    """Return the scores of a variant, each section by the network that never saw it."""
    seeds = {
        seed: pool(one.own for one in trained if one.seed == seed)
        for seed in sorted({one.seed for one in trained})
    }
    return Variant(
        variant=variant,
        changes=changes,
        models=tuple(sorted({one.model for one in trained})),
        folds=tuple(sorted({one.fold for one in trained})),
        rows=tuple(spread_over_seeds(seeds, against=first)),
    )


def _shared_scores(
    trained: Sequence[Scored],
    joined: Sequence[Scored],
    variant: str,
    first: Sequence[SpreadRow],
) -> list[Shared]:
    """Return a variant's scores on what all networks were tested on, if anything."""
    sharing = [one for one in trained if not one.shared.is_empty]
    if not sharing:
        return []
    by_model = {
        model: pool(one.shared for one in sharing if one.model == model)
        for model in sorted({one.model for one in sharing})
    }
    ensemble = None
    if joined:
        rows = tuple(pool(one.shared for one in joined))
        ensemble = EnsembleScores(model=joined[0].model, rows=rows)
    return [
        Shared(
            variant=variant,
            models=tuple(by_model),
            volumes=tuple(sorted({one.volume for one in sharing})),
            rows=tuple(spread_over_networks(by_model, against=first)),
            ensemble=ensemble,
        )
    ]


def _first(tables: Sequence[Variant] | Sequence[Shared]) -> Sequence[SpreadRow]:
    return tables[0].rows if tables else ()
