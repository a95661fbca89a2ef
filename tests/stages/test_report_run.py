"""Several networks side by side: settings, paired differences, worse sections."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.stages.reported import (
    CIRCUMSTANCES,
    SHAPE,
    Links,
    arguments,
    cells,
    joined,
    made_up_run,
    plan_of,
    predicted,
    prediction_of,
    scored,
    segmentation_of,
    trained,
)
from unetpipe.evaluation.folds import spread_over_networks, spread_over_seeds
from unetpipe.evaluation.score_rows import make_score_row
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.comparison import (
    Comparison,
    EnsembleScores,
    Shared,
    Variant,
)
from unetpipe.records.metrics import Metrics, ObjectTable
from unetpipe.records.model import Model, TrainedFrom
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.segmentation import Segmentation
from unetpipe.report.page.differences import (
    Compared,
    changed_settings,
    score_differences,
    section_changes,
    shared_volumes,
    volume_differences,
)
from unetpipe.report.page.network_pairs import show_networks, show_pair
from unetpipe.report.page.painting import LEGEND
from unetpipe.report.page.run import Network, Result
from unetpipe.report.page.templates import render
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.report import report
from unetpipe.stages.report_run import report_run
from unetpipe.tiling.unet_spec import UNetSpec


def network(name: str, scores: list[float | None], **recipe) -> Compared:
    """Return a network with V-Rand of the test sections 2, 3, 4."""
    metrics = scored()
    (table,) = metrics["tables"]
    table["sections"] = [2, 3, 4]
    table["rows"] = [
        make_score_row(
            "unet",
            metric,
            chosen=(0.5, float(np.mean([s for s in values if s is not None]))),
            per_section=[np.nan if s is None else s for s in values],
            num_sections=3,
        ).to_json()
        for metric, values in (("v_rand", scores), ("pixel_error", [0.1, 0.1, 0.1]))
    ]
    metrics["objects"] = []
    description = Model(
        spec=UNetSpec(base_channels=4),
        weights_sha256="3" * 64,
        recipe=TrainedFrom(optimisation={"steps": 10, **recipe}),
    )
    made = Result(
        name,
        "brain",
        Path(),
        PredictionPlan.model_validate(plan_of("brain", Path("p"), SHAPE)),
        Prediction.model_validate(prediction_of("brain", Path("p"), SHAPE)),
        Segmentation.model_validate(segmentation_of("brain", Path("s"), Path("o"))),
        Metrics.model_validate(metrics),
    )
    return Compared(Network(name, description), {"brain": made})


def changed(compared: Compared, part: str, **changes) -> Compared:
    """Return a network of which one record says something else."""
    result = compared.results["brain"]
    record = getattr(result, part).model_copy(update=changes)
    return replace(compared, results={"brain": replace(result, **{part: record})})


def with_table(compared: Compared, **changes) -> Compared:
    (table,) = compared.results["brain"].metrics.tables
    return changed(compared, "metrics", tables=(table.model_copy(update=changes),))


OLD = network("old", [0.9, 0.8, 0.7])


def test_only_settings_that_differ_are_listed() -> None:
    new = network("new", [0.9] * 3, learning_rate=0.1, steps=20)
    assert changed_settings([OLD, new]) == {
        "training.optimisation.steps": ["10", "20"],
        "training.optimisation.learning_rate": ["not set", "0.1"],
    }
    assert changed_settings([OLD, OLD]) == {}


def test_thresholds_are_shown_without_the_dust_of_floating_point() -> None:
    new = network("new", [0.9] * 3)
    identity = new.results["brain"].segmentation.identity
    settings = identity.settings.model_copy(update={"threshold": 0.1 + 0.2})
    identity = identity.model_copy(update={"settings": settings})
    new = changed(new, "segmentation", identity=identity)
    key = "segmentation.threshold"
    assert changed_settings([OLD, new]) == {key: ["0.4", "0.3"]}


def test_differences_are_paired_section_by_section() -> None:
    new = network("new", [0.8, 0.6, 0.4])
    rand, pixel = score_differences(OLD, new)
    assert (rand.metric, rand.volume, rand.role) == ("v_rand", "brain", "test")
    assert (rand.reference, rand.other) == pytest.approx((0.8, 0.6))
    assert rand.interval.estimate == pytest.approx(-0.2)
    assert -0.3 <= rand.interval.low < rand.interval.high <= -0.1 + 1e-12
    assert (rand.interval.n, rand.verdict) == (3, "worse")
    assert pixel.verdict == "no clear difference"


def test_lower_errors_are_better() -> None:
    new = network("new", [0.9, 0.8, 0.7])
    rand, pixel = new.results["brain"].metrics.tables[0].rows
    lower = pixel.model_copy(update={"per_section": (0.05, 0.06, 0.07)})
    new = with_table(new, rows=(rand, lower))
    found = {d.metric: d.verdict for d in score_differences(OLD, new)}
    assert found == {"v_rand": "no clear difference", "pixel_error": "better"}


def on_volumes(name: str, scores: dict[str, list[float]]) -> Compared:
    """Return a network with V-Rand of the sections of several volumes."""
    results = {}
    for volume, of_sections in scores.items():
        num = len(of_sections)
        made = network(name, [*of_sections, *[None] * (3 - num)])
        cut = with_table(
            made,
            sections=tuple(range(num)),
            rows=tuple(
                row.model_copy(update={"per_section": row.per_section[:num]})
                for row in made.results["brain"].metrics.tables[0].rows
            ),
        )
        results[volume] = cut.results["brain"]
    return Compared(made.network, results)


GAINS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07)
IMAGES = on_volumes("old", {f"image-{k}": [0.5 + 0.04 * k] for k in range(7)})
BETTER = on_volumes(
    "new", {f"image-{k}": [0.5 + 0.04 * k + gain] for k, gain in enumerate(GAINS)}
)


def test_volumes_of_single_sections_are_paired_over_volumes() -> None:
    rand, pixel = volume_differences(IMAGES, BETTER)
    assert (rand.volume, rand.role, rand.metric) == ("7 volumes", "test", "v_rand")
    assert (rand.interval.n, rand.units, rand.verdict) == (7, "volumes", "better")
    assert rand.interval.estimate == pytest.approx(np.mean(GAINS))
    assert min(GAINS) < rand.interval.low < rand.interval.high < max(GAINS)
    assert rand.reference == pytest.approx(np.mean([0.5 + 0.04 * k for k in range(7)]))
    assert rand.other == pytest.approx(rand.reference + np.mean(GAINS))
    assert pixel.verdict == "no clear difference"


def test_the_page_pairs_over_volumes_and_not_each_section_by_itself() -> None:
    shown = show_pair(IMAGES, BETTER, {}, with_pictures=False)
    assert [(d["of"], d["n"]) for d in shown["differences"]] == [
        ("7 volumes, test", "7 volumes")
    ] * 2
    assert shown["each"] == []
    assert not shown["has_few"]
    assert len(shown["first"]) == 7


def page_of(reference: Compared, other: Compared) -> str:
    """Return the words of the page of two networks, without pictures."""
    values = {
        **show_networks([reference, other]),
        **{"name": "made-up", "reference": "old", "trained": ["old", "new"]},
        **{"num_volumes": len(reference.results), "warnings": [], "settings": {}},
        **{"pooled": [], "left_out": [], "shared": None, "finished": ""},
        "colours": LEGEND,
        "pairs": [show_pair(reference, other, {}, with_pictures=False)],
    }
    return Links(render("compare.html", values).decode()).text


def test_the_page_says_what_is_paired() -> None:
    text = page_of(IMAGES, BETTER)
    assert "volume by volume and section by section" in text
    assert "Paired over the volumes that both scored" in text
    assert "7 volumes, test V Rand higher is better 0.6200 0.6600 +0.0400" in text
    assert "7 volumes better" in text
    assert "Each volume by itself" not in text
    assert "fewer than six pairs" not in text
    old = on_volumes("old", {"a": [0.5, 0.5, 0.5], "b": [0.5]})
    new = on_volumes("new", {"a": [0.6, 0.7, 0.8], "b": [0.6]})
    text = page_of(old, new)
    assert "2 volumes, test V Rand" in text
    assert "Each volume by itself, paired over its sections" in text
    assert "a, test V Rand" in text.partition("Each volume by itself")[2]
    assert "fewer than six pairs" in text
    text = page_of(OLD, network("new", [0.8, 0.6, 0.4]))
    assert "Paired over the sections that both scored" in text


def test_one_section_of_one_volume_has_no_interval() -> None:
    text = page_of(on_volumes("old", {"a": [0.5]}), on_volumes("new", {"a": [0.6]}))
    assert "a, test V Rand higher is better 0.5000 0.6000 +0.1000 one section" in text


def test_volumes_of_many_sections_count_once_each_and_are_shown_too() -> None:
    old = on_volumes("old", {"a": [0.5, 0.5, 0.5], "b": [0.5]})
    new = on_volumes("new", {"a": [0.6, 0.7, 0.8], "b": [0.6]})
    rand, _ = volume_differences(old, new)
    assert rand.interval.estimate == pytest.approx((0.2 + 0.1) / 2)
    shown = show_pair(old, new, {}, with_pictures=False)
    assert [d["of"] for d in shown["each"]] == ["a, test"] * 2
    assert shown["has_few"], "intervals of two volumes and of three sections"


def test_one_volume_is_paired_over_its_sections_alone() -> None:
    new = network("new", [0.8, 0.6, 0.4])
    assert list(volume_differences(OLD, new)) == []
    shown = show_pair(OLD, new, {}, with_pictures=False)
    assert [d["of"] for d in shown["differences"]] == ["brain, test"] * 2
    assert shown["each"] == []


def test_volumes_whose_objects_span_sections_are_paired_by_their_scores() -> None:
    def spanning(compared: Compared, scores: list[float]) -> Compared:
        results = {}
        for (volume, result), score in zip(
            compared.results.items(), scores, strict=True
        ):
            row = make_score_row("unet", "f1", chosen=(0.5, score), num_sections=1)
            told = {"role": "test", "sections": (0,), "rows": (row,)}
            table = ObjectTable(**told, sizes={}, field_border_vox=0)
            metrics = result.metrics.model_copy(update={"objects": (table,)})
            results[volume] = replace(result, metrics=metrics)
        return replace(compared, results=results)

    old = spanning(IMAGES, [0.5] * 7)
    new = spanning(BETTER, [0.6] * 6 + [0.8])
    (f1,) = (d for d in volume_differences(old, new) if d.metric == "f1")
    assert f1.interval.estimate == pytest.approx(0.9 / 7)
    assert f1.verdict == "better"
    other = {v: r for v, r in new.results.items() if v != "image-6"}
    (f1,) = (
        d
        for d in volume_differences(old, replace(new, results=other))
        if d.metric == "f1"
    )
    assert (f1.interval.n, f1.interval.estimate) == (6, pytest.approx(0.1))


def test_networks_of_two_volumes_of_other_sections_are_not_paired() -> None:
    def fold(compared: Compared) -> Compared:
        results = {
            volume: with_table(
                replace(compared, results={"brain": result}), sections=(9,)
            ).results["brain"]
            for volume, result in compared.results.items()
        }
        return replace(compared, results=results)

    assert list(volume_differences(IMAGES, fold(BETTER))) == []


def test_sections_that_got_worst_come_first_and_undefined_ones_not_at_all() -> None:
    new = network("new", [0.85, None, 0.4])
    changes = section_changes(OLD, new)
    assert [(c.z, round(c.change, 6)) for c in changes] == [(4, -0.3), (2, -0.05)]


def test_networks_of_other_sections_have_nothing_to_pair() -> None:
    fold = with_table(network("fold", [0.9, 0.9, 0.9]), sections=(7, 8, 9))
    assert list(score_differences(OLD, fold)) == []
    assert section_changes(OLD, fold) == []


def test_volumes_of_equal_names_but_other_voxels_are_told_apart() -> None:
    other = network("other", [0.9] * 3)
    identity = other.results["brain"].prediction.identity
    voxels = identity.model_copy(update={"input_sha256": "2"})
    other = changed(other, "prediction", identity=voxels)
    assert shared_volumes(OLD, other) == ([], ["brain"])
    assert shared_volumes(OLD, OLD) == (["brain"], [])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Two networks on one volume; the second misses a cell of section 3."""
    monkeypatch.chdir(tmp_path)
    made_up_run(Path())
    trained(Path(), "fold-2", steps=60)
    mask = (cells(SHAPE) > 0).astype(np.uint8)
    mask[3, :, :31] = 0
    metrics = scored(v_rand=0.7)
    metrics["tables"][0]["rows"][1]["per_section"] = [0.9, 0.5]
    predicted(Path(), "brain", mask, metrics, model="fold-2")
    return tmp_path


