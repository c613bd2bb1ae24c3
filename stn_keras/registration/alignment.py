"""Runs the stages of a registration, and composes the warp from their results."""

import functools
import operator

import keras
import numpy as np
from keras import ops

from stn_keras import transforms
from stn_keras.registration import similarities
from stn_keras.registration.equations import look
from stn_keras.registration.families import call_compiled
from stn_keras.registration.gauss_newton import LEAST_OVERLAP
from stn_keras.registration.pictures import Side
from stn_keras.registration.pyramid import pyramid, smoothed
from stn_keras.registration.report import Report
from stn_keras.registration.stages import fit_parameters, fit_velocity
from stn_keras.sampler import warps
from stn_keras.sampler.matrix_warps import Affine, Homography, MatrixWarp, of_square

DISPLACEMENT = "displacement"
UNLIKE = 0.8  # a loss "ecc" that unrelated pictures can reach
PIXEL_ON_PIXEL = transforms.Translation, transforms.Rigid  # transforms without a scale


def align(moving, fixed, stages, loss, initial, smoothness, verbose):
    """Fits the stages; returns the warp, with its report."""
    similarity = similarities.get(loss)
    moving, fixed, unit = in_units(moving, fixed, loss)
    levels = [smoothed(side) for side in pyramid(fixed)]
    told = progress(verbose, len(stages) * len(levels))
    before, start = initial_of(initial, stages[0], moving, fixed)
    first = joined(before, matrix_warp(start, moving.size, fixed.size))
    loss_before, overlap = measure(first, moving, fixed, similarity)
    check_overlap(overlap)
    least = np.minimum(LEAST_OVERLAP, overlap / 2)
    entries = []
    for transform in stages:
        seen = moving if before is None else warped(moving, before)
        arguments = seen, levels, start, similarity, told
        if transform == DISPLACEMENT:
            stage, found = fit_velocity(*arguments, smoothness)
        else:
            stage, found = fit_parameters(*arguments, transform, loss)
        entries += found
        if isinstance(transform, transforms.MatrixTransform):
            start = start @ ops.convert_to_numpy(stage.square()).astype("float64")
        else:
            before = joined(before, matrix_warp(start, seen.size, fixed.size), stage)
            start = np.broadcast_to(np.eye(len(fixed.size) + 1), start.shape)
    warp = before
    if isinstance(stages[-1], transforms.MatrixTransform):
        warp = joined(before, matrix_warp(start, seen.size, fixed.size))
    loss_after, overlap = measure(warp, moving, fixed, similarity)
    warp.report = Report(
        levels=tuple(entries),
        loss_before=loss_before * unit,
        loss_after=loss_after * unit,
        overlap=overlap,
        converged=entries[-1].converged
        & is_better(loss, loss_before, loss_after)
        & (overlap >= least),
    )
    return warp


def is_better(loss, before, after):
    """Whether the loss of each pair did not rise and, for `"ecc"`, the pictures correlate."""
    better = after <= before + 1e-6
    return better & (after < UNLIKE) if loss == "ecc" else better


def in_units(moving, fixed, loss):
    """Both sides, normalised by mean and standard deviation, and the unit of the loss.

    For `"mse"` both are normalised by the statistics of the fixed picture, which keeps differences
    in brightness. A loss of Keras gets the pictures as they are.
    """
    mean, deviation = fixed.statistics()
    if loss == "mse":
        unit = deviation.ravel() ** 2
        return moving.scaled(mean, deviation), fixed.scaled(mean, deviation), unit
    if isinstance(loss, str):
        moving, fixed = moving.scaled(*moving.statistics()), fixed.scaled(mean, deviation)
    return moving, fixed, 1.0


def initial_of(initial, transform, moving, fixed):
    """`(warp, matrices)`, whose composition is the warp that the registration starts from.

    The warp is None if the matrices alone represent it.
    """
    batch = len(fixed.pixels)
    if initial is None:
        warp, matrix = None, start_matrix(transform, moving.size, fixed.size)
    else:
        check_initial(initial, moving.size, fixed.size, batch)
        warp, matrix = initial, np.eye(len(fixed.size) + 1)
        if isinstance(initial, MatrixWarp) and not initial.align_corners:
            warp, matrix = None, ops.convert_to_numpy(initial.square()).astype("float64")
        elif initial.tensor.shape[0] != batch:
            warp = initial.as_grid(ops.repeat(initial.grid(), batch, axis=0))
    return warp, np.broadcast_to(matrix, (batch, *matrix.shape[-2:]))


