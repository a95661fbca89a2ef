"""Suggestions follow from what was measured, and say so."""

import pytest

from unetpipe.config import IngestConfig, NetworkConfig, TrainingConfig, WeightMapConfig
from unetpipe.survey.suggestions import (
    VolumePrint,
    nested_settings,
    suggest,
    suggest_class_weights,
    suggestion_remarks,
)
from unetpipe.tiling.unet_spec import UNetSpec

ISBI = VolumePrint(
    volume="isbi",
    section_shape=(512, 512),
    num_sections=30,
    voxel_size_nm=(50.0, 4.0, 4.0),
    class_counts=(1_800_000, 6_064_320),
    num_cells=3000,
    cell_voxels=6_064_320,
    has_ids=True,
)


def like_isbi(**more):
    fields = {name: getattr(ISBI, name) for name in ISBI.__slots__}
    return VolumePrint(**(fields | more))


def suggestions(*volumes, ingest=None, **network):
    network = NetworkConfig(**network)
    settings = {
        "ingest": IngestConfig(**(ingest or {})).model_dump(mode="json"),
        "network": network.model_dump(mode="json"),
        "training": TrainingConfig().model_dump(mode="json"),
        "weight_map": WeightMapConfig().model_dump(mode="json"),
    }
    found = suggest(volumes, network.spec(), settings, (1, 572, 572))
    return {suggestion.key: suggestion for suggestion in found}


def test_the_papers_data_keep_the_papers_settings():
    found = suggestions(ISBI)
    changes = {key for key, suggestion in found.items() if suggestion.is_change}
    # 200 passes over 7.9 million voxels, 388 x 388 a step, are 10,500 steps.
    assert changes == {"training.steps"}
    assert found["training.steps"].suggested == 10_500
    assert ISBI.cell_diameter_vox == pytest.approx(50.7, abs=0.1)


def test_few_annotations_mean_a_short_training_at_a_high_rate_that_decays():
    found = suggestions(like_isbi(num_sections=2, class_counts=(120_000, 404_288)))
    assert found["network.base_channels"].suggested == 32
    assert found["training.steps"].suggested == 2000
    rate = [found[f"training.{k}"].suggested for k in ("optimizer", "schedule")]
    assert rate == ["adamw", "cosine"]


def test_cells_too_large_for_the_field_ask_for_half_the_resolution():
    found = suggestions(like_isbi(num_cells=600))  # 113 voxels wide; the field is 188
    assert found["ingest.scale"].suggested == 0.5
    assert "about 113 voxels wide, the network sees 188" in found["ingest.scale"].why
    assert found["network.depth"].suggested == 4
    assert "cells are about 57 voxels wide" in found["network.depth"].why
    again = suggestions(like_isbi(num_cells=600), ingest={"scale": 0.5})
    assert again["ingest.scale"].suggested == 0.25


def test_wide_nets_of_thin_lines_keep_their_resolution():
    found = suggestions(like_isbi(num_cells=600, has_ids=False))
    assert not found["ingest.scale"].is_change
    assert found["network.depth"].suggested == 5


def test_large_cells_among_small_ones_ask_for_one_more_pooling():
    small = like_isbi(num_cells=7000)  # 33 voxels wide
    found = suggestions(small, like_isbi(num_cells=1800))
    assert not found["ingest.scale"].is_change
    assert suggestions(small, like_isbi(num_cells=200))["network.depth"].suggested == 4
    large = [like_isbi(num_cells=600)] * 20
    found = suggestions(small, *large)
    assert not found["ingest.scale"].is_change
    assert found["network.depth"].suggested == 5


def test_one_image_with_large_cells_among_many_does_not_ask_for_another_pooling():
    found = suggestions(*[ISBI] * 9, like_isbi(num_cells=200))
    assert found["network.depth"].suggested == 4
    assert not found["ingest.scale"].is_change
    assert "cells are about 51 voxels wide" in found["network.depth"].why


def test_tiny_cells_need_fewer_poolings_and_narrower_borders():
    found = suggestions(like_isbi(num_cells=300_000))  # 5 voxels wide
    assert found["network.depth"].suggested == 4
    found = suggestions(like_isbi(num_cells=2_000_000))  # 2 voxels wide
    assert found["network.depth"].suggested == 2
    assert found["weight_map.sigma_vox"].suggested == 1.0


