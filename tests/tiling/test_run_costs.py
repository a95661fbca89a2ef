"""Costs of a run add up by volumes and jobs."""

from types import SimpleNamespace as Some

from unetpipe.tiling.forecast import Volume
from unetpipe.tiling.run_costs import (
    Cost,
    cost_of_jobs,
    cost_of_predicting,
    cost_of_storing,
    wall_seconds,
)

SMALL = Volume("v", (1, 256, 256), 1, 1, "record")
LARGE = Volume("v", (100, 4096, 4096), 1, 1, "record")
FORECAST = Some(seconds=10.0, num_files=7)


def predicting(volume: Volume, **options) -> Cost:
    usual = {"scored_share": 0.0, "device": "cpu", "threads": 2}
    return cost_of_predicting(FORECAST, volume, **usual | options)


def test_a_large_volume_costs_by_its_voxels_and_a_small_one_by_its_files() -> None:
    one, two = (cost_of_storing(SMALL, has_labels=labels) for labels in (False, True))
    assert one.num_files < two.num_files
    assert two.processor_seconds < 1.2 * one.processor_seconds
    large = cost_of_storing(LARGE, has_labels=False)
    assert large.num_files == one.num_files
    assert large.processor_seconds > 1000 * one.processor_seconds


def test_what_a_gpu_does_takes_no_processor() -> None:
    on_cpu, on_gpu = predicting(SMALL), predicting(SMALL, device="cuda")
    assert on_cpu.gpu_seconds == 0
    assert on_cpu.processor_seconds - on_gpu.processor_seconds == 2 * 10.0
    assert on_gpu.gpu_seconds == 10.0


def test_scores_cost_by_the_sections_that_have_them() -> None:
    none, half, all_of_it = (predicting(LARGE, scored_share=s) for s in (0, 0.5, 1))
    assert none.num_files < half.num_files == all_of_it.num_files
    first = half.processor_seconds - none.processor_seconds
    second = all_of_it.processor_seconds - half.processor_seconds
    assert first > second > 0.9 * first


def test_a_run_without_jobs_costs_nothing() -> None:
    assert cost_of_jobs(0, 0, 1000) == Cost()
    few, many = cost_of_jobs(10, 0, 1000), cost_of_jobs(5000, 0, 1000)
    assert many.processor_seconds > 50 * few.processor_seconds


def test_cores_share_all_but_training_and_wait_for_the_gpu() -> None:
    assert wall_seconds(Cost(100.0), 30.0, 4) == 30 + 25
    assert wall_seconds(Cost(100.0, gpu_seconds=60.0), 0.0, 4) == 60
