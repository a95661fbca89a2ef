"""Folders as strangers bring them, and the sheets that they become."""

import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from scipy.ndimage import gaussian_filter, zoom

from tests.stages.annotated import ingest, weigh
from tests.stages.ctc import drawn_sequence, write_sequence
from unetpipe.config import check_config
from unetpipe.config.sheet import load_sheet
from unetpipe.errors import ConfigError, DataError
from unetpipe.images.files import find_image_files, natural_key
from unetpipe.stages.make_sheet import make_sheet
from unetpipe.stages.suggest_settings import suggest_settings
from unetpipe.survey import settings, understanding
from unetpipe.survey.headers import compare_neighbours
from unetpipe.targets.annotated import AnnotatedRow

SIZE = 48


class Made:
    """A sheet and a configuration that were written, and what was printed."""

    def __init__(self, folder, target, printed, name):
        self.printed = printed
        self.sheet = load_sheet(target / f"{name}.tsv")
        self.text = (target / f"{name}.yaml").read_text()
        self.config = check_config(yaml.safe_load(self.text))
        assert Path(self.config.source) == folder.resolve()
        for row in self.sheet.rows:
            assert find_image_files(row.image, folder), row.image
            assert not row.labels or find_image_files(row.labels, folder), row.labels

    @property
    def roles(self):
        """Volume -> its roles."""
        found = {}
        for row in self.sheet.rows:
            found.setdefault(row.volume, []).append(row.role)
        return found

    @property
    def pairs(self):
        """Cells of image and labels of each volume."""
        return {row.volume: (row.image, row.labels) for row in self.sheet.rows}

    @property
    def kinds(self):
        """What the labels are."""
        return {row.label_kind for row in self.sheet.rows if row.labels}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def make(folder, tmp_path, capsys):
    def make(name="mine", **options):
        target = tmp_path / "config"
        make_sheet(folder=folder, name=name, config_dir=target, **options)
        return Made(folder, target, capsys.readouterr().out, name)

    return make


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack", **options)


def noise(seed, shape=(SIZE, SIZE)):
    values = np.random.default_rng(seed).integers(0, 255, shape)
    return values.astype(np.uint8)


def drifting(num_sections):
    """Sections of one volume: each is like its neighbours, unlike those far away."""
    rough = np.random.default_rng(0).normal(size=(num_sections, SIZE, SIZE))
    smooth = gaussian_filter(rough, (2, 2, 2))
    return np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))


def ids(num_objects=6, shape=(SIZE, SIZE)):
    """Squares with ids from 1."""
    labels = np.zeros(shape, np.uint16)
    for k in range(num_objects):
        y, x = 14 * (k // 3) + 2, 14 * (k % 3) + 2
        labels[..., y : y + 9, x : x + 9] = k + 1
    return labels


def write_pairs(folder, count, image="images/{}.tif", labels="labels/{}.tif"):
    for k in range(count):
        write(folder / image.format(k), noise(k, (SIZE, SIZE + k)))
        write(folder / labels.format(k), ids(4 + k % 3, (SIZE, SIZE + k)))


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/{}.tif", "labels/{}.tif"),
        ("images/im{}.tif", "masks/im{}.tif"),
        ("train_images/{}.tif", "train_annotations/{}.tif"),
        ("imagesTr/a{}_0000.tif", "labelsTr/a{}.tif"),
        ("cell{}.tif", "cell{}_labels.tif"),
        ("cell{}.tif", "mask_cell{}.tif"),
        ("raw/cell{}.tif", "gt/cell{}-seg.tif"),
        ("raw/t{}.tif", "ground_truth/man_seg00{}.tif"),
        ("site-{}/raw.tif", "site-{}/GroundTruth.tif"),
        (
            "sub-{0}/micr/sub-{0}_SEM.tif",
            "derivatives/labels/sub-{0}/micr/sub-{0}_SEM_seg-axon.tif",
        ),
    ],
)
def test_image_and_labels_are_paired_by_the_usual_names(make, folder, image, labels):
    write_pairs(folder, 10, image, labels)
    made = make()
    expected = {(image.format(k), labels.format(k)) for k in range(10)}
    assert set(made.pairs.values()) == expected
    assert made.kinds == {"instances"}
    in_turn = ["train", "train", "validate", "train", "test"] * 2
    assert [row.role for row in made.sheet.rows] == in_turn
    assert "10 annotated images share the roles: 6 train, 2 validate, 2 test" in (
        made.printed
    )


@pytest.mark.parametrize(
    "image", ["patient_{}/slice_{}.tif", "images/mouse{}_field{}.tif"]
)
def test_images_of_one_patient_or_animal_stay_in_one_role(make, folder, image):
    for subject, number in product(range(4), range(3)):
        path = folder / image.format(subject, number)
        seed = 3 * subject + number
        write(path, noise(seed, (SIZE, SIZE + seed)))
        write(path.with_name(f"{path.stem}_mask.tif"), ids(5, (SIZE, SIZE + seed)))
    made = make()
    roles = [row.role for row in made.sheet.rows]
    assert roles == ["train"] * 3 + ["validate"] * 3 + ["train"] * 3 + ["test"] * 3
    assert "12 annotated images of 4 groups (" in made.printed
    assert "keep together and share the roles: 6 train, 3 validate, 3 test" in (
        " ".join(made.printed.replace("#", "").split())
    )


def test_one_stack_shares_its_sections_and_keeps_its_voxel_size(make, folder):
    resolution = {
        "resolution": (100.0, 100.0),
        "metadata": {"spacing": 0.05, "unit": "um", "axes": "ZYX"},
    }
    write(folder / "cortex.tif", drifting(12), imagej=True, **resolution)
    write(folder / "cortex_labels.tif", np.stack([ids()] * 12))
    made = make()
    assert [(row.role, row.sections) for row in made.sheet.rows] == [
        ("train", (0, 1, 2, 3, 4, 5)),
        ("validate", (7, 8)),
        ("test", (10, 11)),
    ]
    assert "50,10,10 (file)" in made.printed
    assert "objects are about 10 voxels (102 nm) wide" in made.printed
    assert "voxel_size_nm" not in (made.text + made.printed)
    assert made.pairs == {"cortex": ("cortex.tif", "cortex_labels.tif")}


