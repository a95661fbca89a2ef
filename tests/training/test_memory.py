"""Law 4: the projected memory of a training step bounds the measured one."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from unetpipe.tiling.patch_size import project_memory
from unetpipe.tiling.unet_spec import UNetSpec

MEASURE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import torch
    from tests.training.test_loop import Optimisation, Run, UNetSpec
    from unetpipe.runtime.machine import peak_rss_bytes

    torch.set_num_threads(1)
    spec = UNetSpec(base_channels=int(sys.argv[1]))
    size = int(sys.argv[2])
    quick = Optimisation(steps=2, optimizer=sys.argv[4])
    small = Run(Path(sys.argv[3]) / "small", metric=None)
    small(quick)
    before = peak_rss_bytes()
    patch = (1, size, size)
    Run(Path(sys.argv[3]) / "large", spec=spec, patch=patch, metric=None)(quick)
    print(peak_rss_bytes() - before)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_keeps_no_more_memory_than_projected(tmp_path, optimizer):
    width, size = 8, 348
    measured = int(
        subprocess.run(
            [sys.executable, "-c", MEASURE, f"{width}", f"{size}", tmp_path, optimizer],
            cwd=Path.cwd(),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    is_adaptive = optimizer == "adamw"
    projected = project_memory(
        UNetSpec(base_channels=width), (1, size, size), 1, is_adaptive=is_adaptive
    )
    num_parameters = UNetSpec(base_channels=width).num_parameters
    state = 4 * (8 + is_adaptive) * num_parameters  # while it is saved
    batches = 5 * 3 * 4 * size**2 * 4  # drawn ahead
    assert measured <= projected + state + batches
    assert measured > projected / 4
