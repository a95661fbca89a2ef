"""Rule view: show a run in viewers, until somebody ends it."""

import logging
import signal
import threading
from pathlib import Path

from unetpipe.errors import ConfigError, DataError
from unetpipe.report.page.templates import render
from unetpipe.report.store_server import StoreServer
from unetpipe.report.viewed import View, list_views
from unetpipe.runtime.signals import told_to_stop

log = logging.getLogger(__name__)


def view(
    *, ingests: list[Path], predictions: list[dict[str, str]], port: int, run: str
) -> None:
    """Serve images, probabilities and objects on this computer, and print addresses.

    Parameters
    ----------
    ingests : list of Path
        ``ingest.json`` of the volumes.
    predictions : list of dict
        ``model``, ``volume``, and the paths ``prediction``, ``segmentation`` and
        ``precomputed``.
    port : int
        0: any that is free.
    run : str
        Its name.

    Raises
    ------
    DataError
        If nothing is stored yet.
    ConfigError
        If the port is taken.
    """
    views = list(list_views(ingests, predictions))
    if not views:
        raise DataError(
            f"no volume of the run {run} is stored yet: there is nothing to see; run "
            "the workflow first"
        )
    stores = {name: folder for one in views for name, folder in one.stores.items()}
    try:
        server = StoreServer(stores, port)
    except OSError as error:
        raise ConfigError(
            f"view.port {port} cannot be used ({error.strerror}); choose another one, "
            "or 0 for any that is free"
        ) from None
    ends = (signal.SIGINT, signal.SIGTERM)
    with server, told_to_stop(*ends) as stop:
        server.page = render("view.html", _page(run, views, server.address))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _tell(views, server.address)
        stop.wait()
        server.shutdown()
    log.info("the viewers' server has ended")


def _page(run: str, views: list[View], address: str) -> dict[str, object]:
    """Return what the page with all volumes shows."""
    return {
        "run": run,
        "warnings": (),
        "views": [
            {
                "title": one.title,
                "layers": [layer.name for layer in one.layers],
                "neuroglancer": one.neuroglancer(address),
                "napari": one.napari_command(),
            }
            for one in views
        ],
    }


def _tell(views: list[View], address: str) -> None:
    first, num_more = views[0], len(views) - 1
    lines = [
        f"{first.title}, in a browser with neuroglancer (the page comes from the "
        "internet, the voxels stay on this computer):",
        f"  {first.neuroglancer(address)}",
        "in napari:",
        f"  {first.napari_command()}",
    ]
    if num_more:
        lines.append(f"{num_more} more, and these commands, are listed at")
    else:
        lines.append("the same is listed at")
    lines += [f"  {address}", "Control-C ends it"]
    print("\n".join(lines), flush=True)