def compare(*models: str, compared=()) -> str:
    report_run(
        name="made-up",
        models=[
            {"name": model, "folder": model, "volumes": ["brain"]} for model in models
        ],
        ingests=[Path("brain/ingest.json")],
        compared=list(compared),
        output=Path("report.html"),
    )
    return Path("report.html").read_text()


def test_the_first_page_of_one_network_is_its_own_report(folder: Path) -> None:
    report(**arguments(Path()))
    assert compare("unet") == Path("unet/report.html").read_text()


def test_the_page_shows_what_changed_and_where_it_got_worse(folder: Path) -> None:
    report(**arguments(Path()))
    links = Links(compare("unet", "fold-2"))
    assert "unet/report.html" in links.links
    outside = [a for a in links.links if not a.startswith(("#", "data:image/"))]
    assert outside == ["unet/report.html"], "the other network has no page yet"
    assert "fold-2 against unet" in links.text
    assert "brain, test V Rand higher is better 0.9100 0.7000" in links.text
    assert "2 sections of 2 got worse" not in links.text
    assert "1 section of 2 got worse." in links.text
    assert "brain 3 test V-Rand 0.9300 0.5000 −0.4300" in links.text
    assert "brain, section 3 V-Rand 0.9300 to 0.5000" in links.text
    assert "errors of unet 50 nm errors of fold-2" in links.text
    assert "all settings are the same" in links.text
    assert compare("unet", "fold-2") == compare("unet", "fold-2")


