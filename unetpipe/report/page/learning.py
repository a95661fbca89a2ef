"""How a network learnt, in sentences of the methods."""

from collections.abc import Iterator
from typing import Any

from unetpipe.metrics.names import plain_metric_name
from unetpipe.records.model import TrainedFrom
from unetpipe.report.page.run import Network
from unetpipe.runtime.text import count_noun

TARGETS = {
    "border": "It told background, cells and, as a third class, the border of cells "
    "near another cell apart.",
    "markers": "It told background, the rim of cells and their core apart.",
    "affinities": "It told of pairs of voxels whether both are of one cell.",
}
OPTIMISERS = {"sgd": "SGD", "adamw": "AdamW"}
RATES = {
    "learning_rate": "learning rate",
    "momentum": "momentum",
    "weight_decay": "weight decay",
}


def describe_learning(network: Network) -> Iterator[str]:
    """Yield what is known of the training, a sentence each.

    Parameters
    ----------
    network : Network
        Of an ensemble the first member is told of. Of a network whose recipe nobody
        knows there is nothing to tell.
    """
    first = network.members[0] if network.members else network
    recipe, training = first.description.recipe, first.training
    if recipe is None:
        return
    sections = {
        role: sum(len(row.sections) for row in recipe.rows(role))
        for role in ("train", "validate")
    }
    told = _optimisation(recipe, training.steps if training else None)
    each = "Each" if network.members else "It"
    yield f"{each} was trained on {count_noun(sections['train'], 'section')}{told}."
    yield from _course(recipe.optimisation or {})
    spec = first.description.spec
    if spec.targets in TARGETS:
        yield TARGETS[spec.targets]
    weights = recipe.weight_map or {}
    if weights.get("enabled") and not spec.has_affinities:
        yield (
            "Background between touching objects was weighted up "
            f"(w0 {weights.get('w0')}, sigma {weights.get('sigma_vox')} voxels)."
        )
    if recipe.augmentation:
        settings = (f"{k} {v}" for k, v in recipe.augmentation.items())
        yield f"Patches were augmented ({', '.join(settings)})."
    if first.description.is_averaged:
        yield _averaging((recipe.optimisation or {}).get("averaging") or {})
    if training and training.metric and sections["validate"]:
        metric = plain_metric_name(training.metric)
        yield (
            f"The weights of step {first.description.step or 0:,} were kept, by "
            f"{metric} on {count_noun(sections['validate'], 'validation section')}."
        )


def _optimisation(recipe: TrainedFrom, steps: int | None) -> str:
    """Return steps, optimiser, rates and batch, as far as they are known."""
    known = recipe.optimisation or {}
    steps = steps or known.get("steps")
    rates = [
        f"a {name} of {known[key]:g}" for key, name in RATES.items() if known.get(key)
    ]
    batch = [f"batches of {known['batch_size']}"] if "batch_size" in known else []
    name = known.get("optimizer")
    parts = [
        f" for {steps:,} steps" if steps else "",
        f" of {OPTIMISERS.get(name, name)}" if name else "",
        f" with {', '.join(rates)}" if rates else "",
        f"{' and' * bool(rates) or ' with'} {batch[0]}" if batch else "",
    ]
    return "".join(parts)


def _course(known: dict[str, Any]) -> Iterator[str]:
    """Yield how the learning rate went, and what became of large gradients."""
    course = {
        "constant": "was constant",
        "cosine": "fell to 0 along half a cosine over all {steps:,} steps",
        "step": "was multiplied by {schedule_factor:g} every {schedule_every:,} steps",
    }.get(known.get("schedule", ""))
    if course:
        warm = ", after it had risen evenly over the first {warmup_steps:,} steps"
        told = course + warm * (known.get("warmup_steps", 0) > 1)
        yield f"The learning rate {told.format(**known)}."
    if known.get("gradient_clip") is not None:
        yield f"Gradients were clipped to a norm of {known['gradient_clip']:g}."


def _averaging(known: dict[str, Any]) -> str:
    """Return of which steps the weights are a mean, as far as that is known."""
    kind, every = known.get("averaging"), known.get("averaging_every", 1)
    when = "a step" if every == 1 else f"every {every:,} steps"
    after = known.get("averaging_start", 0)
    begun = f" after step {after:,}" if after else ""
    if kind == "ema":
        decay = f"with a decay of {known['averaging_decay']:g} {when}"
        return (
            f"The weights are an exponential mean {decay} of the trained ones{begun}."
        )
    if kind == "swa":
        when = "of each step" if every == 1 else when
        return f"The weights are the mean of the trained ones {when}{begun}."
    return "The weights are the mean of those of many steps."
