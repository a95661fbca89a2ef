"""Axes: any order becomes c, z, y, x, and what is unclear is asked for."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.errors import DataError
from unetpipe.images.axes import interpret_axes
from unetpipe.images.selection import select_image_channels

ORDERS = [
    "".join(order)
    for letters in ("yx", "zyx", "cyx", "czyx", "tczyx")
    for order in permutations(letters)
]


@given(st.sampled_from(ORDERS), st.data())
def test_any_order_of_axes_is_read_as_c_z_y_x(order, data):
    length = {axis: data.draw(st.integers(1, 5), axis) for axis in "czyx"} | {"t": 1}
    file = np.arange(np.prod([length[a] for a in order]), dtype=np.int64)
    file = file.reshape([length[a] for a in order])
    plan = interpret_axes(file.shape, "", order, "a.tif")
    missing = [a for a in "tczyx" if a not in order]
    whole = file.reshape(file.shape + (1,) * len(missing))
    letters = order + "".join(missing)
    whole = np.einsum(f"{letters}->tczyx", whole)[0]
    assert plan.shape == whole.shape
    start = data.draw(st.integers(0, whole.shape[1] - 1))
    stop = data.draw(st.integers(start + 1, whole.shape[1]))
    block = plan.arrange(file[plan.index(start, stop)])
    np.testing.assert_array_equal(block, whole[:, start:stop])


@pytest.mark.parametrize(
    ("shape", "metadata", "letters"),
    [
        ((5, 6), "", "yx"),
        ((3, 5, 6), "", "zyx"),
        ((3, 5, 6), "iyx", "zyx"),
        ((3, 5, 6), "QYX", "zyx"),
        ((2, 3, 5, 6), "CZYX", "czyx"),
        ((3, 2, 5, 6), "qcyx", "zcyx"),
        ((5, 6, 3), "yxs", "yxs"),
        ((9, 5, 6, 3), "iyxs", "zyxs"),
        ((1, 1, 3, 5, 6), "qqqyx", "11zyx"),
        ((1, 3, 5, 6), "", "1zyx"),
        ((1, 3, 5, 6), "tzyx", "tzyx"),
    ],
)
def test_the_file_says_what_its_axes_are_or_their_number_does(shape, metadata, letters):
    assert interpret_axes(shape, metadata, "", "a.tif").letters == letters


@pytest.mark.parametrize(
    ("shape", "metadata"),
    [
        ((64, 64, 3), ""),
        ((64, 64, 4), "qyx"),
        ((4, 64, 64), "syx"),
        ((2, 3, 64, 64), ""),
        ((2, 3, 64, 64), "iqyx"),
        ((2, 3, 64, 64), "qzyx"),
        ((3, 64, 64), "hyx"),
    ],
)
def test_ambiguous_axes_are_asked_for(shape, metadata):
    with pytest.raises(DataError) as error:
        interpret_axes(shape, metadata, "", "a.tif")
    message = str(error.value)
    assert f"a.tif has the shape {shape}" in message
    assert "write into the sheet's column `axes`" in message


def test_one_axis_is_no_image():
    with pytest.raises(DataError, match=r"shape \(64,\); an image has 2 to 5 axes"):
        interpret_axes((64,), "", "", "a.h5")


def test_the_question_lists_the_answers():
    with pytest.raises(DataError, match="zyx for sections, or yxc for channels last"):
        interpret_axes((64, 64, 3), "", "", "a.tif")
    with pytest.raises(DataError, match="czyx or zcyx"):
        interpret_axes((2, 3, 64, 64), "", "", "a.tif")


def test_the_sheet_wins_over_the_file():
    assert interpret_axes((3, 5, 6), "tyx", "zyx", "a.tif").shape == (1, 3, 5, 6)
    assert interpret_axes((5, 6, 3), "yxs", "yxc", "a.tif").num_samples == 0


def test_axes_that_do_not_fit_the_file_are_refused():
    with pytest.raises(DataError) as error:
        interpret_axes((2, 3, 5, 6), "", "zyx", "a.tif")
    assert "a.tif has 4 axes (shape (2, 3, 5, 6)), but axes is 'zyx'" in str(
        error.value
    )
    assert "write 4 letters, such as czyx or zcyx" in str(error.value)


def test_axes_of_length_1_need_no_letter():
    plan = interpret_axes((1, 3, 1, 5, 6), "tzcyx", "zyx", "a.tif")
    assert (plan.letters, plan.shape) == ("1z1yx", (1, 3, 5, 6))


def test_letters_of_axes_that_a_file_left_out_do_no_harm():
    assert interpret_axes((5, 6), "yx", "zyx", "a.tif").shape == (1, 1, 5, 6)
    assert interpret_axes((3, 5, 6), "zyx", "tzyx", "a.tif").shape == (1, 3, 5, 6)
    with pytest.raises(DataError, match=r"has 3 axes .* write 3 letters"):
        interpret_axes((3, 5, 6), "", "czyx", "a.tif")  # which of c and z is it?


def test_time_points_are_refused_with_the_way_out():
    with pytest.raises(DataError) as error:
        interpret_axes((7, 5, 6), "tyx", "", "a.tif")
    assert "a.tif has 7 time points" in str(error.value)
    assert "if they are the sections of a stack, or frames that" in str(error.value)
    assert "write axes zyx" in str(error.value)
    with pytest.raises(DataError, match=r"0 to 6, into the sheet's column `time`$"):
        interpret_axes((7, 3, 5, 6), "tzyx", "", "a.tif")


@given(st.sampled_from([order for order in ORDERS if len(order) == 5]), st.data())
def test_one_time_point_and_some_channels_are_read(order, data):
    length = {axis: data.draw(st.integers(1, 4), axis) for axis in "tczyx"}
    file = np.arange(np.prod([length[a] for a in order]), dtype=np.int64)
    file = file.reshape([length[a] for a in order])
    time = data.draw(st.integers(0, length["t"] - 1))
    numbers = st.integers(0, length["c"] - 1)
    channels = data.draw(st.lists(numbers, min_size=1, unique=True))
    plan = interpret_axes(file.shape, "", order, "a.tif", time)
    plan = select_image_channels(plan, list(map(str, channels)), (), "a.tif")
    whole = np.einsum(f"{order}->tczyx", file)[time][channels]
    assert plan.shape == whole.shape
    block = plan.arrange(file[plan.index(0, length["z"])])
    np.testing.assert_array_equal(block, whole)


def test_a_time_point_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"has 7 time points .* time is 7 .* 0 to 6"):
        interpret_axes((7, 3, 5, 6), "tzyx", "", "a.tif", 7)
    with pytest.raises(DataError, match=r"has 1 time point .* time is 1 .* nothing"):
        interpret_axes((3, 5, 6), "zyx", "", "a.tif", 1)
    assert interpret_axes((3, 5, 6), "zyx", "", "a.tif", 0).time == 0


def test_channels_are_found_by_name_then_by_number():
    plan = interpret_axes((3, 5, 6), "cyx", "", "a.tif")
    names = ("488", "1", "DAPI")
    assert select_image_channels(plan, ["DAPI", "1"], names, "a.tif").channels == (2, 1)
    assert select_image_channels(plan, ["0", "1", "2"], (), "a.tif").channels is None
    assert select_image_channels(plan, ["0"], names, "a.tif").shape == (1, 1, 5, 6)


@pytest.mark.parametrize(
    ("shape", "axes", "wanted", "message"),
    [
        ((3, 5, 6), "cyx", ["gfp"], "no channel 'gfp'; .* 0 to 2, named a, b, c"),
        ((3, 5, 6), "cyx", ["3"], "no channel '3'; .* may name 0 to 2"),
        ((3, 5, 6), "zyx", ["1"], "no channel '1'; .* may name 0$"),
        ((3, 5, 6), "cyx", ["a", "0"], "'a,0' in the sheet, which names one channel"),
        ((5, 6, 3), "yxs", ["1"], r"is a colour image, .* write axes with c"),
    ],
)
def test_channels_that_are_not_there_are_refused(shape, axes, wanted, message):
    plan = interpret_axes(shape, axes, "", "a.tif")
    with pytest.raises(DataError, match=message):
        select_image_channels(plan, wanted, ("a", "b", "c"), "a.tif")
