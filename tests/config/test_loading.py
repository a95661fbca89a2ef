"""The configuration: one error that tells everything, presets, generated files."""

from pathlib import Path

import pytest
import yaml

from tests.reference.__main__ import insert_tables, schema_text
from unetpipe.config import Config, Section, check_config
from unetpipe.errors import ConfigError
from unetpipe.records.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]


def problems(values: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        check_config(values)
    return str(caught.value)


AFFINITIES: dict[str, object] = {"targets": "affinities", "head": "sigmoid"}


def test_nothing_given_means_the_paper() -> None:
    config = check_config({})
    assert config == Config()
    assert config.network.spec().num_parameters == 31_030_658
    assert (config.training.optimizer, config.training.momentum) == ("sgd", "auto")
    assert config.training.batch_size == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "x"}, "nam: unknown key; did you mean name?"),
        ({"training": {"lerning_rate": 1}}, "did you mean learning_rate?"),
        ({"network": {"zzz": 1}}, "network.zzz: unknown key; known: affinity_offsets,"),
        ({"steps": 9}, "steps: unknown key; did you mean training.steps?"),
        ({"lerning_rate": 1}, "did you mean training.learning_rate?"),
        ({"precision": "bf16"}, "did you mean prediction.precision or training.preci"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_remedy(
    values: dict[str, object], message: str
) -> None:
    assert message in problems(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"export_model": True},
            "true: is a section; write its keys below it, indente",
        ),
        ({"export_model": True}, "like `enabled: true`"),
        (
            {"training": 5},
            "training: 5: is a section; write its keys below it, indented",
        ),
        ({"variants": {"wide": 64}}, "variants: 64: holds keys of its own; write them"),
        ({"seeds": 3}, "seeds: 3: must be a list, like [first, second]"),
        (
            {"name": 2024},
            "name: 2024: must be text, in quotes where it looks like a nu",
        ),
        ({"ensemble": "maybe"}, "ensemble: 'maybe': must be true or false"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_yaml(
    values: dict[str, object], message: str
) -> None:
    text = problems(values)
    assert message in text
    for word in ("Config", "dictionary", "tuple", "boolean", "string"):
        assert word not in text


def test_all_problems_come_at_once() -> None:
    text = problems(
        {
            "name": "../up",
            "typo": 1,
            "source_sha256": "123",
            "network": {"head": "sigmoid", "num_classes": 3},
            "ingest": {"shard": [8, 1000, 1000]},
            "training": {"threads": "many", "patch": [1, 572]},
        }
    )
    lines = text.splitlines()
    assert lines[0] == "the configuration: 7 problems"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "name",
        "source_sha256",
        "ingest",
        "network",
        "training.patch",
        "training.threads",
        "typo",
    ]
    assert "shard is 1000 voxels along y, not a multiple of chunk 128; use 896" in text
    assert "shard is 1000 voxels along x" in text
    assert "head is sigmoid with 3 classes; use softmax" in text
    assert "use 64 hexadecimal digits" in text
    assert "training.patch: [1, 572]: too few values" in text
    assert "training.threads: 'many': must be a valid integer or must be 'auto'" in text


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/x",
        "a/b",
        "a b",
        "-rf",
        ".x",
        "ü",
        "a\n",
        "x" * 65,
        "$x",
    ],
)
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    assert "use letters, digits" in problems({"name": name})


@pytest.mark.parametrize("name", ["a", "0", "isbi2012", "a.b-c_d", "x" * 64])
def test_plain_names_are_taken(name: str) -> None:
    assert check_config({"name": name}).name == name


def test_a_preset_sets_defaults_that_own_keys_override() -> None:
    config = check_config({"preset": "same_padding", "network": {"dropout": 0.1}})
    assert config.network.padding == "same"
    assert config.network.normalization == "batch"
    assert config.network.spec().out_channels == 1
    assert config.network.dropout == 0.1
    assert config.training.weight_decay == 5e-4
    assert not config.weight_map.enabled


def test_an_unknown_preset_is_refused() -> None:
    assert "preset: 'best': must be 'paper' or 'same_padding'" in problems(
        {"preset": "best"}
    )


def test_yaml_reads_1e_3_as_a_number() -> None:
    values = yaml.safe_load("training:\n  learning_rate: 1e-3\n")
    assert check_config(values).training.learning_rate == 0.001


def test_a_section_with_all_keys_commented_out_has_its_defaults() -> None:
    assert check_config(yaml.safe_load("training:\n#  steps: 10\n")) == Config()


def sections(model: type[Section]) -> list[type[Section]]:
    found = [model]
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found += sections(field.annotation)
    return found


@pytest.mark.parametrize("section", sections(Config), ids=lambda s: s.__name__)
def test_every_key_has_a_description(section: type[Section]) -> None:
    keys = {
        key: field.description or getattr(field.annotation, "__doc__", None)
        for key, field in section.model_fields.items()
    }
    assert [key for key, text in keys.items() if not text] == []


