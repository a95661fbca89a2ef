"""The script that opens proposed crops in napari, and saves what was corrected.

It runs in napari's own environment, where this package is not.
"""

from unetpipe.records.proposals import CORRECTED, IMAGE, PREDICTED

SCRIPT = "open_proposals.py"
VIEWER = f'''"""Open the proposed crops: napari {SCRIPT}

Correct the labels, then press Control-S: what you changed is saved as {CORRECTED}.
Control-D says that the labels of the chosen layer are right as they are.
"""

from pathlib import Path

import napari
import numpy as np
import tifffile

FOLDER = Path(__file__).resolve().parent
viewer = napari.current_viewer() or napari.Viewer(title="proposed annotations")
before = {{}}
for folder in sorted(path.parent for path in FOLDER.glob("*/{PREDICTED}")):
    image = tifffile.imread(folder / "{IMAGE}")
    done = folder / "{CORRECTED}"
    labels = tifffile.imread(done if done.exists() else folder / "{PREDICTED}")
    if image.ndim == 3:  # channels
        viewer.add_image(image, channel_axis=0, name=f"{{folder.name}} image")
    else:
        viewer.add_image(image, name=f"{{folder.name}} image")
    viewer.add_labels(labels, name=folder.name, opacity=0.4)
    before[folder.name] = labels.copy()
viewer.grid.stride = len(viewer.layers) // max(1, len(before))  # a crop in each
viewer.grid.enabled = True


def save(name):
    labels = np.asarray(viewer.layers[name].data)
    kind = np.uint16 if labels.max() < 2**16 else np.uint32
    path = FOLDER / name / "{CORRECTED}"
    tifffile.imwrite(path, labels.astype(kind), compression="zlib")
    viewer.status = f"saved {{path}}"


@viewer.bind_key("Control-S", overwrite=True)
def save_changed(viewer):
    for name, labels in before.items():
        if not np.array_equal(labels, viewer.layers[name].data):
            save(name)


@viewer.bind_key("Control-D", overwrite=True)
def accept(viewer):
    chosen = viewer.layers.selection.active
    if chosen is not None and chosen.name in before:
        save(chosen.name)


if __name__ == "__main__":
    napari.run()
'''
