"""Derivatives of fields by the pixels they are given at."""

from keras import ops


def jacobian_rows(components, scales=(1, 1, 1)):
    """The Jacobian of where output pixels look, as rows of tensors `(batch, *output_size)`.

    `components` are those of a displacement, `scales` the input pixels per output pixel along each
    axis where it is 0, both in the order x, y, z.
    """
    axes = len(components)
    return [
        [slope(part, axes - k) + (scale if k == row else 0) for k in range(axes)]
        for row, (part, scale) in enumerate(zip(components, scales))
    ]


def slope(values, axis):
    """The derivative along an axis: central differences, at its ends one-sided ones."""
    if values.shape[axis] == 1:
        return ops.zeros_like(values)
    values = ops.moveaxis(values, axis, 0)
    before, after = 2 * values[:1] - values[1:2], 2 * values[-1:] - values[-2:-1]
    longer = ops.concatenate([before, values, after], axis=0)
    return ops.moveaxis((longer[2:] - longer[:-2]) / 2, 0, axis)