def write_series(folder, sections, start=0):
    for k, section in enumerate(sections):
        write(folder / "raw" / f"s{k + start}.tif", section)
        write(folder / "labels" / f"s{k + start}.tif", ids())


def test_numbered_files_that_resemble_their_neighbours_are_one_volume(make, folder):
    write_series(folder, drifting(11), start=7)
    made = make()
    assert set(made.pairs.values()) == {("raw/*.tif", "labels/*.tif")}
    assert list(made.roles) == ["mine"]
    assert "the 11 files of raw (neighbours correlate by" in made.printed
    assert "--images independent" in made.printed
    apart = make("apart", images="independent")
    assert len(apart.roles) == 11


def test_numbered_files_that_resemble_nothing_are_images_of_their_own(make, folder):
    write_series(folder, [noise(k) for k in range(11)])
    made = make()
    assert list(made.roles) == [f"s{k}" for k in range(11)]
    assert "if they are the sections of one volume: --images stack" in made.printed
    stacked = make("stacked", images="stack")
    assert set(stacked.pairs.values()) == {("raw/*.tif", "labels/*.tif")}


def test_labels_of_some_sections_leave_the_others_to_be_predicted(make, folder):
    write_series(folder, drifting(12))
    for k in set(range(12)) - {1, 4, 5, 8, 10}:
        (folder / "labels" / f"s{k}.tif").unlink()
    made = make()
    assert [(row.role, row.sections) for row in made.sheet.rows] == [
        ("train", (1, 4, 5)),
        ("validate", (8,)),
        ("test", (10,)),
    ]


def test_labels_of_one_section_alone_are_those_of_its_number(make, folder):
    write_series(folder, drifting(12))
    for k in set(range(12)) - {7}:
        (folder / "labels" / f"s{k}.tif").unlink()
    made = make()
    assert [(row.role, row.sections) for row in made.sheet.rows] == [("train", (7,))]
    assert made.pairs == {"mine": ("raw/*.tif", "labels")}
    assert "nothing has the role validate" in made.printed


def test_a_missing_number_is_said(make, folder):
    write_series(folder, drifting(12))
    for place in ("raw", "labels"):
        (folder / place / "s3.tif").unlink()
    made = make()
    assert list(made.roles) == ["mine"]
    assert "the 11 files of raw, 1 missing in between" in made.printed


def test_the_challenge_trains_on_one_sequence_and_tests_on_the_other(make, folder):
    write_sequence(folder, drawn_sequence(12))
    for path in sorted(folder.rglob("01*/**/*.tif")):
        twin = Path(str(path).replace("/01", "/02"))
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(path.read_bytes())
    write(folder / "01_RES" / "mask000.tif", ids())
    made = make()
    assert made.pairs == {
        "01": ("01/*.tif", "01_ST/SEG/*.tif"),
        "02": ("02/*.tif", "02_GT/SEG/*.tif"),
    }
    assert made.roles == {"01": ["train", "validate"], "02": ["test"]}
    assert made.sheet.rows[-1].sections is None, "markers count in all frames"
    assert made.config.training.validation_metric == "seg"
    assert made.config.track.enabled
    assert "trains on 01, tests on 02" in made.printed


def test_a_folder_an_image_with_a_mask_an_object(make, folder):
    for k in range(5):
        name = f"{k:x}" * 40
        write(folder / "stage1_train" / name / "images" / f"{name}.tif", noise(k))
        for n in range(1 + k):
            mask = np.where(ids() == n + 1, 255, 0).astype(np.uint8)
            write(folder / "stage1_train" / name / "masks" / f"{n}abc.tif", mask)
    made = make()
    assert made.kinds == {"masks"}
    assert list(made.roles) == [f"{k}" * 8 for k in range(5)]
    place = f"stage1_train/{'1' * 40}"
    assert made.pairs["1" * 8] == (
        f"{place}/images/{'1' * 40}.tif",
        f"{place}/masks/*.tif",
    )
    assert "objects are about 10 voxels wide" in made.printed


def test_several_labels_of_an_image_are_named(make, folder):
    for k in range(3):
        write(folder / "sub-1" / "micr" / f"s{k}_TEM.tif", noise(k))
        for what in ("axon", "myelin"):
            place = folder / "derivatives" / "labels" / "sub-1" / "micr"
            write(
                place / f"s{k}_TEM_seg-{what}.tif", 255 * (ids() > 0).astype(np.uint8)
            )
    made = make()
    assert made.kinds == {"binary"}
    assert made.pairs["s0_TEM"][1].endswith("s0_TEM_seg-axon.tif")
    assert "several labels of 3 images" in made.printed
    assert "s0_TEM_seg-myelin.tif would fit too" in made.printed
    assert "several labels of 3 images" in made.text.replace("\n#   ", " ")


def test_hdf5_datasets_are_chosen_by_name_and_said(make, folder):
    with h5py.File(folder / "sample.hdf", "w") as file:
        file["volumes/raw"] = drifting(6)
        file["volumes/raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
        file["volumes/labels/clefts"] = np.zeros((6, SIZE, SIZE), np.uint64)
        file["volumes/labels/neuron_ids"] = np.stack([ids()] * 6).astype(np.uint64)
    made = make()
    assert made.pairs == {
        "sample": ("sample.hdf:volumes/raw", "sample.hdf:volumes/labels/neuron_ids")
    }
    assert (
        "neuron_ids is taken as the labels, though there are volumes/labels/clefts too"
        in made.printed
    )
    assert "40,4,4 (file)" in made.printed


def test_labels_inside_an_ome_zarr_are_found(make, folder):
    for place, values in (("", drifting(6)), ("/labels/cells", np.stack([ids()] * 6))):
        group = zarr.open_group(
            folder / f"brain.ome.zarr{place}", mode="w" if not place else "a"
        )
        group.create_array("0", data=values)
        axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
        scale = {"type": "scale", "scale": [30.0, 5.0, 5.0]}
        datasets = [{"path": "0", "coordinateTransformations": [scale]}]
        group.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [{"axes": axes, "datasets": datasets}],
        }
    made = make()
    assert made.pairs == {"brain": ("brain.ome.zarr", "brain.ome.zarr/labels/cells")}
    assert made.roles == {"brain": ["train", "validate", "test"]}
    assert "30,5,5 (file)" in made.printed


