"""The sheet: text stays text, and every problem is told at once."""

from pathlib import Path

import pytest

from unetpipe.config.sheet import Sheet, load_sheet, parse_sections, parse_sheet
from unetpipe.errors import ConfigError

HEADER = "volume\timage\tlabels\tsections\trole\tfold\n"


def sheet(*rows: str, header: str = HEADER) -> Sheet:
    return parse_sheet(header + "\n".join(rows))


def problems(*rows: str, header: str = HEADER) -> str:
    with pytest.raises(ConfigError) as caught:
        sheet(*rows, header=header)
    return str(caught.value)


def test_a_sequence_called_01_stays_01() -> None:
    table = sheet("01\t01\t01_GT\t0-3\ttrain\t02")
    (row,) = table.rows
    assert (row.volume, row.image, row.labels, row.fold) == ("01", "01", "01_GT", "02")
    assert table.folds == ("02",)


@pytest.mark.parametrize("text", ["1e5", "NA", "null", "True", "0x10", "1_000", "inf"])
def test_names_that_look_like_values_stay_text(text: str) -> None:
    assert sheet(f"{text}\ta.tif\tb.tif\tall\ttrain\t").volumes == (text,)


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "/etc", "a/b", "a b", "-x", ".hidden", "x" * 65, "a;rm", "ä", "{x}"],
)
def test_a_volume_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    text = problems(f"{name}\ta.tif\tb.tif\tall\ttrain\t")
    assert repr(name) in text
    assert "use letters, digits" in text


@pytest.mark.parametrize(
    "name", ["state", "STATE", "weights-1a2b3c4d", "report.html", "model.json"]
)
def test_a_volume_does_not_lie_where_a_network_keeps_its_own(name: str) -> None:
    text = problems(f"{name}\ta.tif\tb.tif\tall\ttrain\t")
    assert f"volume is {name!r}, the name of a file or folder" in text


def test_a_fold_is_named_like_a_volume() -> None:
    assert "fold is '../x'" in problems("a\ta.tif\tb.tif\tall\ttrain\t../x")


def test_sections_are_ranges_counted_from_0() -> None:
    assert parse_sections("all") is None
    assert parse_sections("") is None
    assert parse_sections("7,0-2,1") == (0, 1, 2, 7)


@pytest.mark.parametrize("text", ["3-1", "-1", "a", "1,,2", "1-", "1.5", "0-99999999"])
def test_sections_that_are_no_ranges_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="use all, or ranges like 0-3,5-8"):
        parse_sections(text)


def test_a_section_that_the_image_lacks_is_named() -> None:
    (row,) = sheet("a\ta.tif\tb.tif\t0,9\ttrain\t").rows
    assert row.section_numbers(10) == (0, 9)
    with pytest.raises(ConfigError, match="section 9, the image has sections 0 to 4"):
        row.section_numbers(5)


def test_all_problems_come_at_once_with_their_lines() -> None:
    header = (
        "volume\timage\tlabels\trole\taxes\tvoxel_size_nm\tlabel_kind\tunlabelled\n"
    )
    text = problems(
        "a b\ta.tif\tb.tif\ttrain\tzyx\t50,4,4\tinstances\tnone",
        "# a comment counts as a line",
        "c\tc.tif\t\ttrian\tyxx\t50,4\tcells\t1.5",
        "d\td.tif\t\ttrain\t\t\t\t",
        "e\te.tif",
        header=header,
    )
    assert text.splitlines()[0] == "sheet: 8 problems"
    assert "line 2: volume is 'a b'" in text
    assert "line 4: role is 'trian'; use train, validate, test, predict" in text
    assert "line 4: axes is 'yxx'" in text
    assert "line 4: voxel_size_nm is '50,4'; use three positive lengths" in text
    assert "line 4: label_kind is 'cells'; use instances, binary, classes" in text
    assert "line 4: unlabelled is '1.5'; use none or a label id" in text
    assert "line 5: role is train but labels is empty; without labels use" in text
    assert "line 6: 2 cells under 8 columns: role is missing; separate with" in text


