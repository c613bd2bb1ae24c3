"""Your own images, of any size and mode that Pillow reads, as arrays of one size."""

import os
import pathlib
from concurrent import futures

import numpy as np
from PIL import Image

from stn_keras.data.decoding import PictureError, read
from stn_keras.system.files import FIGURE

__all__ = ["PictureError", "find", "load", "read", "split_folders"]

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
WANTED = (
    "Expected a folder of at least two classes, with a subfolder of images for each:\n"
    "  pictures/cat/1.jpg\n  pictures/cat/2.png\n  pictures/dog/1.jpg"
)


def find(folder):
    """Finds the files in a folder and its subfolders that may be images.

    Example:

    >>> [str(path) for path in find("pets/cat")][:2]
    ['pets/cat/0.png', 'pets/cat/1.png']

    Args:
        folder: The folder.

    Returns:
        Sorted list of paths, links without a target included. Hidden files and folders are skipped,
        and so are figures saved by `stn_keras.plots`. Links to folders are followed; a folder that
        several lead to is searched once.

    Raises:
        PictureError: if the folder does not exist.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise PictureError(f"{folder} is not a folder; check the path")
    paths = sorted(_files(folder))
    with futures.ThreadPoolExecutor() as pool:
        drawn = list(pool.map(_is_figure, paths))
    return [path for path, figure in zip(paths, drawn, strict=True) if not figure]


def _files(folder):
    """The visible files of a folder and its subfolders, and links without a target."""
    searched = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in searched:
            folders.clear()
            continue
        searched.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (pathlib.Path(root, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.is_file() or _dangling(path))


def _dangling(path):
    return path.is_symlink() and not path.exists()


def _is_figure(path):
    if path.suffix.lower() != ".png":
        return False
    try:
        with Image.open(path) as file:
            return FIGURE.items() <= file.info.items()
    except Exception:  # `read` says what is wrong with it
        return False


def load(folder, size, classes=None):
    """Loads the images of a folder with a subfolder for each class into memory.

    Example:

    >>> images, labels, classes, unreadable = load("pets", 16)  # pets/cat/0.png, pets/dog/1.png …
    >>> images.shape, classes
    ((8, 16, 16, 3), ['cat', 'dog'])

    Args:
        folder: Folder whose subfolders' names are the classes. Each holds the images of its class,
            directly or in further subfolders. See `find` for the files that are skipped.
        size: Height and width to which the images are resized, in pixels.
        classes: Names of the classes, if they come from another folder; a class may then have no
            images here. By default the subfolders; at least two must have an image.

    Returns:
        `images, labels, classes, unreadable`. `images` is uint8 `(n, size, size, 3)` in 0 … 255, in
        a fixed order that mixes the classes: any section has about the same share of each class as
        the whole. `labels` is int64 `(n,)`, indices of `classes`. `classes` are the sorted names.
        `unreadable` has a message for each file that could not be read.

    Raises:
        PictureError: if fewer than two classes have a readable image, or a subfolder is not one of
            `classes`.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise PictureError(f"{folder} is not a folder. {WANTED}")
    found = _sub_folders(folder)
    if not classes and len(found) < 2:
        raise PictureError(f"{folder} has {'1 subfolder' if found else 'no subfolders'}. {WANTED}")
    names = classes or found
    unknown = [name for name in found if name not in names]
    if unknown:
        raise PictureError(
            f"{folder / unknown[0]} is not one of the classes to train on: {', '.join(names)}"
        )
    images, labels, unreadable = _read_all(folder, names, size)
    links = [f"{path} is a link without a target" for path in _visible(folder) if _dangling(path)]
    empty = [name for k, name in enumerate(names) if k not in labels]
    if empty and (classes is None or len(empty) == len(names)):
        raise PictureError(
            f"{folder / empty[0]} has no picture that can be read. {WANTED}\n"
            + "\n".join((links + unreadable)[:5])
        )
    return images, labels, list(names), links + unreadable


def split_folders(folder):
    """Finds the folders `train/`, `val/` and `test/` of a data set that is already split.

    Example:

    >>> split_folders("pets")  # its subfolders, cat and dog, are classes
    {}

    Args:
        folder: Folder with the subfolder `train` (or `training`) and with `val` (or `valid`,
            `validation`), `test` (or `testing`) or both, but no other subfolders, in upper or lower
            case. Each of them has a subfolder for each class.

    Returns:
        Dict from "train", "val" and "test" to the folders that exist; empty for any other folder,
        whose subfolders are classes.

    Raises:
        PictureError: if there are other folders than those of a split, two for the same part of
            it, or one that is a link without a target.
    """
    folder = pathlib.Path(folder)
    names = _sub_folders(folder) if folder.is_dir() else []
    parts = {name: SPLITS[name.lower()] for name in names if name.lower() in SPLITS}
    if "train" not in parts.values():
        return {}
    for path in folder.iterdir():
        if path.name.lower() in SPLITS and _dangling(path):
            raise PictureError(f"{path} is a link without a target; restore it or delete it")
    splits = {part: folder / name for name, part in parts.items()}
    others = [name for name in names if name not in parts]
    if len(parts) > len(splits) and not others:
        raise PictureError(
            f"{folder} has the subfolders {', '.join(names)}. Expected one train folder, with one "
            "val or test folder or both, or a subfolder per class"
        )
    if len(splits) < 2:
        return {}
    if others:
        raise PictureError(
            f"{folder} has the subfolders of a split ({', '.join(sorted(splits))}) and others: "
            f"{', '.join(others)}. Expected either train, val and test, or a subfolder per class"
        )
    return splits


def _sub_folders(folder):
    return [path.name for path in _visible(folder) if path.is_dir()]


def _read_all(folder, classes, size):
    """The images of all classes, shuffled and evenly interleaved, their labels, and messages."""
    mixed = sorted(_placed(folder, classes))
    images, labels, unreadable = [], [], []
    with futures.ThreadPoolExecutor() as pool:
        results = pool.map(lambda placed: _try(placed[-1], size), mixed)
        for (_, label, _), result in zip(mixed, results, strict=True):
            if isinstance(result, PictureError):
                unreadable.append(str(result))
            else:
                images.append(result)
                labels.append(label)
    stacked = np.array(images, "uint8").reshape(-1, size, size, 3)
    return stacked, np.array(labels, "int64"), unreadable


def _placed(folder, classes):
    """Yields `(place, label, path)` of all files; the random places, 0 … 1, mix the classes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        paths = find(folder / name) if (folder / name).is_dir() else []
        for number, index in enumerate(rng.permutation(len(paths))):
            yield (number + rng.uniform()) / len(paths), label, paths[index]


def _try(path, size):
    try:
        return read(path, (size, size))
    except PictureError as error:
        return error


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