def comparison(**told) -> Comparison:
    nothing = {"definitions": {}, "variants": (), "shared": ()}
    return Comparison(**(nothing | told), circumstances=Circumstances.here())


def test_folds_and_seeds_together_stand_on_the_page(folder: Path) -> None:
    variants = []
    for name, scores in (("paper", [0.5, 0.75]), ("narrow", [0.25, 0.5])):
        seeds = {
            seed: [
                make_score_row("unet", "v_rand", chosen=(None, score), num_sections=30)
            ]
            for seed, score in enumerate(scores)
        }
        against = variants[0].rows if variants else ()
        rows = spread_over_seeds(seeds, against=against)
        variants.append(
            Variant(
                variant=name,
                changes={},
                models=("fold-1", "fold-2"),
                folds=("1", "2"),
                rows=tuple(rows),
            )
        )
    comparison(variants=tuple(variants)).write(Path("comparison.json"))
    page = compare("unet", "fold-2", compared=[Path("comparison.json")])
    text = Links(page).text
    assert "Folds and seeds together" in text
    told = "higher is better paper 0.6250 2 2 0.5000 to 0.7500 V"
    assert told in text
    minus = "\N{MINUS SIGN}0.2500"
    assert f"narrow 0.3750 2 2 0.2500 to 0.5000 {minus}" in text