@pytest.mark.parametrize(
    ("mark", "spelled"),
    [(" ", "spaces"), ("    ", "spaces"), (",", "commas"), (";", "semicolons")],
)
def test_columns_without_tabs_are_told_with_their_line(mark: str, spelled: str) -> None:
    lines = ("volume", "image", "role"), ("a", "a.tif", "predict")
    text = "\n".join(["# a comment", *map(mark.join, lines)])
    with pytest.raises(ConfigError) as caught:
        parse_sheet(text)
    assert str(caught.value).splitlines()[0] == "sheet: 1 problem"
    assert f"line 2: {spelled} separate the columns; use tabs" in str(caught.value)


def test_a_row_typed_with_spaces_under_tabs_is_told_so() -> None:
    text = problems("a  a.tif  b.tif  all  train")
    assert "line 2: 1 cell under 6 columns; separate with tabs, not with spaces" in text


def test_empty_cells_at_the_end_of_a_row_may_be_left_off() -> None:
    table = sheet("a\ta.tif\tb.tif\tall\ttrain", "b\tb.tif\t\t\tpredict\t\t\t")
    assert [(row.role, row.fold) for row in table.rows] == [
        ("train", ""),
        ("predict", ""),
    ]
    text = problems("a\ta.tif\tb.tif\t0-3", "b\tb.tif\t\t\tpredict\t\tmore")
    assert "line 2: 4 cells under 6 columns: role is missing" in text
    assert "line 3: 7 cells under 6 columns; remove what is too much" in text


@pytest.mark.parametrize(
    "size", ["0,4,4", "-1,4,4", "nan,4,4", "inf,4,4", "4", "a,b,c"]
)
def test_voxel_sizes_are_three_positive_numbers(size: str) -> None:
    header = "volume\timage\trole\tvoxel_size_nm\n"
    assert "voxel_size_nm" in problems(f"a\ta.tif\tpredict\t{size}", header=header)


def test_a_time_point_and_channels_are_read_or_refused() -> None:
    header = "volume\timage\trole\ttime\tchannels\n"
    (row,) = sheet("a\ta.tif\tpredict\t3\tDAPI, 1", header=header).rows
    assert (row.time, row.channels) == (3, ("DAPI", "1"))
    (row,) = sheet("a\ta.tif\tpredict\t\t", header=header).rows
    assert (row.time, row.channels, row.voxel_size_nm) == (None, (), None)
    assert "time is '0-3'; use one time point's number" in problems(
        "a\ta.tif\tpredict\t0-3\t", header=header
    )
    assert "channels is '1,1'; name each channel once" in problems(
        "a\ta.tif\tpredict\t\t1,1", header=header
    )


def test_time_points_of_a_file_are_different_sections() -> None:
    header = "volume\timage\tlabels\trole\ttime\n"
    apart = ("a\ta.tif\tb.tif\ttrain\t0", "b\ta.tif\tb.tif\ttest\t1")
    assert sheet(*apart, header=header).volumes == ("a", "b")
    same = ("a\ta.tif\tb.tif\ttrain\t", "b\ta.tif\tb.tif\ttest\t0")
    assert "both train and test" in problems(*same, header=header)


def test_an_unknown_column_is_an_error_with_a_remedy() -> None:
    text = problems("a\tb\tc", header="volume\timages\trole\n")
    assert "unknown column 'images'; did you mean image?" in text
    assert "column image is missing" in text


def test_a_column_given_twice_is_an_error() -> None:
    header = "volume\timage\trole\trole\n"
    assert "column role appears twice" in problems("a\tb\tc\td", header=header)


def test_a_stray_quote_does_not_swallow_lines() -> None:
    text = problems('a\t"a.tif\t\tall\tpredict\t', "b b\tb.tif\t\tall\tpredict\t")
    assert "line 3: volume is 'b b'" in text


def test_a_cell_that_a_spreadsheet_quoted_is_read_without_its_quotes() -> None:
    header = "volume\timage\trole\tvoxel_size_nm\n"
    (row,) = sheet('a\ta.tif\tpredict\t"50,4,4"', header=header).rows
    assert row.voxel_size_nm == (50.0, 4.0, 4.0)


