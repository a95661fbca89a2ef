"""Which voxels are foreground, and of which class: thresholds, chosen or given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.choice import LEAST_REACH, MIDDLE, SEED_KINDS
from unetpipe.tiling.quantised import DEFAULT_THRESHOLD, as_probability

DEFAULT_SEED_DISTANCE = 3.0  # voxels; where none was chosen in validation
OF_MUTEX = ("fragment_vox", "merge_threshold")  # told where they matter


def fill_choices(
    settings: Mapping[str, Any],
    thresholds: Mapping[str, float],
    *,
    has_cores: bool = False,
    has_affinities: bool = False,
) -> tuple[dict[str, Any], str]:
    """Return how objects are made, with what was chosen on the validation rows.

    Parameters
    ----------
    settings : mapping
        Of the configuration: ``threshold`` None, and what is "auto", are to be filled
        in.
    thresholds : mapping
        Of the model: ``segmentation``, ``smallest_object_vox``, ``seeds`` (a place in
        ``SEED_KINDS``), ``seed_distance_vox`` or ``core_threshold``,
        ``seed_reach_vox``, ``seed_threshold``, ``merge_threshold``, ``class_1`` ... as
        far as they were chosen.
    has_cores : bool
        Whether the network predicts cores: without a choice they are the seeds.
    has_affinities : bool
        Whether it predicts affinities: then a mutex watershed makes objects.

    Returns
    -------
    dict
        The settings, and ``class_thresholds``: class -> threshold, or None.
    str
        Where the threshold comes from.

    Examples
    --------
    >>> settings = {"threshold": None, "smallest_object_vox": "auto"}
    >>> fill_choices(settings, {"segmentation": 0.4, "smallest_object_vox": 32.0})[0]
    {'threshold': 0.4, 'smallest_object_vox': 32, 'class_thresholds': None}
    """
    chosen, source = settings["threshold"], "configuration"
    if chosen is None and "segmentation" in thresholds:
        chosen, source = float(thresholds["segmentation"]), "validation rows"
    elif chosen is None:
        chosen, source = DEFAULT_THRESHOLD, "default: none was chosen in validation"
    smallest = settings["smallest_object_vox"]
    if smallest == "auto":
        smallest = int(thresholds.get("smallest_object_vox", 0))
    method = settings.get("method", "components")
    if method == "auto" and has_affinities:
        method = "mutex" if not settings.get("largest_hole_vox") else "components"
    elif method == "auto":
        is_chosen = "seeds" in thresholds or "seed_distance_vox" in thresholds
        is_open = has_cores and "segmentation" not in thresholds
        is_cut = (is_chosen or is_open) and not settings.get("largest_hole_vox")
        method = "watershed" if is_cut else "components"
    cut: dict[str, Any] = {}
    if settings.get("seeds") == "auto":
        usual = SEED_KINDS.index("learnt") if has_cores else 0
        cut["seeds"] = SEED_KINDS[int(thresholds.get("seeds", usual))]
    is_learnt = cut.get("seeds", settings.get("seeds")) == "learnt"
    if "core_threshold" in settings and not is_learnt:
        cut["core_threshold"] = None
    elif settings.get("core_threshold") == "auto":
        cut["core_threshold"] = float(thresholds.get("core_threshold", MIDDLE))
    if is_learnt:
        cut["seed_distance_vox"] = None
    elif settings.get("seed_distance_vox") == "auto":
        distance = thresholds.get("seed_distance_vox", DEFAULT_SEED_DISTANCE)
        cut["seed_distance_vox"] = float(distance)
    if settings.get("seed_reach_vox") == "auto":
        cut["seed_reach_vox"] = int(thresholds.get("seed_reach_vox", LEAST_REACH))
    if settings.get("seed_threshold") == "auto":
        cut["seed_threshold"] = thresholds.get("seed_threshold")
    joined = {k: v for k, v in settings.items() if k in OF_MUTEX and method == "mutex"}
    if joined.get("merge_threshold") == "auto":
        chosen_mean = thresholds.get("merge_threshold", DEFAULT_THRESHOLD)
        joined["merge_threshold"] = float(chosen_mean)
    of_classes = {
        int(name.removeprefix("class_")): float(value)
        for name, value in thresholds.items()
        if name.startswith("class_")
    }
    filled = {
        **{key: value for key, value in settings.items() if key not in OF_MUTEX},
        **joined,
        "threshold": chosen,
        **({"method": method} if "method" in settings else {}),
        "smallest_object_vox": smallest,
        **cut,
        "class_thresholds": of_classes or None,
    }
    return filled, source


def choose_classes(
    probability: NDArray[np.uint8], thresholds: Mapping[int, float]
) -> NDArray[np.uint8]:
    """Return the class of each voxel by thresholds of classes.

    A voxel is of the class whose probability exceeds its threshold by most, and of
    class 0 where none does.

    Parameters
    ----------
    probability : uint8 array, shape (k, z, y, x)
        round(255 p) of each class, as stored.
    thresholds : mapping
        Class, from 1 -> threshold in [0, 1]; classes without one are never chosen.
    """
    classes = np.zeros(probability.shape[1:], np.uint8)
    most = np.zeros(classes.shape, np.float32)
    for class_, threshold in sorted(thresholds.items()):
        excess = as_probability(probability[class_]) - np.float32(threshold)
        is_more = excess > most
        classes[is_more], most[is_more] = class_, excess[is_more]
    return classes