def check_initial(initial, moving_size, fixed_size, batch):
    """Raises a ValueError if `initial` is not a warp from the moving to the fixed pictures."""
    wanted = f"`initial` must be a `stn_keras.Warp` from {moving_size} to {fixed_size} pixels"
    if not isinstance(initial, warps.Warp):
        raise ValueError(f"{wanted}. Received: initial={initial!r}")
    if (tuple(initial.input_size), tuple(initial.output_size)) != (moving_size, fixed_size):
        raise ValueError(
            f"{wanted}. Received: a warp from {initial.input_size} to {initial.output_size}"
        )
    if initial.tensor.shape[0] not in (1, batch):
        raise ValueError(
            f"`initial` must be one warp or {batch}. Received: {initial.tensor.shape[0]} warps"
        )


def start_warp(transform, moving_size, fixed_size):
    """The warp that a registration starts from by default."""
    matrix = start_matrix(transform, moving_size, fixed_size)
    return matrix_warp(matrix[None], moving_size, fixed_size)


def start_matrix(transform, moving_size, fixed_size):
    """The normalised matrix from the fixed to the moving picture by which their centres coincide.

    For its scale see `initial` of `register`.
    """
    sizes = list(zip(moving_size, fixed_size))
    scale = 1 if isinstance(transform, PIXEL_ON_PIXEL) else min(m / f for m, f in sizes)
    return np.diag([*(scale * f / m for m, f in reversed(sizes)), 1.0])


def matrix_warp(matrix, moving_size, fixed_size):
    """The warp of normalised matrices."""
    matrix = matrix / matrix[:, -1:, -1:]
    kind = Homography if np.abs(matrix[:, -1, :-1]).max() > 1e-12 else Affine
    tensor = ops.convert_to_tensor(matrix, dtype="float32")
    return of_square(kind, tensor, moving_size, fixed_size, False)


def joined(*several):
    """The composition of warps; None is skipped."""
    return functools.reduce(operator.matmul, (warp for warp in several if warp is not None))


def warped(side, warp):
    """A side sampled by a warp; the weight is 0 where a sample is outside or masked."""
    pictures = ops.convert_to_tensor(side.with_weights())
    pixels, seen = look(pictures, warp.grid())
    return Side(ops.convert_to_numpy(pixels), np.floor(ops.convert_to_numpy(seen) + 1e-3))


def measure(warp, moving, fixed, similarity):
    """The losses of the pairs under a warp, and the share of each fixed picture that it covers."""
    arrays = moving.with_weights(), fixed.pixels, fixed.weights
    tensors = warp.tensor, *map(ops.convert_to_tensor, arrays)
    settings = {"similarity": similarity, "kind": type(warp), **dict(warp.settings)}
    found = call_compiled(losses_and_coverage, *tensors, **settings)
    losses, seen = (ops.convert_to_numpy(x).astype("float64") for x in found)
    return losses, seen / fixed.weights.sum(tuple(range(1, fixed.weights.ndim)))


def losses_and_coverage(tensor, moving, fixed, weights, similarity, kind, **settings):
    """The losses of pairs, and the number of pixels that a warp covers, both `(batch,)`.

    The warp is `kind(tensor, **settings)`.
    """
    pixels, seen = look(moving, kind(tensor, **settings).grid())
    weights = weights * seen
    axes = tuple(range(1, len(weights.shape)))
    return similarity(fixed, pixels, weights), ops.sum(weights, axis=axes)


def check_overlap(overlap):
    """Raises a ValueError if the pictures of a pair do not overlap at the start."""
    apart = np.flatnonzero(~(overlap > 0))
    if len(apart):
        raise ValueError(
            "`initial` and the masks must let the pictures overlap. "
            f"Received: pair {apart[0]} has no pixel in common"
        )


def progress(verbose, count):
    """A function to call with the losses of each finished level; it updates the progress bar."""
    bar = keras.utils.Progbar(count, verbose=int(bool(verbose)), unit_name="level")
    return lambda loss: bar.add(1, values=[("loss", float(np.mean(loss)))])
