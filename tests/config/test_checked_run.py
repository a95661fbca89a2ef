"""A run is checked as a whole: configuration, sheet and files, all at once."""

import shutil
from pathlib import Path

import pytest

from unetpipe.config.checked_run import CheckedRun, check_run
from unetpipe.config.loading import repeated_keys
from unetpipe.errors import ConfigError
from unetpipe.records.volume import Manifest

SHEET = "volume\timage\tlabels\trole\na\ta.tif\tb.tif\t{role}\n"


def values(folder: Path, role: str = "train", **more: object) -> dict[str, object]:
    """Return a configuration of a folder with one volume, and write what it names."""
    for name in ("a.tif", "b.tif"):
        (folder / name).touch()
    (folder / "sheet.tsv").write_text(SHEET.format(role=role))
    return {"source": str(folder), "volumes": str(folder / "sheet.tsv"), **more}


def problems(given: dict[str, object], *files: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_run(given, files)
    return str(caught.value)


def test_a_run_that_is_right_has_its_rows_and_networks(tmp_path: Path) -> None:
    run = check_run(values(tmp_path))
    assert run.sheet.volumes == ("a",)
    assert (list(run.networks), run.ensembles) == (["unet"], {})


def test_configuration_sheet_and_missing_files_are_told_together(
    tmp_path: Path,
) -> None:
    given = values(tmp_path, role="trian", training={"stepps": 1})
    text = problems(given, "mine.yaml")
    assert text.splitlines() == [
        "mine.yaml: 1 problem",
        "  training.stepps: unknown key; did you mean steps?",
        f"{tmp_path / 'sheet.tsv'}: 1 problem",
        "  line 2: role is 'trian'; use train, validate, test, predict",
    ]
    given = values(tmp_path, training={"stepps": 1})
    (tmp_path / "a.tif").unlink()
    text = problems(given)
    assert "the configuration: 1 problem\n  training.stepps" in text
    assert f"  volume a: 'a.tif' is not in {tmp_path}; correct the sheet" in text


@pytest.mark.parametrize("wrong", [{"volumes": 3}, {"source": ["a"]}, {"network": 1}])
def test_values_of_any_kind_are_problems_not_crashes(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    assert next(iter(wrong)) in problems(values(tmp_path) | wrong)


def test_a_wrong_folder_does_not_fill_the_screen(tmp_path: Path) -> None:
    given = values(tmp_path)
    rows = [f"v{k}\tv{k}.tif\t\tpredict\n" for k in range(200)]
    with (tmp_path / "sheet.tsv").open("a") as sheet:
        sheet.writelines(rows)
    lines = problems(given).splitlines()
    assert lines[0] == "the files that the sheet names: 200 problems"
    assert len(lines) == 1 + 10 + 1
    assert lines[-1] == "  and 190 more like these"


def test_a_folder_that_mixes_kinds_is_told_with_its_volume(tmp_path: Path) -> None:
    given = values(tmp_path)
    (tmp_path / "a.tif").unlink()
    (tmp_path / "a.tif").mkdir()
    for name in ("0.png", "1.tif"):
        (tmp_path / "a.tif" / name).touch()
    assert "volume a: " in problems(given)
    assert "holds sections as .png and .tif; name one kind" in problems(given)


def test_what_only_configuration_and_sheet_together_forbid_is_told(
    tmp_path: Path,
) -> None:
    text = problems(values(tmp_path, role="test", compare=["results/nothing"]))
    assert "compare: results/nothing holds no train.json; name the folder of" in text
    assert "no row has the role train; give it annotated sections" in text


def test_the_networks_of_a_run_that_is_named_as_a_whole_are_suggested(
    tmp_path: Path,
) -> None:
    for fold in "21":
        (tmp_path / f"old/fold-{fold}").mkdir(parents=True)
        (tmp_path / f"old/fold-{fold}/train.json").touch()
    old = str(tmp_path / "old")
    text = problems(values(tmp_path, compare=[old]))
    assert f"{old} holds no train.json; did you mean {old}/fold-1 or {old}/fold" in text


def test_a_section_given_twice_is_an_error_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("training:\n  steps: 1\nname: a\ntraining:\n  patch: null\n")
    told = "training: on line 1 and again on line 4, and only the last would count; put"
    assert f"{path}: 1 problem\n  {told}" in problems(values(tmp_path), str(path))


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a: 1\nb: 2\n", []),
        ("a:\n  c: 1\nb:\n  c: 1\n", []),
        ("variants:\n  x: {training: {steps: 1, steps: 2}}\n", ["variants.x.training"]),
        ("- {a: 1,\n   a: 2}\n", ["a"]),
        ("x: &x {a: 1}\ny:\n  <<: *x\n  <<: *x\n", []),
        ("x: &x [*x]\n", []),
        ("? [1]\n: 2\n? [1]\n: 3\n", []),
        ("a: [", []),
        ("", []),
    ],
)
def test_repeated_keys_are_found_wherever_they_stand(
    text: str, places: list[str]
) -> None:
    found = repeated_keys(text)
    assert len(found) == len(places)
    for line, place in zip(found, places, strict=True):
        assert line.startswith(place)
        assert "keep one" in line