def test_the_mark_that_spreadsheets_put_in_front_is_no_column(tmp_path: Path) -> None:
    path = tmp_path / "volumes.tsv"
    path.write_bytes(b"\xef\xbb\xbfvolume\timage\trole\r\na\ta.tif\tpredict\r\n")
    assert load_sheet(path).volumes == ("a",)


def test_a_sheet_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "volumes.tsv"
    path.write_bytes("volume\timage\trole\na\tZähler.tif\tpredict".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"volumes\.tsv is no UTF-8 text"):
        load_sheet(path)


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.tsv does not exist"):
        load_sheet(tmp_path / "none.tsv")


def test_an_empty_sheet_lists_the_columns() -> None:
    with pytest.raises(ConfigError, match="has no rows; columns are volume, image"):
        parse_sheet(HEADER)


def test_a_section_with_two_roles_is_a_leak() -> None:
    text = problems(
        "a\ta.tif\tb.tif\t0-5\ttrain\t",
        "a\ta.tif\tb.tif\t4-7\ttest\t",
    )
    assert "volume a: sections [4, 5] are both train and test" in text


def test_an_image_under_two_names_leaks_too() -> None:
    text = problems(
        "a\ta.tif\tb.tif\t0-5\ttrain\t",
        "copy\ta.tif\tb.tif\t5\ttest\t",
    )
    assert "volume a and copy: sections [5] are both train and test" in text


def test_all_sections_overlap_with_any() -> None:
    text = problems("a\ta.tif\tb.tif\tall\ttrain\t", "a\ta.tif\tb.tif\t3\tvalidate\t")
    assert "sections all are both train and validate" in text


def test_a_row_without_fold_leaks_into_every_fold() -> None:
    text = problems("a\ta.tif\tb.tif\t0-3\ttrain\t", "a\ta.tif\tb.tif\t3\ttest\t1")
    assert "sections [3] are both train and test" in text


def test_folds_may_swap_their_sections() -> None:
    table = sheet(
        "a\ta.tif\tb.tif\t0-3\ttrain\t1",
        "a\ta.tif\tb.tif\t4-7\ttest\t1",
        "a\ta.tif\tb.tif\t4-7\ttrain\t2",
        "a\ta.tif\tb.tif\t0-3\ttest\t2",
        "b\tb.tif\t\tall\tpredict\t",
    )
    assert table.folds == ("1", "2")
    assert [r.sections for r in table.of_fold("2", "train")] == [(4, 5, 6, 7)]
    assert table.volumes_of("1", "test", "predict") == ("a", "b")


def test_predicting_a_training_section_is_no_leak() -> None:
    table = sheet("a\ta.tif\tb.tif\t0-3\ttrain\t", "a\ta.tif\tb.tif\tall\tpredict\t")
    assert table.volumes == ("a",)


def test_one_volume_has_one_image() -> None:
    text = problems("a\ta.tif\tb.tif\t0\ttrain\t", "a\tx.tif\tb.tif\t1\ttest\t")
    assert "volume a: image is 'x.tif' in one row and 'a.tif' in another" in text


def test_names_that_differ_only_in_case_are_refused() -> None:
    text = problems("a\ta.tif\t\tall\tpredict\t", "A\tb.tif\t\tall\tpredict\t")
    assert "volumes a and A differ only in case" in text


def test_a_leak_is_found_however_the_image_is_spelled() -> None:
    text = (
        "volume\timage\tlabels\tsections\trole\n"
        "one\ta.tif\tl.tif\t0-3\ttrain\n"
        "two\t./x/../a.tif\tl.tif\t3\ttest\n"
    )
    with pytest.raises(ConfigError, match=r"sections \[3\] are both train and test"):
        parse_sheet(text)


def test_masks_have_no_id_for_what_nobody_annotated() -> None:
    text = (
        "volume\timage\tlabels\trole\tlabel_kind\tunlabelled\n"
        "a\ta.png\tmasks/*.png\ttrain\tmasks\t5\n"
    )
    with pytest.raises(ConfigError, match="unlabelled is 5, but label_kind masks has"):
        parse_sheet(text)


