"""Registration: one call finds the warp that aligns one picture with another."""

import warnings
from collections.abc import Sequence

import numpy as np

from stn_keras import transforms
from stn_keras.checks.arguments import as_number
from stn_keras.checks.images import as_data_format
from stn_keras.registration.alignment import DISPLACEMENT, align
from stn_keras.registration.pictures import as_sides
from stn_keras.registration.report import Report
from stn_keras.transforms.image_or_volume import ImageOrVolume

__all__ = ["Report", "register"]


def register(
    moving,
    fixed,
    *,
    transform: str | transforms.Transform | Sequence = "affine",
    loss="ecc",
    initial=None,
    moving_mask=None,
    fixed_mask=None,
    smoothness: float = 0.1,
    data_format: str | None = None,
    verbose: int = 0,
):
    """Finds the warp that aligns `moving` with `fixed`, one warp per pair, without training.

    The warp is fitted coarse to fine, from small, smoothed pictures to the full ones. With the
    losses `"ecc"` and `"mse"`, transforms are fitted by the Levenberg–Marquardt method. Transforms
    with other losses, and displacement fields, are fitted by Adam. There is no randomness: the same
    call returns the same warp.

    Example:

    >>> y, x = np.mgrid[:32, :40]
    >>> scene = np.sin(x / 3) + np.cos(y / 4)
    >>> moving, fixed = scene[None, :, :32, None], scene[None, :, 2:34, None]
    >>> warp = register(moving, fixed, transform="translation")
    >>> np.array(warp.matrix)[0, :2, 2].round() + 0.0  # pixel (0, 0) is from (2, 0)
    array([2., 0.], dtype=float32)
    >>> aligned = warp(moving)

    Args:
        moving: Pictures `(batch, height, width, channels)` or volumes `(batch, depth, height,
            width, channels)`, integers or floats.
        fixed: The pictures or volumes to align `moving` with. Their size may differ from that of
            `moving`. A colour picture is averaged to grey if the other is grey; otherwise both must
            have the same channels. If one batch size is 1, its picture is paired with each picture
            of the other batch.
        transform: The kind of warp to fit: a name or an instance of `stn_keras.transforms`, or
            `"displacement"` for a velocity field, which is integrated to a warp without folds. A
            list fits several, one after another; put the coarse ones first, as in
            `["affine", "displacement"]`.
        loss: The dissimilarity to minimise: `"ecc"`, 1 minus the correlation of the pictures, which
            ignores brightness and contrast; `"mse"`, the mean squared difference; `"lncc"`, minus
            the squared correlation in small windows, for brightness that varies from place to
            place; `"nmi"`, minus the normalised mutual information, for pictures of different
            kinds; or a loss of Keras.
        initial: The `stn_keras.Warp` to start from, with the sizes of `moving` and `fixed`. By
            default, the centres of both pictures coincide. If the sizes differ, translations and
            rigid transforms start at a scale of 1 in pixels. All others start at the scale at which
            the fixed picture just fits into the moving one.
        moving_mask: `(batch, height, width)`, or `(batch, depth, height, width)` for volumes: False
            or 0 for the pixels to ignore.
        fixed_mask: The same for `fixed`.
        smoothness: For `"displacement"`, the weight of the mean squared gradient of the velocity.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        verbose: 1 shows a progress bar.

    Returns:
        A `stn_keras.Warp` that warps `moving` to `fixed`. Its `report` is a `Report`.

    Warns:
        UserWarning: if a pair did not converge.

    Raises:
        ValueError: if the shapes of the pictures do not fit together, if a picture is constant or
            has unmasked pixels that are not finite, if the pictures of a pair do not overlap at the
            start, or if an argument has an unknown value.
    """
    data_format = as_data_format(data_format)
    moving, fixed = as_sides(moving, fixed, moving_mask, fixed_mask, data_format)
    stages = as_stages(transform, len(fixed.size))
    smoothness = as_number(smoothness, "smoothness")
    if smoothness < 0:
        raise ValueError(f"`smoothness` must be 0 or greater. Received: smoothness={smoothness}")
    warp = align(moving, fixed, stages, loss, initial, smoothness, verbose)
    lost = np.flatnonzero(~warp.report.converged)
    if len(lost):
        warnings.warn(
            f"`register` did not converge for {len(lost)} of {len(warp.report.converged)} pairs "
            f"(first: pair {lost[0]}). See the `report` of the warp. Try a transform with fewer "
            "parameters first, or pass `initial`.",
            stacklevel=2,
        )
    return warp


def as_stages(transform, axes):
    """The transforms to fit, in the order of fitting; `"displacement"` stays a string.

    Raises:
        ValueError: if a transform is unknown, or has another number of axes than the pictures.
    """
    several = transform if isinstance(transform, (list, tuple)) else [transform]
    if not several:
        raise ValueError("`transform` must name at least one transform. Received: transform=[]")
    return [as_stage(one, axes) for one in several]


def as_stage(transform, axes):
    if transform == DISPLACEMENT:
        return transform
    if isinstance(transform, str) and transform not in transforms.TRANSFORMS:
        raise ValueError(
            f"`transform` must be a `Transform` or one of {(*transforms.TRANSFORMS, DISPLACEMENT)}."
            f" Received: transform={transform!r}"
        )
    if axes == 3 and isinstance(transform, str):
        family = transforms.TRANSFORMS[transform]
        transform = family(axes=3) if issubclass(family, ImageOrVolume) else family()
    transform = transforms.get(transform)
    if transform.axes != axes:
        kinds = {2: "images", 3: "volumes"}
        raise ValueError(
            f"`transform` must be a transform of {kinds[axes]}, because the pictures are "
            f"{kinds[axes]}. Received: transform={transform!r}, of {kinds[transform.axes]}"
        )
    return transform
