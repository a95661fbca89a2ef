"""Which volumes a local folder may lack, and what is said of them."""

import zipfile
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpipe.config.checked_run import check_run
from unetpipe.config.missing_files import leave_out_missing
from unetpipe.config.sheet import Sheet, parse_sheet
from unetpipe.errors import ConfigError, DataError

REPOSITORY = Path(__file__).resolve().parents[2]
HEADER = "volume\timage\tlabels\trole\toptional\n"
MINE = "mine\tmine.tif\tmine-l.tif\ttrain\t\n"
MORE = "more\tmore.tif\tmore-l.tif\ttest\tyes\n"


def write(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).touch()
    return str(folder)


def sheet(*rows: str) -> Sheet:
    return parse_sheet(HEADER + "".join(rows))


@pytest.mark.parametrize(("image", "labels"), [*product((True, False), repeat=2)])
def test_an_optional_volume_stays_only_with_image_and_labels(
    tmp_path: Path, image: bool, labels: bool
) -> None:
    names = ["more.tif"] * image + ["more-l.tif"] * labels
    source = write(tmp_path, "mine.tif", "mine-l.tif", *names)
    left, told = leave_out_missing(sheet(MINE, MORE), source)
    assert left.volumes == (("mine", "more") if image and labels else ("mine",))
    missing = [] if image else ["image 'more.tif'"]
    missing += [] if labels else ["labels 'more-l.tif'"]
    hint = (
        "; its image is there: a row with the role predict and no labels would have it "
        "segmented"
    )
    line = (
        f"Volume more, optional in the sheet, is left out: its "
        f"{' and '.join(missing)} {'is' if labels else 'are'} not in {tmp_path}"
        f"{hint * image}."
    )
    assert told == ({"more": line} if missing else {})


def test_an_optional_volume_without_labels_needs_its_image_alone(
    tmp_path: Path,
) -> None:
    rows = sheet(MINE, "more\tmore.tif\t\tpredict\tyes\n")
    source = write(tmp_path, "mine.tif", "mine-l.tif", "more.tif")
    assert leave_out_missing(rows, source) == (rows, {})


def test_archives_and_addresses_are_taken_at_the_sheets_word(tmp_path: Path) -> None:
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("mine.tif", "")
    rows = sheet(MINE, MORE)
    for source in (str(packed), "https://example.org/packed.zip", "phantom:cells"):
        assert leave_out_missing(rows, source) == (rows, {})


def test_a_folder_without_any_volume_is_a_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        leave_out_missing(sheet(MORE), str(tmp_path))
    hint = f"is not in {tmp_path}; correct the sheet or `source`"
    assert str(caught.value).splitlines() == [
        "the files that the sheet names: 2 problems",
        f"  volume more: 'more.tif' {hint}",
        f"  volume more: 'more-l.tif' {hint}",
    ]


def test_a_volume_that_is_not_optional_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        leave_out_missing(sheet(MINE, MORE), write(tmp_path, "mine.tif"))
    assert "volume mine: 'mine-l.tif' is not in" in str(caught.value)
    assert "volume more" not in str(caught.value)


def test_files_that_cannot_be_one_volume_are_an_error_of_optional_ones_too(
    tmp_path: Path,
) -> None:
    source = write(tmp_path, "mine.tif", "mine-l.tif", "more-l.tif")
    (tmp_path / "more.tif").mkdir()
    write(tmp_path / "more.tif", "0.png", "1.tif")
    with pytest.raises(ConfigError, match=r"more: .*holds sections as .png and .tif"):
        leave_out_missing(sheet(MINE, MORE), source)


