"""The jobs of a whole run, by what each leaves behind."""

from collections import Counter
from pathlib import Path

from tests.config.test_lots import NAMES, run_of
from unetpipe.config.described import Described
from unetpipe.config.lookups import Lookups
from unetpipe.config.lot_steps import LotSteps
from unetpipe.config.lots import find_lots
from unetpipe.config.run_jobs import records_of_jobs


def jobs_of(found: Lookups) -> dict[str, bool]:
    return records_of_jobs(Described(found), LotSteps(found, find_lots(found)))


def test_each_thing_that_is_asked_for_is_a_job_of_each_prediction(
    tmp_path: Path,
) -> None:
    plain = jobs_of(run_of(tmp_path, NAMES[:2]))
    of_volumes = [path for path in plain if path.startswith("results/demo/unet/well")]
    assert Counter(Path(path).name for path in of_volumes) == {
        **dict.fromkeys(("probe.json", "plan.json", "0.json", "1.json"), 2),
        **dict.fromkeys(("prediction.json", "segmentation.json"), 2),
    }
    wanted = {
        "measure": {"properties": "all", "parts": 2},
        "track": {"enabled": True},
        "export_ctc": True,
        "export_outlines": ["geojson"],
        "export_precomputed": {"enabled": True},
        "prediction": {"keep_probability": False},
        "export_model": {"enabled": True, "authors": ["A"], "licence": "CC0-1.0"},
    }
    more = set(jobs_of(run_of(tmp_path, NAMES[:2], **wanted))) - set(plain)
    of_each = ["measure/0.json", "measure/1.json", "measurements.json", "tracks.json"]
    of_each += ["ctc.json", "outlines.json", "precomputed.json", "dropped.json"]
    volumes = ["taught", *NAMES[:2]]
    assert more == {
        *(f"results/demo/unet/{v}/{name}" for v in volumes for name in of_each),
        *("results/demo/unet/export.json", "results/demo/measurements.csv"),
    }


def test_a_lot_is_one_job_whatever_is_asked_of_its_volumes(tmp_path: Path) -> None:
    plain = jobs_of(run_of(tmp_path, NAMES[:40]))
    asked = jobs_of(run_of(tmp_path, NAMES[:40], measure={"properties": "all"}))
    assert set(asked) - set(plain) == {"results/demo/measurements.csv"}
    assert not [path for path in plain if path.endswith("segmentation.json")]
    predicting = [path for path, predicts in plain.items() if predicts]
    assert {Path(path).parent.name for path in predicting} == {"unet"}
    assert len(predicting) == len(find_lots(run_of(tmp_path, NAMES[:40])).volumes)