LENGTHS = ("_vox", "_nm", "_gb", "_degrees")


@pytest.mark.parametrize("suffix", LENGTHS)
def test_a_key_with_a_unit_in_its_name_tells_it_in_words_too(suffix: str) -> None:
    words = {
        "_vox": ("voxel",),
        "_nm": ("nanometre",),
        "_gb": ("GB", "gigabyte", "Memory"),
        "_degrees": ("degree",),
    }[suffix]
    for section in sections(Config):
        for key, field in section.model_fields.items():
            if key.endswith(suffix):
                assert any(word in str(field.description) for word in words), key


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("schema.json", Config.model_json_schema()),
        ("metrics.schema.json", Metrics.model_json_schema()),
    ],
)
def test_a_schema_file_is_the_one_that_the_models_make(name, model) -> None:
    path = ROOT / "config" / name
    assert path.read_text() == schema_text(model), "run `make schema`"


def test_the_readme_tables_are_those_that_the_models_make() -> None:
    text = (ROOT / "config" / "README.md").read_text()
    assert text == insert_tables(text), "run `make schema`"


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks a marker"):
        insert_tables("# Configuration\n")


def test_a_palette_takes_colours_in_either_case_and_numbers_as_yaml_reads_them() -> (
    None
):
    text = 'labels: {palette: {"#FF0000": 1, 0: 0, 255: null}}'
    palette = check_config(yaml.safe_load(text)).labels.palette
    assert palette == {"#ff0000": 1, "0": 0, "255": None}


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ({"red": 1, 0: 0}, 'write colours as "#rrggbb" in quotes, grey values as 0 to'),
        ({"#ff0000": 1, "#FF0000": 0}, "palette names #ff0000 twice; keep one"),
        ({"#ff0000": 1, "#00ff00": 1}, "fewer than two classes; give each colour"),
        ({0: 0, 9: 255}, "labels.palette: 255: must be less than or equal to 254"),
        ({0: 0, 9: 4}, "labels.palette gives 9 the class 4, but network.num_classes"),
    ],
)
def test_a_palette_that_cannot_be_is_refused(
    palette: dict[object, object], message: str
) -> None:
    values = {"labels": {"palette": palette}, "network": {"num_classes": 4}}
    assert message in problems(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"network": {"num_classes": 3}, "training": {"validation_metric": "seg"}},
            "training.validation_metric is seg, which needs two classes, but",
        ),
        (
            {"network": {"num_classes": 3}, "segmentation": {"choose_by": "v_rand"}},
            "segmentation.choose_by is v_rand, which needs two classes, but",
        ),
        (
            {"network": AFFINITIES, "training": {"validation_metric": "loss"}},
            "training.validation_metric is loss, which is of classes, but",
        ),
    ],
)
def test_scores_that_cannot_choose_are_refused(
    values: dict[str, object], message: str
) -> None:
    assert message in problems(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": {"targets": "affinities"}}, "use num_classes 2 and head sigmoid"),
        (
            {"network": AFFINITIES | {"affinity_offsets": [[0, -9, 0]]}},
            "no two of them neighbours",
        ),
        (
            {"network": AFFINITIES | {"affinity_offsets": [[0, 0, 1], [0, 0, -1]]}},
            "name each pair once",
        ),
        (
            {"network": AFFINITIES | {"affinity_offsets": [[0, 0, 1], [1, 0, 0]]}},
            "use 0 along z",
        ),
        ({"network": {"affinity_offsets": [[0, 0, 1]]}}, "use targets affinities"),
        (
            {"network": AFFINITIES, "prediction": {"average": 4}},
            "another orientation would lay elsewhere; use 1",
        ),
        (
            {"network": AFFINITIES, "prediction": {"precision": "int8"}},
            "use fp32 or bf16",
        ),
        ({"segmentation": {"method": "mutex"}}, "use targets affinities, or another"),
        (
            {"segmentation": {"method": "mutex", "largest_hole_vox": 4}},
            "with method mutex, which looks for no holes",
        ),
    ],
)
def test_what_affinities_cannot_do_is_refused(
    values: dict[str, object], message: str
) -> None:
    assert message in " ".join(problems(values).split())


def test_sections_are_not_both_frames_and_depth() -> None:
    values = {"track": {"enabled": True}, "segmentation": {"connectivity": "3d"}}
    told = "track.enabled says that sections are frames, but segmentation.connectivity"
    assert told in problems(values)


def test_a_smallest_size_may_be_chosen_by_the_score_of_the_checkpoint() -> None:
    config = check_config(
        {
            "training": {"validation_metric": "seg"},
            "segmentation": {"smallest_object_vox": "auto"},
        }
    )
    assert config.segmentation.choose_by == "auto"