def test_without_folds_and_seeds_nothing_is_said_of_them(folder: Path) -> None:
    variants = []
    for name, score in (("plain", 0.5), ("touching", 0.25)):
        row = make_score_row("unet", "v_rand", chosen=(None, score), num_sections=3)
        against = variants[0].rows if variants else ()
        rows = tuple(spread_over_seeds({0: [row]}, against=against))
        variants.append(
            Variant(variant=name, changes={}, models=(name,), folds=(), rows=rows)
        )
    comparison(variants=tuple(variants)).write(Path("comparison.json"))
    text = Links(compare("unet", "fold-2", compared=[Path("comparison.json")])).text
    assert (
        "scores that are means are of all sections. The difference is to "
        "the first variant. Metric Networks Score Difference V Rand higher is better "
        "plain 0.5000"
    ) in text
    assert "All test sections together Test sections of all volumes. What" in text
    assert "touching 0.2500 \N{MINUS SIGN}0.2500" in text
    assert "seeds" not in text.partition("What changed")[0]


def test_pooled_scores_are_those_of_other_pages_and_what_is_left_out_is_told(
    folder: Path,
) -> None:
    metrics = ("recall_class_0", "dice_class_1", "iou_class_1", "f1", "v_rand")
    rows = [
        make_score_row("unet", metric, chosen=(None, 0.5), num_sections=3)
        for metric in metrics
    ]
    about = {"variant": "", "changes": {}, "models": ("unet",), "folds": ("1", "2")}
    variant = Variant(**about, rows=tuple(spread_over_seeds({0: rows})))
    told = ("stack by unet: objects span sections of all kinds",)
    comparison(variants=(variant,), left_out=told).write(Path("comparison.json"))
    text = Links(compare("unet", "fold-2", compared=[Path("comparison.json")])).text
    pooled = text.partition("Networks Score Folds Seeds")[2]
    pooled = pooled.partition("What changed")[0]
    shown = ["V Rand", "F 1 of objects", "Dice of class 1", "IoU of class 1"]
    places = [pooled.index(name) for name in shown]
    assert places == sorted(places)
    assert "Recall" not in pooled
    assert "Range over seeds" not in text, "of one seed each"
    assert "Difference" not in pooled, "of one variant"
    assert "Left out: stack by unet: objects span sections of all kinds." in pooled


