"""Open stores in napari without a window; print what layers they become, as JSON."""

import hashlib
import json
import sys
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.plugins import _initialize_plugins


def describe(layer: Any) -> dict[str, Any]:
    """Return what a person would see of a layer."""
    first = np.ascontiguousarray(np.asarray(layer.data[0]))
    about = {
        "kind": type(layer).__name__,
        "name": layer.name,
        "shapes": [list(level.shape) for level in layer.data],
        "scale": list(layer.scale),
        "units": [str(unit) for unit in layer.units],
        "sha256": hashlib.sha256(first.tobytes()).hexdigest(),
    }
    if about["kind"] == "Labels":
        return about | {"colour": np.asarray(layer.get_color(1)).tolist()}
    brightest = np.asarray(layer.colormap.colors)[-1].tolist()
    return about | {"colour": brightest, "limits": list(layer.contrast_limits)}


if __name__ == "__main__":
    _initialize_plugins()
    found = {
        store: [
            describe(layer)
            for layer in ViewerModel().open(store, plugin="napari-ome-zarr")
        ]
        for store in sys.argv[1:]
    }
    print(json.dumps(found))