def test_folders_that_split_are_respected(make, folder):
    for split, count in (("train", 5), ("val", 2), ("test", 2)):
        write_pairs(folder / split, count)
    write(folder / "new" / "images" / "x.tif", noise(9))
    made = make()
    count = {"train": 5, "validate": 2, "test": 2, "predict": 1}
    roles = [row.role for row in made.sheet.rows]
    assert {role: roles.count(role) for role in count} == count
    assert made.roles["val-0"] == ["validate"]
    assert "roles by names: 5 train, 2 validate, 2 test" in made.printed


def test_without_a_validation_folder_some_of_training_validates(make, folder):
    write_pairs(folder / "train", 5)
    write_pairs(folder / "test", 2)
    roles = [row.role for row in make().sheet.rows]
    assert roles.count("train"), roles.count("validate") == (4, 1)
    assert roles.count("test") == 2


def test_painted_labels_get_a_palette(make, folder):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]], np.uint8)
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k, (SIZE, SIZE + k)))
        painted = colours[np.minimum(ids(6, (SIZE, SIZE + k)), 2)]
        path = folder / "labels" / f"{k}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, painted, photometric="rgb")
    made = make()
    assert made.kinds == {"classes"}
    assert made.config.labels.palette == {"#000000": 0, "#0080ff": 1, "#ff0000": 2}
    assert made.config.network.num_classes == 3


def test_grey_values_in_many_pieces_are_classes(make, folder):
    write(folder / "a.tif", drifting(5))
    tiles = np.kron(np.indices((12, 12)).sum(0) % 3, np.ones((4, 4), int))
    write(folder / "a_labels.tif", np.stack([np.uint8([0, 90, 200])[tiles]] * 5))
    made = make()
    assert made.kinds == {"classes"}
    assert made.config.labels.palette == {"0": 0, "90": 1, "200": 2}
    said = "3 values (0, 90, 200); each lies in 48 pieces in a section, as classes do"
    assert said in made.printed


def test_files_that_are_there_are_kept_unless_forced(make, folder):
    write_pairs(folder, 3)
    make()
    with pytest.raises(ConfigError, match=r"mine.tsv and .*mine.yaml exist; .*--force"):
        make()
    make(force=True)


def test_hostile_names_become_unique_volumes_that_name_their_file(make, folder):
    names = ["a|b.tif", "tab\there.tif", 'quote".tif', "#first.tif", "~root.tif"]
    names += [" blank.tif", "new\nline.tif", "[1]*.tif", "ü.tif", "U.tif", "u.tif"]
    names += ["日本.tif", "x" * 90 + ".tif", "x" * 90 + "y.tif", "²1.tif", "-a.tif"]
    for k, name in enumerate(names):
        write(folder / "raw" / name, noise(k, (SIZE, SIZE + k)))
    made = make()
    assert len(made.roles) == len(names)
    found = [find_image_files(row.image, folder) for row in made.sheet.rows]
    assert sorted(p.name for (p,) in found) == sorted(names)


def test_axes_that_a_file_leaves_open_are_said_and_written(make, folder):
    tifffile.imwrite(
        folder / "a.tif",
        noise(0, (3, SIZE, SIZE)),
        metadata=None,
        photometric="minisblack",
        planarconfig="separate",
    )
    made = make()
    (row,) = made.sheet.rows
    assert row.axes == "zyx"
    assert "zyx is taken, though they may be channels (cyx)" in made.printed
    assert "zyx is taken" in made.text


def test_time_points_of_a_flat_image_are_sections(make, folder):
    write(folder / "movie.tif", drifting(6), imagej=True, metadata={"axes": "TYX"})
    (row,) = make().sheet.rows
    assert (row.axes, row.time) == ("zyx", None)


def test_time_points_of_a_stack_are_volumes(make, folder):
    movie = noise(0, (2, 5, SIZE, SIZE))
    write(folder / "movie.tif", movie, imagej=True, metadata={"axes": "TZYX"})
    rows = make().sheet.rows
    assert [(row.volume, row.time) for row in rows] == [
        ("movie-t0", 0),
        ("movie-t1", 1),
    ]


def test_without_labels_everything_is_predicted_and_what_is_missing_is_said(
    make, folder
):
    write(folder / "a.tif", drifting(5))
    (folder / "b.vsi").touch()
    made = make()
    assert made.roles == {"a": ["predict"]}
    assert "nothing is annotated" in made.printed
    assert "next: annotate some sections" in made.printed
    assert "snakemake plan" not in made.printed
    assert "# trained: results/old/unet" in made.text
    assert "1 .vsi file cannot be read: convert it to OME-TIFF" in made.printed


def test_empty_and_unfit_labels_do_not_teach(make, folder):
    write_pairs(folder, 7)
    write(folder / "labels" / "0.tif", np.zeros((SIZE, SIZE), np.uint16))
    write(folder / "labels" / "1.tif", ids(shape=(SIZE, SIZE)))
    made = make()
    assert made.roles["0"] == made.roles["1"] == ["predict"]
    assert "the labels of 0 hold nothing but 0" in made.printed
    assert "1: labels are left out: the image is (1, 48, 49)" in made.printed


def test_images_with_another_number_of_channels_are_left_out_and_named(make, folder):
    write_pairs(folder, 5)
    tifffile.imwrite(
        folder / "images" / "c.tif", noise(3, (SIZE, SIZE, 3)), photometric="rgb"
    )
    made = make()
    assert len(made.roles) == 5
    assert "1 volume left out: not of 1 channel" in made.printed