def test_aliases_that_multiply_are_read_in_an_instant() -> None:
    lines = ["a0: &a0 {k: 1, k: 2}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    assert len(repeated_keys("\n".join(lines))) == 1


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        (["volumes", "b"], "a network is called volumes, as a file or folder of the"),
        (["Report.html", "b"], "a network is called Report.html, as a file or folder"),
        (["a", "A"], "networks a and A differ only in case; rename one"),
        (["x" * 20, "b"], "which ends in the same letters over and over; call it oth"),
    ],
)
def test_a_network_has_a_folder_of_its_own_on_every_disk(
    tmp_path: Path, variants: list[str], told: str
) -> None:
    given = values(tmp_path, variants={name: {} for name in variants})
    assert told in problems(given)


def test_all_parts_of_the_name_of_a_network_have_room(tmp_path: Path) -> None:
    given = values(tmp_path, variants={"abcdefgh" * 8: {}, "b": {}}, seeds=[1, 2])
    text = problems(given)
    assert "the name of a network is 'abcdefgh" in text
    assert "(it is made of variant, fold and seed)" in text


def test_a_file_of_single_settings_is_not_taken_for_the_demo(tmp_path: Path) -> None:
    """``--configfile config/gpu.yaml`` alone would train the phantom for hours."""
    given = {"training": {"steps": 9}}
    said = problems(given, "gpu.yaml")
    assert "gpu.yaml: no source" in said
    assert "--configfile config/NAME.yaml gpu.yaml" in said
    check_run(values(tmp_path) | given, ["gpu.yaml"])
    for path in Path("config").glob("*.yaml"):
        has_source = "source:" in path.read_text()
        assert has_source != (path.name == "gpu.yaml"), path


def place(folder: Path, given: dict[str, object]) -> CheckedRun:
    return check_run(given, place=lambda path: str(folder / path))


def test_originals_of_stored_volumes_need_not_be_there(tmp_path: Path) -> None:
    """On tape, not mounted: what needs none of them works; nothing else does."""
    originals = tmp_path / "originals"
    originals.mkdir()
    given = values(originals) | {"name": "mine"}
    given["volumes"] = str((originals / "sheet.tsv").rename(tmp_path / "sheet.tsv"))
    record = tmp_path / "results/mine/volumes/a/ingest.json"
    assert place(tmp_path, given).left_out == {}
    (originals / "a.tif").unlink()
    with pytest.raises(ConfigError, match=r"'a\.tif' is not in"):
        place(tmp_path, given)
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    (line,) = place(tmp_path, given).left_out.values()
    assert line.startswith(f"Originals are not in {originals} any more")
    manifest = tmp_path / "resources/mine/manifest.json"
    Manifest(source="another", root="another").write(manifest)
    with pytest.raises(ConfigError, match=r"'a\.tif' is not in"):
        place(tmp_path, given)  # what is stored is not of this source
    Manifest(source=str(originals), root=str(originals)).write(manifest)
    assert list(place(tmp_path, given).left_out.values()) == [line]
    shutil.rmtree(originals)
    run = place(tmp_path, given)
    assert list(run.left_out.values()) == [line]
    assert run.sheet.volumes == ("a",)
    record.unlink()
    with pytest.raises(ConfigError, match="there is no file or folder"):
        place(tmp_path, given)


def test_a_setting_of_the_command_line_without_a_space_is_told(tmp_path: Path) -> None:
    """``--config 'training={steps:9}'``, as people type it."""
    said = problems(values(tmp_path, training={"steps:9": None}))
    assert "YAML wants a space after the colon: steps: 9" in said
