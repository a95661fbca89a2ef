"""Variants, folds and seeds: which networks a run trains, and with what."""

import pytest

from unetpipe.config import check_config
from unetpipe.config.networks import list_ensembles, list_networks
from unetpipe.errors import ConfigError


def networks(folds=("",), **values):
    return list_networks(check_config(values), folds)


def test_a_run_of_one_network_calls_it_unet() -> None:
    assert list(networks()) == ["unet"]


def test_a_name_says_what_tells_a_network_from_the_others() -> None:
    named = networks(("1", "2"), variants={"paper": {}, "no-dropout": {}}, seeds=[0, 7])
    assert len(named) == 8
    assert next(iter(named)) == "paper-fold-1-seed-0"
    last = named["no-dropout-fold-2-seed-7"]
    assert (last.variant, last.fold, last.seed) == ("no-dropout", "2", 7)


def test_a_variant_changes_what_it_names_and_nothing_else() -> None:
    named = networks(
        network={"base_channels": 16},
        training={"steps": 500, "seed": 3},
        variants={"paper": {}, "no-dropout": {"network": {"dropout": 0.0}}},
    )
    paper, changed = named["paper"].config, named["no-dropout"].config
    assert (paper.network.dropout, changed.network.dropout) == (0.5, 0.0)
    assert changed.network.base_channels == 16
    assert changed.training == paper.training
    assert paper.training.seed == 3


def test_a_section_that_a_variant_leaves_empty_stays_that_of_the_run() -> None:
    named = networks(training={"steps": 500}, variants={"same": {"training": None}})
    assert named["same"].config.training.steps == 500


def test_seeds_replace_the_seed_of_training_alone() -> None:
    named = networks(training={"seed": 3, "steps": 9}, seeds=[5])
    training = named["seed-5"].config.training
    assert (training.seed, training.steps) == (5, 9)


def test_a_variant_may_be_another_preset_while_given_keys_win() -> None:
    named = networks(
        training={"learning_rate": 0.02},
        variants={"padded": {"preset": "same_padding"}},
    )
    settings = named["padded"].config
    assert settings.network.padding == "same"
    assert settings.training.weight_decay == 5e-4
    assert settings.training.learning_rate == 0.02


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"network": {"dropuot": 0}}, "did you mean dropout"),
        ({"training": {"steps": 0}}, "training.steps: 0: must be"),
        ({"trainig": {"steps": 1}}, "trainig: unknown key; did you mean training?"),
        ({"steps": 9}, "steps: unknown key; did you mean training.steps?"),
        (
            {"colour": 3},
            "colour: unknown key; known: preset, network, weight_map, augm",
        ),
        ({"prediction": {"parts": 3}}, "prediction is shared by all variants"),
        ({"weight_map": {"w0": 1.0}}, "weight_map.w0: shared by all variants"),
    ],
)
def test_an_impossible_variant_is_told_with_its_name(changes, told) -> None:
    with pytest.raises(ConfigError, match=r"variants\.odd: ") as caught:
        check_config({"variants": {"odd": changes}})
    assert told in str(caught.value)


def ensembles(folds=("",), **values):
    config = check_config(values)
    return list_ensembles(config, list_networks(config, folds))


def test_an_ensemble_joins_all_folds_and_seeds_of_a_variant() -> None:
    assert ensembles(("1", "2")) == {}
    assert ensembles(("1", "2"), ensemble=True)["ensemble"].members == (
        "fold-1",
        "fold-2",
    )
    named = ensembles(
        ("1", "2"), ensemble=True, variants={"a": {}, "b": {}}, seeds=[0, 7]
    )
    assert list(named) == ["a-ensemble", "b-ensemble"]
    assert named["b-ensemble"].members == (
        *("b-fold-1-seed-0", "b-fold-1-seed-7"),
        *("b-fold-2-seed-0", "b-fold-2-seed-7"),
    )


def test_an_ensemble_of_one_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="unet is the only network of its kind; give"):
        ensembles(ensemble=True)
