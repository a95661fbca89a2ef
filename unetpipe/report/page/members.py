"""An ensemble on a page: who its members are, instead of how it was trained."""

from collections.abc import Sequence
from typing import Any

from unetpipe.report.page.text import (
    PLAIN_NAMES,
    count,
    format_score,
    format_sections,
    format_threshold,
    in_words,
)

Record = dict[str, Any]

SEGMENTATION = "segmentation"  # the threshold that cuts objects


def as_training(model: str, description: Record, members: Sequence[Record]) -> Record:
    """Return an ensemble in the place of a training, of which it has none.

    Parameters
    ----------
    model : str
    description : dict
        Its ``model.json``.
    members : list of dict
        Networks in its order: ``model``, ``record`` (``train.json``), ``description``
        (``model.json``) and ``page``, the address of its own page from here.

    Returns
    -------
    dict
        As of a network: its recipe is what all members have learnt from.
    """
    recipes = [member["description"].get("recipe", {}) for member in members]
    learnt = {
        role: [row for recipe in recipes for row in recipe.get(role, ())]
        for role in ("train", "validate")
    }
    return {
        "model": model,
        "record": {"circumstances": description["circumstances"]},
        "description": description | {"recipe": learnt},
        "history": None,
        "members": list(members),
    }


def show_members(members: Sequence[Record]) -> list[Record]:
    """Return one line a member: where its page is, what it is worth by itself."""
    return [_show_member(member) for member in members]


def _show_member(member: Record) -> Record:
    record, description = member["record"], member["description"]
    scores = description.get("validation", {}).items()
    threshold = description.get("thresholds", {}).get(SEGMENTATION)
    return {
        "name": member["model"],
        "page": member["page"],
        "steps": f"{record['steps']:,}" if "steps" in record else "",
        "kept": f"{description['step']:,}" if "step" in description else "",
        "learnt": _sections(description, "train"),
        "validated": _sections(description, "validate"),
        "scores": ", ".join(
            f"{PLAIN_NAMES.get(key, key)} {format_score(score)}"
            for key, score in scores
        ),
        "threshold": format_threshold(threshold),
    }


def _sections(description: Record, role: str) -> str:
    """Return the sections that a network has in a role, volume by volume."""
    found: dict[str, set[int]] = {}
    for row in description.get("recipe", {}).get(role, ()):
        found.setdefault(row["volume"], set()).update(row["sections"])
    texts = [f"{v}: {format_sections(sorted(z))}" for v, z in found.items()]
    return "; ".join(texts[:2]) + (f" and {len(texts) - 2} more" if texts[2:] else "")


def about_members(num_members: int, network: str, learnt: set[tuple[str, int]]) -> str:
    """Return what an ensemble is, in sentences.

    Parameters
    ----------
    num_members : int
    network : str
        What each of them is, as one would say it after "each".
    learnt : set of (volume, section)
        What all of them together have learnt from.
    """
    text = (
        f"An ensemble of {count(num_members, 'network')}, each {network}: the mean of "
        "their probabilities, cut at the median of their thresholds."
    )
    volumes = sorted({volume for volume, _ in learnt})
    if volumes:
        of = volumes[0] if len(volumes) == 1 else f"{len(volumes)} volumes"
        text += f" Together they learnt from {count(len(learnt), 'section')} of {of}."
    return text


def told_of_members(num_members: int, num_parameters: int) -> str:
    """Return what an ensemble is in a few words."""
    each = in_words(num_parameters)
    return f"the mean of {num_members} networks of {each} parameters"
