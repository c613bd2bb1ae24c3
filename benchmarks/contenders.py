"""The contenders that are timed: our library in each way of calling it, that of another checkout,
which is called `base`, PyTorch, and, for affine warps, kornia and Keras."""

import functools
import importlib.util
import math

import numpy as np

from benchmarks.frameworks import FRAMEWORKS, JOBS, WAYS
from benchmarks.warps import CELLS, arrays


def kornia(images, theta):
    import torch
    from kornia.geometry.transform import invert_affine_transform, warp_affine

    size = images.shape[2:]
    matrix = torch.stack([torch.stack(row, -1) for row in between_pixels(theta, size)], 1)
    return warp_affine(images, invert_affine_transform(matrix), size, align_corners=False)


def affine_transform(images, theta):
    from keras import ops

    x_row, y_row = between_pixels(theta, images.shape[1:3])
    projective = [ops.zeros_like(theta[:, 0, 0])] * 2
    return ops.image.affine_transform(images, ops.stack([*x_row, *y_row, *projective], -1))


def map_coordinates(images, theta):
    """Keras's function samples one channel of one image, so it is vectorized over both."""
    from keras import ops

    def warp(image_and_coordinates):
        image, coordinates = image_and_coordinates
        sample = functools.partial(ops.image.map_coordinates, coordinates=coordinates, order=1)
        return ops.transpose(ops.vectorized_map(sample, ops.transpose(image, (2, 0, 1))), (1, 2, 0))

    y, x = (ops.arange(length, dtype="float32") for length in images.shape[1:3])
    x_row, y_row = between_pixels(theta[..., None, None], images.shape[1:3])
    coordinates = ops.stack([a * x + b * y[:, None] + c for a, b, c in (y_row, x_row)], 1)
    return ops.vectorized_map(warp, (images, coordinates))


def between_pixels(theta, size):
    """Rows `(a, b, c)` of theta's matrix between pixels, whose centres are at 0, 1, 2, …"""
    (height, width), rows = size, []
    for row, length in enumerate((width, height)):
        a, b, c = (theta[:, row, k] * (length / 2) for k in range(3))
        origin = a * (1 / width - 1) + b * (1 / height - 1) + c + (length - 1) / 2
        rows.append((a * (2 / width), b * (2 / height), origin))
    return rows


PEERS = {
    "kornia": kornia,
    "Keras affine_transform": affine_transform,
    "Keras map_coordinates": map_coordinates,
}
NCHW = {"PyTorch": ["torch"], "kornia": ["kornia", "torch"]}  # and the packages they need


def contenders(backend, ways=None, peers=False, base=False):
    """Names of the installed contenders; ours in the given ways, or in all ways of the backend."""
    ways = [way for way in WAYS[backend] if ways is None or way in ways]
    others = ["PyTorch", *(PEERS if peers else ())]
    libraries = ["base", "ours"] if base else ["ours"]
    return [f"{library}, {way}" for way in ways for library in libraries] + [
        name
        for name in others
        if all(map(importlib.util.find_spec, NCHW.get(name, [])))
        or print(f"Without {name}, which is not installed.")
    ]


def can(contender, job, shape, table="affine"):
    """Whether a contender can do a job. `affine_transform` is documented to have no gradient of its
    transform. The gradient of `map_coordinates` takes more than ten gigabytes and more than ten
    seconds for the largest images."""
    if contender in PEERS and table != "affine":
        return False
    if contender == "Keras affine_transform":
        return job == "forward"
    return contender != "Keras map_coordinates" or job == "forward" or math.prod(shape) < 2**24


def prepare(contender, backend, name, shape):
    """A contender's device and `run`, on the warp of that name of images of that shape."""
    cell = CELLS[name]
    images, coordinates, upstream = arrays(cell, shape)
    who, _, way = contender.partition(", ")
    warps = {**PEERS, "ours": cell.ours, "base": cell.ours, "PyTorch": cell.pytorch}
    warp = warps[who]
    if who in NCHW:
        backend = "torch"
        images, upstream = (np.moveaxis(array, -1, 1).copy("C") for array in (images, upstream))
    way = way or ("default" if warp is affine_transform else "compiled")  # which XLA has not
    return FRAMEWORKS[backend](warp, (images, coordinates, upstream), way)


def values(contender, run, job):
    """The results of a job, for comparison: some thousand numbers of large tensors."""
    found = []
    for tensor, kind in zip(run(job), (0, *JOBS[job]), strict=True):
        array = np.asarray(tensor.cpu() if hasattr(tensor, "is_cuda") else tensor)
        if kind == 0 and contender in NCHW:
            array = np.moveaxis(array, 1, -1)
        found.append(array.ravel()[:: 1 + array.size // 5000].copy())
    return found
