"""Converts boxes in pixels to the `theta` of warps that crop them.

Boxes count pixels from the outer edge of the first pixel, as in `keras.utils.bounding_boxes` and
torchvision, so the whole image is the box `[0, 0, width, height]`. The `theta` is for
`align_corners=False`, where the outer edges of the image are −1 and 1.
"""

import numpy as np
from keras import ops

from stn_keras.checks.arguments import Size, as_coordinates, as_size, is_symbolic, wide_dtype
from stn_keras.sampler.axes import as_float


def from_boxes(boxes, image_size: Size):
    """The `theta` of `transforms.Box` that crops boxes given in pixels.

    The function is differentiable and works in functional models too.

    Example:

    >>> theta = from_boxes([[[0.0, 0.0, 32.0, 64.0], [16.0, 16.0, 48.0, 48.0]]], (64, 64))
    >>> np.array(theta)[0]  # two glimpses of one image: its left half, its middle
    array([[ 0.5,  1. , -0.5,  0. ],
           [ 0.5,  0.5,  0. ,  0. ]], dtype=float32)
    >>> crops = stn_keras.SpatialTransformer(transform="box", output_size=(7, 7), antialias=2)
    >>> crops([np.ones((1, 64, 64, 3)), theta]).shape == (1, 2, 7, 7, 3)
    True

    Args:
        boxes: `(..., 4)`, the corners `(x1, y1, x2, y2)` in Keras's format `"xyxy"`; for volumes
            `(..., 6)`, `(x1, y1, z1, x2, y2, z2)`.
        image_size: `(height, width)` or `(depth, height, width)` of the image in whose pixels the
            boxes are given. The feature map that is sampled may be smaller.

    Returns:
        A tensor of the shape of `boxes`; float64 if `boxes` are float64, else float32.

    Raises:
        ValueError: if an argument has a wrong shape.
    """
    lengths = as_size(image_size, "image_size", axes=(2, 3))[::-1]
    axes = len(lengths)
    numbers, lengths = columns(boxes, 2 * axes, lengths)
    sides = list(zip(numbers[:axes], numbers[axes:], lengths))
    scales = [(end - start) / length for start, end, length in sides]
    shifts = [(start + end) / length - 1 for start, end, length in sides]
    return ops.stack(scales + shifts, axis=-1)


def from_rotated_boxes(boxes, image_size: Size):
    """The `theta` of `transforms.Affine` that crops rotated boxes given in pixels.

    The function is differentiable and works in functional models too.

    Example:

    >>> theta = from_rotated_boxes([[32.0, 32.0, 64.0, 16.0, np.pi / 2]], (64, 64))
    >>> np.array(theta).round(3) + 0.0  # 16 pixels wide and 64 high: the output's right is below
    array([[ 0.  , -0.25,  0.  ,  1.  ,  0.  ,  0.  ]], dtype=float32)

    Args:
        boxes: `(..., 5)`: the centre x and y, the width and height, and the angle in radians. A
            positive angle turns from x to y, which is clockwise on the screen. Convert degrees
            counterclockwise by `-np.radians(degrees)`.
        image_size: `(height, width)`, as in `from_boxes`.

    Returns:
        `(..., 6)`; float64 if `boxes` are float64, else float32.

    Raises:
        ValueError: if an argument has a wrong shape.
    """
    lengths = as_size(image_size, "image_size")[::-1]
    (x, y, width, height, angle), (of_x, of_y) = columns(boxes, 5, lengths)
    cosine, sine = ops.cos(angle), ops.sin(angle)
    along_x = [width * cosine / of_x, -height * sine / of_x, 2 * x / of_x - 1]
    along_y = [width * sine / of_y, height * cosine / of_y, 2 * y / of_y - 1]
    return ops.stack(along_x + along_y, axis=-1)


def columns(boxes, count, lengths):
    """The `count` numbers of boxes as tensors `(...)`, and the lengths of the image as floats."""
    symbolic = is_symbolic(boxes)
    boxes = ops.cast(boxes, wide_dtype(boxes)) if symbolic else as_coordinates(boxes, "boxes")
    if not boxes.shape or boxes.shape[-1] != count:
        raise ValueError(
            f"`boxes` must have shape (..., {count}) for such an `image_size`. "
            f"Received: boxes.shape={tuple(boxes.shape)}"
        )
    return ops.unstack(boxes, axis=-1), [as_float(length, boxes.dtype) for length in lengths]


def stack_boxes(boxes, batch_size: int):
    """Stacks boxes into one array if images have different numbers of boxes. It uses NumPy.

    Example:

    >>> found = [[[0.0, 0.0, 8.0, 8.0]], np.zeros((0, 4)), [[4.0, 4.0, 8.0, 8.0]] * 3]
    >>> stacked, order = stack_boxes(found, batch_size=3)
    >>> stacked.shape, order
    ((3, 3, 4), array([0, 6, 7, 8]))

    From crops of all stacked boxes, `(batch, most, ...)`, the crops of the given boxes, in the
    given order, are `ops.take(ops.reshape(crops, (-1, *crops.shape[2:])), order, axis=0)`.

    Args:
        boxes: A list of arrays `(n, 4)`, one for each image, or one array `(n, 5)`, whose first
            column is the index of the image. Rotated boxes have 5 numbers instead of 4, so these
            shapes are `(n, 5)` and `(n, 6)`.
        batch_size: Number of images.

    Returns:
        `(stacked, order)`: `stacked` is a float32 array `(batch_size, most, 4)`, padded with zeros,
        where `most` is the largest number of boxes of an image. `order` holds the index of each
        given box among the `batch_size · most` stacked ones, `(n,)` integers.

    Raises:
        ValueError: if an array has a wrong shape, or the number of images is not `batch_size`.
    """
    images, boxes = numbered(boxes, batch_size)
    counts = np.bincount(images, minlength=batch_size)
    most, before = counts.max(), np.cumsum(counts) - counts
    places = np.empty_like(images)
    places[np.argsort(images, kind="stable")] = np.arange(len(images)) - np.repeat(before, counts)
    stacked = np.zeros((batch_size, most, boxes.shape[1]), "float32")
    stacked[images, places] = boxes
    return stacked, images * most + places


def numbered(boxes, batch_size):
    """The index of the image of each box, `(n,)`, and the boxes, `(n, 4)`."""
    table, count = boxes, batch_size
    try:
        if isinstance(boxes, (list, tuple)):
            rows = [[image, *box] for image, some in enumerate(boxes) for box in np.asarray(some)]
            table, count = rows or np.zeros((0, 5)), len(boxes)
        table = np.asarray(table, "float32")
    except (ValueError, TypeError):
        table = np.empty(0)
    images = table[:, 0] if table.ndim == 2 else np.full(1, -1)
    if count != batch_size or not np.isin(images, np.arange(batch_size)).all():
        raise ValueError(
            f"`boxes` must be a list of {batch_size} arrays (n, 4), as `batch_size` says, or one "
            "array (n, 5) whose first column is the number of the image, from 0 to "
            f"{batch_size - 1}. Received: boxes={boxes}"
        )
    return images.astype(int), table[:, 1:]
