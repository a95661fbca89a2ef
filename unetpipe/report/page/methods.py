"""A paragraph of methods to paste into a paper, made from what records say."""

from collections.abc import Iterator
from typing import Any

from unetpipe.records.circumstances import Circumstances
from unetpipe.records.segmentation import ObjectSettings, SegmentationIdentity
from unetpipe.records.volume import name_normalisation
from unetpipe.report.page.learning import describe_learning
from unetpipe.report.page.run import Network, Result, Run
from unetpipe.runtime.text import count_noun

Shown = dict[str, Any]

REFERENCES = {
    "unet": "Ronneberger, O., Fischer, P., Brox, T. U-Net: convolutional networks for "
    "biomedical image segmentation. MICCAI 2015. doi:10.1007/978-3-319-24574-4_28",
    "unet3d": "Çiçek, Ö. et al. 3D U-Net: learning dense volumetric segmentation from "
    "sparse annotation. MICCAI 2016. doi:10.1007/978-3-319-46723-8_49",
    "torch": "Paszke, A. et al. PyTorch: an imperative style, high-performance deep "
    "learning library. NeurIPS 2019. arXiv:1912.01703",
    "mutex": "Wolf, S. et al. The mutex watershed: efficient, parameter-free image "
    "partitioning. ECCV 2018. doi:10.1007/978-3-030-01225-0_34",
    "gasp": "Bailoni, A. et al. GASP, a generalized framework for agglomerative "
    "clustering of signed graphs and its application to instance segmentation. "
    "CVPR 2022. doi:10.1109/CVPR52688.2022.01136",
    "isbi": "Arganda-Carreras, I. et al. Crowdsourcing the creation of image "
    "segmentation algorithms for connectomics. Front. Neuroanat. 2015. "
    "doi:10.3389/fnana.2015.00142",
    "skimage": "van der Walt, S. et al. scikit-image: image processing in Python. "
    "PeerJ 2:e453 (2014). doi:10.7717/peerj.453",
    "linking": "Jaqaman, K. et al. Robust single-particle tracking in live-cell "
    "time-lapse sequences. Nat. Methods 5:695 (2008). doi:10.1038/nmeth.1237",
}
OWN = {"intensity_sum", "touches_border", "neighbour_distance"}  # not scikit-image's
ISBI = ("v_rand", "v_info", "rand_error", "warping_error", "pixel_error")


class _Citations:
    """Numbers of the works that were cited, in the order of the text."""

    def __init__(self) -> None:
        self.works: list[str] = []

    def __call__(self, name: str) -> str:
        if name not in self.works:
            self.works.append(name)
        return f"[{self.works.index(name) + 1}]"


def describe_methods(run: Run) -> Shown:
    """Return the paragraph and what it cites.

    It says only what records tell: of a network that was taken over as it was, and
    whose recipe nobody knows, nothing of its training.

    Returns
    -------
    dict
        ``text``, and ``references``: numbered lines.
    """
    cite = _Citations()
    sentences = [
        _architecture(run.network, cite),
        *describe_learning(run.network),
        *_prediction(run, cite),
        *_measuring(run, cite),
        *_tracking(run, cite),
        *_scoring(run, cite),
    ]
    works = [f"[{n}] {REFERENCES[name]}" for n, name in enumerate(cite.works, start=1)]
    return {"text": " ".join(sentences), "references": works}


def _architecture(network: Network, cite: _Citations) -> str:
    description = network.description
    spec = description.spec
    dimension = "U-Net" if spec.ndim == 2 else "3D U-Net"
    work = cite("unet" if spec.ndim == 2 else "unet3d")
    who = f"a {dimension} {work}"
    if description.is_ensemble:
        who = f"the mean of {count_noun(description.num_members, dimension)} {work}"
    padding = "unpadded" if spec.padding == "valid" else "padded"
    norm = ", batch normalisation" if spec.normalization == "batch" else ""
    made = network.made
    software = f"unetpipe {_version(made, 'unetpipe')}"
    torch = f"PyTorch {_version(made, 'torch')} {cite('torch')}"
    return (
        f"Images were segmented by {who} with {count_noun(spec.depth, 'pooling')}, "
        f"{spec.base_channels} channels at the first level, {padding} "
        f"convolutions{norm} and {spec.num_parameters:,} parameters, in {software} "
        f"with {torch}."
    )


def _version(made: Circumstances | None, name: str) -> str:
    found = made.libraries.get(name) if made else None
    return found or "(version unknown)"


