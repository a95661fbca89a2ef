"""What the workflow asks about a run: rows, networks, files and settings, by name.

Names of volumes and networks go in; plain values come out, as a rule's parameters hold
them: what decides its output, and no more.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unetpipe.config.checked_run import CheckedRun
from unetpipe.config.layout import Layout
from unetpipe.config.networks import Joined, Network
from unetpipe.config.sheet import OF_ROW, Row
from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images.files import find_image_files, is_remote, natural_key
from unetpipe.records.model import Model
from unetpipe.records.prediction import PlannedMemory
from unetpipe.records.training import Training
from unetpipe.runtime.machine import job_threads

Values = dict[str, Any]
Pair = tuple[str, str]  # network and volume

PREDICTED_ROLES = ("validate", "test", "predict")
SCORED_ROLES = ("validate", "test")
UNPLANNED_BYTES = 4 * 2**30
# A job on a cluster holds two Snakemakes besides its own process.
SNAKEMAKE_MB = 300


class Lookups:
    """Answers from configuration, sheet and networks of a checked run.

    Attributes
    ----------
    models : dict
        Networks and ensembles, by name.
    adopted : dict
        Folders of the networks that are not trained here, by name.
    """

    def __init__(self, run: CheckedRun, layout: Layout) -> None:
        self.run, self.layout = run, layout
        self.config, self.sheet = run.config, run.sheet
        self.networks, self.ensembles = run.networks, run.ensembles
        self._pairs = dict[tuple[str, ...], list[Pair]]()
        self.models: dict[str, Network | Joined] = {**run.networks, **run.ensembles}
        self.adopted = {
            name: str(Path(network.folder).expanduser())
            for name, network in run.networks.items()
            if network.folder
        }

    # Settings

    def section(self, name: str, without: Iterable[str] = ()) -> Values:
        """Return one section of the configuration."""
        values: Values = getattr(self.config, name).model_dump(
            mode="json", exclude=set(without)
        )
        return values

    @property
    def source_in_words(self) -> str:
        """The source as messages show it: its own braces name no wildcards."""
        return self.config.source.replace("{", "{{").replace("}", "}}")

    def ingest_settings(self) -> Values:
        """Return how volumes are stored; a default of later versions redoes nothing."""
        kept = self.config.ingest.scale == "keep"
        return self.section("ingest", without=("scale",) if kept else ())

    def scale_records(self, volume: str) -> list[str]:
        """Return the records that tell at which scale the networks learn.

        None where nothing is to be matched, and of those that are learnt from.
        """
        if self.config.ingest.scale != "match":
            return []
        if self.adopted:
            return [self.layout.model.format(model=model) for model in self.adopted]
        taught = {row.volume for row in self.sheet.rows if row.role == "train"}
        if volume in taught:
            return []
        return [self.layout.ingest.format(volume=name) for name in sorted(taught)]

    def section_of_network(self, name: str, model: str) -> Values:
        """Return one section of the configuration of a network."""
        settings = getattr(self.networks[model].config, name)
        values: Values = settings.model_dump(mode="json")
        return values

    def precision_of_thresholds(self) -> str:
        """Return in what precision thresholds are chosen: int8 is not there yet."""
        precision: str = self.config.prediction.precision
        return "fp32" if precision == "int8" else precision

    def choosing(self, model: str) -> Values:
        """Return what training must know of segmentation: what chooses thresholds."""
        keys = {"choose_by", "connectivity", "smallest_object_vox", "method"}
        keys |= {"seeds", "seed_distance_vox", "seed_reach_vox"}
        keys |= {"seed_threshold", "core_threshold", "flood_threshold"}
        segmentation = self.networks[model].config.segmentation
        return segmentation.model_dump(mode="json", include=keys)

    def stored_weight_map(self) -> Values:
        """Return how border terms are stored: with borders if a network wants them."""
        configs = [network.config for network in self.networks.values()]
        wanted = any(
            c.weight_map.enabled and c.network.has_border_term for c in configs
        )
        return self.section("weight_map") | {"enabled": wanted}

    def stores_to_learn(self, volume: str) -> dict[str, str]:
        """Return the stores of what there is to learn of a volume, by name.

        Targets with cores are among them where a network learns them.
        """
        wanted = {one.config.network.targets for one in self.networks.values()}
        return {
            "border_term": self.layout.border_store.format(volume=volume),
            "target": self.layout.target_store.format(volume=volume),
            **{
                targets: self.layout.learnt_store.format(volume=volume, targets=targets)
                for targets in sorted(wanted & {"border", "markers"})
            },
        }

    def threads(self, name: str) -> int:
        """Return the processors that a job of a section asks for."""
        section = getattr(self.config, name)
        device = getattr(section, "used_device", section.device)
        return job_threads(section.threads, device)

    # Rows of the sheet

    def rows_of_network(self, model: str, *roles: str) -> tuple[Row, ...]:
        """Return the rows of the sheet that a network uses in these roles.

        An ensemble uses those without a fold: each other section may have taught a
        member. A network that is not trained here has no use for rows to train on.
        """
        if self.adopted:
            roles = tuple(role for role in roles if role != "train")
        if model in self.ensembles:
            return self.sheet.of_fold("", *_of_ensemble(roles))
        return self.sheet.of_fold(self.networks[model].fold, *roles)

    def rows_of_volume(self, volume: str) -> list[Values]:
        """Return a volume's rows of the sheet."""
        rows = self.sheet.of_volume(volume)
        return [
            row.model_dump(mode="json", exclude={"optional", "conditions"})
            for row in rows
        ]

    def cells_of_volume(self, volume: str) -> Values:
        """Return what the sheet says of a volume's files: what decides its stores."""
        unstored = {*OF_ROW, "optional", "conditions"}
        row = self.sheet.of_volume(volume)[0]
        # A column that says nothing is no reason to do it again.
        later = ("level", "labels_at", "field_of_view")
        unstored |= {name for name in later if not getattr(row, name)}
        return row.model_dump(mode="json", exclude=unstored)

    def local_originals(self, volume: str) -> dict[str, list[int]]:
        """Return size and date of a volume's files where the source is a local folder.

        As parameters, not as inputs: dates of two machines are then never compared,
        only whether a file is still the one that was read.

        Raises
        ------
        DataError
            If a folder that the sheet names cannot be read as a sequence.
        """
        root = Path(self.config.source).expanduser()
        if not root.is_dir():
            return {}
        row = self.sheet.of_volume(volume)[0]
        cells = [c for k in row.file_cells.values() for c in k if not is_remote(c)]
        try:
            paths = [path for cell in cells for path in find_image_files(cell, root)]
        except UnetpipeError as error:
            raise DataError(f"volume {row.volume}: {error}") from None
        return {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in paths}

    def originals_of(self, volumes: Iterable[str]) -> dict[str, dict[str, list[int]]]:
        """Return the same of several volumes; nothing if none is there."""
        found = {volume: self.local_originals(volume) for volume in volumes}
        return found if any(found.values()) else {}

    def pixel_sha256(self, volume: str) -> dict[Any, str]:
        """Return the checksums that a volume's voxels must have."""
        return dict(self.config.pixel_sha256.get(volume, {}))

    def located_rows(self, model: str, *roles: str) -> list[Values]:
        """Return where the sections lie that a network has in these roles.

        One a volume and role, in the order of their names: a sheet that is sorted
        anew, or has two rows in place of one, asks for nothing else.
        """
        found = _joined_rows(self.rows_of_network(model, *roles))
        return [
            {
                "ingest": self.layout.ingest.format(volume=volume),
                "weight_map": self.layout.weight_map.format(volume=volume),
                "sections": sections,
                "role": role,
            }
            for (volume, role), sections in found.items()
        ]

    def rows_to_train(self, model: str) -> list[Values]:
        """Return where a network's training and validation sections lie."""
        if model in self.adopted:
            return []
        return self.located_rows(model, "train", "validate")

    def example_row(self, model: str) -> Values:
        """Return the first row that a network learns from, or else that it predicts."""
        met = self.located_rows(model, *PREDICTED_ROLES)
        return [*self.rows_to_train(model), *met][0]

    def example_section(self, model: str) -> int:
        """Return a section that a network knows."""
        section: int = (self.example_row(model)["sections"] or [0])[0]
        return section

    def training_records(self, name: str, model: str) -> list[str]:
        """Return a record of each volume that a network learns from."""
        return sorted({row[name] for row in self.rows_to_train(model)})

    def parent_weights(self, model: str) -> str:
        """Return the hash of the weights that a training goes on from, if any.

        As a parameter, not as an input: which weights they are counts, not their date.
        Of a parent that is no longer there the record of the training knows it.
        """
        parent = self.networks[model].config.training.start_from
        if parent is None:
            return ""
        described = Path(parent).expanduser() / "model.json"
        if described.exists():
            return Model.read(described).weights_sha256
        done = Training.read_if_there(Path(self.layout.training.format(model=model)))
        return done.parent.weights_sha256 if done and done.parent else ""

    def scored_rows(self, model: str, volume: str) -> list[Values]:
        """Return the sections of a volume on which a network is scored."""
        roles, fold = _of_ensemble(SCORED_ROLES), ""
        if model in self.networks:
            roles, fold = SCORED_ROLES, self.networks[model].fold
        rows = self.sheet.of_volume(volume)
        found = _joined_rows(
            row for row in rows if row.fold in ("", fold) and row.role in roles
        )
        return [{"role": role, "sections": of} for (_, role), of in found.items()]

    def annotated_volumes(self) -> list[str]:
        """Return the volumes that some network learns from."""
        if self.adopted:
            return []
        rows = [r for r in self.sheet.rows if r.role in ("train", "validate")]
        return list(dict.fromkeys(row.volume for row in rows))

    # Predictions

    def trained_pairs(self, *roles: str) -> list[Pair]:
        """Return the predictions by networks that are no ensembles."""
        return [
            (model, volume)
            for model, network in self.networks.items()
            for volume in self.sheet.volumes_of(network.fold, *roles)
        ]

    def predicted_pairs(self, *roles: str) -> list[Pair]:
        """Return all predictions in these roles; in all roles, where none is named."""
        roles = roles or PREDICTED_ROLES
        if roles not in self._pairs:
            self._pairs[roles] = self.trained_pairs(*roles) + [
                (model, volume)
                for model in self.ensembles
                for volume in self.sheet.volumes_of("", *_of_ensemble(roles))
            ]
        return [*self._pairs[roles]]

    def predicted(self, pattern: str, *roles: str) -> list[str]:
        """Fill a path pattern with every network and volume in these roles."""
        return _fill(pattern, self.predicted_pairs(*roles))

    def members(self, pattern: str, model: str) -> list[str]:
        """Return a file of each member of an ensemble."""
        return [pattern.format(model=m) for m in self.ensembles[model].members]

    def member_names(self, model: str) -> list[str]:
        """Return the names of an ensemble's members."""
        return list(self.ensembles[model].members)

    def adopted_file(self, name: str, model: str) -> str:
        """Return a file of a network that is not trained here."""
        return f"{self.adopted[model]}/{name}"

    def calibrated(self, pattern: str, model: str) -> list[str]:
        """Return a file of the calibration of a network, or of an ensemble's members.

        None where prediction is not in int8. A network that is not trained here brings
        its own.
        """
        if self.config.prediction.precision != "int8":
            return []
        if model in self.adopted:
            return [self.adopted_file(Path(pattern).name, model)]
        if model in self.ensembles:
            return self.members(pattern, model)
        return [pattern.format(model=model)]

    def planned_memory_mb(self, model: str, volume: str) -> int:
        """Return the projected memory of a part; unplanned, an assumption."""
        plan = Path(self.layout.plan.format(model=model, volume=volume))
        planned = UNPLANNED_BYTES
        if plan.exists():
            planned = PlannedMemory.read(plan).projected.peak_rss_bytes
        return planned // 2**20 + SNAKEMAKE_MB

    # Steps that are left out, or have several parts

    def parts(self, pattern: str, section: str) -> list[str]:
        """Return the records of all parts of a step; the other wildcards stay."""
        count: int = getattr(self.config, section).parts
        return [pattern.replace("{part}", str(part)) for part in range(count)]

    def ingested_parts(self) -> list[str]:
        """Return the records of an image's parts, if they have jobs of their own."""
        if self.config.ingest.parts == 1:
            return []
        return self.parts(self.layout.ingest_part, "ingest")

    def steps_of_segmentation(self) -> list[str]:
        """Return the records of all steps that have jobs of their own."""
        if self.config.segmentation.parts == 1:
            return []
        return [
            *self.parts(self.layout.segmented_part, "segmentation"),
            self.layout.merged,
            *self.parts(self.layout.relabelled_part, "segmentation"),
        ]

    def measured_parts(self) -> list[str]:
        """Return the records of the parts of a volume's measurements, if any."""
        if self.config.measure.parts == 1:
            return []
        return self.parts(self.layout.measured_part, "measure")

    def measurements(self) -> list[str]:
        """Return the records of all measured volumes, if objects are measured."""
        if not self.config.measure.names:
            return []
        return self.predicted(self.layout.measurements)

    def ingests(self) -> list[str]:
        """Return the records of all volumes."""
        return [self.layout.ingest.format(volume=v) for v in self.sheet.volumes]

    def measured_tables(self) -> list[str]:
        """Return the tables of the whole run, if objects are measured."""
        if not self.config.measure.names:
            return []
        return [self.layout.all_measured]

    def annotated_tables(self) -> list[str]:
        """Return the file of AnnData, if it is wanted."""
        return [self.layout.annotated_measured] * self.config.measure.anndata

    def measured_volumes(self) -> list[Values]:
        """Return what stands before each row of a volume in the table of the run."""
        return [
            {
                "record": self.layout.measurements.format(model=model, volume=volume),
                "about": {"model": model} | self.sheet.of_volume(volume)[0].about(),
            }
            for model, volume in self.predicted_pairs()
        ]

    def tracks_of(self, model: str, volume: str) -> list[str]:
        """Return the record of a volume's tracks, if sections are frames."""
        is_wanted = self.config.track.enabled
        return _fill(self.layout.tracks, [(model, volume)] * is_wanted)

    def exported_models(self) -> list[str]:
        """Return the records of all exported networks, if any are wanted."""
        if not self.config.export_model.enabled:
            return []
        return [self.layout.export.format(model=model) for model in self.networks]

    def export_records(self) -> list[str]:
        """Return the records of all copies of results in other formats."""
        return [path for pattern in self.exported() for path in self.predicted(pattern)]

    def exported(self) -> list[str]:
        """Return the patterns of the records of results in other formats."""
        layout, config = self.layout, self.config
        wanted = [layout.ctc] * config.export_ctc
        wanted += [layout.ngff04] * bool(config.export_ngff04)
        wanted += [layout.outlines] * bool(config.export_outlines)
        wanted += [layout.precomputed] * config.export_precomputed.enabled
        return wanted

    def probability_of(self, kind: str, place: str) -> list[str]:
        """Return the record that a probability is there, if it is coarsened."""
        if kind != "prediction":
            return []
        return [f"{self.layout.results}/{place}/{Path(self.layout.probability).name}"]

    def scores_of(self, model: str, volume: str) -> list[str]:
        """Return the scores of a prediction, if it is scored."""
        is_scored = (model, volume) in self.predicted_pairs(*SCORED_ROLES)
        return _fill(self.layout.metrics, [(model, volume)] * is_scored)

    def exports_of(self, model: str, volume: str) -> list[str]:
        """Return the records of what is exported of a prediction's probability."""
        is_wanted = bool(self.config.export_ngff04)
        return _fill(self.layout.ngff04, [(model, volume)] * is_wanted)

    def pages_of(self, model: str) -> list[str]:
        """Return the pages that show a network's probabilities."""
        return [self.layout.page.format(model=model), self.layout.run_page]

    def pages_before_dropping(self) -> list[str]:
        """Return the page that probabilities wait for as for something ancient.

        If the page is made anew, Snakemake overlooks every reason of what is behind
        them, such as a row that was removed. What names the page itself is made anew
        with it.
        """
        kept = self.config.prediction.keep_probability
        return [] if kept else [self.layout.run_page]

    def pyramids_of(self, model: str, volume: str) -> list[str]:
        """Return the records of the pyramids of a prediction and its image, if any."""
        return self._pyramids([volume], [(model, volume)])

    def pyramids(self) -> list[str]:
        """Return the records of all pyramids that have jobs of their own."""
        return self._pyramids(self.sheet.volumes, self.predicted_pairs())

    def _pyramids(self, volumes: Iterable[str], pairs: Iterable[Pair]) -> list[str]:
        if self.config.pyramid.parts == 1:
            return []
        places = [(f"volumes/{volume}", "ingest") for volume in volumes]
        places += [
            (f"{model}/{volume}", kind)
            for model, volume in pairs
            for kind in ("prediction", "segmentation")
        ]
        return [self.layout.pyramid.format(place=p, kind=kind) for p, kind in places]

    def left_over_results(self) -> list[str]:
        """Return where results lie that sheet and configuration ask for no more.

        No job makes any, so a run does not change them; whoever deletes them does.
        """
        results = self.layout.results
        asked = {Path(results, *pair) for pair in self.predicted_pairs()}
        found = {
            path.parent
            for kind in ("prediction", "segmentation")
            for path in Path(results).glob(f"*/*/{kind}-*")
        }
        return sorted(str(path) for path in found - asked)


def _joined_rows(
    rows: Iterable[Row],
) -> dict[tuple[str, str], tuple[int, ...] | None]:
    """Return the sections of each volume and role, whatever the order of the rows."""
    found: dict[tuple[str, str], tuple[int, ...] | None] = {}
    order = ("train", *PREDICTED_ROLES).index
    for row in sorted(rows, key=lambda row: (natural_key(row.volume), order(row.role))):
        known = found.setdefault((row.volume, row.role), row.sections)
        found[row.volume, row.role] = (
            None
            if known is None or row.sections is None
            else tuple(sorted({*known, *row.sections}))
        )
    return found


def _of_ensemble(roles: Iterable[str]) -> tuple[str, ...]:
    """Return the roles of an ensemble: its members chose on validation sections."""
    return tuple(role for role in roles if role != "validate")


def _fill(pattern: str, pairs: Iterable[Pair]) -> list[str]:
    return [pattern.format(model=model, volume=volume) for model, volume in pairs]
