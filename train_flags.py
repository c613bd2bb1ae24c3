"""The flags of `train.py`.

They import no Keras, which takes seconds, so `--help` and errors appear at once.
"""

import argparse
import datetime
import pathlib

from stn_keras.system.terminal import Parser

SMALLEST_IMAGE = 18  # pixels, which the network's convolutions reduce to one
GREATEST_SEED = 2**32 - 1  # of NumPy


def at_least(least):
    """The type of a flag that is a whole number."""

    def whole_number(text):
        if text.isdecimal() and least <= int(text) <= GREATEST_SEED:
            return int(text)
        wanted = f"must be a whole number from {least} to {GREATEST_SEED}"
        raise argparse.ArgumentTypeError(f"{wanted}. Received: {text!r}")

    return whole_number


def parse(arguments, **defaults):
    """The flags of a command line; `defaults` replace the defaults below, by name."""
    parser = build_parser()
    parser.set_defaults(**defaults)
    flags = parser.parse_args(arguments)
    if flags.resume and not flags.run:
        parser.error("--resume needs the name of a run: --run NAME")
    if flags.image_size != 32 and not flags.images:
        parser.error("--image-size is for --images")
    if flags.seeds != 3 and not flags.compare:
        parser.error("--seeds is for --compare")
    if flags.compare and (flags.seed or not flags.transformer):
        parser.error(
            "--compare trains with and without the transformer, from the seeds 0 to N - 1 of "
            "--seeds N; leave out --seed and --no-transformer"
        )
    if flags.run == ".." or flags.run and flags.run != pathlib.Path(flags.run).name:
        parser.error(
            "--run is a name, not a path; choose the folders with --output-dir and --log-dir. "
            f"Received: {flags.run!r}"
        )
    flags.run = flags.run or f"{flags.recipe}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    flags.arguments = arguments
    return flags


def build_parser():
    parser = Parser(
        prog="train.py",
        description="Train a spatial transformer network on CIFAR-10 or on your own images.",
    )
    add = parser.add_argument
    add(
        "--epochs",
        type=at_least(1),
        default=50,
        metavar="N",
        help="Number of passes over the training images. (default: 50)",
    )
    add(
        "--recipe",
        choices=["tuned", "published"],
        default="tuned",
        help="How to train: for the best accuracy, or as the published PyTorch run did. "
        "(default: tuned)",
    )
    add(
        "--seed",
        type=at_least(0),
        default=0,
        metavar="N",
        help="Seed of the weights, the order of the images, augmentation and dropout; the same "
        "seed repeats a run. (default: 0)",
    )
    add(
        "--precision",
        choices=["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        default="auto",
        help="Keras dtype policy; auto selects the fastest for this machine. (default: auto)",
    )
    add(
        "--no-transformer",
        dest="transformer",
        action="store_false",
        help="Train the same classifier without its spatial transformer.",
    )
    add(
        "--compare",
        action="store_true",
        help="Train with and without the transformer, from several seeds each, and tell whether it "
        "makes a difference.",
    )
    add(
        "--seeds",
        type=at_least(2),
        default=3,
        metavar="N",
        help="Number of seeds of --compare, from 0 on. (default: 3)",
    )
    add(
        "--images",
        type=pathlib.Path,
        metavar="FOLDER",
        help="Train on your own images: a folder with a subfolder for each class, or with the "
        "folders train, val and test that have one for each class. (default: CIFAR-10)",
    )
    add(
        "--image-size",
        type=at_least(SMALLEST_IMAGE),
        default=32,
        metavar="N",
        help="Height and width in pixels to which --images are resized. (default: 32)",
    )
    add(
        "--validation-images",
        type=at_least(1),
        metavar="N",
        help="Number of training images held out to select the best epoch. "
        "(default: 2000; with --images a fifth)",
    )
    add(
        "--distribute",
        choices=["mirrored"],
        help="Divide every batch among all GPUs of this machine. (default: use one)",
    )
    add(
        "--run",
        metavar="NAME",
        help="Name of the run and of its folders. (default: the recipe and the time)",
    )
    add(
        "--resume",
        action="store_true",
        help="Continue the unfinished run named by --run, with the settings it was started with.",
    )
    add(
        "--output-dir",
        type=pathlib.Path,
        default=pathlib.Path("saved_models"),
        metavar="FOLDER",
        help="Folder of the run's models, history and figures. (default: saved_models)",
    )
    add(
        "--log-dir",
        type=pathlib.Path,
        default=pathlib.Path("logs"),
        metavar="FOLDER",
        help="Folder of the run's TensorBoard logs. (default: logs)",
    )
    add(
        "--data-dir",
        metavar="FOLDER",
        help="Folder of CIFAR-10. (default: TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )
    return parser