def test_a_volume_may_be_optional_in_all_its_rows_or_in_none() -> None:
    header = "volume\timage\trole\tsections\toptional\n"
    rows = ("a\ta.tif\tpredict\t0\tyes", "b\tb.tif\tpredict\t\t", "c\tc.tif\tpredict")
    table = sheet(*rows, header=header)
    assert [row.optional for row in table.rows] == [True, False, False]
    text = problems(*rows, "a\ta.tif\tpredict\t1\t", header=header)
    assert "volume a: optional is yes in one row and empty in another; write" in text


@pytest.mark.parametrize("text", ["no", "Yes", "true", "1"])
def test_optional_is_yes_or_empty(text: str) -> None:
    header = "volume\timage\trole\toptional\n"
    found = problems(f"a\ta.tif\tpredict\t{text}", header=header)
    assert f"line 2: optional is {text!r}; use yes, or leave it empty" in found


@pytest.mark.parametrize(
    "name", ["scan_" + "0" * 20, "ab" * 20, "x" + "-1" * 25, "1" * 21]
)
def test_a_name_that_snakemake_takes_for_an_endless_rule_is_refused(name: str) -> None:
    text = problems(f"{name}\ta.tif\tb.tif\tall\ttrain\t")
    assert "ends in the same letters over and over; call it otherwise" in text
    text = problems(f"a\ta.tif\tb.tif\tall\ttrain\t{name}")
    assert "ends in the same letters over and over; call it otherwise" in text


def test_names_that_repeat_a_little_are_taken() -> None:
    assert sheet(f"scan_{'0' * 19}\ta.tif\t\tall\tpredict").volumes


def test_the_first_letter_of_a_name_is_said_to_matter() -> None:
    for name in ("_x", "-"):
        text = problems(f"{name}\ta.tif\t\tall\tpredict")
        assert "the first a letter or digit" in text


def test_folds_that_differ_only_in_case_are_refused() -> None:
    text = problems("a\ta.tif\tb.tif\t0\ttrain\tx", "a\ta.tif\tb.tif\t1\ttrain\tX")
    assert "folds x and X differ only in case; rename one" in text


def test_empty_columns_of_a_spreadsheet_are_passed_over() -> None:
    header = "volume\timage\t\trole\t\t\t\n"
    (row,) = sheet("a\ta.tif\t\tpredict\t\t\t", header=header).rows
    assert (row.image, row.role) == ("a.tif", "predict")
    text = problems("a\ta.tif\tmore\tpredict", header=header)
    assert "'more' stands in a column without a name; name it" in text
    text = problems("a\ta.tif\t\tpredict\tmore", header=header)
    assert "5 cells under 4 columns; remove what is too much" in text


def test_a_level_is_a_number() -> None:
    sheet = parse_sheet("volume\timage\trole\tlevel\na\ta.zarr\tpredict\t2\n")
    assert sheet.rows[0].level == 2
    with pytest.raises(ConfigError, match="level is 'coarse'; use the number"):
        parse_sheet("volume\timage\trole\tlevel\na\ta.zarr\tpredict\tcoarse\n")


def test_conditions_are_carried_and_other_new_columns_are_refused() -> None:
    header = "volume\timage\trole\twell\tcondition_drug\tcondition_dose\n"
    rows = ("a\ta.tif\tpredict\tA1\tx\t5", "b\tb.tif\tpredict\tA2\t\t0")
    a, b = sheet(*rows, header=header).rows
    assert a.conditions == {"condition_drug": "x", "condition_dose": "5"}
    assert b.about() == {
        **{"volume": "b", "well": "A2", "field": ""},
        **{"condition_drug": "", "condition_dose": "0"},
    }
    text = problems(rows[0], header=header.replace("condition_dose", "dose"))
    assert "unknown column 'dose'" in text
    assert "well, field, or for what was done to the sample condition_NAME" in text
    text = problems(rows[0], header=header.replace("dose", "drug"))
    assert "column condition_drug appears twice" in text


def test_a_volume_has_one_condition_in_all_its_rows() -> None:
    header = "volume\timage\tlabels\tsections\trole\tcondition_drug\n"
    rows = [f"a\ta.tif\tb.tif\t{z}\ttrain\t{drug}" for z, drug in ((0, "x"), (1, "y"))]
    assert "one volume has one conditions" in problems(*rows, header=header)