def test_sections_that_all_networks_were_tested_on_stand_apart(folder: Path) -> None:
    single = {
        model: [make_score_row("unet", "v_rand", chosen=(0.5, score), num_sections=30)]
        for model, score in (("fold-1", 0.5), ("fold-2", 0.75))
    }
    joined = [make_score_row("unet", "v_rand", chosen=(0.5, 0.875), num_sections=30)]
    shared = Shared(
        variant="",
        models=tuple(single),
        volumes=("challenge",),
        rows=tuple(spread_over_networks(single)),
        ensemble=EnsembleScores(model="ensemble", rows=tuple(joined)),
    )
    path = Path("comparison.json")
    comparison(shared=(shared,)).write(path)
    text = Links(compare("unet", "fold-2", compared=[path])).text
    assert "Test sections of challenge that belong to no fold" in text
    columns = "Mean Range over networks Ensemble Sections V Rand"
    told = "2 0.6250 0.5000 to 0.7500 0.8750 30"
    assert f"{columns} higher is better {told}" in text
    assert "Folds and seeds together" not in text
    alone = shared.model_copy(update={"ensemble": None})
    comparison(shared=(alone,)).write(path)
    text = Links(compare("unet", "fold-2", compared=[path])).text
    assert "2 0.6250 0.5000 to 0.7500 30" in text
    assert "Ensemble" not in text
    comparison().write(path)
    assert "belong to no fold" not in compare("unet", "fold-2", compared=[path])


