"""What a whole run costs beside the network's own work: an account by volumes and jobs.

Costs are of processor time: those of jobs and volumes seen on one machine, those of
voxels rough. ``make bench ONLY=hundreds`` tells by how much they are off.

::

    job       starts Python, and torch and compiled code where it predicts
    volume    opens, writes and syncs its files, whatever its size
    voxel     is stored, predicted, labelled, scored
"""

from dataclasses import dataclass

from unetpipe.tiling.forecast import Forecast, Volume

# Seconds of one processor.
RUN_SECONDS = 10.0  # Snakemake, and the pages of a run with one volume
JOB_SECONDS = 1.2
PREDICTING_JOB_SECONDS = 4.0
STORING_SECONDS = 0.02  # a volume
PREDICTING_SECONDS = 0.06  # a prediction, from the plan to the objects
SCORING_SECONDS = 0.15
SHOWING_SECONDS = 0.01  # of Snakemake and the pages, for each volume
STORING_VOXEL = 40e-9
SEGMENTING_VOXEL = 250e-9
SCORING_VOXEL = 3000e-9
# Files without folders, beside those of shards.
STORED_FILES, LABEL_FILES, PREDICTED_FILES, SCORED_FILES = 3, 3, 18, 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What something takes.

    Attributes
    ----------
    processor_seconds : float
        Of all processes together, without what a GPU does.
    gpu_seconds : float
    num_files : int
    """

    processor_seconds: float = 0.0
    gpu_seconds: float = 0.0
    num_files: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.processor_seconds + other.processor_seconds,
            self.gpu_seconds + other.gpu_seconds,
            self.num_files + other.num_files,
        )


def cost_of_storing(volume: Volume, *, has_labels: bool) -> Cost:
    """Return what it takes to store a volume and its labels."""
    layers = volume.num_channels + has_labels
    seconds = STORING_SECONDS + layers * volume.num_voxels * STORING_VOXEL
    return Cost(seconds, num_files=1 + STORED_FILES + LABEL_FILES * has_labels)


def cost_of_predicting(
    forecast: Forecast,
    volume: Volume,
    *,
    scored_share: float,
    device: str,
    threads: int,
) -> Cost:
    """Return what it takes to predict, segment and score a volume.

    Parameters
    ----------
    forecast : Forecast
        Of the forward passes.
    volume : Volume
    scored_share : float
        Of its sections.
    device : str
        That predicts.
    threads : int
        Of a processor that predicts.
    """
    seconds = PREDICTING_SECONDS + volume.num_voxels * SEGMENTING_VOXEL
    if scored_share:
        seconds += SCORING_SECONDS + scored_share * volume.num_voxels * SCORING_VOXEL
    files = PREDICTED_FILES + forecast.num_files + SCORED_FILES * bool(scored_share)
    if device == "cuda":
        return Cost(seconds, forecast.seconds, files)
    return Cost(seconds + threads * forecast.seconds, num_files=files)


def cost_of_jobs(num_jobs: int, num_predicting: int, num_volumes: int) -> Cost:
    """Return what starting jobs takes, and looking after volumes.

    Parameters
    ----------
    num_jobs : int
        Of all rules.
    num_predicting : int
        Of these, which predict lots: they load torch and all compiled code.
    num_volumes : int
    """
    if not num_jobs:
        return Cost()
    seconds = RUN_SECONDS + num_volumes * SHOWING_SECONDS
    seconds += (num_jobs - num_predicting) * JOB_SECONDS
    return Cost(seconds + num_predicting * PREDICTING_JOB_SECONDS)


def wall_seconds(cost: Cost, training_seconds: float, num_cores: int) -> float:
    """Return how long a run takes whose jobs all find a core, and one of them a GPU.

    Trainings are not shared out: those of all networks run one after another here.

    Parameters
    ----------
    cost : Cost
        Of all but training.
    training_seconds : float
    num_cores : int
    """
    return training_seconds + max(cost.processor_seconds / num_cores, cost.gpu_seconds)
