"""Open stores in a fresh napari and take its picture: ``STORE ... PICTURE``."""

import sys
import time

import napari
from qtpy.QtWidgets import QApplication


def main(*stores: str, picture: str) -> None:
    """Open the stores with napari-ome-zarr, show all of them, save the window."""
    viewer = napari.Viewer(show=True)
    for store in stores:
        viewer.open(store, plugin="napari-ome-zarr")
    for layer in viewer.layers:
        layer.visible = True  # labels are not shown at first
        layer.opacity = 0.5 if layer is not viewer.layers[0] else 1.0
    viewer.reset_view()
    ends = time.monotonic() + 3
    while time.monotonic() < ends:  # levels are loaded meanwhile
        QApplication.processEvents()
        time.sleep(0.05)
    viewer.screenshot(picture, canvas_only=False)
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:-1], picture=sys.argv[-1])
