"""Programs that the tests start in an environment with napari are no tests."""

collect_ignore = ["napari_layers.py", "napari_window.py"]