def test_a_black_picture_among_coloured_ones_keeps_its_colours(make, folder):
    for k in range(5):
        colour = noise(k, (SIZE, SIZE, 3)) * (k != 2)
        tifffile.imwrite(
            *(folder / f"{k}.tif", np.uint8(colour)), photometric="rgb", planarconfig=1
        )
    write(folder / "grey.tif", noise(9))
    made = make(images="independent")
    assert {row.volume: row.axes for row in made.sheet.rows} == {
        **{str(k): "" for k in (0, 1, 3, 4)},
        "2": "yxc",
    }
    assert "2: red, green and blue are equal, and all 3 are kept" in made.printed
    assert (
        "1 volume left out: not of 3 channels as the other 5: grey.tif" in made.printed
    )


def test_soft_edges_are_refused_with_a_remedy(make, folder):
    distance = np.hypot(*(np.indices((160, 160)) - 80))
    soft = np.uint8(255 * np.clip((52 - distance) / 4, 0, 1))
    write(folder / "a.tif", noise(0, soft.shape))
    write(folder / "a_mask.tif", soft)
    made = make()
    assert made.roles == {"a": ["predict"]}
    assert "save them with two values" in made.printed


def thin_curves(k, size=128):
    """Masks of thin structures, as vessels or membranes are."""
    y, x = np.mgrid[:size, :size]
    waves = np.sin(x / 9 + k) + np.sin(y / 11 + 2 * k) + np.sin((x + y) / 15)
    return np.where(waves % 1 < 0.12, 255, 0)


def smooth(mask):
    return gaussian_filter(np.float64(mask), 0.8).astype(np.uint8)


def as_jpeg(mask):
    packed = imagecodecs.jpeg8_encode(mask.astype(np.uint8), level=75)
    return imagecodecs.jpeg8_decode(packed)


def resize(mask):
    """Twice as large, with values between the two, as viewers do."""
    return np.uint8(np.clip(zoom(np.float64(mask), 2, order=1), 0, 255))


@pytest.mark.parametrize("spoil", [smooth, as_jpeg, resize])
@pytest.mark.parametrize("as_colours", [False, True])
def test_spoilt_masks_are_refused_or_on_demand_cut_at_half(
    make, folder, spoil, as_colours
):
    for k in range(5):
        soft = spoil(thin_curves(k))
        write(folder / "images" / f"a{k}.tif", noise(k, soft.shape))
        path = folder / "labels" / f"a{k}.tif"
        path.parent.mkdir(exist_ok=True)
        kind = "minisblack"
        if as_colours:
            soft, kind = np.stack([soft] * 3, axis=-1), "rgb"
        tifffile.imwrite(path, soft, photometric=kind)
    refused = make()
    assert {row.role for row in refused.sheet.rows} == {"predict"}
    assert "save them with two values" in refused.printed
    assert "--label-kind binary" in refused.printed
    made = make("cut", label_kind="binary")
    assert made.kinds == {"binary"}
    top = int(max(spoil(thin_curves(k)).max() for k in range(5)))
    assert made.config.labels.threshold == (top + 1) // 2
    assert make("ids", label_kind="instances").kinds == {"instances"}


def test_ids_in_a_mask_as_the_user_says_are_all_foreground(make, folder):
    write_pairs(folder, 5)
    made = make(label_kind="binary")
    assert (made.kinds, made.config.labels.threshold) == ({"binary"}, 1)


def fiji_colours():
    """A table of colours in which no id has the one that it had before."""
    table = np.random.default_rng(0).integers(1, 255, (3, 256)).astype(np.uint16) * 257
    table[:, 0] = 0
    return table


@pytest.mark.parametrize("num_ids", [16, 200])
@pytest.mark.parametrize("wanted", ["auto", "instances"])
def test_the_entries_of_a_palette_are_ids(make, folder, num_ids, wanted):
    rng = np.random.default_rng(0)
    for k in range(6):
        tiles = rng.permutation(num_ids)[:16].reshape(4, 4)
        labels = np.kron(tiles, np.pad(np.ones((12, 12)), 2)).astype(np.uint8)
        write(folder / "images" / f"a{k}.tif", noise(k, labels.shape))
        path = folder / "labels" / f"a{k}.tif"
        path.parent.mkdir(exist_ok=True)
        options = {"photometric": "palette", "colormap": fiji_colours()}
        tifffile.imwrite(path, labels, metadata=None, **options)
    made = make(label_kind=wanted)
    assert made.kinds == {"instances"}
    assert made.config.network.num_classes == 2


def test_masks_painted_in_two_colours_are_masks(make, folder):
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k, (SIZE, SIZE + k)))
        painted = np.zeros((SIZE, SIZE + k, 3), np.uint8)
        painted[ids(6, (SIZE, SIZE + k)) > 0] = (255, 0, 0)
        path = folder / "labels" / f"{k}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, painted, photometric="rgb")
    made = make()
    assert made.kinds == {"binary"}
    assert made.config.labels.palette == {"#000000": 0, "#ff0000": 1}
    assert "objects are about 10 voxels wide" in made.printed
    with pytest.raises(DataError, match=r"instances: .*painted in 2 colours; save ids"):
        make("ids", label_kind="instances")


@pytest.mark.parametrize(
    ("dtype", "marker"), [("uint64", 2**64 - 1), ("uint32", 2**32 - 1), ("int16", -1)]
)
def test_what_by_custom_is_not_annotated_is_said_and_written(
    make, folder, dtype, marker
):
    labels = np.stack([ids()] * 6).astype(dtype)
    labels[:, 20:, 20:] = marker
    with h5py.File(folder / "s.hdf", "w") as file:
        file["volumes/raw"] = drifting(6)
        file["volumes/labels/cells"] = labels
    made = make()
    assert made.kinds == {"instances"}
    assert {row.unlabelled for row in made.sheet.rows} == {marker}
    assert (
        f"{marker}, on 34% of the voxels, is taken to say that nobody" in made.printed
    )
    assert "which leaves no background" not in made.printed


