"""What pages, tables and the asked-for rules are told of a run.

``plan``, ``status`` and ``verify`` run whenever they are asked, so nothing here decides
whether a job runs again but what the pages show.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unetpipe.config.lookups import SCORED_ROLES, Lookups, Pair, Values
from unetpipe.config.networks import Joined
from unetpipe.config.sheet import Row
from unetpipe.records.proposals import crops_of_labels


class Described:
    """The files and settings of a run as readers of its records need them."""

    def __init__(self, lookups: Lookups) -> None:
        self.lookups = lookups
        self.layout, self.config = lookups.layout, lookups.config

    # Comparisons

    def compared_pairs(self) -> list[Pair]:
        """Return all test scores that are compared, as (network, volume).

        Ensembles of folds are among them: what they are tested on all networks are.
        """
        if any(self.lookups.sheet.folds):
            return self.lookups.predicted_pairs("test")
        return self.lookups.trained_pairs("test")

    def compared(self, pattern: str) -> list[str]:
        """Fill a path pattern with every network and volume that are compared."""
        return [pattern.format(model=m, volume=v) for m, v in self.compared_pairs()]

    def comparison(self) -> list[str]:
        """Return the record that compares networks, if several are scored."""
        models = {model for model, _ in self.lookups.trained_pairs("test")}
        return [self.layout.comparison] if len(models) > 1 else []

    def scored_networks(self) -> list[Values]:
        """Return what tells the networks of all test scores apart, in their order."""
        networks, ensembles = self.lookups.networks, self.lookups.ensembles
        return [
            {
                "model": model,
                "volume": volume,
                "variant": self.lookups.models[model].variant,
                "fold": "" if model in ensembles else networks[model].fold,
                "seed": None if model in ensembles else networks[model].seed,
                "shared": self._shared_sections(volume),
                "is_joined": model in ensembles,
            }
            for model, volume in self.compared_pairs()
        ]

    def _shared_sections(self, volume: str) -> str | list[int]:
        """Return the test sections that the networks of all folds have in common."""
        sheet = self.lookups.sheet
        rows = sheet.of_fold("", "test") if any(sheet.folds) else ()
        sections = [row.sections for row in rows if row.volume == volume]
        if None in sections:
            return "all"
        return sorted({z for numbers in sections for z in numbers or ()})

    def compared_variants(self) -> dict[str, Values]:
        """Return what tells variants apart; each of several adopted networks is one."""
        adopted = self.lookups.adopted
        if len(adopted) > 1:
            return {name: {"trained": folder} for name, folder in adopted.items()}
        return dict(self.config.variants)

    # Pages

    def suggestions_of(self, model: str) -> list[str]:
        """Return the suggestions, if a network learns from annotations."""
        if self.lookups.adopted or model in self.lookups.ensembles:
            return []
        return [self.layout.suggestions]

    def training_files(self, model: str) -> Values:
        """Return the files that the report reads of a network, or of an ensemble."""
        if model not in self.lookups.ensembles:
            return self._files_of_training(model)
        members = self.lookups.member_names(model)
        return {
            "model": model,
            "model_json": self.layout.model.format(model=model),
            "members": [self._files_of_training(member) for member in members],
        }

    def _files_of_training(self, model: str) -> Values:
        """Return the files that tell how a network was trained, and quantised."""
        files = {
            "model": model,
            "record": self.layout.training.format(model=model),
            "model_json": self.layout.model.format(model=model),
            "history": self.layout.history.format(model=model),
        }
        for calibration in self.lookups.calibrated(self.layout.calibration, model):
            files["calibration"] = calibration
        return files

    def training_records(self, model: str) -> list[str]:
        """Return the records of a network, or of an ensemble and its members."""
        files = self.training_files(model)
        if model not in self.lookups.ensembles:
            return [files["record"]]
        return [files["model_json"], *(member["record"] for member in files["members"])]

    def configuration_of(self, model: str) -> Values:
        """Return the whole configuration of a network."""
        values: Values = self.lookups.models[model].config.model_dump(mode="json")
        return values

    def pages(self) -> list[Values]:
        """Return what the page of each network shows, and where it is written."""
        return [
            {
                "config": self.configuration_of(model),
                "manifest": self.layout.manifest,
                "ingests": self.reported_volumes(model),
                "weight_maps": self.lookups.training_records("weight_map", model),
                "training": self.training_files(model),
                "records": self.training_records(model),
                "predictions": self.prediction_files(model),
                "suggestions": self.suggestions_of(model),
                "output": self.layout.page.format(model=model),
            }
            for model in self.lookups.models
        ]

    def prediction_files(self, model: str | None = None) -> list[Values]:
        """Return the files that the reports read of each prediction, or of one's."""
        scored = set(self.lookups.predicted_pairs(*SCORED_ROLES))
        names = ["probe", "plan", "prediction", "segmentation", "metrics"]
        names += ["measurements"] * bool(self.config.measure.names)
        names += ["tracks"] * self.config.track.enabled
        return [
            {"model": of, "volume": volume}
            | {
                name: (
                    getattr(self.layout, name).format(model=of, volume=volume)
                    if name != "metrics" or (of, volume) in scored
                    else None
                )
                for name in names
            }
            for of, volume in self.lookups.predicted_pairs()
            if model in (None, of)
        ]

    def scored_files(self) -> list[Values]:
        """Return the files of the predictions that are scored."""
        return [files for files in self.prediction_files() if files["metrics"]]

    def reported_volumes(self, model: str) -> list[str]:
        """Return the record of each volume that a network meets in any role."""
        roles = ("train", "validate", "test", "predict")
        rows = self.lookups.rows_of_network(model, *roles)
        met = dict.fromkeys(row.volume for row in rows)
        return [self.layout.ingest.format(volume=volume) for volume in met]

    def compared_models(self) -> list[Values]:
        """Return the networks that the first page compares, the reference first."""
        sheet, config = self.lookups.sheet, self.config
        folds = {name: one.fold for name, one in self.lookups.networks.items()}
        met = {
            name: sheet.volumes_of(fold, "validate", "test", "predict")
            for name, fold in folds.items()
        }
        met |= {
            name: sheet.volumes_of("", "test", "predict")
            for name in self.lookups.ensembles
        }
        ours = [
            {
                "name": f"{config.name}/{model}" if config.compare else model,
                "folder": self.layout.network.format(model=model),
                "volumes": volumes,
            }
            for model, volumes in met.items()
        ]
        earlier: list[Values] = [
            {
                "name": "/".join(Path(folder).parts[-2:]),
                "folder": folder,
                "volumes": [
                    volume
                    for volume in sheet.volumes
                    if Path(folder, volume, "segmentation.json").exists()
                ],
            }
            for folder in config.compare
        ]
        return earlier + ours

    def earlier_records(self) -> list[str]:
        """Return the records of earlier runs that the first page reads."""
        return [
            str(path)
            for model in self.compared_models()
            if model["folder"] in self.config.compare
            for path in (
                Path(model["folder"], "train.json"),
                *(
                    Path(model["folder"], volume, "segmentation.json")
                    for volume in model["volumes"]
                ),
            )
        ]

    # What is asked for by name

    def verified_predictions(self) -> list[dict[str, str]]:
        """Return the files of each prediction that is verified."""
        names = {
            "prediction": self.layout.prediction,
            "segmentation": self.layout.segmentation,
            "ingest": self.layout.ingest,
            "model": self.layout.weights,
            "model_json": self.layout.model,
            "ctc": self.layout.ctc,
            "tracks": self.layout.tracks,
            "ngff04": self.layout.ngff04,
        }
        return [
            {
                name: pattern.format(model=model, volume=volume)
                for name, pattern in names.items()
            }
            | {
                f"quantised_{number}": path
                for number, path in enumerate(
                    self.lookups.calibrated(self.layout.quantised, model)
                )
            }
            for model, volume in self.lookups.predicted_pairs()
        ]

    def verified_networks(self) -> list[dict[str, str]]:
        """Return the files of each network that is verified."""
        return [
            {
                "model": self.layout.weights.format(model=model),
                "model_json": self.layout.model.format(model=model),
                "export": self.layout.export.format(model=model),
            }
            for model in self.lookups.models
        ]

    def described_volumes(self) -> list[Values]:
        """Return the rows of each volume, and whether a network learns from it."""
        trained_on = self.lookups.annotated_volumes()
        return [
            {
                "rows": self.lookups.rows_of_volume(volume),
                "is_trained_on": volume in trained_on,
            }
            for volume in self.lookups.sheet.volumes
        ]

    def rule_that_makes(self, model: str) -> str:
        """Return the name of the rule that leaves a network behind."""
        if model in self.lookups.ensembles:
            return "join_networks"
        return "adopt_network" if model in self.lookups.adopted else "train_unet"

    def described_networks(self) -> list[Values]:
        """Return the settings of each network and the volumes that it meets."""
        pairs = self.lookups.predicted_pairs()
        return [
            {
                "model": model,
                "network": network.config.network.model_dump(mode="json"),
                "training": network.config.training.model_dump(mode="json"),
                "volumes": [volume for name, volume in pairs if name == model],
                "members": list(network.members) if isinstance(network, Joined) else [],
                "folder": self.lookups.adopted.get(model),
                "rule": self.rule_that_makes(model),
                "trained_on": sorted(
                    {
                        row.volume
                        for row in self.lookups.rows_of_network(model, "train")
                        if self.rule_that_makes(model) == "train_unet"
                    }
                ),
            }
            for model, network in self.lookups.models.items()
        ]

    def watched_networks(self) -> list[Values]:
        """Return what the status of a run needs to know of each network."""
        return [
            {
                "model": network["model"],
                "steps": network["training"]["steps"],
                "volumes": network["volumes"],
                "rule": network["rule"],
            }
            for network in self.described_networks()
        ]

    def proposed_volumes(self) -> list[Values]:
        """Return the records of each predicted volume, ensembles' before members'."""
        layout, sheet = self.layout, self.lookups.sheet
        pairs = self.lookups.predicted_pairs()
        of_volume: dict[str, list[str]] = {}
        for model, volume in sorted(
            pairs, key=lambda pair: pair[0] not in self.lookups.ensembles
        ):
            of_volume.setdefault(volume, []).append(model)

        def files(pattern: str, volume: str) -> list[str]:
            models = of_volume[volume]
            return [pattern.format(model=one, volume=volume) for one in models]

        return [
            {
                "volume": volume,
                "ingest": layout.ingest.format(volume=volume),
                "models": files(layout.model, volume),
                "predictions": files(layout.prediction, volume),
                "segmentations": files(layout.segmentation, volume),
                "annotated": _annotated(sheet.of_volume(volume)),
            }
            for volume in of_volume
        ]

    def viewed_predictions(self) -> list[Values]:
        """Return where the predictions and objects of all networks are."""
        layout = self.layout
        return [
            {"model": model, "volume": volume}
            | {
                name: pattern.format(model=model, volume=volume)
                for name, pattern in (
                    ("prediction", layout.prediction),
                    ("segmentation", layout.segmentation),
                    ("precomputed", layout.precomputed),
                )
            }
            for model, volume in self.lookups.predicted_pairs()
        ]

    def proposed_from(self, given: Values) -> Values:
        """Return what a training on corrections goes on from.

        Parameters
        ----------
        given : dict
            The configuration as the user wrote it.
        """
        first = next(iter(self.lookups.networks))
        config = dict(given)
        if self.lookups.adopted:
            network = self.lookups.models[first].config.network
            config["network"] = network.model_dump(mode="json", exclude_defaults=True)
        return {
            "sheet": self.config.volumes,
            "config": config,
            "network": self.layout.network.format(model=first),
            "known": [
                *self.lookups.sheet.volumes,
                *sorted(crops_of_labels(row.labels for row in self.lookups.sheet.rows)),
            ],
        }

    def wanted(self) -> list[dict[str, Any]]:
        """Return every prediction that the run asks for."""
        pairs = self.lookups.predicted_pairs()
        return [{"model": model, "volume": volume} for model, volume in pairs]


def _annotated(rows: Iterable[Row]) -> list[int] | None:
    """Return the sections that have a role other than ``predict``; None: all."""
    numbers: set[int] = set()
    for row in rows:
        if row.role == "predict":
            continue
        if row.sections is None:
            return None
        numbers |= set(row.sections)
    return sorted(numbers)
