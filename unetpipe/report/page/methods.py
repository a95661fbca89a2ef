"""A paragraph of methods to paste into a paper, made from what records say."""

from collections.abc import Iterator
from typing import Any

from unetpipe.metrics.names import plain_metric_name
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import TrainedFrom
from unetpipe.records.segmentation import ObjectSettings
from unetpipe.records.volume import name_normalisation
from unetpipe.report.page.run import Network, Run
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
TARGETS = {
    "border": "It told background, cells and, as a third class, the border of cells "
    "near another cell apart.",
    "markers": "It told background, the rim of cells and their core apart.",
    "affinities": "It told of pairs of voxels whether both are of one cell.",
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
        *_training(run.network),
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


def _training(network: Network) -> Iterator[str]:
    """Yield what is known of the training; of an ensemble of its first member."""
    first = network.members[0] if network.members else network
    recipe, training = first.description.recipe, first.training
    if recipe is None:
        return
    sections = {
        role: sum(len(row.sections) for row in recipe.rows(role))
        for role in ("train", "validate")
    }
    told = _optimisation(recipe)
    each = "Each" if network.members else "It"
    yield f"{each} was trained on {count_noun(sections['train'], 'section')}{told}."
    spec = first.description.spec
    if spec.targets in TARGETS:
        yield TARGETS[spec.targets]
    weights = recipe.weight_map or {}
    if weights.get("enabled") and not spec.has_affinities:
        yield (
            "Background between touching objects was weighted up "
            f"(w0 {weights.get('w0')}, sigma {weights.get('sigma_vox')} voxels)."
        )
    if recipe.augmentation:
        settings = (f"{k} {v}" for k, v in recipe.augmentation.items())
        yield f"Patches were augmented ({', '.join(settings)})."
    if training and training.metric and sections["validate"]:
        metric = plain_metric_name(training.metric)
        yield (
            f"The weights of step {first.description.step or 0:,} were kept, by "
            f"{metric} on {count_noun(sections['validate'], 'validation section')}."
        )


def _optimisation(recipe: TrainedFrom) -> str:
    """Return steps, optimiser, batch and learning rate, as far as they are known."""
    known = recipe.optimisation or {}
    parts = [
        f" for {known['steps']:,} steps" if "steps" in known else "",
        f" of {known['optimizer']}" if "optimizer" in known else "",
        f" with a learning rate of {known['learning_rate']:g}"
        if "learning_rate" in known
        else "",
        f" and batches of {known['batch_size']}" if "batch_size" in known else "",
    ]
    return "".join(parts)


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
    made = run.results[0].segmentation
    yield _objects(made.identity.settings, made.threshold, cite)


def _objects(settings: ObjectSettings, threshold: float, cite: _Citations) -> str:
    where = "within sections" if settings.connectivity == "2d" else "across sections"
    how = f"connected foreground {where}"
    if settings.method == "watershed":
        how = f"a seeded watershed of the foreground {where}"
        if settings.seeds == "learnt":
            above = f"{settings.core_threshold:.3g}"
            how += f" from predicted cores, of a probability above {above}"
        elif (least := settings.seed_threshold or 0.0) > threshold:
            how += f", with seeds above {least:.3g}"
    elif settings.method == "mutex":
        how = (
            f"fragments of a mutex watershed of affinities {where} {cite('mutex')}, "
            f"joined by average linkage {cite('gasp')} above a mean affinity of "
            f"{settings.merge_threshold:.3g}"
        )
    smallest = settings.smallest_object_vox
    fate = "joined a neighbour" if settings.method == "mutex" else "were dropped"
    dropped = f"; those of fewer than {smallest} voxels {fate}" * bool(smallest)
    return (
        f"Voxels of a probability above {threshold:.3g} were foreground; objects are "
        f"{how}{dropped}."
    )


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