@pytest.mark.parametrize(
    ("values", "kind", "palette"),
    [
        ((0, 1, 2), "classes", None),
        ((0, 5, 15), "classes", {"0": 0, "5": 1, "15": 2}),
        ((0, 1), "binary", None),
    ],
)
def test_the_largest_value_beside_small_ones_is_not_annotated(
    make, folder, values, kind, palette
):
    tiles = np.kron(np.indices((6, 6)).sum(0) % len(values), np.ones((7, 7), int))
    labels = np.uint8(values)[tiles]
    labels[:14] = 0
    labels[::7], labels[:, ::7] = 255, 255
    for k in range(5):
        write(folder / "JPEGImages" / f"{k}.tif", noise(k, (42, 42)))
        write(folder / "SegmentationClass" / f"{k}.tif", labels)
    made = make()
    assert made.kinds == {kind}
    assert {row.unlabelled for row in made.sheet.rows} == {255}
    assert made.config.network.num_classes == len(values)
    assert made.config.labels.palette == palette
    assert "255, on 27% of the voxels, is taken to say that nobody" in made.printed
    assert "write 0 into a column unlabelled" not in made.printed


@pytest.mark.parametrize("values", [(0, 1, 255), (0, 128, 255), (0, 40, 255)])
def test_the_largest_value_of_a_mask_or_of_greys_is_an_annotation(make, folder, values):
    labels = np.kron(np.indices((6, 6)).sum(0) % 2, np.ones((7, 7), int))
    labels = np.uint8(255 * labels)
    if values[1] == 1:
        labels[::20, ::20] = 1  # strays
    else:
        labels[::2, ::2] = values[1]
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k, (42, 42)))
        write(folder / "labels" / f"{k}.tif", labels)
    assert {row.unlabelled for row in make().sheet.rows} == {None}


@pytest.mark.parametrize("as_stack", [False, True])
@pytest.mark.parametrize("values", [(1, 255), (1, 128, 255)])
def test_masks_that_were_saved_in_several_ways_are_masks(
    make, folder, values, as_stack
):
    masks = [np.uint8(255 * (ids() > 0))] * 6
    masks = [
        np.where(m, np.uint8(values[k % len(values)]), m) for k, m in enumerate(masks)
    ]
    if as_stack:
        write(folder / "a.tif", drifting(6))
        write(folder / "a_mask.tif", np.stack(masks))
    else:
        for k, mask in enumerate(masks):
            write(folder / "images" / f"{k}.tif", noise(k))
            write(folder / "masks" / f"{k}.tif", mask)
    made = make()
    assert made.kinds == {"binary"}
    assert {row.unlabelled for row in made.sheet.rows} == {None}
    assert "predict" not in {row.role for row in made.sheet.rows}
    assert made.config.labels.threshold == 1
    assert f"each section holds 0 and one of {', '.join(map(str, values))}" in (
        made.printed
    )


def test_objects_painted_in_colours_are_not_taken_for_classes(make, folder):
    for k in range(5):
        numbers = ids(9, (50, 50)).astype(np.uint32) * 30_011
        painted = np.stack([numbers, numbers >> 8, numbers >> 16], -1).astype(np.uint8)
        write(folder / "images" / f"{k}.tif", noise(k, (50, 50)))
        (folder / "labels").mkdir(exist_ok=True)
        path = folder / "labels" / f"{k}.tif"
        tifffile.imwrite(path, np.roll(painted, k, -1), photometric="rgb")
    refused = make()
    assert {row.role for row in refused.sheet.rows} == {"predict"}
    assert "each lies in one piece in a section, as objects do" in refused.printed
    assert "--label-kind classes" in refused.printed
    assert make("as_classes", label_kind="classes").kinds == {"classes"}


def test_a_background_of_another_value_than_0_is_doubted(make, folder):
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k, (80, 80)))
        labels = ids(4 + k % 2, (80, 80)) + np.uint16(32768)  # signed, read as unsigned
        write(folder / "labels" / f"{k}.tif", labels)
    made = make()
    assert made.kinds == {"instances"}
    assert "none is 0: if 32768, on 94% of the voxels, is the background" in (
        made.printed
    )


def test_rare_objects_are_not_said_to_be_none(make, folder):
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k, (80, 80)))
        mask = np.zeros((80, 80), np.uint8)
        mask[k : k + 4, 40:44] = 255
        write(folder / "labels" / f"{k}.tif", mask)
    printed = make().printed
    assert "255 is taken as the objects (0.2% of the voxels)" in printed
    assert "a mask without ids fills 0.2% of what is annotated" in printed


def test_a_background_of_the_largest_id_is_named_by_its_value(make, folder):
    labels = np.stack([ids()] * 6).astype(np.uint64)
    with h5py.File(folder / "s.hdf", "w") as file:
        file["volumes/raw"] = drifting(6)
        clefts = np.where(labels == 0, np.uint64(2**64 - 1), labels)
        file["volumes/labels/clefts"] = clefts
    made = make()
    assert {row.unlabelled for row in made.sheet.rows} == {2**64 - 1}
    assert "which leaves no background: if it is the background, save" in made.printed


def test_a_mask_of_the_largest_value_is_a_mask(make, folder):
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k, (SIZE, SIZE + k)))
        mask = np.where(ids(4, (SIZE, SIZE + k)) > 0, 2**32 - 1, 0).astype(np.uint32)
        write(folder / "labels" / f"{k}.tif", mask)
    made = make()
    assert made.kinds == {"binary"}
    assert {row.unlabelled for row in made.sheet.rows} == {None}


def test_linked_folders_are_followed_and_circles_are_not(make, folder, tmp_path):
    write_pairs(tmp_path / "elsewhere", 3)
    for name in ("images", "labels"):
        (folder / name).symlink_to(tmp_path / "elsewhere" / name)
    (folder / "again").symlink_to(folder)
    assert make().pairs["0"] == ("images/0.tif", "labels/0.tif")


def test_what_the_user_says_of_labels_counts(make, folder):
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k, (SIZE, SIZE + k)))
        write(folder / "labels" / f"{k}.tif", ids(3, (SIZE, SIZE + k)))
    made = make()
    assert made.kinds == {"classes"}
    assert "the same in all 5 images" in made.printed
    assert "--label-kind instances" in made.printed
    assert make("ids", label_kind="instances").kinds == {"instances"}


