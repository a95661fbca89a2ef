"""The U-Net of Ronneberger, Fischer and Brox (2015), as stages of a workflow.

The names of :data:`NOTEBOOK` are for notebooks and programs of users: they stay,
wherever the modules that define them move. What they need is imported when they are
first used.

Examples
--------
>>> import numpy as np
>>> import unetpipe
>>> unetpipe.threshold_mask(np.array([51, 204], np.uint8), 0.5).tolist()
[False, True]
"""

from importlib import import_module
from typing import Any

from unetpipe.runtime.compiled import place_compiled

__version__ = "0.1.0"

NOTEBOOK = {
    "ContingencyTable": "unetpipe.metrics.contingency",
    "at_temperature": "unetpipe.metrics.temperature",
    "compute_border_term": "unetpipe.targets.weight_map",
    "label_components": "unetpipe.segmentation.components",
    "load_trained": "unetpipe.network.notebook",
    "match_instances": "unetpipe.metrics.instances",
    "open_image": "unetpipe.images.notebook",
    "open_volume": "unetpipe.storage.volumes",
    "rand_scores": "unetpipe.metrics.rand",
    "read_record": "unetpipe.runtime.files",
    "separate_touching": "unetpipe.targets.weight_map",
    "threshold_mask": "unetpipe.tiling.quantised",
}
"""Public name -> the module that defines it today."""

__all__ = ["NOTEBOOK", "__version__", *NOTEBOOK]

place_compiled()  # before anybody imports numba


def __getattr__(name: str) -> Any:
    """Return a public name, from the module that defines it."""
    if name not in NOTEBOOK:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(NOTEBOOK[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *NOTEBOOK])
