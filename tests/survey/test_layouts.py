"""Layouts that strangers bring: what is image or labels, and what belongs together."""

import json
import zipfile
from itertools import product
from unicodedata import normalize

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests.survey.strangers import (
    draw_curves,
    draw_discs,
    photograph,
    write,
    write_organelles,
    write_two_channels,
    write_vessels,
)
from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.survey.counts import count_labels
from unetpipe.survey.understanding import understand


def look(folder, images="auto", label_kind="auto"):
    return understand(folder, "m", images, label_kind)


def pairs(found):
    return {row.volume.image: row.volume.labels for row in found.rows}


def said(found, words):
    return [note for note in found.notes if words in note]


def blank(seed):
    return photograph(np.random.default_rng(seed), dark=np.zeros((64, 64)))


def test_drawings_are_paired_and_the_field_of_view_is_not(tmp_path):
    write_vessels(tmp_path)
    found = look(tmp_path)
    expected = {
        f"training/images/{n}_training.tif": f"training/1st_manual/{n}_manual1.png"
        for n in range(21, 29)
    }
    expected |= {f"test/images/{n:02}_test.tif": "" for n in range(1, 5)}
    assert pairs(found) == expected
    views = {row.volume.image: row.volume.view for row in found.rows}
    assert views == {
        image: image.replace("images", "mask").replace(".tif", "_mask.png")
        * bool(drawn)
        for image, drawn in expected.items()
    }
    assert found.kind.label_kind == "binary"
    assert said(found, "mask: one large area, nearly the same for all images")
    assert said(found, "2nd_manual/21_manual2.png would fit too")