def test_an_ensemble_has_a_line_but_no_recipe_beside_its_members(folder: Path) -> None:
    joined(Path(), "unet", "fold-2")
    mask = (cells(SHAPE) > 0).astype(np.uint8)
    predicted(Path(), "brain", mask, scored(v_rand=0.95), model="ensemble")
    page = compare("unet", "fold-2", "ensemble")
    text = Links(page).text
    assert "2 networks and their ensemble compared" in text
    assert "2 networks and 1 ensemble of them over 1 volume. unet is the" in text
    told = "ensemble the mean of 2 networks of 122 thousand parameters brain test 2"
    assert told in text
    assert "ensemble against unet" in text
    assert "all settings are the same" in text, "an ensemble has none of its own"


def test_an_adopted_ensemble_is_no_ensemble_of_this_runs_networks(folder: Path) -> None:
    joined(Path(), "unet", "fold-2")
    mask = (cells(SHAPE) > 0).astype(np.uint8)
    predicted(Path(), "brain", mask, scored(v_rand=0.95), model="ensemble")
    place = {"folder": "results/old/ensemble", "path": "/old"}
    place["circumstances"] = CIRCUMSTANCES
    told = {"adopted": [place], "circumstances": CIRCUMSTANCES}
    write_record(Path("ensemble/train.json"), told)
    text = Links(compare("unet", "ensemble")).text
    assert "2 networks over 1 volume. unet is the" in text
    assert "the mean of 2 networks of 122 thousand parameters; from results/old" in text


def test_other_voxels_under_the_same_name_are_a_warning(folder: Path) -> None:
    path = Path("fold-2/brain/prediction.json")
    record = read_record(path)
    record["identity"]["input_sha256"] = "9" * 64
    write_record(path, record)
    text = Links(compare("unet", "fold-2")).text
    assert "brain: fold-2 saw other voxels than unet under this name" in text
    assert "there is nothing to pair" in text


def test_a_network_without_scores_is_listed(folder: Path) -> None:
    Path("fold-2/brain/metrics.json").unlink()
    shutil.rmtree("fold-2/brain/segmentation-1.ome.zarr")
    text = Links(compare("unet", "fold-2")).text
    assert "not scored" in text


def test_a_network_that_knows_test_sections_is_a_warning_and_not_held_out(
    folder: Path,
) -> None:
    path = Path("fold-2/model.json")
    record = read_record(path)
    record["recipe"]["train"] = [
        {"volume": "another-name", "sections": [0, 3], "image": "1" * 64}
    ]
    record["recipe"]["validate"] = []
    write_record(path, record)
    text = Links(compare("unet", "fold-2")).text
    assert "fold-2: it was trained on the test sections 3 of brain" in text
    assert "unet: it was chosen by the test sections 2 of brain" in text
    report(**arguments(Path()))
    text = Links(Path("unet/report.html").read_text()).text
    assert "On 2 test sections of brain it scores" in text


def test_sections_are_held_out_only_from_a_network_whose_rows_are_known(
    folder: Path,
) -> None:
    path = Path("unet/model.json")
    record = read_record(path)
    rows = [{"volume": "brain", "sections": [1], "image": "1" * 64}]
    for recipe, told in (
        ({"recipe": {"train": rows, "validate": []}}, "On 2 held-out test sections"),
        ({}, "On 2 test sections"),
    ):
        del record["recipe"]
        record |= recipe
        write_record(path, record)
        report(**arguments(Path()))
        page = Path("unet/report.html").read_text()
        assert f"{told} of brain it scores" in Links(page).text


def test_an_adopted_network_dates_the_page_by_when_it_was_taken_over(
    folder: Path,
) -> None:
    path = Path("fold-2/train.json")
    record = read_record(path)
    place = {"folder": "results/old/unet", "path": "/old/unet"}
    place["circumstances"] = dict(CIRCUMSTANCES)
    place["circumstances"]["finished"] = "2030-05-06T07:08:09Z"
    write_record(path, record | {"adopted": [place]})
    text = Links(compare("unet", "fold-2")).text
    assert "2030-05-06 07:08:09 UTC" in text
    assert "; from results/old/unet" in text
