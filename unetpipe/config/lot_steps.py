"""Which steps the volumes of a lot take, in their order, and what those leave behind.

::

    lot --ingesting--> volume: ingest_volume, compute_weight_map
    network, lot --predicting--> volume: the same, probe_prediction, ..., evaluation
"""

from collections.abc import Iterator

from unetpipe.config.lookups import SCORED_ROLES, Lookups, Values
from unetpipe.config.lots import Lots

Step = tuple[str, dict[str, str]]
"""A rule, and the wildcards of its job."""

# Of each step the records, by their names in the layout.
LEFT_BY = {
    "ingest_part": ("ingest_part",),
    "ingest_volume": ("ingest",),
    "compute_weight_map": ("weight_map",),
    "probe_prediction": ("probe",),
    "plan_prediction": ("plan",),
    "predict_part": ("predicted_part",),
    "finish_prediction": ("prediction", "probability"),
    "segment_part": ("segmented_part",),
    "merge_objects": ("merged",),
    "relabel_part": ("relabelled_part",),
    "finish_segmentation": ("segmentation",),
    "evaluate_prediction": ("metrics", "section_scores"),
    "measure_part": ("measured_part",),
    "measure_objects": ("measurements",),
    "track_objects": ("tracks",),
    "export_ctc": ("ctc",),
    "export_ngff04": ("ngff04",),
    "export_outlines": ("outlines",),
    "export_precomputed": ("precomputed",),
}


def name_of_step(step: Step) -> str:
    """Return a rule, and the part if it has several, as journals name it."""
    rule, names = step
    return f"{rule} {names['part']}" if "part" in names else rule


class LotSteps:
    """The steps of the volumes that share a job.

    Parameters
    ----------
    lookups : Lookups
    lots : Lots
    """

    def __init__(self, lookups: Lookups, lots: Lots) -> None:
        self._ask, self._layout, self._config = lookups, lookups.layout, lookups.config
        self._lots = lots
        self._scored = set(lookups.predicted_pairs(*SCORED_ROLES))
        self._taught = set(lookups.annotated_volumes())

    def ingesting(self, lot: str) -> dict[str, list[Step]]:
        """Return the steps of each volume of a lot before any network."""
        volumes = self._lots.volumes[lot]
        return {volume: [*self._stored(volume)] for volume in volumes}

    def predicting(self, model: str, lot: str) -> dict[str, list[Step]]:
        """Return the steps of each volume of a lot by which a network predicts it.

        A volume that could not be stored is tried again first, where no training
        waits for it: the others are then not kept waiting.
        """
        found = {}
        for volume in self._lots.volumes[lot]:
            steps = [*self._predicted(model, volume), *self._exported(model, volume)]
            if not self.is_taught(lot):
                steps = [*self._stored(volume), *steps]
            found[volume] = steps
        return found

    def alone(self) -> list[Step]:
        """Return the steps of all volumes that share no job."""
        lot_of = self._lots.lot_of
        volumes = [v for v in self._ask.sheet.volumes if v not in lot_of]
        steps = [step for volume in volumes for step in self._stored(volume)]
        for model, volume in self._ask.predicted_pairs():
            if volume not in lot_of:
                steps += self._predicted(model, volume)
                steps += self._exported(model, volume)
        return steps

    def is_taught(self, lot: str) -> bool:
        """Tell whether a network learns from the volumes of a lot."""
        return self._lots.volumes[lot][0] in self._taught

    def is_tried_again(self, lot: str) -> bool:
        """Tell whether predictions store those volumes that could not be stored yet."""
        predicted = {volume for _, volume in self._ask.predicted_pairs()}
        return not self.is_taught(lot) and self._lots.volumes[lot][0] in predicted

    def records(self, lot: str, model: str | None = None) -> list[str]:
        """Return the records that a finished lot has left of its volumes."""
        taken = self.predicting(model, lot) if model else self.ingesting(lot)
        return [
            getattr(self._layout, name).format(**names)
            for steps in taken.values()
            for rule, names in steps
            for name in LEFT_BY[rule]
        ]

    def lots_of(self, model: str) -> list[str]:
        """Return the lots that a network predicts."""
        lot_of = self._lots.lot_of
        found = (lot_of.get(v) for m, v in self._ask.predicted_pairs() if m == model)
        return [lot for lot in dict.fromkeys(found) if lot]

    def watched(self) -> list[Values]:
        """Return what the status of a run needs to know of each lot."""
        layout = self._layout
        found = [
            (layout.ingested_lot, "ingest_lot", {"lot": lot}, self.ingesting(lot))
            for lot in self._lots.volumes
        ]
        for model in self._ask.models:
            for lot in self.lots_of(model):
                names, steps = {"model": model, "lot": lot}, self.predicting(model, lot)
                found.append((layout.predicted_lot, "predict_lot", names, steps))
        return [
            {
                "name": names["lot"],
                "model": names.get("model", ""),
                "rule": rule,
                "record": record.format(**names),
                "log": layout.log(rule, *names).format(**names),
                "steps": {v: [*map(name_of_step, of)] for v, of in steps.items()},
            }
            for record, rule, names, steps in found
        ]

    def _stored(self, volume: str) -> Iterator[Step]:
        names = {"volume": volume}
        yield from self._parts("ingest_part", "ingest", names)
        yield "ingest_volume", names
        if volume in self._taught:
            yield "compute_weight_map", names

    def _predicted(self, model: str, volume: str) -> Iterator[Step]:
        names = {"model": model, "volume": volume}
        yield "probe_prediction", names
        yield "plan_prediction", names
        yield from self._parts("predict_part", "prediction", names, least=1)
        yield "finish_prediction", names
        if self._config.segmentation.parts > 1:
            yield from self._parts("segment_part", "segmentation", names)
            yield "merge_objects", names
            yield from self._parts("relabel_part", "segmentation", names)
        yield "finish_segmentation", names
        if (model, volume) in self._scored:
            yield "evaluate_prediction", names
        if self._config.measure.names:
            yield from self._parts("measure_part", "measure", names)
            yield "measure_objects", names

    def _exported(self, model: str, volume: str) -> Iterator[Step]:
        config, names = self._config, {"model": model, "volume": volume}
        if config.track.enabled:
            yield "track_objects", names
        if config.export_ctc:
            yield "export_ctc", names
        if config.export_ngff04:
            yield "export_ngff04", names
        if config.export_outlines:
            yield "export_outlines", names
        if config.export_precomputed.enabled:
            yield "export_precomputed", names

    def _parts(
        self, rule: str, section: str, names: dict[str, str], least: int = 2
    ) -> Iterator[Step]:
        """Yield the parts of a step, if they have jobs of their own."""
        count: int = getattr(self._config, section).parts
        if count >= least:
            for part in range(count):
                yield rule, names | {"part": str(part)}
