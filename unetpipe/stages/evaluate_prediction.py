"""Rule evaluate_prediction: score a prediction on the annotated sections."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import EvaluationConfig
from unetpipe.records import circumstances, read_record, write_record
from unetpipe.scoring import BinaryScores, ClassCounts, threshold_rows
from unetpipe.segmentation import as_probability, threshold_mask
from unetpipe.volumes import iterate_sections, open_volume
from unetpipe.weight_map import separate_touching

log = logging.getLogger(__name__)

SHOWN_SECTIONS = 3

Section = NDArray[Any]
Predictor = Callable[[int], NDArray[np.float32]]


def evaluate_prediction(
    *,
    prediction: Path,
    segmentation: Path,
    ingest: Path,
    model_json: Path,
    rows: list[dict[str, Any]],
    evaluation: EvaluationConfig,
    record: Path,
) -> None:
    """Score the network, and baselines beside it, by the published definitions.

    Thresholds come from the validation rows (``model.json``); the best threshold on
    the scored sections themselves is shown beside, as the publications do. Sections
    with unlabelled voxels count for class overlap only.

    Parameters
    ----------
    prediction, segmentation, ingest, model_json : Path
        Records.
    rows : list of dict
        ``{"role": "validate" | "test", "sections": list or None}`` of this volume.
    evaluation : EvaluationConfig
        Which scores and baselines.
    record : Path
        Where to write ``metrics.json``.
    """
    began = time.monotonic()
    task = _Task(
        read_record(prediction),
        read_record(segmentation),
        read_record(ingest),
        read_record(model_json),
    )
    roles = {
        role: sorted(
            {z for row in rows if row["role"] == role for z in task.sections(row)}
        )
        for role in ("validate", "test")
    }
    roles = {role: numbers for role, numbers in roles.items() if numbers}
    score = task.score_binary if task.num_classes == 2 else task.score_classes
    tables = score(roles, evaluation)
    ranked = _rank(tables)
    write_record(
        record,
        {
            "volume": task.volume["volume"],
            "role_sections": roles,
            "left_out": sorted(task.left_out),
            "tables": tables,
            "sections_best": ranked[:SHOWN_SECTIONS],
            "sections_worst": ranked[::-1][:SHOWN_SECTIONS],
            "seconds": time.monotonic() - began,
            "circumstances": circumstances(),
        },
    )
    for table in tables:
        for row in table["rows"]:
            log.info(
                "%s %s %s: %s",
                table["role"],
                row["predictor"],
                row["metric"],
                row["chosen"] or row["best"],
            )


class _Task:
    """The open stores of one volume, and what is known of its labels."""

    def __init__(
        self,
        predicted: dict[str, Any],
        segmented: dict[str, Any],
        volume: dict[str, Any],
        model: dict[str, Any],
    ) -> None:
        self.volume, self.segmented = volume, segmented
        self.thresholds: dict[str, float] = model.get("thresholds", {})
        self.num_classes = int(model["num_classes"])
        self.image = open_volume(Path(volume["image"]["store"]))
        self.labels = open_volume(Path(volume["labels"]["store"]))
        outputs = predicted["outputs"]
        self.probability = open_volume(Path(outputs["probability"]["store"]))
        self.classes = open_volume(Path(segmented["store"]))
        self.left_out: set[int] = set()

    def sections(self, row: dict[str, Any]) -> list[int]:
        """Return the section numbers of a row."""
        if row["sections"] is None:
            return list(range(self.volume["shape"][0]))
        return list(row["sections"])

    def truth(self, labels: Section) -> tuple[Section, NDArray[np.bool_]]:
        """Return the class of each voxel of a section, and where it is unknown."""
        unlabelled = self.volume["labels"]["unlabelled"]
        unknown = np.zeros(labels.shape, bool)
        if unlabelled is not None:
            unknown = labels == unlabelled
        known = np.where(unknown, 0, labels)
        if self.volume["labels"]["label_kind"] == "instances":
            return (separate_touching(known) > 0).astype(np.uint8), unknown
        return known.astype(np.uint8), unknown

    def score_binary(
        self, roles: dict[str, list[int]], evaluation: EvaluationConfig
    ) -> list[dict[str, Any]]:
        """Score the network and the baselines at every threshold."""
        bright = self._cells_are_bright(roles.get("validate", []))
        scored: dict[tuple[str, str], BinaryScores] = {}
        counts: dict[str, ClassCounts] = {}
        for role, number, grey, stored, truth, unknown in self._walk(roles):
            mask = threshold_mask(stored, self.segmented["threshold"])
            counts.setdefault(role, ClassCounts(2)).add(
                number, mask.astype(np.uint8), truth, unknown
            )
            if unknown.any():
                self.left_out.add(number)
                continue
            maps = {"unet": as_probability(stored)}
            if evaluation.baselines:
                maps["grey value"] = self._grey(grey, bright=bright)
                maps["constant"] = np.full(grey.shape, 0.5, np.float32)
            for name, probability in maps.items():
                scores = scored.setdefault(
                    (role, name),
                    BinaryScores(with_warping=evaluation.warping_error),
                )
                scores.add(number, probability, truth > 0)
        return list(self._tables(roles, scored, counts))

    def score_classes(
        self, roles: dict[str, list[int]], evaluation: EvaluationConfig
    ) -> list[dict[str, Any]]:
        """Score the most probable class, and the commonest one beside it."""
        tables = []
        for role in roles:
            ours = ClassCounts(self.num_classes)
            constant = ClassCounts(self.num_classes)
            numbers = {role: roles[role]}
            results = iterate_sections(self.classes, roles[role])
            for (_, result), walked in zip(results, self._walk(numbers), strict=True):
                _, number, _, _, truth, unknown = walked
                ours.add(number, result, truth, unknown)
                constant.add(number, np.zeros_like(result), truth, unknown)
            rows = list(ours.rows("unet", None))
            if evaluation.baselines:
                rows += constant.rows("constant", None)
            tables.append({"role": role, "sections": ours.numbers, "rows": rows})
        return tables

    def _tables(
        self,
        roles: dict[str, list[int]],
        scored: dict[tuple[str, str], BinaryScores],
        counts: dict[str, ClassCounts],
    ) -> Iterator[dict[str, Any]]:
        curves = {key: scores.curves() for key, scores in scored.items()}
        for role in roles:
            rows: list[dict[str, Any]] = []
            for (of_role, name), by_metric in curves.items():
                if of_role != role:
                    continue
                chosen = self.thresholds
                if name != "unet":  # a baseline's thresholds, chosen alike
                    chosen = {
                        metric: curve.best().threshold
                        for metric, curve in curves.get(("validate", name), {}).items()
                        if not math.isnan(curve.best().threshold)
                    }
                rows += threshold_rows(name, by_metric, chosen)
            rows += counts[role].rows("unet", self.segmented["threshold"])
            yield {"role": role, "sections": counts[role].numbers, "rows": rows}

    def _walk(
        self, roles: dict[str, list[int]]
    ) -> Iterator[tuple[str, int, Section, Section, Section, NDArray[np.bool_]]]:
        """Yield role, number, grey values, stored probability, truth, unknown."""
        for role, numbers in roles.items():
            images = iterate_sections(self.image, numbers)
            stored = iterate_sections(self.probability, numbers)
            labels = iterate_sections(self.labels, numbers)
            for (z, image), (_, values), (_, ids) in zip(
                images, stored, labels, strict=True
            ):
                yield role, z, image[0], values[0], *self.truth(ids)

    def _grey(self, image: Section, *, bright: bool) -> NDArray[np.float32]:
        """Return grey values as if they were probabilities, two deviations wide."""
        statistics = self.volume["statistics"][0]
        scaled = (image.astype(np.float32) - statistics["mean"]) / statistics["std"]
        value = np.clip(0.5 + (scaled if bright else -scaled) / 4, 0, 1)
        return np.asarray(value, np.float32)

    def _cells_are_bright(self, validate: list[int]) -> bool:
        """Say, from validation sections alone, whether cells are the bright side."""
        difference = 0.0
        for _, _, grey, _, truth, unknown in self._walk({"validate": validate}):
            cells, known = truth[~unknown] > 0, grey[~unknown].astype(np.float64)
            difference += float(known[cells].sum() - known.mean() * cells.sum())
        return difference >= 0


def _rank(tables: list[dict[str, Any]]) -> list[int]:
    """Return the sections of the last role (test, if any), best first."""
    table = tables[-1] if tables else {"rows": [], "sections": []}
    ours = [row for row in table["rows"] if row["predictor"] == "unet"]
    for metric in ("v_rand", "dice_class_1"):
        for row in ours:
            if row["metric"] == metric and row["per_section"]:
                scores = [s if s is not None else -1.0 for s in row["per_section"]]
                numbers = table["sections"]
                if len(numbers) == len(scores):
                    order = np.argsort(scores, kind="stable")[::-1]
                    return [numbers[i] for i in order]
    return list(table["sections"])