def test_a_folder_without_images_is_refused_with_what_it_holds(make, folder):
    (folder / "b.vsi").touch()
    with pytest.raises(DataError, match=r"no TIFF.*1 .vsi file cannot be read"):
        make()


def test_the_command_needs_no_torch_and_prints_the_next_commands(folder, tmp_path):
    write_pairs(folder, 3)
    root = Path(__file__).resolve().parents[2]
    watch = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0]); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            watch,
            "scripts/make_sheet.py",
            str(folder),
            "--name",
            "mine",
            "--config-dir",
            str(tmp_path),
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    *_, plan, run, torch = done.stdout.splitlines()
    command = f"--configfile {tmp_path}/mine.yaml"
    assert plan.split("#")[0].strip() == f"snakemake plan {command}"
    assert run.split("#")[0].strip() == f"snakemake {command}"
    assert torch == "False"


@pytest.mark.parametrize(
    "place", ["isbi2012-em/train/image", "ctc-dic-c2dh-hela/01"], ids=["em", "dic"]
)
def test_real_sections_are_one_volume_in_their_order_and_not_shuffled(real_data, place):
    folder = real_data / place
    paths = sorted((path.name for path in folder.iterdir()), key=natural_key)[:40]
    in_order = compare_neighbours(paths, folder)
    assert in_order is not None
    assert in_order.is_series
    chance = np.random.default_rng(0)
    for _ in range(5):
        shuffled = compare_neighbours(chance.permutation(paths).tolist(), folder)
        assert shuffled is not None
        assert not shuffled.is_series


def read_hand_made(name):
    root = Path(__file__).resolve().parents[2]
    return load_sheet(root / "config" / f"{name}.tsv")


@pytest.mark.slow
def test_real_folders_become_what_people_wrote_by_hand(real_data, tmp_path, capsys):
    def make(name):
        make_sheet(
            folder=real_data / name, name="mine", config_dir=tmp_path, force=True
        )
        return Made(real_data / name, tmp_path, capsys.readouterr().out, "mine")

    vnc = make("drosophila-vnc-sstem")
    theirs = read_hand_made("vnc").rows
    assert [(r.role, r.sections) for r in vnc.sheet.rows] == [
        (r.role, r.sections) for r in theirs
    ]
    assert vnc.kinds == {"classes"}
    greys = {0, 32, 64, 96, 128, 159, 191, 223, 255}
    assert set(vnc.config.labels.palette) == {str(grey) for grey in greys}
    isbi = make("isbi2012-em")
    split = read_hand_made("isbi2012-split").rows
    tested = [r.sections for r in isbi.sheet.rows if r.role == "test"]
    assert tested == [r.sections for r in split if r.role == "test"]
    assert isbi.roles == {"test": ["predict"], "train": ["train", "validate", "test"]}
    assert isbi.kinds == {"binary"}


def test_the_command_ends_in_words_and_not_in_a_traceback(folder, tmp_path):
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "scripts/make_sheet.py", str(folder / "nowhere")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"DataError: {folder.resolve()}/nowhere is no folder; name the folder that "
        "holds the images\n"
    )


def test_reasons_stand_above_the_settings_and_an_hour_is_the_limit(
    make, folder, monkeypatch
):
    for k in range(10):
        write(folder / "images" / f"{k}.tif", noise(k, (320, 320)))
        write(folder / "labels" / f"{k}.tif", np.tile(ids(), (7, 7))[:320, :320])
    monkeypatch.setattr(settings, "LONGEST_ON_CPU", 1.0)
    made = make()
    assert made.config.network.base_channels == settings.NARROWEST
    assert made.config.training.steps == 2000
    assert made.config.training.schedule == "cosine"
    words = " ".join(made.text.replace("#", " ").split())
    assert "no GPU was found: about" in words
    assert made.config.training.precision == "auto"
    assert re.search(r"set .*, because no GPU was found", made.printed)
    assert made.config.prediction.parts == 1


@pytest.mark.parametrize(
    ("width", "metric", "is_scored"), [(6, "f1", False), (11, "v_rand", True)]
)
def test_objects_in_a_background_are_not_scored_as_membranes(
    make, folder, width, metric, is_scored
):
    """Cells on a grid of 12: a quarter of the voxels, or all but the borders."""
    labels = np.zeros((48, 48), np.uint16)
    corners = product(range(0, 48, 12), repeat=2)
    for number, (y, x) in enumerate(corners, 1):
        labels[y : y + width, x : x + width] = number
    for k in range(5):
        write(folder / "images" / f"{k}.tif", noise(k))
        write(folder / "labels" / f"{k}.tif", labels)
    config = make().config
    assert config.training.validation_metric == metric
    assert config.segmentation.smallest_object_vox == "auto"
    assert config.evaluation.isbi_scores is is_scored


def test_a_gpu_gets_what_the_annotations_suggest(make, folder, monkeypatch):
    write(folder / "a.tif", drifting(5))
    write(folder / "a_labels.tif", np.stack([ids()] * 5))
    monkeypatch.setattr(understanding, "has_cuda_driver", lambda: True)
    made = make()
    assert "no GPU" not in made.text
    assert made.config.training.precision == "bf16"
    assert made.config.prediction.precision == "bf16"