@pytest.mark.parametrize(
    ("spacing", "sections", "ndim"),
    [((50.0, 4.0, 4.0), 30, 2), ((8.0, 8.0, 8.0), 64, 3), ((8.0, 8.0, 8.0), 8, 2)],
)
def test_volumes_are_seen_whole_where_spacing_and_length_allow(spacing, sections, ndim):
    volume = like_isbi(voxel_size_nm=spacing, num_sections=sections)
    assert suggestions(volume)["network.ndim"].suggested == ndim


def test_the_patch_fits_the_suggested_number_of_dimensions():
    found = suggestions(ISBI, ndim=3, depth=2)
    assert found["network.ndim"].suggested == 2
    assert found["training.patch"].suggested[0] == 1


def test_affinities_along_z_are_no_obstacle_to_seeing_sections_alone():
    found = suggestions(ISBI, ndim=3, depth=2, head="sigmoid", targets="affinities")
    assert found["network.ndim"].suggested == 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"num_sections": 1}, "of a volume has 1 annotated section; volumetric"),
        ({"voxel_size_nm": (1.0, 190.0, 190.0)}, "1,190,190: sections so close tog"),
        ({"is_size_known": False}, "nobody says how far sections are apart, or whet"),
        ({"is_depth_known": False}, "nobody says how far sections are apart, or whe"),
    ],
)
def test_time_points_and_single_images_are_seen_one_by_one_and_told_so(more, told):
    volume = like_isbi(**({"num_sections": 84, "voxel_size_nm": (1.0,) * 3} | more))
    ndim = suggestions(volume)["network.ndim"]
    assert ndim.suggested == 2
    assert told in ndim.why
    assert "voxel widths apart, and the longest" not in ndim.why


def test_only_sizes_that_somebody_gave_are_compared():
    unknown = like_isbi(voxel_size_nm=(1.0, 1.0, 1.0), is_size_known=False)
    spec = NetworkConfig().spec()
    assert suggestion_remarks([ISBI, unknown], spec, has_validation=True) == []
    told = suggestion_remarks(
        [ISBI, like_isbi(voxel_size_nm=(50.0, 9.0, 9.0))], spec, has_validation=True
    )
    assert "voxels are 4 to 9 nm wide" in told[0]


def test_a_rare_class_is_not_weighed_up_beyond_ten_times_the_commonest():
    volume = like_isbi(class_counts=(9_900_000, 100_000))
    balance = suggestions(volume)["weight_map.class_balance"]
    assert balance.suggested == "root"
    assert (
        "hold 99.0 %, 1.0 % of the known voxels, so they would weigh 0.51, 50.00"
        in (balance.why)
    )


def test_class_weights_are_those_of_training():
    assert suggest_class_weights([300, 100, 0]) == [
        pytest.approx(4 / 9),
        pytest.approx(4 / 3),
        None,
    ]


def test_changes_become_sections_to_paste():
    found = nested_settings(suggestions(like_isbi(num_cells=600)).values())
    assert found["ingest"] == {"scale": 0.5}
    assert found["network"] == {"base_channels": 32}
    # 200 passes over a quarter of the voxels, 260 x 260 a step.
    assert found["training"]["patch"] == [1, 444, 444]
    assert found["training"]["steps"] == 6000


def test_what_no_setting_mends_is_said():
    spec = UNetSpec()
    assert suggestion_remarks([ISBI], spec, has_validation=True) == []
    odd = like_isbi(voxel_size_nm=(50.0, 8.0, 8.0), num_cells=100, num_sections=1)
    first, second, third = suggestion_remarks([ISBI, odd], spec, has_validation=False)
    assert first.startswith("voxels are 4 to 8 nm wide")
    assert "about 278 voxels wide, more than the 188" in second
    assert "no section has the role validate" in third
    (few,) = suggestion_remarks([odd], UNetSpec(depth=5), has_validation=True)
    assert few.startswith("1 annotated training section;")