def test_a_source_that_is_not_there_is_told_as_before(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder"):
        leave_out_missing(sheet(MORE), str(tmp_path / "nothing"))


def test_a_fold_that_only_missing_volumes_have_trains_no_network(
    tmp_path: Path,
) -> None:
    source = write(tmp_path, "a.tif", "a-l.tif")
    (tmp_path / "sheet.tsv").write_text(
        "volume\timage\tlabels\trole\tfold\toptional\n"
        "a\ta.tif\ta-l.tif\ttrain\t1\t\n"
        "b\tb.tif\tb-l.tif\ttrain\t2\tyes\n"
    )
    run = check_run({"source": source, "volumes": str(tmp_path / "sheet.tsv")})
    assert [network.fold for network in run.networks.values()] == ["1"]
    assert list(run.left_out) == ["b"]


def test_what_is_left_out_is_told_where_it_may_be_the_reason(tmp_path: Path) -> None:
    source = write(tmp_path, "a.tif")
    (tmp_path / "sheet.tsv").write_text(
        "volume\timage\tlabels\trole\toptional\n"
        "a\ta.tif\t\tpredict\t\n"
        "b\tb.tif\tb-l.tif\ttrain\tyes\n"
    )
    with pytest.raises(ConfigError) as caught:
        check_run({"source": source, "volumes": str(tmp_path / "sheet.tsv")})
    first, problem, left_out = str(caught.value).splitlines()
    assert first == "configuration and sheet together: 1 problem"
    assert "no row has the role train" in problem
    assert left_out.startswith(
        "Volume b, optional in the sheet, is left out: its image"
    )


def shipped(source: Path, **more: object) -> dict[str, object]:
    values = yaml.safe_load((REPOSITORY / "config/isbi2012.yaml").read_text())
    volumes = str(REPOSITORY / "config/isbi2012.tsv")
    return values | {"source": str(source), "volumes": volumes} | more


def official(folder: Path) -> Path:
    """Lay out what the official zip of the ISBI challenge holds."""
    (folder / "ISBI-2012-challenge").mkdir(parents=True)
    for stack, kind in product(("train", "test"), ("volume", "labels")):
        (folder / f"ISBI-2012-challenge/{stack}-{kind}.tif").touch()
    return folder


def test_the_challenges_stack_is_tested_by_all_networks_where_its_labels_are(
    tmp_path: Path,
) -> None:
    run = check_run(shipped(official(tmp_path), ensemble=True))
    assert run.left_out == {}
    assert set(run.ensembles) == {"ensemble"}
    for network in run.networks.values():
        tested = run.sheet.volumes_of(network.fold, "test")
        assert tested == ("isbi2012", "isbi2012-test")
    (tmp_path / "ISBI-2012-challenge/test-labels.tif").unlink()
    run = check_run(shipped(tmp_path))
    assert run.sheet.volumes == ("isbi2012",)
    (line,) = run.left_out.values()
    assert "its labels '**/test-labels.tif|test/label' are not in" in line
    with pytest.raises(ConfigError) as caught:
        check_run(shipped(tmp_path, ensemble=True))
    assert "has no row without a fold in the role predict or test" in str(caught.value)
    assert str(caught.value).splitlines()[-1] == line


def test_a_trained_network_needs_the_volumes_that_are_there_alone(
    tmp_path: Path,
) -> None:
    rows = sheet(MORE, "own\town.tif\t\tpredict\t\n")
    left, _ = leave_out_missing(rows, write(tmp_path, "own.tif"))
    assert left.volumes == ("own",)


THREE = st.tuples(st.booleans(), st.booleans(), st.booleans())


@settings(max_examples=settings.default.max_examples)
@given(st.lists(THREE, min_size=1, max_size=3))
def test_what_stays_is_whole_and_what_goes_was_optional(
    volumes: list[tuple[bool, bool, bool]],
) -> None:
    """Each volume is optional or not, and its image and labels are there or not."""
    rows = sheet(
        *(
            f"v{n}\tv{n}.tif\tv{n}-l.tif\ttrain\t{'yes' * optional}\n"
            for n, (optional, _, _) in enumerate(volumes)
        )
    )
    whole = [f"v{n}" for n, (_, *there) in enumerate(volumes) if all(there)]
    needed = [f"v{n}" for n, (optional, *_) in enumerate(volumes) if not optional]
    with TemporaryDirectory() as folder:
        for n, (_, image, labels) in enumerate(volumes):
            names = [f"v{n}.tif"] * image + [f"v{n}-l.tif"] * labels
            write(Path(folder), *names)
        if not whole or set(needed) - set(whole):
            with pytest.raises(ConfigError):
                leave_out_missing(rows, folder)
            return
        left, told = leave_out_missing(rows, folder)
    assert list(left.volumes) == whole
    assert sorted([*told, *whole]) == [f"v{n}" for n in range(len(volumes))]