@pytest.mark.slow
def test_a_sheet_proposes_what_the_suggestions_say(make, folder, tmp_path, monkeypatch):
    """Also where cells of one image are larger than those of another."""
    monkeypatch.setattr(understanding, "has_cuda_driver", lambda: True)
    drawn = {}
    for k, width in enumerate((12, 60, 60, 60, 60)):
        labels = np.zeros((1, 192, 192), np.uint16)
        corners = product(range(2, 192 - width, width + 4), repeat=2)
        for number, (y, x) in enumerate(corners, 1):
            labels[:, y : y + width, x : x + width] = number
        write(folder / f"images/{k}.tif", noise(k, (192, 192)))
        write(folder / f"labels/{k}.tif", labels[0])
        drawn[f"labels/{k}.tif"] = labels
    made = make()
    rows = []
    for row in made.sheet.rows:
        path = ingest(tmp_path / row.volume, drawn[row.labels])
        files = {"ingest": str(path), "weight_map": str(weigh(path))}
        rows.append({**files, "sections": None, "role": row.role})
    suggest_settings(
        rows=[AnnotatedRow(**row) for row in rows],
        ingest=made.config.ingest,
        network=made.config.network,
        training=made.config.training,
        weight_map=made.config.weight_map,
        snippet=tmp_path / "suggestions.yaml",
        record=tmp_path / "suggestions.json",
    )
    assert made.config.weight_map.sigma_vox == 2.0, "an eighth of a small cell"
    assert yaml.safe_load((tmp_path / "suggestions.yaml").read_text()) is None


def test_a_sequence_of_stacks_becomes_a_volume_for_each_annotated_frame(make, folder):
    for t in range(6):
        write(folder / "01" / f"t{t:03}.tif", noise(t, (5, SIZE, SIZE)))
    for t in (1, 2, 4):
        labels = np.stack([ids()] * 5)
        write(folder / "01_GT" / "SEG" / f"man_seg{t:03}.tif", labels)
    made = make()
    assert made.pairs == {
        f"t{t:03}": (f"01/t{t:03}.tif", f"01_GT/SEG/man_seg{t:03}.tif")
        for t in (1, 2, 4)
    }
    assert not made.config.track.enabled, "each frame is a volume"


def test_one_annotated_sequence_shares_its_frames(make, folder):
    write_sequence(folder, drawn_sequence(12), gold=range(12), silver=False)
    write(folder / "02" / "t000.tif", noise(0, (32, 32)))
    write(folder / "02" / "t001.tif", noise(1, (32, 32)))
    made = make()
    assert made.roles == {"01": ["train", "validate", "test"], "02": ["predict"]}


def test_mostly_zero_classes_may_be_scribbles_and_that_is_said(make, folder):
    painted = np.zeros((5, SIZE, SIZE), np.uint8)
    for k in range(12):
        painted[:, 4 * k : 4 * k + 2, 3 : 3 + 2 * (k % 4)] = 1 + k % 2
    write(folder / "a.tif", drifting(5))
    write(folder / "a_labels.tif", painted)
    made = make()
    assert (made.kinds, made.config.network.num_classes) == ({"classes"}, 3)
    assert "write 0 into a column unlabelled" in made.printed


def test_labels_of_two_layouts_do_not_mix(make, folder):
    write(folder / "a.tif", drifting(5))
    write(folder / "a_labels.tif", np.stack([ids()] * 5))
    write(folder / "x" / "images" / "x.tif", noise(0))
    for n in range(3):
        mask = np.where(ids() == n + 1, 255, 0).astype(np.uint8)
        write(folder / "x" / "masks" / f"{n}.tif", mask)
    made = make()
    assert made.roles == {"a": ["train", "validate", "test"], "x": ["predict"]}
    assert "the labels of x are left out" in made.printed


def test_labels_of_another_kind_are_not_given_to_images_without_labels(make, folder):
    write_pairs(folder, 5)
    for k in range(5):
        write(folder / f"images_new/{k}.tif", noise(10 + k, (SIZE, SIZE + k)))
        write(folder / f"labels_membrane/{k}.tif", ids(3, (SIZE, SIZE + k)))
    made = make()
    learnt = {row.image: row.labels for row in made.sheet.rows if row.labels}
    assert learnt == {f"images/{k}.tif": f"labels/{k}.tif" for k in range(5)}
    assert "5 label files without an image: labels_membrane/0.tif" in made.printed


def test_leftover_numbers_do_not_pair_where_names_of_others_fit(make, folder):
    for k in range(5):
        write(folder / f"raw/a{k}.tif", noise(k))
        write(folder / f"raw/b{k}.tif", noise(10 + k))
        write(folder / f"labels/a{k}.tif", ids(4))
        write(folder / f"labels/c{k}.tif", ids(3))
    made = make(images="independent")
    learnt = {row.image: row.labels for row in made.sheet.rows if row.labels}
    assert learnt == {f"raw/a{k}.tif": f"labels/a{k}.tif" for k in range(5)}


@pytest.mark.parametrize(
    ("labels", "owner"),
    [("second_labels.tif", "second/*.tif"), ("cortex_labels.tif", None)],
)
def test_labels_that_fit_two_stacks_belong_to_the_one_of_their_name(
    make, folder, labels, owner
):
    stack = drifting(8)
    for k in range(8):
        write(folder / f"first/z{k}.tif", stack[k])
        write(folder / f"second/z{k}.tif", stack[7 - k])
    write(folder / labels, ids(4, stack.shape))
    made = make(images="stack")
    learnt = {(row.image, row.labels) for row in made.sheet.rows if row.labels}
    assert learnt == ({(owner, labels)} if owner else set())
    assert labels in made.printed


@pytest.mark.parametrize("count", [1, 2])
def test_a_version_in_the_name_of_labels_is_not_their_section(make, folder, count):
    stack = drifting(8)
    for k in range(8):
        write(folder / f"raw/z{k}.tif", stack[k])
    for k in range(count):
        write(folder / f"labels/z{5 + k}_version2.tif", ids(4))
    made = make(images="stack")
    learnt = {
        (row.image, row.labels, row.sections) for row in made.sheet.rows if row.labels
    }
    assert learnt == {
        (f"raw/z{5 + k}.tif", f"labels/z{5 + k}_version2.tif", None)
        for k in range(count)
    }


def test_labels_in_another_order_than_their_sections_are_not_a_stack(make, folder):
    stack = drifting(4)
    for k in range(4):
        write(folder / f"raw/{k}.tif", stack[k])
    for k, name in enumerate(["mask_0", "1_mask", "mask_2", "3_mask"]):
        write(folder / f"labels/{name}.tif", ids(k + 2))
    made = make(images="stack")
    assert set(made.pairs.values()) == {
        ("raw/0.tif", "labels/mask_0.tif"),
        ("raw/1.tif", "labels/1_mask.tif"),
        ("raw/2.tif", "labels/mask_2.tif"),
        ("raw/3.tif", "labels/3_mask.tif"),
    }


