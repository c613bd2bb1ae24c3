"""Derivatives of displacement fields with respect to pixel coordinates."""

from keras import ops


def jacobian_rows(components, scales=(1, 1, 1)):
    """The Jacobian of the map from output to input, as rows of tensors `(batch, *output_size)`.

    `components` are the components of a displacement. `scales` are the input pixels per output
    pixel of the identity along each axis. Both are in the order x, y, z.
    """
    axes = len(components)
    return [
        [slope(part, axes - k) + (scale if k == row else 0) for k in range(axes)]
        for row, (part, scale) in enumerate(zip(components, scales))
    ]


def slope(values, axis):
    """The derivative along an axis by central differences; one-sided differences at its ends."""
    if values.shape[axis] == 1:
        return ops.zeros_like(values)
    values = ops.moveaxis(values, axis, 0)
    before, after = 2 * values[:1] - values[1:2], 2 * values[-1:] - values[-2:-1]
    longer = ops.concatenate([before, values, after], axis=0)
    return ops.moveaxis((longer[2:] - longer[:-2]) / 2, 0, axis)
