"""Where everything of a run lies: each path once, with names in braces.

::

    resources/<name>/                    originals
    results/<name>/volumes/<volume>/     what no network is needed for
    results/<name>/<model>/              a trained network
    results/<name>/<model>/<volume>/     what it made of a volume
    logs/<name>/  benchmarks/<name>/     of each job

Growing stores are named by a hash of what decides their bits; the stages that make them
add it to these folders.
"""

import re
from collections.abc import Callable


class Layout:
    """The paths of a run, relative to the folder that the workflow runs in.

    Parameters
    ----------
    name : str
        Of the run.
    place : callable
        Tells where a path lies; a module has a prefix of its own.

    Examples
    --------
    >>> layout = Layout("demo")
    >>> layout.ingest
    'results/demo/volumes/{volume}/ingest.json'
    >>> layout.metrics.format(model="unet", volume="cells")
    'results/demo/unet/cells/metrics.json'
    """

    def __init__(self, name: str, place: Callable[[str], str] = str) -> None:
        self.results = results = place(f"results/{name}")
        self.manifest = place(f"resources/{name}/manifest.json")
        self.logs = place(f"logs/{name}")
        self.benchmarks = place(f"benchmarks/{name}")
        # The run as a whole.
        self.run_page = f"{results}/report.html"
        self.table = f"{results}/metrics.csv"
        self.catalogue = f"{results}/catalogue.csv"
        self.packed_catalogue = f"{results}/catalogue.parquet"
        self.comparison = f"{results}/comparison.json"
        self.suggestions = f"{results}/suggestions.json"
        self.suggested_settings = f"{results}/suggestions.yaml"
        self.verified = f"{results}/verify.json"
        self.run_plan = f"{results}/plan.json"
        self.run_plan_text = f"{results}/plan.txt"
        self._place_lots(results)
        self.proposals = f"{results}/proposals"
        # A volume.
        self.volume = volume = f"{results}/volumes/{{volume}}"
        self.ingest = f"{volume}/ingest.json"
        self.ingested_parts = f"{volume}/ingest"
        self.ingest_part = f"{self.ingested_parts}/parts/{{part}}.json"
        self.image_store = f"{volume}/image.ome.zarr"
        self.labels_store = f"{self.image_store}/labels/annotated"
        self.weight_map = f"{volume}/weight_map.json"
        self.border_store = f"{volume}/border_term.ome.zarr"
        self.target_store = f"{volume}/target.ome.zarr"
        self.learnt_store = f"{volume}/target_{{targets}}.ome.zarr"
        # A network.
        self.network = network = f"{results}/{{model}}"
        self.weights = f"{network}/model.safetensors"
        self.model = f"{network}/model.json"
        self.history = f"{network}/history.csv"
        self.training = f"{network}/train.json"
        self.training_state = f"{network}/state"
        self.kept_weights = f"{network}/weights-{{identity}}"
        self.quantised = f"{network}/int8.safetensors"
        self.calibration = f"{network}/calibration.json"
        self.package = f"{network}/bioimageio.zip"
        self.export = f"{network}/export.json"
        self.page = f"{network}/report.html"
        # What a network made of a volume.
        self.prediction_folder = predicted = f"{network}/{{volume}}"
        self.probe = f"{predicted}/probe.json"
        self.plan = f"{predicted}/plan.json"
        self.predicted_part = f"{predicted}/parts/{{part}}.json"
        self.prediction = f"{predicted}/prediction.json"
        self.probability = f"{predicted}/probability.json"
        self.dropped = f"{predicted}/dropped.json"
        self.segmented_part = f"{predicted}/segment/{{part}}.json"
        self.merged = f"{predicted}/segment/merge.json"
        self.relabelled_part = f"{predicted}/relabel/{{part}}.json"
        self.segmentation = f"{predicted}/segmentation.json"
        self.metrics = f"{predicted}/metrics.json"
        self.section_scores = f"{predicted}/section_scores.json"
        self.seams = f"{predicted}/seams.svg"
        self.ctc = f"{predicted}/ctc.json"
        self._place_measured(results, predicted)
        self.ngff04 = f"{predicted}/ngff04.json"
        # Coarser levels: place is volumes/<volume> or <model>/<volume>.
        stores = f"{results}/{{place}}"
        self.pyramid_source = f"{stores}/{{kind}}.json"
        self.pyramid_part = f"{stores}/pyramids/{{kind}}/{{part}}.json"
        self.pyramid = f"{stores}/{{kind}}-pyramid.json"

    def _place_lots(self, results: str) -> None:
        """Name the record of a lot of small volumes, and what later jobs wait for."""
        self.lots = f"{results}/lots"
        self.ingested_lot = f"{self.lots}/{{lot}}.json"
        self.ingested_content = f"{self.lots}/{{lot}}.txt"
        self.predicted_lot = f"{self.lots}/{{model}}/{{lot}}.json"
        self.predicted_content = f"{self.lots}/{{model}}/{{lot}}.txt"

    def _place_measured(self, results: str, predicted: str) -> None:
        """Name what is measured and drawn of objects: of the run, of a volume."""
        self.all_measured = f"{results}/measurements.csv"
        self.packed_all_measured = f"{results}/measurements.parquet"
        self.annotated_measured = f"{results}/measurements.h5ad"
        self.measured_part = f"{predicted}/measure/{{part}}.json"
        self.measured_part_table = f"{predicted}/measure/{{part}}.parquet"
        self.measurements = f"{predicted}/measurements.json"
        self.measured = f"{predicted}/measurements.csv"
        self.packed_measured = f"{predicted}/measurements.parquet"
        self.outlines = f"{predicted}/outlines.json"
        self.precomputed = f"{predicted}/precomputed.json"
        self.tracks = f"{predicted}/tracks.json"
        self.packed_tracks = f"{predicted}/tracks.parquet"
        self.tracked_objects = f"{predicted}/tracked_objects.parquet"

    @property
    def folders(self) -> tuple[str, ...]:
        """All that the run has, for who wants to delete it."""
        originals = self.manifest.rpartition("/")[0]
        return self.results, originals, self.logs, self.benchmarks

    def log(self, rule: str, *wildcards: str) -> str:
        """Return where a rule's jobs write their logs."""
        return "/".join([self.logs, rule, *(f"{{{w}}}" for w in wildcards)]) + ".log"

    def benchmark(self, rule: str, *wildcards: str) -> str:
        """Return where the time and memory of a rule's jobs are noted."""
        path = [self.benchmarks, rule, *(f"{{{w}}}" for w in wildcards)]
        return "/".join(path) + ".tsv"


def _names_below(folder: str) -> str:
    """Return a pattern of the names that files and folders have below a folder."""
    paths = [path for path in vars(Layout("")).values() if path.startswith(folder)]
    names = {path.removeprefix(folder).split("/")[0] for path in paths}
    fixed = sorted(name for name in names if name and not name.startswith("{"))
    return "|".join(re.sub(r"\\{\w+\\}", ".*", re.escape(name)) for name in fixed)


# Names that a network, or a volume, cannot have: something else lies there.
TAKEN_IN_RUN = _names_below("results//")
TAKEN_BY_NETWORK = _names_below("results//{model}/")