def test_labels_of_one_time_point_are_not_taken_for_all(make, folder):
    frames = noise(0, (3, 4, SIZE, SIZE))
    write(folder / "cells.tif", frames, metadata={"axes": "TZYX"}, imagej=True)
    write(folder / "cells_labels.tif", ids(4, (4, SIZE, SIZE)))
    made = make()
    assert {row.labels for row in made.sheet.rows} == {""}
    assert "3 time points" in made.printed


def test_frames_have_the_size_of_their_pixels(make, folder):
    about = {"axes": "TYX", "unit": "um"}
    write(
        folder / "cells.tif",
        noise(0, (9, SIZE, SIZE)),
        **{"metadata": about, "imagej": True, "resolution": (2, 2)},
    )
    write(folder / "cells_labels.tif", ids(4, (9, SIZE, SIZE)))
    made = make()
    assert "frames,500,500 (file)" in made.printed
    assert "cells: the 9 time points are taken as sections" in made.printed
    assert "do not say how large" not in made.printed


def test_labels_counted_from_another_start_are_given_to_no_image(make, folder):
    for k in range(6):
        write(folder / f"raw/img_{k}.tif", noise(k))
        write(folder / f"gt/cell_{k + 1}.tif", ids(k + 1))
    made = make()
    assert {row.labels for row in made.sheet.rows} == {""}
    assert "6 label files without an image: gt/cell_1.tif" in made.printed


def test_single_sections_of_a_stack_in_time_are_not_labels_of_another_time(
    make, folder
):
    for t in range(4):
        write(folder / "01" / f"t{t:03}.tif", noise(t, (5, SIZE, SIZE)))
    for t, z in ((1, 2), (3, 1)):
        write(folder / "01_GT" / "SEG" / f"man_seg_{t:03}_{z:03}.tif", ids())
    made = make()
    assert {row.labels for row in made.sheet.rows} == {""}
    assert "they must be alike, voxel on voxel" in made.printed


def test_a_file_that_a_sheet_cannot_name_alone_is_left_out(make, folder):
    for k, name in enumerate(["a|b", "axb"]):
        write(folder / f"raw/{name}.tif", noise(k))
        write(folder / f"labels/{name}.tif", ids(2 + 3 * k))
    made = make()
    assert set(made.pairs.values()) == {("raw/axb.tif", "labels/axb.tif")}
    assert "raw/a|b.tif only as raw/a?b.tif" in made.printed


@pytest.mark.parametrize("every", [4, 1])
def test_empty_sections_between_drawn_ones_are_not_annotated(make, folder, every):
    write(folder / "cells.tif", noise(0, (20, SIZE, SIZE)))
    labels = ids(4, (20, SIZE, SIZE))
    labels[np.arange(20) % every > 0] = 0
    if every == 1:  # a run of drawn sections: what lies around it may be background
        labels[5:] = 0
    write(folder / "cells_mask.tif", labels)
    made = make()
    assert "15 of 20 sections of labels hold nothing but 0" in made.printed
    learnt = sum(len(row.section_numbers(20)) for row in made.sheet.rows)
    assert learnt == (5 if every == 4 else 20)


def test_frames_left_out_between_frames_of_the_same_cells_are_not_annotated(
    make, folder
):
    drawn = [0, 2, 4, 6, 7, 9, 11]  # more than half, two of them neighbours
    write(folder / "film.tif", noise(0, (13, SIZE, SIZE)))
    labels = np.zeros((13, SIZE, SIZE), np.uint16)
    labels[drawn] = ids(4)
    write(folder / "film_mask.tif", labels)
    made = make()
    assert (
        "6 of 13 sections of labels hold nothing but 0, though objects are drawn "
        "before and after in the same place: they are taken as not annotated"
    ) in made.printed
    named = [n for row in made.sheet.rows for n in row.section_numbers(13)]
    assert sorted(named) == drawn


def test_labels_of_half_the_size_are_told_in_one_line_with_the_factor(make, folder):
    for k in range(6):
        write(folder / f"images/{k}.tif", noise(k))
        write(folder / f"labels/{k}.tif", ids(4)[::2, ::2])
    told = [line for line in make().printed.splitlines() if "voxel on voxel" in line]
    assert len(told) == 1
    assert "0, 1, 2, 3 and 2 more: labels" in told[0]
    assert "scale them by 2" in told[0]


@pytest.mark.parametrize("num_wells", [2, 3])
def test_fields_of_a_well_keep_together_where_wells_are_enough(make, folder, num_wells):
    for well, field in product(range(1, num_wells + 1), (1, 2)):
        write(folder / f"slides/p1_A{well:02}_s{field}.tif", noise(9 * well + field))
        write(folder / f"masks/p1_A{well:02}_s{field}.tif", ids(3 + well))
    made = make()
    by_well = {}
    for volume, (role,) in made.roles.items():
        by_well.setdefault(volume[:6], set()).add(role)
    apart = all(len(roles) == 1 for roles in by_well.values())
    assert apart == (num_wells == 3)
    assert ("too few to keep apart" in made.printed) == (num_wells == 2)


def test_labels_of_fewer_sections_are_told_with_the_column_that_places_them(
    make, folder
):
    write(folder / "cells.tif", noise(0, (9, SIZE, SIZE)))
    write(folder / "cells_labels.tif", ids(4, (3, SIZE, SIZE)))
    assert "write into the column labels_at where they begin" in make().printed


def test_tiles_of_a_slide_keep_together(make, folder):
    for slide, x in product(range(3), (0, 64)):
        name = f"HE {slide + 1} [x={x},y=0,w=64,h=64]"
        write(folder / f"images/{name}.tif", noise(9 * slide + x))
        write(folder / f"masks/{name}-labelled.tif", ids(3 + slide))
    roles = make().roles
    assert len(roles) == 6
    assert len({(volume[:4], *role) for volume, role in roles.items()}) == 3
