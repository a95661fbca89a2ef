"""What jobs wait for that read records: these, or what the lots of their volumes leave.

Of a volume that shares a job no rule declares a record, so whoever reads it waits for
the lot (`config/lots`).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from unetpipe.config.described import Described
from unetpipe.config.lookups import PREDICTED_ROLES, SCORED_ROLES, Pair
from unetpipe.config.lots import Lots


class Awaited:
    """The files for which the jobs of a run wait.

    Parameters
    ----------
    shown : Described
    lots : Lots
    """

    def __init__(self, shown: Described, lots: Lots) -> None:
        self._shown, self._lookups, self.lots = shown, shown.lookups, lots
        self._layout, self._config = shown.layout, shown.config

    def records(self, pattern: str, of: Iterable[Mapping[str, str]]) -> list[str]:
        """Return what a job waits for that reads a record of each of these.

        Parameters
        ----------
        pattern : str
            Of the record.
        of : iterable of mapping
            Wildcards: of a volume, or of a network and a volume.
        """
        layout, lot_of = self._layout, self.lots.lot_of
        found = dict[str, None]()
        for names in of:
            path, lot = pattern, lot_of.get(names["volume"])
            if lot and "model" in names:
                path = layout.predicted_content
            elif lot:
                path = layout.ingested_content
            found[path.format(**names, lot=lot)] = None
        return [*found]

    def shared_folders(self) -> list[str]:
        """Return the folders of the volumes of lots, and of their predictions."""
        volume, predicted = self._layout.volume, self._layout.prediction_folder
        lot_of, pairs = self.lots.lot_of, self._lookups.predicted_pairs()
        return [volume.format(volume=name) for name in lot_of] + [
            predicted.format(**names)
            for names in _named(pairs)
            if names["volume"] in lot_of
        ]

    # Volumes

    def ingests(self, volumes: Iterable[str] | None = None) -> list[str]:
        """Return what to wait for to have these volumes, or all, stored."""
        names = self._lookups.sheet.volumes if volumes is None else volumes
        return self.records(self._layout.ingest, ({"volume": name} for name in names))

    def training(self, name: str, model: str) -> list[str]:
        """Return what to wait for to have records of what a network learns from."""
        if model in self._lookups.adopted:
            return []
        rows = self._lookups.rows_of_network(model, "train", "validate")
        pattern = getattr(self._layout, name)
        return self.records(pattern, ({"volume": row.volume} for row in rows))

    def first_training(self, name: str) -> list[str]:
        """Return the same of the first network."""
        return self.training(name, next(iter(self._lookups.networks)))

    def example(self, model: str) -> list[str]:
        """Return what to wait for to have the row that a network is shown with."""
        return self.ingests([_volume_of(self._lookups.example_row(model)["ingest"])])

    def reported_volumes(self, model: str) -> list[str]:
        """Return what to wait for to have each volume that a network meets."""
        return self.ingests(map(_volume_of, self._shown.reported_volumes(model)))

    def scales(self, volume: str) -> list[str]:
        """Return what to wait for to know the scale of a volume."""
        records = self._lookups.scale_records(volume)
        if self._lookups.adopted:
            return records
        return self.ingests(map(_volume_of, records))

    def scales_of_lot(self, lot: str) -> list[str]:
        """Return what to wait for to know the scale of the volumes of a lot."""
        return self.scales(self.lots.volumes[lot][0])

    # Predictions

    def predicted(self, pattern: str, *roles: str) -> list[str]:
        """Return what to wait for to have a record of every prediction."""
        return self.records(pattern, _named(self._lookups.predicted_pairs(*roles)))

    def measurements(self) -> list[str]:
        """Return what to wait for to have all volumes measured, if objects are."""
        is_wanted = bool(self._config.measure.names)
        return self.predicted(self._layout.measurements) if is_wanted else []

    def tracks(self) -> list[str]:
        """Return what to wait for to have all tracks, if sections are frames."""
        is_wanted = self._config.track.enabled
        return self.predicted(self._layout.tracks) if is_wanted else []

    def exports(self) -> list[str]:
        """Return what to wait for to have all copies of results in other formats."""
        patterns = self._lookups.exported()
        return list(dict.fromkeys(p for one in patterns for p in self.predicted(one)))

    def probabilities(self) -> list[str]:
        """Return the records that probabilities are there, or were dropped."""
        kept = self._config.prediction.keep_probability
        return self.predicted(
            self._layout.probability if kept else self._layout.dropped
        )

    def comparison(self, pattern: str) -> list[str]:
        """Return what to wait for to have a record of all that are compared."""
        return self.records(pattern, _named(self._shown.compared_pairs()))

    def reported(self, name: str, model: str) -> list[str]:
        """Return what to wait for to have a record of each prediction of a network."""
        is_made = {
            "measurements": bool(self._config.measure.names),
            "tracks": self._config.track.enabled,
        }
        if not is_made.get(name, True):
            return []
        roles = SCORED_ROLES if name == "metrics" else PREDICTED_ROLES
        pairs = self._lookups.predicted_pairs(*roles)
        of = [pair for pair in pairs if pair[0] == model]
        return self.records(getattr(self._layout, name), _named(of))


def _named(pairs: Iterable[Pair]) -> list[dict[str, str]]:
    return [{"model": model, "volume": volume} for model, volume in pairs]


def _volume_of(record: str) -> str:
    return Path(record).parent.name
