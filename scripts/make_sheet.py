"""Write a sheet and a configuration for a folder of images, and say what they hold."""

from argparse import ArgumentParser
from pathlib import Path

from unetpipe.runtime.logs import log_to_screen
from unetpipe.stages.make_sheet import make_sheet

parser = ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, nargs="?", help="images, and any labels")
parser.add_argument("--corrections", type=Path, help="folder of corrected proposals")
parser.add_argument("--name", help="of the run and of both files (the folder's)")
parser.add_argument(
    "--config-dir", type=Path, default=Path("config"), help="where to write (config)"
)
known = ["auto", "independent", "stack"]
told = "what numbered files of one size are: images of their own, or one volume"
parser.add_argument("--images", choices=known, default="auto", help=told)
known = ["auto", "instances", "binary", "classes"]
told = "what labels hold: ids of objects, foreground against 0, or classes"
parser.add_argument("--label-kind", choices=known, default="auto", help=told)
parser.add_argument("--labels", type=Path, help="folder in it that holds the labels")
parser.add_argument("--force", action="store_true", help="overwrite both files")
log_to_screen()
make_sheet(**vars(parser.parse_args()))
