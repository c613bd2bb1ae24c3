"""Registration: the warp that lays one picture onto another, found by one call."""

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
    """Finds the warp that lays `moving` onto `fixed`, pair by pair, without training.

    It goes from small, smooth pictures to the full ones. Transforms are fitted by the
    Levenberg–Marquardt method for the losses `"ecc"` and `"mse"`; displacement fields, and
    transforms for other losses, by Adam. The same call gives the same warp.

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
        fixed: Pictures or volumes onto which they are laid. Their size may be another. Where they
            have other channels, both are made grey. A batch of one goes with each of the other.
        transform: What the warp may be: a name or an instance of `stn_keras.transforms`,
            `"displacement"` for a velocity field, integrated to a warp without folds, or a list of
            them, the coarse ones first, as in `["affine", "displacement"]`.
        loss: How unlike the pictures are: `"ecc"`, 1 minus their correlation, which ignores
            brightness and contrast; `"mse"`, the mean squared difference; `"lncc"`, minus the
            squared correlation in small windows, for brightness that varies; `"nmi"`, minus the
            normalised mutual information, for pictures of different kinds; or a loss of Keras.
        initial: A `stn_keras.Warp` to start from, of these sizes. By default the middle lies on the
            middle. Where sizes differ, pixel lies on pixel for translations and rigid transforms,
            else the fixed picture just fits into the moving one.
        moving_mask: `(batch, height, width)`, of volumes with a depth: False or 0 where pixels are
            to be ignored.
        fixed_mask: The same for `fixed`.
        smoothness: Weight of the velocity's mean squared slope, for `"displacement"`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        verbose: 1 shows a progress bar.

    Returns:
        A `stn_keras.Warp` from moving to fixed pictures, whose `report` is a `Report`. A warning
        says if a pair did not converge.

    Raises:
        ValueError: if pictures do not fit together, are constant, are not finite where they are not
            masked, or do not overlap at the start, or an argument is unknown.
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
            f"`register` did not converge for {len(lost)} of {len(warp.report.converged)} pairs, "
            f"the first of them pair {lost[0]}; see the `report` of the warp, and try a transform "
            "of fewer parameters first, or `initial`",
            stacklevel=2,
        )
    return warp


def as_stages(transform, axes):
    """The transforms to fit, in their order; `"displacement"` stays a name.

    Raises:
        ValueError: if one is unknown, or not for images of so many axes.
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
            f"`transform` must be one of {kinds[axes]}, as the pictures are. "
            f"Received: transform={transform!r}, of {kinds[transform.axes]}"
        )
    return transform