def _prediction(run: Run, cite: _Citations) -> Iterator[str]:
    if not run.results:
        return
    identity = run.results[0].prediction.identity
    turns = len(identity.orientations)
    averaged = f", averaged over {turns} orientations" if turns > 1 else ""
    normal = "brought to mean 0 and standard deviation 1 in each volume and channel"
    if ranks := run.network.description.percentiles:
        normal = f"normalised by {name_normalisation(ranks)}"
    yield (
        f"Grey values were {normal}. Probabilities were predicted in overlapping "
        f"tiles, mirrored at the volume's faces{averaged}, in {identity.precision}."
    )
    yield _objects(run.results[0], cite)


def _objects(result: Result, cite: _Citations) -> str:
    identity, threshold = result.segmentation.identity, result.segmentation.threshold
    settings = identity.settings
    where = "within sections" if settings.connectivity == "2d" else "across sections"
    how = f"connected foreground {where}"
    if settings.method == "watershed":
        seeds = _seeds(settings, threshold, _unit_of_seeds(identity))
        how = f"a seeded watershed of the foreground {where} {seeds}"
    elif settings.method == "mutex":
        how = (
            f"fragments of a mutex watershed of affinities {where} {cite('mutex')}, "
            f"joined by average linkage {cite('gasp')} above a mean affinity of "
            f"{settings.merge_threshold:.3g}"
        )
    smallest = settings.smallest_object_vox
    fate = "joined a neighbour" if settings.method == "mutex" else "were dropped"
    dropped = f"; those of fewer than {smallest} voxels {fate}" * bool(smallest)
    told = f"Voxels of a probability above {threshold:.3g} were foreground"
    if result.prediction.outputs.classes:
        told = "Each voxel is of its most probable class"
        how = f"connected voxels of one class {where}"
        if settings.class_thresholds:
            cuts = settings.class_thresholds.items()
            listed = ", ".join(f"{cut:.3g} of class {k}" for k, cut in cuts)
            told = (
                "Each voxel is of the class whose probability exceeds a threshold "
                f"({listed}) by most, and of class 0 where none does"
            )
    return f"{told}; objects are {how}{dropped}."


def _seeds(settings: ObjectSettings, threshold: float, unit: str) -> str:
    """Return where a watershed began, and how far it went."""
    far = f"{settings.seed_distance_vox or 0:g} {unit}"
    places = {
        "cores": f"seeds where the foreground is deeper than {far}",
        "depth": f"the deepest voxels within a distance of {far}",
        "probability": f"the most probable voxels within a distance of {far}",
        "learnt": "predicted cores",
    }
    place = places[settings.seeds or "cores"]
    least = settings.seed_threshold or 0.0
    if settings.seeds == "learnt":
        place += f", of a probability above {settings.core_threshold or 0:.3g}"
    elif least > threshold:
        place += f", of a probability above {least:.3g}"
    reach = settings.seed_reach_vox
    grown = (
        f", each grown by at most {reach} steps from voxel to voxel" if reach else ""
    )
    return f"from {place}{grown}"


def _unit_of_seeds(identity: SegmentationIdentity) -> str:
    """Return what distances of seeds are counted in."""
    across = identity.settings.connectivity == "3d"
    edges = identity.voxel_size_nm if across else identity.voxel_size_nm[1:]
    if len(set(edges)) == 1:
        return "voxels"
    return "voxels (in lengths of the shortest voxel edge)"


def _measuring(run: Run, cite: _Citations) -> Iterator[str]:
    measured = [r.measured for r in run.results if r.measured]
    if measured:
        names = dict.fromkeys(c.property for c in measured[0].columns)
        release = measured[0].scikit_image or "(version unknown)"
        theirs, ours = (
            ", ".join(n.replace("_", " ") for n in names if (n in OWN) is is_ours)
            for is_ours in (False, True)
        )
        if theirs:
            yield (
                f"Of each object {theirs} were measured, as scikit-image "
                f"{release} {cite('skimage')} defines them."
            )
        if ours:
            yield f"Measured{' besides' * bool(theirs)} were {ours}, by unetpipe."


def _tracking(run: Run, cite: _Citations) -> Iterator[str]:
    linked = [r.linked for r in run.results if r.linked]
    if linked:
        gap, reach = linked[0].longest_gap, linked[0].reach_vox
        far = f"{reach:g} voxels" if reach else "the width of the median object"
        lost = f" and be lost for up to {count_noun(gap, 'frame')}" if gap else ""
        divided = ", and one could become two" if linked[0].divisions else ""
        yield (
            "Objects of successive frames were linked by a linear assignment "
            f"{cite('linking')} of overlap and distance; an object could move by "
            f"{far}{lost}{divided}."
        )


def _scoring(run: Run, cite: _Citations) -> Iterator[str]:
    tested = sum(len(result.tested) for result in run.results)
    if not tested:
        return
    metrics = {r.metric for _, m in run.scored for t in m.tables for r in t.rows}
    work = f" {cite('isbi')}" if metrics & set(ISBI) else ""
    yield f"The masks were scored on {count_noun(tested, 'test section')}{work}."
