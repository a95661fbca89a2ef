"""Rows in; weights, description, history and record out; errors before training."""

import logging
import shutil
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from tests.stages.annotated import draw_instances, ingest, training_files, weigh
from tests.variants import mostly_slow
from unetpipe.config import (
    AugmentationConfig,
    NetworkConfig,
    SegmentationConfig,
    TrainingConfig,
    WeightMapConfig,
    check_config,
)
from unetpipe.errors import ConfigError, DataError, IntegrityError, ResourceError
from unetpipe.network.weights import load_network
from unetpipe.records.model import Model
from unetpipe.runtime.files import hash_file, read_record
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.segmentation.choice import ObjectRule
from unetpipe.stages.train_unet import train_unet
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.targets.rows import open_annotated_rows
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.checkpoints import TrainingState
from unetpipe.training.distributed import ALONE
from unetpipe.training.history import read_history
from unetpipe.training.optimiser import Optimisation
from unetpipe.training.order import TrainingOrder
from unetpipe.training.recipe import ARITHMETIC, plan_training
from unetpipe.training.session import training_threads
from unetpipe.training.validation import Validator

NETWORK = NetworkConfig(depth=1, base_channels=3)
# What is remembered where a watershed is chosen.
CUT = {"seeds", "seed_distance_vox", "seed_reach_vox", "seed_threshold"}
TRAINING = TrainingConfig(
    steps=8, validate_every=4, checkpoint_every=3, momentum=0.9, threads=1
)


@dataclass
class Training:
    """One call of the stage in a folder, and what it left there."""

    folder: object
    rows: list
    network: NetworkConfig = NETWORK
    training: TrainingConfig = TRAINING
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    weight_map: WeightMapConfig = field(default_factory=WeightMapConfig)
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)

    def order(self, **more):
        return TrainingOrder(
            rows=self.rows,
            network=self.network,
            training=self.training,
            augmentation=self.augmentation,
            weight_map=self.weight_map,
            segmentation=self.segmentation,
        ).model_copy(update=more)

    def __call__(self, **more):
        files = training_files(self.folder)
        train_unet(order=self.order(**more), files=files)
        return self

    @property
    def model(self):
        return read_record(self.folder / "model.json")

    @property
    def record(self):
        return read_record(self.folder / "train.json")

    @property
    def history(self):
        return read_history(self.folder / "history.csv")


