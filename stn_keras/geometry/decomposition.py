"""Affine transforms as scales, a rotation, shears and a translation."""

import numpy as np
from keras import ops

__all__ = ["decompose"]


def decompose(theta):
    """Scales, rotation, shear and translation of affine transforms.

    With `theta = [A | t]`, `t = (translation_x, translation_y)` and::

        A = R(rotation) @ [[1, shear], [0, 1]] @ diag(scale_x, scale_y)
        R(r) = [[cos r, -sin r], [sin r, cos r]]

    so that, for `A = [[a, b], [d, e]]`::

        scale_x = hypot(a, d)                scale_y = (a e − b d) / scale_x
        rotation = atan2(d, a)               shear = (a b + d e) / (scale_x scale_y)

    A scale below 1 zooms in: the sampled region is smaller than the image. A positive rotation
    turns that region clockwise on the screen, since y points down. All values are in normalised
    coordinates, in which every image is a square.

    For volumes there are three scales, shears and translations, and the rotation is a vector::

        A = R(rotation) @ [[1, shear_xy, shear_xz], [0, 1, shear_yz], [0, 0, 1]] @ diag(scales)

    Args:
        theta: (batch, 6) or (batch, 2, 3) array, from output to input coordinates; for volumes
            (batch, 12) or (batch, 3, 4).

    Returns:
        dict of float (batch,) arrays: "scale_x" (not negative), "scale_y" (negative for a
        reflection), "rotation" (degrees, above −180, up to 180), "shear", "translation_x" and
        "translation_y" (in halves of the image's width and height). For volumes "scale_x" and
        "scale_y" (not negative), "scale_z" (negative for a reflection), "rotation_x", "rotation_y"
        and "rotation_z" (degrees; together up to 180), "shear_xy", "shear_xz" and "shear_yz",
        "translation_x", "translation_y" and "translation_z". Values that a singular `A` does not
        determine are NaN or infinite.

    Raises:
        ValueError: if `theta` has another shape.

    Example:
        >>> decompose([[0, -0.5, 0, 0.5, 0, 0.1]])["rotation"]
        array([90.])
    """
    theta = np.asarray(ops.convert_to_numpy(theta), float) + 0.0  # −0 would turn 180° into −180°
    with np.errstate(divide="ignore", invalid="ignore"):
        if theta.shape[1:] in ((6,), (2, 3)):
            return of_images(theta.reshape(-1, 2, 3))
        if theta.shape[1:] in ((12,), (3, 4)):
            return of_volumes(theta.reshape(-1, 3, 4))
    raise ValueError(
        "`theta` must have shape (batch, 6) or (batch, 2, 3), or for volumes (batch, 12) or "
        "(batch, 3, 4); take one of several glimpses, theta[:, 0]. "
        f"Received: theta.shape={theta.shape}"
    )


def of_images(theta):
    (a, b, x), (d, e, y) = theta.transpose(1, 2, 0)
    scale_x = np.hypot(a, d)
    scale_y = (a * e - b * d) / scale_x
    return {
        "scale_x": scale_x,
        "scale_y": scale_y,
        "rotation": np.degrees(np.arctan2(d, a)),
        "shear": (a * b + d * e) / (scale_x * scale_y),
        "translation_x": x,
        "translation_y": y,
    }


def of_volumes(theta):
    columns = theta[:, :, :3].transpose(2, 0, 1)  # where the axes go
    first, scale_x = normalised(columns[0])
    along = dot(first, columns[1])
    second, scale_y = normalised(columns[1] - along[:, None] * first)
    third = np.cross(first, second)
    scale_z = dot(third, columns[2])
    rotation = np.degrees(rotation_vectors(np.stack([first, second, third], axis=-1)))
    found = {"scale_x": scale_x, "scale_y": scale_y, "scale_z": scale_z}
    found |= {f"rotation_{axis}": rotation[:, k] for k, axis in enumerate("xyz")}
    found |= {
        "shear_xy": along / scale_y,
        "shear_xz": dot(first, columns[2]) / scale_z,
        "shear_yz": dot(second, columns[2]) / scale_z,
    }
    return found | {f"translation_{axis}": theta[:, k, 3] for k, axis in enumerate("xyz")}


def rotation_vectors(matrices):
    """The rotation vectors `(batch, 3)` of matrices: the axis times the angle in radians."""
    twice_sine = matrices[:, [2, 0, 1], [1, 2, 0]] - matrices[:, [1, 2, 0], [2, 0, 1]]
    trace = np.trace(matrices, axis1=1, axis2=2)
    angle = np.arctan2(np.linalg.norm(twice_sine, axis=1), trace - 1)
    # 2 (1 − cosine) times the outer product of the axis with itself, which gives the axis where the
    # sine is 0.
    square = matrices + matrices.transpose(0, 2, 1) + (1 - trace)[:, None, None] * np.eye(3)
    largest = np.argmax(np.diagonal(square, axis1=1, axis2=2), axis=1)
    axis, _ = normalised(square[np.arange(len(square)), largest])
    axis *= np.where(dot(axis, twice_sine) < 0, -1, 1)[:, None]
    sine = np.sin(angle)
    below_90_degrees = twice_sine / 2 * np.where(sine > 0, angle / sine, 1)[:, None]
    return np.where((trace > 1)[:, None], below_90_degrees, axis * angle[:, None])


def normalised(vectors):
    """Vectors scaled to length 1, and their lengths before."""
    lengths = np.linalg.norm(vectors, axis=-1)
    return vectors / lengths[:, None], lengths


def dot(these, those):
    return np.sum(these * those, axis=-1)
