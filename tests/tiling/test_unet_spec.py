"""The architecture in numbers, against those of the paper and of DESIGN."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.errors import GeometryError
from unetpipe.tiling.boxes import Halo
from unetpipe.tiling.unet_spec import UNetSpec

PAPER = UNetSpec()


def test_the_paper_maps_572_to_388() -> None:
    assert PAPER.output_shape((1, 572, 572)) == (1, 388, 388)


def test_the_paper_has_23_convolutional_layers() -> None:
    layers = [x for x in PAPER.layers((1, 572, 572)) if x.kind != "pool"]
    assert len(layers) == 23


def test_the_feature_maps_are_those_of_figure_1() -> None:
    widths = [x.out_channels for x in PAPER.layers((1, 572, 572)) if x.kind == "conv"]
    assert widths == [
        *(64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024),
        *(512, 512, 256, 256, 128, 128, 64, 64),
    ]
    sizes = [x.out_shape[1] for x in PAPER.layers((1, 572, 572)) if x.kind == "conv"]
    assert sizes == [
        *(570, 568, 282, 280, 138, 136, 66, 64, 30, 28),
        *(54, 52, 102, 100, 198, 196, 390, 388),
    ]


def test_the_paper_has_31_million_parameters() -> None:
    assert PAPER.num_parameters == 31_030_658


def test_the_halo_is_92_before_and_96_after() -> None:
    assert PAPER.halo == Halo((0, 92, 92), (0, 96, 96))
    assert PAPER.pooling_grid == (1, 16, 16)


def test_legal_sizes_are_12_modulo_16() -> None:
    legal = []
    for size in range(150, 700):
        try:
            PAPER.check_input_shape((1, size, size))
        except GeometryError:
            continue
        legal.append(size)
    assert legal == list(range(188, 700, 16))
    assert {n % 16 for n in legal} == {12}
    assert {PAPER.output_shape((1, n, n))[1] % 16 for n in legal} == {4}


def test_a_572_tile_costs_301_gflop() -> None:
    assert PAPER.flop((1, 572, 572)) == pytest.approx(300.9e9, rel=1e-3)


def test_without_halo_a_voxel_costs_1468_kflop() -> None:
    assert PAPER.flop_per_voxel == pytest.approx(1.468e6, rel=1e-3)
    kept = PAPER.flop((1, 572, 572)) / 388**2
    assert kept == pytest.approx(2.00e6, rel=2e-3)


def test_the_cost_of_large_tiles_approaches_that_without_halo() -> None:
    size = 16 * 4000 + 12
    shape = (1, size, size)
    per_voxel = PAPER.flop(shape) / prod(PAPER.output_shape(shape))
    assert per_voxel == pytest.approx(PAPER.flop_per_voxel, rel=5e-3)


def test_an_illegal_size_names_the_axis_and_the_nearest_legal_sizes() -> None:
    with pytest.raises(GeometryError, match="570 voxels along x") as caught:
        PAPER.check_input_shape((1, 572, 570))
    assert "use 556 or 572" in str(caught.value)


@pytest.mark.parametrize("normalization", ["group", "instance"])
def test_norms_over_the_tile_are_refused(normalization: str) -> None:
    with pytest.raises(GeometryError, match="tiling could not be exact"):
        UNetSpec(normalization=normalization)  # type: ignore[arg-type]


def test_a_sigmoid_has_one_channel_for_two_classes_and_refuses_three() -> None:
    assert UNetSpec(head="sigmoid").out_channels == 1
    with pytest.raises(GeometryError, match="3 classes; use softmax"):
        UNetSpec(head="sigmoid", num_classes=3)


def test_pooling_along_z_needs_three_dimensions() -> None:
    with pytest.raises(GeometryError, match="ndim 3"):
        UNetSpec(depth=1, pooling=((2, 2, 2),))


def test_the_volumetric_network_has_a_halo_along_z() -> None:
    spec = UNetSpec(ndim=3, depth=2)
    assert spec.pooling_grid == (4, 4, 4)
    before, after = spec.halo.before, spec.halo.after
    assert before == (before[1],) * 3
    assert after == (after[1],) * 3
    # 4 + 4*2 + ... : two 3x3x3 convolutions a level, twice on all but the lowest.
    assert sum(x[0] for x in (before, after)) == spec.input_shape_for((4, 4, 4))[0] - 4


def test_anisotropic_pooling_shrinks_the_grid_along_z_only() -> None:
    spec = UNetSpec(ndim=3, depth=2, pooling=((1, 2, 2), (2, 2, 2)))
    assert spec.pooling_grid == (2, 4, 4)
    assert spec.halo.total[0] < spec.halo.total[1]


def test_padded_convolutions_keep_the_size_and_still_have_a_halo() -> None:
    spec = UNetSpec(padding="same", normalization="batch", head="sigmoid")
    assert spec.output_shape((1, 256, 256)) == (1, 256, 256)
    assert spec.halo.before[1] % 16 == 0
    assert spec.halo.before[1] >= 92
    assert spec.output_offset == spec.halo.before


specs = st.builds(
    UNetSpec,
    ndim=st.sampled_from([2, 3]),
    depth=st.integers(1, 4),
    base_channels=st.just(2),
    padding=st.sampled_from(["valid", "same"]),
    normalization=st.sampled_from(["none", "batch"]),
    num_classes=st.integers(2, 5),
)


@given(spec=specs, region=st.integers(1, 200))
def test_a_tile_for_a_region_is_legal_and_keeps_the_region(
    spec: UNetSpec, region: int
) -> None:
    tile = spec.input_shape_for((region, region, region))
    output = spec.output_shape(tile)
    for axis in range(3):
        kept = tile[axis] - spec.halo.total[axis]
        assert kept >= region
        assert kept % spec.pooling_grid[axis] == 0
        assert spec.output_offset[axis] + kept <= output[axis]


@given(spec=specs)
def test_a_spec_survives_json(spec: UNetSpec) -> None:
    assert UNetSpec.from_json(spec.to_json()) == spec
