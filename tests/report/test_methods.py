"""The paragraph of methods says what a reviewer asks, where it was in effect."""

from types import SimpleNamespace

import pytest

from tests.records.whole import FOLDER
from unetpipe.records.model import Model
from unetpipe.records.segmentation import ObjectSettings, Segmentation
from unetpipe.records.training import Training
from unetpipe.report.page.methods import describe_methods
from unetpipe.report.page.run import Network, Run

EMA = {"averaging": "ema", "averaging_decay": 0.995, "averaging_start": 0}


def methods(*, results=(), is_averaged=False, steps=None, **optimisation):
    """Return the paragraph of a network that was optimised so."""
    model = Model.read(FOLDER / "model.json")
    assert model.recipe
    assert model.recipe.optimisation
    known = {**model.recipe.optimisation, **optimisation}
    recipe = model.recipe.model_copy(update={"optimisation": known})
    changes = {"recipe": recipe, "is_averaged": is_averaged}
    description = model.model_copy(update=changes)
    trained = Training.read(FOLDER / "train.json")
    training = trained.model_copy(update={"steps": steps or trained.steps})
    network = Network("unet", description, training)
    return describe_methods(Run("a", None, {}, (), network, results))["text"]


def segmented(classes=None, **settings):
    made = Segmentation.read(FOLDER / "segmentation.json")
    rule = ObjectSettings(threshold=0.5, connectivity="2d", **settings)
    identity = made.identity.model_copy(update={"settings": rule})
    return SimpleNamespace(
        segmentation=made.model_copy(update={"identity": identity}),
        prediction=SimpleNamespace(
            identity=SimpleNamespace(orientations=[0], precision="fp32"),
            outputs=SimpleNamespace(classes=classes),
        ),
        measured=None,
        linked=None,
        tested=(),
        metrics=None,
    )


def cut(**settings):
    watershed = {"method": "watershed", "seed_reach_vox": 16, **settings}
    return methods(results=(segmented(**watershed),))


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (
            {"schedule": "cosine", "warmup_steps": 30},
            "The learning rate fell to 0 along half a cosine over all 300 steps, after "
            "it had risen evenly over the first 30 steps.",
        ),
        (
            {"schedule": "step", "schedule_every": 2000, "warmup_steps": 0},
            "The learning rate was multiplied by 0.1 every 2,000 steps.",
        ),
        (
            {"schedule": "constant", "warmup_steps": 1500},
            "The learning rate was constant, after it had risen evenly over the first "
            "1,500 steps.",
        ),
        ({"schedule": "constant", "warmup_steps": 0}, "The learning rate was constant"),
    ],
)
def test_methods_tell_how_the_learning_rate_went(schedule, told):
    assert told in methods(**schedule)


def test_steps_are_those_of_the_training_where_the_recipe_knows_no_end():
    assert "for 700 steps of AdamW" in methods(steps=700)
    assert (
        "with a learning rate of 0.003, a momentum of 0.9 and batches of 1."
        in methods()
    )


def test_methods_tell_of_clipped_gradients_where_they_were():
    told = "Gradients were clipped to a norm of 1."
    assert told in methods(gradient_clip=1.0)
    assert "clipped" not in methods(gradient_clip=None)


@pytest.mark.parametrize(
    ("averaging", "told"),
    [
        (EMA | {"averaging_every": 1}, "mean with a decay of 0.995 a step of the"),
        (EMA | {"averaging_every": 5}, "decay of 0.995 every 5 steps of the"),
        (
            {"averaging": "swa", "averaging_start": 4000, "averaging_every": 100},
            "are the mean of the trained ones every 100 steps after step 4,000.",
        ),
    ],
)
def test_methods_tell_how_weights_were_averaged_where_they_were(averaging, told):
    assert told in methods(averaging=averaging, is_averaged=True)
    assert told not in methods(averaging=averaging, is_averaged=False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"seeds": "cores", "seed_distance_vox": 3.5},
            "from seeds where the foreground is deeper than 3.5 voxels",
        ),
        (
            {"seeds": None, "seed_distance_vox": 3.0},
            "from seeds where the foreground is deeper than 3 voxels",
        ),
        (
            {"seeds": "depth", "seed_distance_vox": 5.0},
            "from the deepest voxels within a distance of 5 voxels",
        ),
        (
            {"seeds": "probability", "seed_distance_vox": 4.0, "seed_threshold": 0.95},
            "from the most probable voxels within a distance of 4 voxels, of a "
            "probability above 0.95",
        ),
        (
            {"seeds": "learnt", "core_threshold": 0.6},
            "from predicted cores, of a probability above 0.6",
        ),
    ],
)
def test_methods_tell_where_seeds_lie_and_how_far_they_grow(settings, told):
    text = cut(**settings)
    assert told in text
    assert "each grown by at most 16 steps from voxel to voxel" in text
    assert "None" not in text


def test_several_classes_are_not_told_apart_by_one_threshold():
    probable = methods(results=(segmented(classes="classes.ome.zarr"),))
    assert "Each voxel is of its most probable class; objects are connected" in probable
    cuts = segmented(classes="classes.ome.zarr", class_thresholds={1: 0.4, 2: 0.65})
    assert "exceeds a threshold (0.4 of class 1, 0.65 of class 2)" in methods(
        results=(cuts,)
    )
    assert "were foreground" not in probable + methods(results=(cuts,))
    assert "were foreground" in methods(results=(segmented(),))


def test_components_have_no_seeds_to_tell_of():
    text = methods(results=(segmented(seed_distance_vox=3.0, seed_reach_vox=16),))
    assert "objects are connected foreground within sections." in text


def test_lengths_of_seeds_are_told_apart_where_voxels_are_no_cubes():
    settings = {"seeds": "cores", "seed_distance_vox": 3.0, "connectivity": "3d"}
    assert "in lengths of the shortest voxel edge" in cut_across(settings)


def cut_across(settings):
    result = segmented(method="watershed", seed_reach_vox=16)
    rule = result.segmentation.identity.settings.model_copy(update=settings)
    identity = result.segmentation.identity.model_copy(update={"settings": rule})
    result.segmentation = result.segmentation.model_copy(update={"identity": identity})
    return methods(results=(result,))
