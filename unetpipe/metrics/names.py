"""What scores, and what is scored, are called: the one name that log and page have."""

PLAIN_NAMES = {
    "v_rand": "V-Rand",
    "v_info": "V-Info",
    "rand_error": "Rand error",
    "pixel_error": "pixel error",
    "dice": "Dice",
    "dice_mean": "mean Dice of classes",
    "dice_class_1": "Dice of class 1",
    "precision_class_1": "precision of class 1",
    "recall_class_1": "recall of class 1",
    "warping_error": "warping error",
    "classic_warping_error": "classic warping error",
    "loss": "loss",
    "seg": "SEG",
    "ctc_seg": "SEG",
    "ctc_det": "DET",
    "f1": "F1 of objects",
}
# These choose a checkpoint together with a score that sees the background.
CHOOSING = {"v_rand": "mean of V-Rand and Dice", "seg": "mean of SEG and F1"}
PREDICTORS = {
    "unet": "U-Net",
    "grey value": "grey values alone",
    "Otsu": "smoothed Otsu",
    "Otsu + watershed": "smoothed Otsu, watershed",
    "local threshold + watershed": "local threshold, watershed",
    "constant": "constant map",
    "untrained": "untrained U-Net",
}
OVERLAPS = {"dice": "Dice", "iou": "IoU"}


def plain_metric_name(metric: str) -> str:
    """Return what a metric is called in a sentence.

    Examples
    --------
    >>> [plain_metric_name(name) for name in ("v_rand", "iou_class_3", "vi_split")]
    ['V-Rand', 'IoU of class 3', 'vi split']
    """
    if metric in PLAIN_NAMES:
        return PLAIN_NAMES[metric]
    name, _, number = metric.partition("_class_")
    name = OVERLAPS.get(name, name.replace("_", " "))
    return f"{name} of class {number}" if number else name