def rows_of(path, *, train=None, validate=(3,), **weighing):
    record = weigh(path, **weighing)
    both = {"ingest": str(path), "weight_map": str(record)}
    rows = [{**both, "sections": train or [0, 1, 2], "role": "train"}]
    if validate:
        rows.append({**both, "sections": list(validate), "role": "validate"})
    return rows


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A volume and its weight map, which no test changes."""
    folder = tmp_path_factory.mktemp("volumes")
    return rows_of(ingest(folder / "cells", draw_instances()))


@pytest.fixture
def rows(stored):
    return deepcopy(stored)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, stored):
    """A finished training for tests that only look at it."""
    return Training(tmp_path_factory.mktemp("kept") / "unet", stored)()


@pytest.fixture
def done(tmp_path, kept, rows):
    """A finished training for tests that go on with it."""
    shutil.copytree(kept.folder, tmp_path / "unet")
    return Training(tmp_path / "unet", rows)


def with_training(**values):
    return {"training": TRAINING.model_copy(update=values)}


def test_the_model_is_what_prediction_loads(kept):
    network = load_network(
        kept.folder / "model.safetensors", Model.model_validate(kept.model)
    )
    assert network.spec == NETWORK.spec()
    assert UNetSpec.from_json(kept.model["spec"]) == NETWORK.spec()
    assert kept.model["weights_sha256"] == hash_file(kept.folder / "model.safetensors")
    assert kept.model["num_classes"] == 2
    assert kept.model["voxel_size_nm"] == [50, 4, 4]
    assert kept.model["normalisation"] == "volume mean and standard deviation"


def test_thresholds_come_from_the_validation_rows(kept):
    assert kept.record["metric"] == "f1", "cells have ids and lie in a background"
    assert set(kept.model["thresholds"]) - CUT == {
        "segmentation",
        "smallest_object_vox",
        "f1",
    }
    assert kept.model["step"] in (4, 8)
    assert kept.record["best_step"] == kept.model["step"]
    scores = {
        row.step: row.validation for row in kept.history if row.validation is not None
    }
    assert set(scores) == {4, 8}
    assert kept.model["validation"]["f1"] >= scores[kept.model["step"]]
    assert scores[kept.model["step"]] == max(scores.values())


@pytest.mark.parametrize("targets", mostly_slow(["border", "markers"]))
def test_a_network_with_cores_remembers_its_seeds(tmp_path, targets):
    path = ingest(tmp_path / "cells", draw_instances())
    network = NETWORK.model_copy(update={"targets": targets})
    rows = rows_of(path, learnt=[targets])
    trained = Training(tmp_path / "unet", rows, network)()
    counts = read_record(path.parent / "weight_map.json")["learnt"][targets][
        "class_counts"
    ]
    assert trained.record["class_counts"] == np.sum(counts[:3], axis=0).tolist()
    weights = np.array(trained.record["class_weights"])
    balanced = weights * trained.record["class_counts"]
    np.testing.assert_allclose(balanced, balanced[0], rtol=1e-5)
    model = Model.model_validate(trained.model)
    assert (model.spec.targets, model.spec.out_channels) == (targets, 3)
    assert trained.record["metric"] == "f1"
    seen = load_network(trained.folder / "model.safetensors", model)
    assert seen.out.weight.shape[0] == 3
    recipe = trained.model["recipe"]
    assert recipe["train"][0]["learnt"] != recipe["train"][0]["target"]
    with pytest.raises(ConfigError, match="v_rand, which compares masks"):
        replace(trained, **with_training(validation_metric="v_rand"))()
    with pytest.raises(ConfigError, match="compute it again"):
        replace(trained, rows=rows_of(path))()


def test_a_network_with_affinities_remembers_how_fragments_are_joined(tmp_path):
    path = ingest(tmp_path / "cells", draw_instances())
    network = NETWORK.model_copy(update={"targets": "affinities", "head": "sigmoid"})
    trained = Training(tmp_path / "unet", rows_of(path), network)()
    model = Model.model_validate(trained.model)
    assert (model.spec.out_channels, len(model.spec.affinity_offsets)) == (6, 6)
    seen = load_network(trained.folder / "model.safetensors", model)
    assert seen.out.weight.shape[0] == 6
    weights = np.array(trained.record["class_weights"]).reshape(6, 2)
    assert (weights[4:, 1] > weights[:2, 1]).all(), "far pairs are rarely of one cell"
    assert "merge_threshold" in model.thresholds
    assert "seeds" not in model.thresholds
    recipe = trained.model["recipe"]
    assert recipe["train"][0]["ids"]
    assert recipe["train"][0]["border_term"] is None
    mask = ingest(tmp_path / "mask", (draw_instances() > 0) * 1, kind="binary")
    with pytest.raises(ConfigError, match=r"labels of volume .* are binary"):
        replace(trained, rows=rows_of(mask))()


@pytest.mark.slow
def test_thresholds_are_of_probabilities_averaged_as_prediction_averages(done):
    plain = done.model
    averaged = replace(done)(average=8).model
    assert averaged["weights_sha256"] == plain["weights_sha256"]
    assert averaged["recipe"]["thresholds_average"] == list(range(8))
    rows = open_annotated_rows(
        [AnnotatedRow(**row) for row in done.rows], "validate", 2, with_border=True
    )
    validator = Validator(
        rows.volumes,
        "f1",
        class_weights=np.ones(2, np.float32),
        precision="fp32",
        device=torch.device("cpu"),
        largest_input=10**6,
        objects=ObjectRule("2d", None, "auto", None),
    )
    network = load_network(
        done.folder / "model.safetensors", Model.model_validate(averaged)
    )
    expected = validator.choose(network, "fp32", orientations=range(8))
    assert averaged["thresholds"] == expected.thresholds
    assert averaged["validation"] == pytest.approx(expected.scores, abs=1e-6)
    assert averaged["validation"] != pytest.approx(plain["validation"], abs=1e-6)
    assert done().model == plain


def test_the_weights_are_those_of_the_best_step(tmp_path, rows, kept):
    """Training stopped at the best step ends with the same weights."""
    best = kept.model["step"]
    short = Training(tmp_path / "short", rows)(**with_training(steps=best))
    if best < 8:
        assert short.model["step"] == best
    assert short.model["weights_sha256"] == kept.model["weights_sha256"]


def test_the_recipe_names_data_code_and_settings(kept):
    recipe = kept.model["recipe"]
    assert recipe["train"][0]["sections"] == [0, 1, 2]
    assert len(recipe["train"][0]["target"]) == 64
    assert recipe["validate"][0]["sections"] == [3]
    assert recipe["code"] == code_fingerprint(*ARITHMETIC)
    assert recipe["augmentation"]["elastic_sigma_vox"] == 10
    assert recipe["weight_map"]["w0"] == 10
    assert recipe["optimisation"]["momentum"] == 0.9


def test_the_record_says_what_was_trained(kept):
    record = kept.record
    assert record["steps"] == 8
    assert record["resumed_at"] == []
    assert record["patch"] == list(NETWORK.spec().input_shape_for((1, 50, 60)))
    counts = np.array(record["class_counts"])
    np.testing.assert_allclose(record["class_weights"], counts.sum() / (2 * counts))
    assert record["circumstances"]["threads"] == 1
    assert record["circumstances"]["device"] == "cpu"
    odd = ("are annotated", "cannot choose one", "is the last that was tried")
    assert all(any(o in text for o in odd) for text in record["warnings"])
    assert record["model"]["recipe"][:8] in {
        p.name for p in (kept.folder / "state").iterdir()
    }


def test_repeating_the_call_changes_nothing(done):
    weights, history = (
        (done.folder / name).read_bytes()
        for name in ("model.safetensors", "history.csv")
    )
    before = done.model
    done()
    assert (done.folder / "model.safetensors").read_bytes() == weights
    assert (done.folder / "history.csv").read_bytes() == history
    assert done.model == before
    assert done.record["resumed_at"] == [8]


def test_damaged_weights_are_written_again_from_the_state(done):
    weights = done.folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="delete it and repeat the same command"):
        load_network(weights, Model.model_validate(done.model))
    weights.unlink()
    done()
    assert weights.read_bytes() == whole
    assert done.record["resumed_at"] == [8]


def test_more_steps_go_on_instead_of_beginning_anew(tmp_path, rows, done):
    whole = Training(tmp_path / "whole", rows)(**with_training(steps=12))
    parts = done(**with_training(steps=12))
    assert parts.record["resumed_at"] == [8]
    assert [r.loss for r in parts.history] == [r.loss for r in whole.history]
    assert parts.model["weights_sha256"] == whole.model["weights_sha256"]


@pytest.mark.parametrize(
    ("change", "says"),
    mostly_slow(
        [
            (
                {"network": NETWORK.model_copy(update={"base_channels": 4})},
                "base_channels: 3",
            ),
            (with_training(learning_rate=0.5), "learning_rate: 0.001 -> 0.5"),
            (
                {"augmentation": AugmentationConfig(flip=False)},
                "augmentation.flip: True",
            ),
            ({"weight_map": WeightMapConfig(class_balance=False)}, "class_weights"),
            ({"weight_map": WeightMapConfig(class_balance="root")}, "class_weights"),
        ]
    ),
    ids=["network", "training", "augmentation", "class balance", "root"],
)
def test_another_recipe_begins_anew_and_the_log_says_why(done, change, says, caplog):
    caplog.set_level(logging.INFO)
    weights = done.model["weights_sha256"]
    done(**change)
    assert done.record["resumed_at"] == []
    assert done.model["weights_sha256"] != weights
    assert says in caplog.text
    assert len(list((done.folder / "state").iterdir())) == 2
    done()
    assert done.model["weights_sha256"] == weights


@pytest.mark.slow
def test_a_stored_border_term_weighs_nothing_where_it_is_switched_off(tmp_path, rows):
    off = WeightMapConfig(enabled=False)
    without = Training(tmp_path, rows, weight_map=off)()
    recipe = without.model["recipe"]
    assert [row["border_term"] for row in recipe["train"]] == [None]
    with_border = Training(tmp_path / "with", rows)
    with_border.folder.mkdir()
    first = [t.history[0].loss for t in (without, with_border())]
    assert first[0] != first[1]


def test_other_labels_begin_anew(tmp_path, done):
    rows = rows_of(ingest(tmp_path / "other" / "cells", draw_instances(seed=5)))
    done.rows = rows
    done()
    assert done.record["resumed_at"] == []


def test_how_often_state_is_saved_is_not_part_of_the_recipe(done):
    done(**with_training(checkpoint_every=5))
    assert done.record["resumed_at"] == [8]


@pytest.mark.slow
def test_threads_of_an_interrupted_training_are_kept(tmp_path, rows, monkeypatch):
    """Other threads, other bits: auto means what it meant when training began."""
    training = Training(tmp_path / "unet", rows)
    monkeypatch.setattr("unetpipe.training.session.job_processors", lambda: 1)
    training(**with_training(threads="auto"))
    monkeypatch.setattr("unetpipe.training.session.job_processors", lambda: 2)
    training(**with_training(threads="auto", steps=9))
    assert training.record["circumstances"]["threads"] == 1
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("device", "processors", "saved", "expected"),
    [
        ("cpu", 16, None, 16),
        ("cuda", 16, None, 2),
        ("cuda", 1, None, 1),
        ("cuda", 16, "cpu", 2),
        ("cpu", 16, "cpu", 5),
        ("cpu", 16, "", 5),
        ("cpu", 16, "cuda", 16),
    ],
)
def test_beside_a_gpu_two_threads_draw(
    monkeypatch, device, processors, saved, expected
):
    monkeypatch.setattr("unetpipe.training.session.job_processors", lambda: processors)
    state = TrainingState(1, {}, {}, threads=5, device=saved)
    found = training_threads(
        TrainingConfig(), ALONE, None if saved is None else state, torch.device(device)
    )
    assert found == expected


@pytest.mark.slow
def test_large_volumes_are_read_patch_by_patch_and_give_the_same(
    tmp_path, rows, kept, monkeypatch
):
    monkeypatch.setattr("unetpipe.targets.rows.LARGEST_IN_MEMORY", 0)
    lazy = Training(tmp_path / "lazy", rows)()
    assert lazy.model["weights_sha256"] == kept.model["weights_sha256"]


@pytest.mark.parametrize(
    ("every", "scored", "said"),
    mostly_slow(
        [
            ("auto", [50, 60], "are scored 2 times; the weights that score best"),
            (20, [20, 40, 60], "are scored 3 times; the weights that score best"),
            (
                500,
                [60],
                "once, after the last step, whose weights are the result: training.",
            ),
        ]
    ),
)
def test_a_short_training_is_scored_and_the_log_says_how_often(
    tmp_path, rows, caplog, every, scored, said
):
    caplog.set_level(logging.INFO)
    short = with_training(steps=60, validate_every=every)
    done = Training(tmp_path / "unet", rows)(**short)
    assert [row.step for row in done.history if row.validation is not None] == scored
    assert done.model["step"] in scored
    assert "segmentation" in done.model["thresholds"]
    assert said in caplog.text


@pytest.mark.parametrize(
    ("every", "steps", "hint"),
    [
        (500, 51, "a smaller validate_every, or auto, takes the best of several"),
        (500, 50, "a smaller validate_every takes the best of several"),
        ("auto", 50, "is auto, training.steps 50; a smaller validate_every takes the"),
    ],
)
def test_auto_is_proposed_where_it_would_score_more_often(every, steps, hint):
    assert hint in Optimisation(steps, validate_every=every).describe_validations()


@pytest.mark.parametrize("preset", ["paper", "same_padding"])
@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.99), ("adamw", 0.9)])
def test_each_optimizer_has_its_usual_momentum(rows, preset, optimizer, momentum):
    config = check_config({"preset": preset, "training": {"optimizer": optimizer}})
    names = ("training", "augmentation", "weight_map", "segmentation")
    sections = {name: getattr(config, name) for name in names}
    order = TrainingOrder(rows=rows, network=NETWORK, **sections)
    opened = [
        open_annotated_rows(order.rows, role, NETWORK.num_classes, with_border=True)
        for role in ("train", "validate")
    ]
    recipe = plan_training(*opened, order)
    assert recipe.identity["optimisation"]["momentum"] == momentum
    assert recipe.identity["optimisation"]["optimizer"] == optimizer


def test_without_validation_the_last_weights_are_taken(tmp_path):
    path = ingest(tmp_path / "volumes" / "cells", draw_instances())
    training = Training(tmp_path / "unet", rows_of(path, validate=()))()
    assert training.model["thresholds"] == training.model["validation"] == {}
    assert training.model["step"] == 8
    assert "no row has the role validate" in training.record["warnings"][0]


@pytest.mark.parametrize(
    ("connectivity", "train", "validate", "is_told"),
    [
        ("3d", [0, 2], (1, 3), True),
        ("3d", [0, 1], (2, 3), False),
        ("2d", [0, 2], (1, 3), False),
    ],
)
def test_objects_across_sections_chosen_in_single_ones_are_a_warning(
    tmp_path, connectivity, train, validate, is_told
):
    path = ingest(tmp_path / "volumes" / "cells", draw_instances())
    training = Training(
        tmp_path / "unet", rows_of(path, train=train, validate=validate)
    )
    order = training.order(
        training=TRAINING.model_copy(update={"validation_metric": "f1"}),
        segmentation=SegmentationConfig(connectivity=connectivity),
    )
    opened = [
        open_annotated_rows(order.rows, role, NETWORK.num_classes, with_border=True)
        for role in ("train", "validate")
    ]
    told = [w for w in plan_training(*opened, order).warnings if "follows another" in w]
    assert len(told) == is_told


def test_validation_rows_that_define_no_score_are_a_warning(tmp_path):
    labels = draw_instances()
    labels[3] = 0
    path = ingest(tmp_path / "volumes" / "cells", labels)
    short = {"steps": 1, "validate_every": 1, "validation_metric": "v_rand"}
    training = Training(tmp_path / "unet", rows_of(path))(**with_training(**short))
    assert training.model["thresholds"] == {}
    (told,) = (w for w in training.record["warnings"] if "define no score" in w)
    assert "v_rand" in told


def test_four_classes_and_two_channels_train(tmp_path):
    classes = (draw_instances() % 4).astype(np.uint8)
    classes[0, :10] = 255
    path = ingest(
        tmp_path / "tissue", classes, kind="classes", unlabelled=255, channels=2
    )
    network = NETWORK.model_copy(update={"num_classes": 4})
    rows = rows_of(path, num_classes=4, config=WeightMapConfig(border_class=0))
    training = Training(tmp_path / "unet", rows, network=network)()
    spec = UNetSpec.from_json(training.model["spec"])
    assert (spec.num_classes, spec.in_channels) == (4, 2)
    assert training.model["thresholds"] == {}
    assert set(training.model["validation"]) == {"dice", "loss"}
    assert training.record["metric"] == "dice"
    assert len(training.record["class_weights"]) == 4


@pytest.mark.slow
def test_the_same_padding_preset_trains(tmp_path, rows):
    network = NetworkConfig(
        depth=2,
        base_channels=2,
        padding="same",
        normalization="batch",
        head="sigmoid",
        dropout=0.0,
        initialization="default",
    )
    training = Training(tmp_path / "unet", rows, network=network)()
    assert training.record["patch"] == [1, 52, 60]  # rounded up to the pooling grid
    load_network(
        training.folder / "model.safetensors", Model.model_validate(training.model)
    )


@pytest.mark.slow
def test_volumetric_networks_train(tmp_path):
    path = ingest(tmp_path / "cells", draw_instances((12, 40, 40)))
    network = NetworkConfig(
        ndim=3, depth=1, base_channels=2, pooling=((1, 2, 2),), dropout=0.0
    )
    rows = rows_of(path, train=list(range(6)), validate=range(6, 12), ndim=3)
    training = Training(tmp_path / "unet", rows, network=network)()
    assert training.record["patch"][0] == 6 + network.spec().halo.total[0]


def failing(stage, error, match, **more):
    """Expect an error before anything is trained or written."""
    with pytest.raises(error, match=match):
        stage(**more)
    assert not (stage.folder / "state").exists()
    assert not (stage.folder / "model.json").exists()


def test_no_training_rows_are_refused(tmp_path, rows):
    training = Training(tmp_path / "unet", rows[1:])
    failing(training, ConfigError, "no row of the sheet has the role train")


def test_background_alone_is_refused(tmp_path):
    path = ingest(tmp_path / "void", np.zeros((4, 40, 40), np.uint8), kind="binary")
    training = Training(tmp_path / "unet", rows_of(path))
    failing(training, DataError, r"void hold known voxels of 1 classes \(\[0\]\) only")


def test_nothing_known_is_refused(tmp_path):
    labels = np.full((4, 40, 40), 255, np.uint8)
    path = ingest(tmp_path / "void", labels, kind="binary", unlabelled=255)
    training = Training(tmp_path / "unet", rows_of(path))
    failing(training, DataError, r"0 classes")


@pytest.mark.slow
def test_sections_of_background_are_warned_about(tmp_path, caplog):
    ids = draw_instances()
    ids[1] = 0
    rows = rows_of(ingest(tmp_path / "cells", ids))
    training = Training(tmp_path / "unet", rows)()
    warning = "1 training sections hold background only: cells section 1"
    assert warning in training.record["warnings"]
    assert warning in caplog.text


def test_sections_that_nobody_annotated_are_not_called_background(tmp_path):
    ids = draw_instances()
    ids[0], ids[1] = 999, 0
    rows = rows_of(ingest(tmp_path / "cells", ids, unlabelled=999))
    order = Training(tmp_path / "unet", rows).order()
    found = open_annotated_rows(order.rows, "train", 2, with_border=False)
    assert found.empty_sections == ["cells section 1"]


def test_a_section_that_does_not_exist_is_refused(tmp_path, rows):
    rows[0]["sections"] = [0, 4]
    training = Training(tmp_path / "unet", rows)
    failing(training, ConfigError, "names section 4 of volume cells.* 0 to 3")


def test_patience_without_validation_is_refused(tmp_path, rows):
    training = Training(tmp_path / "unet", rows[:1])
    failing(training, ConfigError, "has the role validate", **with_training(patience=2))


@pytest.mark.slow
def test_tensorboard_shows_what_the_history_holds(tmp_path, rows):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    training = Training(tmp_path / "unet", rows)(**with_training(tensorboard=True))
    training(**with_training(tensorboard=True, steps=10))
    (folder,) = (tmp_path / "unet" / "state").glob("*/tensorboard")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    losses = [(e.step, e.value) for e in events.Scalars("loss")]
    expected = [(row.step, row.loss) for row in training.history]
    assert losses == [(step, pytest.approx(loss)) for step, loss in expected]
    scores = {e.step: e.value for e in events.Scalars("validation")}
    assert set(scores) == {4, 8, 10}


def test_tensorboard_that_is_missing_is_said_before_training(
    tmp_path, rows, monkeypatch
):
    monkeypatch.setattr("unetpipe.training.journal.find_spec", lambda name: None)
    training = Training(tmp_path / "unet", rows)
    remedy = r"pip install unetpipe\[tensorboard\]"
    failing(training, ConfigError, remedy, **with_training(tensorboard=True))


def test_volumes_of_different_channels_are_refused(tmp_path, rows):
    other = ingest(tmp_path / "volumes" / "two", draw_instances(), channels=2)
    training = Training(tmp_path / "unet", [*rows, *rows_of(other)])
    failing(training, DataError, r"number of channels: {'cells': 1, 'two': 2}")


def test_a_weight_map_of_other_classes_is_refused(tmp_path, rows):
    network = NETWORK.model_copy(update={"num_classes": 3})
    training = Training(tmp_path / "unet", rows, network=network)
    failing(training, ConfigError, "cells has 2 classes, network.num_classes is 3")


def test_a_patch_far_larger_than_the_sections_is_refused(tmp_path, rows):
    training = Training(tmp_path / "unet", rows)
    failing(
        training,
        ConfigError,
        r"training.patch is 400 voxels along y.*use at most 66",
        **with_training(patch=(1, 400, 40)),
    )


@pytest.mark.slow
def test_a_patch_is_rounded_up_to_a_legal_size(tmp_path, rows):
    training = Training(tmp_path / "unet", rows)(**with_training(patch=(1, 31, 33)))
    assert training.record["patch"] == [1, 32, 34]


def test_too_little_memory_is_refused_with_what_would_help(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    training = Training(tmp_path / "unet", rows)
    failing(training, ResourceError, r"needs about .* lower training.patch")


def test_scores_of_objects_choose_checkpoint_threshold_and_size(tmp_path, rows):
    done = Training(
        tmp_path / "unet",
        rows,
        training=TRAINING.model_copy(update={"validation_metric": "seg"}),
        segmentation=SegmentationConfig(smallest_object_vox="auto"),
    )()
    model = done.model
    assert set(model["thresholds"]) - CUT == {
        "seg",
        "segmentation",
        "smallest_object_vox",
    }
    assert model["thresholds"]["segmentation"] == model["thresholds"]["seg"]
    assert model["recipe"]["connectivity"] == "2d"
    assert 0 < model["validation"]["seg"] <= 1
    assert done.record["metric"] == "seg"


@pytest.mark.slow
def test_another_way_to_make_objects_trains_nothing(tmp_path, rows):
    first = Training(tmp_path / "unet", rows)()
    weights = first.model["weights_sha256"]
    for name in ("model.safetensors", "model.json", "train.json", "history.csv"):
        (first.folder / name).unlink()
    cut = SegmentationConfig(method="watershed", seeds="cores", seed_distance_vox=2)
    first(segmentation=cut)
    assert first.record["resumed_at"] == [TRAINING.steps], "no step was taken"
    assert first.model["weights_sha256"] == weights
    assert first.model["thresholds"]["seed_distance_vox"] == 2


def test_a_temperature_is_recorded_beside_the_same_network(done):
    before = done.model
    assert "temperature" not in before
    done(**with_training(temperature_scaling=True))
    assert done.record["resumed_at"] == [TRAINING.steps], "no step was taken"
    found = done.model.pop("temperature")
    assert found["loss_after"] < found["loss_before"]
    assert found["num_voxels"] == 3000
    assert {k: v for k, v in done.model.items() if k != "temperature"} == before


def test_a_temperature_needs_validation_rows_and_two_classes(tmp_path, rows):
    training = Training(tmp_path / "unet", rows[:1])
    with pytest.raises(ConfigError, match="validate"):
        training(**with_training(temperature_scaling=True))
    values = {"network": {"num_classes": 3}, "training": {"temperature_scaling": True}}
    with pytest.raises(ConfigError, match="foreground"):
        check_config(values)


@pytest.mark.slow
def test_a_retraining_keeps_the_old_network_and_going_back_trains_nothing(
    tmp_path, rows
):
    names = ("model.safetensors", "model.json", "train.json", "history.csv")
    first = Training(tmp_path / "unet", rows)()
    home = first.folder / f"weights-{first.model['weights_sha256'][:8]}"
    before = {name: (home / name).read_bytes() for name in names}
    other = {"augmentation": AugmentationConfig(rotation_degrees=0.0)}
    for settings in (other, {}):
        for name in names:  # as a workflow engine does before a job
            (first.folder / name).unlink()
        first(**settings)
        assert {name: (home / name).read_bytes() for name in names} == before
    folders = sorted(path.name for path in first.folder.glob("weights-*"))
    assert len(folders) == 2
    assert home.name in folders
    assert (first.folder / "model.safetensors").read_bytes() == before[names[0]]
    assert (first.folder / "model.json").read_bytes() == before[names[1]]
    assert first.record["resumed_at"] == [TRAINING.steps]  # no step was taken


@pytest.mark.parametrize(("is_native", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_computes_in_bf16_only_where_the_device_does(
    tmp_path, rows, monkeypatch, is_native, chosen
):
    """An emulated bf16 is several times slower than fp32."""
    monkeypatch.setattr(
        "unetpipe.training.recipe.has_arithmetic", lambda device, precision: is_native
    )
    auto = Training(tmp_path / "auto", rows)
    auto.training = TRAINING.model_copy(update={"precision": "auto"})
    named = Training(tmp_path / "named", rows)
    named.training = TRAINING.model_copy(update={"precision": chosen})
    identities = [
        plan_training(
            *(
                open_annotated_rows(o.rows, r, 2, with_border=True)
                for r in ("train", "validate")
            ),
            o,
        ).identity
        for o in (auto.order(), named.order())
    ]
    assert identities[0] == identities[1]
    assert identities[0]["optimisation"]["precision"] == chosen


@pytest.mark.parametrize(("is_native", "times"), [(True, 0), (False, 1)])
def test_a_bf16_that_the_device_only_emulates_is_told(
    tmp_path, rows, monkeypatch, caplog, is_native, times
):
    monkeypatch.setattr(
        "unetpipe.training.recipe.has_arithmetic", lambda device, precision: is_native
    )
    wanted = Training(tmp_path / "wanted", rows)
    wanted.training = TRAINING.model_copy(update={"precision": "bf16"})
    opened = (
        open_annotated_rows(wanted.order().rows, role, 2, with_border=True)
        for role in ("train", "validate")
    )
    recipe = plan_training(*opened, wanted.order())
    assert recipe.optimisation.precision == "bf16"
    assert caplog.text.count("only emulates") == times
