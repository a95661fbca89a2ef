"""Which pages a run that is not whole has, and what they show and tell."""

from pathlib import Path

import pytest

from unetpipe.records.lots import EndedStep, LotJournal
from unetpipe.stages.report_unfinished import report_unfinished

CAUSE = "2026-01-02 03:04:05 CRITICAL unetpipe: DataError: it is cut off\n"


def write(path: Path, text: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class Run:
    """A run of made-up records, and what its pages were asked to show.

    Parameters
    ----------
    folder : Path
    volumes : str
        A letter each, which all networks predict.
    networks : tuple of str
    """

    def __init__(self, folder: Path, volumes: str, networks: tuple[str, ...]) -> None:
        self.folder, self.volumes, self.networks = folder, [*volumes], networks
        self.lots: list[dict[str, object]] = []
        self.earlier: list[dict[str, object]] = []
        self.outdated: list[str] = []
        self.shown: dict[str, list[str]] = {}
        self.failed: list[tuple[str, str]] = []

    def finish(self, model: str, volumes: str) -> None:
        """Leave the records of a network, and of what it made of some volumes."""
        for path in self.page(model)["records"]:
            write(Path(path))
        for volume in volumes:
            write(self.folder / "volumes" / volume / "ingest.json")
            for name in ("plan", "prediction", "segmentation"):
                write(self.folder / model / volume / f"{name}.json")

    def fail(self, step: str, name: str) -> None:
        write(self.folder / "logs" / step / f"{name}.log", CAUSE)

    def page(self, model: str) -> dict[str, object]:
        home = self.folder / model
        return {
            "config": {},
            "manifest": "manifest.json",
            "ingests": [
                str(self.folder / "volumes" / volume / "ingest.json")
                for volume in self.volumes
            ],
            "weight_maps": [],
            "training": {"model": model},
            "records": [str(home / "train.json")],
            "predictions": [
                {"model": model, "volume": volume, "metrics": None}
                | {
                    name: str(home / volume / f"{name}.json")
                    for name in ("plan", "prediction", "segmentation")
                }
                for volume in self.volumes
            ],
            "suggestions": [],
            "output": str(home / "report.html"),
        }

    def report(self) -> bool:
        networks = [
            {"model": model, "steps": 1, "volumes": [], "rule": "train_unet"}
            for model in self.networks
        ]
        for network in networks:
            shared = {v for lot in self.lots for v in lot["steps"]}
            network["volumes"] = [v for v in self.volumes if v not in shared]
        ours = [
            {"name": m, "folder": str(self.folder / m), "volumes": self.volumes}
            for m in self.networks
        ]
        return report_unfinished(
            state={
                "volumes": self.volumes,
                "networks": networks,
                "lots": self.lots,
                "results": str(self.folder),
                "logs": str(self.folder / "logs"),
                "outdated": self.outdated,
            },
            pages=[self.page(model) for model in self.networks],
            run_page={
                "name": "run",
                "models": [*self.earlier, *ours],
                "ingests": [],
                "compared": [],
                "output": str(self.folder / "report.html"),
            },
            catalogue={"name": "run", "results": "", "table": "", "packed": ""}
            | {"wanted": []},
            sheet="sheet.tsv",
            write_page=self.write_page,
            write_run_page=self.write_run_page,
            write_catalogue=self.write_catalogue,
        )

    def write_page(self, *, training, predictions, output, **others) -> None:
        self.shown[training["model"]] = [files["volume"] for files in predictions]
        write(output, "<header>\n<h1>network</h1>\n")

    def write_run_page(self, *, models, output, **others) -> None:
        self.shown[""] = [f"{m['name']} {''.join(m['volumes'])}" for m in models]
        write(output, "<header>\n<h1>run</h1>\n")

    def write_catalogue(self, *, failed, **others) -> None:
        self.failed = [(one["network"], one["volume"]) for one in failed]

    def told(self, model: str = "") -> str:
        return (self.folder / model / "report.html").read_text()


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path, "abc", ("unet", "deep"))


def test_each_page_tells_what_its_network_misses_and_the_first_page_all(run):
    run.finish("unet", "ab")
    run.finish("deep", "a")
    run.fail("ingest_volume", "c")
    run.fail("probe_prediction", "deep/b")
    (run.folder / "deep/b").mkdir()
    assert run.report()
    assert run.shown == {"unet": ["a", "b"], "deep": ["a"], "": ["unet ab", "deep a"]}
    assert "1 of 3 volumes failed<" in run.told("unet")
    assert "2 of 3 volumes failed<" in run.told("deep")
    assert "2 of 3 volumes failed<" in run.told()
    assert "DataError: it is cut off" not in run.told("unet").partition("<div")[0]
    assert run.failed == [("", "c"), ("deep", "b")]
    assert not list(run.folder.rglob("*.draft"))


def test_a_network_that_is_not_trained_has_no_page_but_is_awaited(run):
    run.finish("unet", "abc")
    run.fail("train_unet", "deep")
    assert run.report()
    assert run.shown == {"unet": ["a", "b", "c"], "": ["unet abc"]}
    assert "3 predictions not made yet<" in run.told()
    assert 'class="failed"' not in run.told("unet")


def test_pages_are_left_alone_where_nothing_is_done_and_where_all_is(run):
    run.fail("ingest_volume", "c")
    assert not run.report()
    for network in run.networks:
        run.finish(network, "abc")
    assert not run.report()
    assert not run.shown


def test_earlier_runs_are_compared_whole_whatever_their_names(run):
    run.earlier = [{"name": "old/unet", "folder": "old/unet", "volumes": ["x", "y"]}]
    run.finish("unet", "ab")
    run.finish("deep", "ab")
    run.fail("ingest_volume", "c")
    assert run.report()
    assert run.shown[""] == ["old/unet xy", "unet ab", "deep ab"]


def test_what_was_made_for_other_settings_waits(run):
    run.finish("unet", "abc")
    run.finish("deep", "abc")
    run.outdated = [run.page("deep")["predictions"][1]["segmentation"]]
    assert run.report()
    assert run.shown == {
        "deep": ["a", "c"],
        "unet": ["a", "b", "c"],
        "": ["unet abc", "deep ac"],
    }
    assert "1 prediction not made yet<" in run.told("deep")


def test_a_volume_that_a_later_lot_could_store_has_not_failed(run):
    record = run.folder / "lots/ab12cd.json"
    steps = {"a": ["ingest_volume"], "c": ["ingest_volume"]}
    run.lots = [
        {"name": "ab12cd", "model": "", "rule": "ingest_lot", "record": str(record)}
        | {"log": str(run.folder / "logs/ingest_lot/ab12cd.log"), "steps": steps}
    ]
    journal = LotJournal(record.with_suffix(".jsonl"), {})
    for volume in steps:
        error = "DataError: it is cut off\nat byte 3"
        journal.add(EndedStep(volume=volume, step="ingest_volume", error=error))
    run.finish("unet", "ab")
    run.finish("deep", "ab")
    assert run.report()
    assert run.failed == [("", "c")]
    assert "at byte" not in run.told()