@pytest.mark.parametrize("place", ["1st_manual", "vessels", "Vessel drawings"])
def test_drawings_are_labels_whatever_their_folder_is_called(tmp_path, place):
    for k in range(6):
        rng = np.random.default_rng(k)
        mask = draw_curves(rng)
        grey = photograph(rng, dark=mask)
        coloured = np.stack([grey, grey // 2, grey // 3], -1)
        write(tmp_path / "photos" / f"p{k}.tif", coloured)
        write(tmp_path / place / f"p{k}.tif", np.uint8(255 * mask))
    found = look(tmp_path)
    assert pairs(found) == {f"photos/p{k}.tif": f"{place}/p{k}.tif" for k in range(6)}
    assert found.kind.label_kind == "binary"


def test_drawings_without_a_partner_do_not_oust_the_photographs(tmp_path):
    """More drawings than photographs, of another number of channels."""
    for k in range(4):
        rng = np.random.default_rng(k)
        mask = draw_curves(rng)
        grey = photograph(rng, dark=mask)
        coloured = np.stack([grey, grey // 2, grey // 3], -1)
        write(tmp_path / "images" / f"eye{k}.tif", coloured)
        for who in ("a", "b"):
            write(tmp_path / f"drawn by {who}" / f"x{k}{who}.tif", np.uint8(mask))
    found = look(tmp_path)
    assert set(pairs(found)) == {f"images/eye{k}.tif" for k in range(4)}
    assert said(found, "8 label files without an image")


def test_ids_in_a_folder_without_a_word_are_labels(tmp_path):
    for k in range(5):
        rng = np.random.default_rng(k)
        ids = draw_discs(rng, 40, 6, 12)
        write(tmp_path / "dic" / f"{k}.tif", photograph(rng, dark=ids > 0))
        write(tmp_path / "cells" / f"{k}.tif", ids)
    found = look(tmp_path)
    assert pairs(found) == {f"dic/{k}.tif": f"cells/{k}.tif" for k in range(5)}
    assert found.kind.label_kind == "instances"


def test_a_folder_a_class_is_said_and_joined(tmp_path):
    write_organelles(tmp_path)
    found = look(tmp_path)
    cell = "em/<c:mito,nucleus,vesicle>/a{}.png"
    assert pairs(found) == {f"em/images/a{k}.png": cell.format(k) for k in range(10)}
    assert (found.kind.label_kind, found.kind.num_classes) == ("classes", 4)
    assert found.kind.class_names == ("none", "mito", "nucleus", "vesicle")
    assert said(found, "hold a class each, and are joined: 1 mito, 2 nucleus")
    assert (
        "class_names: [none, mito, nucleus, vesicle]" in found.write("m", "f", "s")[1]
    )
    with open_image(cell.format(0), tmp_path, Reading(is_labels=True)) as labels:
        classes = labels.read_sections(0, 1)[0, 0]
        for number, name in enumerate(("mito", "nucleus", "vesicle"), 1):
            with open_image(f"em/{name}/a0.png", tmp_path) as mask:
                drawn = mask.read_sections(0, 1)[0, 0] > 0
            np.testing.assert_array_equal(classes == number, drawn)


def test_masks_that_two_people_drew_are_not_two_classes(tmp_path):
    for k in range(5):
        rng = np.random.default_rng(k)
        mask = draw_discs(rng, 8, 8, 14) > 0
        write(tmp_path / "images" / f"{k}.tif", photograph(rng, dark=mask))
        for who in ("labels_anna", "labels_bert"):
            write(tmp_path / who / f"{k}.tif", np.uint8(np.roll(mask, 1, 0)))
    found = look(tmp_path)
    assert pairs(found) == {f"images/{k}.tif": f"labels_anna/{k}.tif" for k in range(5)}


@pytest.mark.slow
def test_channels_of_nnunet_are_joined_and_labels_kept(tmp_path):
    write_two_channels(tmp_path)
    found = look(tmp_path)
    assert pairs(found)["imagesTr/cell_003_<c>.png"] == "labelsTr/cell_003.png"
    assert pairs(found)["imagesTs/cell_102_<c>.png"] == "labelsTs/cell_102.png"
    assert len(pairs(found)) == 12
    assert {row.volume.header.shape for row in found.rows} == {(2, 1, 192, 192)}
    assert said(found, "24 files are the channels of 12 images")
    (tmp_path / "imagesTr/cell_004_0001.png").unlink()
    broken = look(tmp_path)
    assert "imagesTr/cell_004_<c>.png" not in pairs(broken)


@pytest.mark.parametrize("labels", ["labels/a{}_z{:02}.tif", "labels/a{}.tif"])
def test_files_by_channel_and_section_are_one_volume(tmp_path, labels):
    rng = np.random.default_rng(0)
    ids = np.stack([draw_discs(rng, 20, 5, 9) for _ in range(5)])
    for k, z, c in product(range(2), range(5), range(2)):
        path = tmp_path / "raw" / f"a{k}_z{z:02}_ch{c:02}.tif"
        write(path, photograph(rng, dark=ids[z] > 0))
    for k in range(2):
        if "z" in labels:
            for z in range(5):
                write(tmp_path / labels.format(k, z), ids[z])
        else:
            (tmp_path / "labels").mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / labels.format(k), ids)
    found = look(tmp_path)
    name = labels.replace("{:02}", "<z>")
    assert pairs(found) == {
        f"raw/a{k}_z<z>_ch<c>.tif": name.format(k) for k in range(2)
    }
    assert {row.volume.header.shape for row in found.rows} == {(2, 5, 192, 192)}


def test_numbered_cells_are_not_channels(tmp_path):
    for k in range(12):
        write(
            tmp_path / f"exp_c{k}.tif",
            photograph(np.random.default_rng(k), dark=np.zeros((64, 64))),
        )
    found = look(tmp_path)
    assert len(found.rows) == 12


def test_stains_name_channels(tmp_path):
    rng = np.random.default_rng(0)
    for k, stain in product(range(3), ("DAPI", "GFP")):
        section = photograph(rng, dark=np.zeros((64, 64 + k)))
        write(tmp_path / f"well{k}_{stain}.tif", section)
    found = look(tmp_path)
    assert list(pairs(found)) == [f"well{k}_<c>.tif" for k in range(3)]
    with open_image("well0_<c>.tif", tmp_path) as image:
        assert image.channel_names == ("DAPI", "GFP")


def write_plate(folder, rows="AB", columns="12", fields="01", labels=False):
    plate = zarr.open_group(folder / "p.zarr", mode="w", zarr_format=2)
    wells = [f"{row}/{column}" for row, column in product(rows, columns)]
    plate.attrs["plate"] = {"wells": [{"path": well} for well in wells]}
    rng = np.random.default_rng(0)
    for well in wells:
        group = plate.require_group(well)
        group.attrs["well"] = {"images": [{"path": field} for field in fields]}
        for field in fields:
            ids = draw_discs(rng, 9, 5, 9)
            values = {field: photograph(rng, dark=ids > 0)}
            values |= {f"{field}/labels/nuclei": ids} if labels else {}
            for place, section in values.items():
                image = group.require_group(place)
                image.create_array("0", data=section[None])
                axes = [{"name": n, "type": "space"} for n in "zyx"]
                about = {"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}
                image.attrs["multiscales"] = [about]


@pytest.mark.parametrize("place", ["", "p.zarr"])
def test_a_plate_becomes_a_row_a_field(tmp_path, place):
    write_plate(tmp_path)
    found = look(tmp_path / place)
    inside = "" if place else "p.zarr/"
    assert list(pairs(found)) == [
        f"{inside}{row}/{column}/{field}"
        for row, column, field in product("AB", "12", "01")
    ]
    text = found.write("m", "f", "s")[0]
    header, *lines = [line for line in text.splitlines() if line[0] != "#"]
    columns = header.split("\t")
    wells = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]
    assert [(w["well"], w["field"]) for w in wells] == list(
        product(["A1", "A2", "B1", "B2"], "01")
    )
    assert said(found, "a plate: 8 fields in 4 wells")


def test_a_row_of_a_plate_is_read_too_and_labels_of_fields_are_found(tmp_path):
    write_plate(tmp_path, labels=True)
    found = look(tmp_path / "p.zarr" / "A")
    assert pairs(found) == {
        f"{column}/{field}": f"{column}/{field}/labels/nuclei"
        for column, field in product("12", "01")
    }
    assert found.kind.label_kind == "instances"


def test_what_other_programs_keep_is_named(tmp_path):
    write(
        tmp_path / "a.tif",
        photograph(np.random.default_rng(0), dark=np.zeros((64, 64))),
    )
    with zipfile.ZipFile(tmp_path / "a_RoiSet.zip", "w") as archive:
        archive.writestr("0001.roi", b"Iout" + bytes(60))
    (tmp_path / "v.n5" / "raw").mkdir(parents=True)
    (tmp_path / "v.n5" / "attributes.json").write_text(json.dumps({"n5": "2.0.0"}))
    with h5py.File(tmp_path / "b.ims", "w") as file:
        file["DataSet"] = np.zeros((8, 8), np.uint8)
    notes = look(tmp_path).notes
    assert any("RoiSet.zip) holds ROIs of ImageJ" in note for note in notes)
    assert any("1 .n5 file cannot be read" in note for note in notes)
    assert any(".ims" in note for note in notes) or "b.ims" in pairs(look(tmp_path))
    (tmp_path / "a.tif").unlink()
    with pytest.raises(DataError, match="ROIs of ImageJ"):
        look(tmp_path)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_marks_are_compared_as_one_reads_them(tmp_path, forms):
    for k in range(5):
        rng = np.random.default_rng(k)
        ids = draw_discs(rng, 20, 5, 9)
        name = f"Zelle_ä{k}.tif"
        write(
            tmp_path / "images" / normalize(forms[0], name),
            photograph(rng, dark=ids > 0),
        )
        write(tmp_path / "masks" / normalize(forms[1], name), ids)
    found = look(tmp_path)
    assert all(row.volume.labels for row in found.rows)
    assert len(found.rows) == 5
    for form in ("NFC", "NFD"):
        for cell in ("masks/Zelle_ä1.tif", "masks/Zelle_ä1*"):
            with open_image(normalize(form, cell), tmp_path) as image:
                assert len(image.files) == 1


def test_what_is_seen_of_joined_classes_is_what_is_counted(tmp_path):
    write_organelles(tmp_path)
    found = look(tmp_path)
    volumes = [row.volume for row in found.rows]
    tally, filled, notes = count_labels(volumes, tmp_path)
    assert set(tally.voxels) == {0, 1, 2, 3}
    assert set(filled) == {volume.name for volume in volumes}
    assert notes == []


def test_drawings_beside_a_folder_of_labels_are_left_out_and_said(tmp_path):
    for k in range(5):
        rng = np.random.default_rng(k)
        ids = draw_discs(rng, 20, 6, 12)
        write(tmp_path / "raw" / f"{k:02}.tif", photograph(rng, dark=ids > 0))
        write(tmp_path / "labels" / f"labels{k:08}.tif", ids)
        write(tmp_path / "membranes" / f"{k:02}.tif", np.uint8(ids == 0))
    found = look(tmp_path, images="stack")
    assert pairs(found) == {"raw/*.tif": "labels/*.tif"}
    assert said(found, "membranes: left out, because by name they are neither")


def test_drawings_beside_a_field_of_view_alone_are_labels(tmp_path):
    for k in range(5):
        rng = np.random.default_rng(k)
        mask = draw_curves(rng)
        write(tmp_path / "images" / f"{k}.tif", photograph(rng, dark=mask))
        write(tmp_path / "vessels" / f"{k}.tif", np.uint8(mask))
        write(tmp_path / "mask" / f"{k}.tif", np.uint8(np.ones_like(mask)))
    assert pairs(look(tmp_path)) == {
        f"images/{k}.tif": f"vessels/{k}.tif" for k in range(5)
    }


@pytest.mark.parametrize("place", ["2nd_manual", "training/2nd_manual"])
def test_the_folder_that_the_user_names_holds_the_labels(tmp_path, place):
    write_vessels(tmp_path)
    found = understand(tmp_path, "m", "auto", "auto", place)
    learnt = {image: labels for image, labels in pairs(found).items() if labels}
    assert learnt == {
        f"training/images/{n}_training.tif": f"training/2nd_manual/{n}_manual2.png"
        for n in range(21, 29)
    }
    assert len(found.rows) == 12
    assert said(found, "left out, because the labels are said to be in")


def test_a_folder_of_labels_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    write_vessels(tmp_path)
    with pytest.raises(DataError, match=r"--labels drawn: no such folder .*1st_manual"):
        understand(tmp_path, "m", "auto", "auto", "drawn")


WELLS = {
    "A01_s1_w1.tif": ("{well}_s{field}_w{c}.tif", ("A01", "B03")),
    "r01c01f01-ch1.tiff": ("r{r:02}c{col:02}f{field:02}-ch{c}.tiff", ("A01", "A02")),
    "plane p01": (
        "r{r:02}c{col:02}f{field:02}p01-ch{c}sk1fk1fl1.tiff",
        ("A01", "B03"),
    ),
}


@pytest.mark.parametrize("layout", WELLS)
def test_wells_fields_and_channels_in_names_are_columns_and_one_image(tmp_path, layout):
    name, wells = WELLS[layout]
    voxels = {}
    for well, field, c in product(wells, (1, 2), (1, 2)):
        row, column = ord(well[0]) - ord("A") + 1, int(well[1:])
        where = {"well": well, "field": field, "c": c, "r": row, "col": column}
        voxels[well, field, c] = blank(len(voxels))
        write(tmp_path / name.format(**where), voxels[well, field, c])
    found = look(tmp_path)
    rows = {(r.volume.well, int(r.volume.field)): r.volume for r in found.rows}
    assert set(rows) == set(product(wells, (1, 2)))
    for (well, field), volume in rows.items():
        with open_image(volume.image, tmp_path) as image:
            stored = image.read_sections(0, 1)[:, 0]
        expected = [voxels[well, field, c] for c in (1, 2)]
        np.testing.assert_array_equal(stored, expected)
    header = found.write("m", str(tmp_path), "m.tsv")[0].splitlines()
    (columns,) = [line.split("\t") for line in header if line.startswith("volume\t")]
    assert {"well", "field"} <= set(columns)


def test_columns_of_wells_need_no_zeros_where_others_have_two_digits(tmp_path):
    """Half of a plate with wells, the other half without, would be worse than none."""
    for name in ("well A1 pos 2", "well A2 pos 3", "well A10 pos 4", "well B12 pos 1"):
        write(tmp_path / f"{name}.tif", blank(1))
    rows = {(row.volume.well, row.volume.field) for row in look(tmp_path).rows}
    assert rows == {("A1", "2"), ("A2", "3"), ("A10", "4"), ("B12", "1")}


def test_short_names_alone_are_no_wells(tmp_path):
    for name in ("cell a1", "cell a2", "cell b1"):
        write(tmp_path / f"{name}.tif", blank(1))
    assert {row.volume.well for row in look(tmp_path).rows} == {""}


def test_a_channel_that_lacks_a_section_is_said(tmp_path):
    for z, c in product(range(3), range(2)):
        if (z, c) != (1, 1):
            write(tmp_path / f"a_z{z}_ch{c:02}.tif", blank(10 * z + c))
    found = look(tmp_path)
    assert len(found.rows) == 5
    assert said(found, "a_z<z>_ch<c>.tif: some channels lack some sections")


def test_sections_that_their_names_call_so_are_one_volume(tmp_path):
    for t, z in product(range(2), range(3)):
        write(tmp_path / f"mov_t{t:03}_z{z:02}.tif", blank(10 * t + z))
    shapes = [row.volume.header.shape for row in look(tmp_path).rows]
    assert shapes == [(1, 3, 64, 64)] * 2


def test_channels_in_nifti_files_are_joined_and_keep_their_labels(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    rng, voxels = np.random.default_rng(0), {}
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()

    def save(path, array):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / path)

    for k in range(3):
        for c in range(2):
            voxels[k, c] = rng.integers(0, 999, (16, 12, 5)).astype(np.int16)
            save(f"imagesTr/x_{k:03}_{c:04}.nii.gz", voxels[k, c])
        save(f"labelsTr/x_{k:03}.nii.gz", (voxels[k, 0] > 500).astype(np.uint8))
    found = look(tmp_path)
    assert pairs(found) == {
        f"imagesTr/x_{k:03}_<c>.nii.gz": f"labelsTr/x_{k:03}.nii.gz" for k in range(3)
    }
    for k in range(3):
        with open_image(f"imagesTr/x_{k:03}_<c>.nii.gz", tmp_path) as image:
            stored = image.read_sections(0, 5)
        expected = [voxels[k, c].transpose(2, 1, 0) for c in range(2)]
        np.testing.assert_array_equal(stored, expected)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    write(tmp_path / "t<z>u.tif", blank(1))
    (row,) = look(tmp_path).rows
    with open_image(row.volume.image, tmp_path) as image:
        np.testing.assert_array_equal(image.read_sections(0, 1)[0, 0], blank(1))


def test_parts_of_a_virtual_dataset_are_no_volumes_of_their_own(tmp_path):
    stack = np.stack([blank(k) for k in range(3)])
    layout = h5py.VirtualLayout(stack.shape, stack.dtype)
    for k, section in enumerate(stack):
        with h5py.File(tmp_path / f"p{k}.h5", "w") as file:
            file["data"] = section
        layout[k] = h5py.VirtualSource(f"p{k}.h5", "data", shape=section.shape)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    found = look(tmp_path)
    assert pairs(found) == {"v.h5:raw": ""}
    assert said(found, "p0.h5:data, p1.h5:data, p2.h5:data: left out")


@pytest.mark.parametrize("names", [("s0", "s1"), ("0", "1", "2")])
def test_levels_that_nothing_describes_are_one_image(tmp_path, names):
    group, stack = zarr.create_group(tmp_path / "a.zarr"), np.stack([blank(1)] * 5)
    for k, name in enumerate(names):
        group.create_array(name, data=stack[:: 2**k, :: 2**k, :: 2**k])
    found = look(tmp_path)
    assert pairs(found) == {f"a.zarr/{names[0]}": ""}
    assert said(found, f"{names[1]}")


def test_arrays_of_one_shape_are_images_of_their_own(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    for name in "01":
        group.create_array(name, data=np.stack([blank(int(name))] * 5))
    assert pairs(look(tmp_path)) == {"a.zarr/0": "", "a.zarr/1": ""}


def test_wells_that_are_missing_and_fields_that_are_black_are_said(tmp_path):
    plate = zarr.create_group(tmp_path / "p.zarr", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "B/1"}]}
    well = plate.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
    for name, section in (("0", blank(1)), ("1", np.zeros((64, 64), np.uint8))):
        field = well.create_group(name)
        empty = {"write_empty_chunks": False}
        field.create_array("0", data=section[None], config=empty)
        axes = [{"name": axis, "type": "space"} for axis in "zyx"]
        field.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    found = look(tmp_path)
    assert list(pairs(found)) == ["p.zarr/A/1/0", "p.zarr/A/1/1"]
    assert said(found, "of the 2 wells that it names, B/1 is not there")
    assert said(found, "has no chunk: its voxels are all 0")


def test_links_to_nothing_are_named_whatever_they_should_be(tmp_path):
    write(tmp_path / "a.tif", blank(1))
    for name in ("b.zarr", "c.h5"):
        (tmp_path / name).symlink_to("/nowhere")
    found = look(tmp_path)
    for name in ("b.zarr", "c.h5"):
        assert said(found, f"{name} is left out: {tmp_path / name} is a link to")


def test_a_field_of_view_that_is_0_everywhere_is_left_out_and_said(tmp_path):
    write_vessels(tmp_path)
    empty = "training/mask/22_training_mask.png"
    write(tmp_path / empty, np.zeros((192, 192), np.uint8))
    found = look(tmp_path)
    views = {row.volume.image: row.volume.view for row in found.rows}
    assert views["training/images/22_training.tif"] == ""
    assert views["training/images/23_training.tif"]
    assert said(found, f"the field of view {empty} is left out: it is 0 everywhere")
