"""The warp of a spatial transformer in a functional model."""

from keras import ops

from stn_keras.sampler.symbolic import Made


def symbolic_warp(layer, inputs):
    """The result of `layer.warp` for symbolic tensors.

    It calls the localization network once per iteration and composes the warps.
    """
    if layer.localization is None:
        return Made(layer)(inputs)
    images, *others = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    theta, warp = layer.localization(inputs), None
    if layer.iterations > 1:
        layer.transform.check(theta)  # one warp per image
    for _ in range(layer.iterations - 1):
        warp = composed(warp, warp_by(layer, None, images, theta))
        seen = warp(
            ops.cast(images, layer.compute_dtype),
            interpolation=layer.interpolation,
            fill_mode=layer.fill_mode,
            fill_value=layer.fill_value,
            data_format=layer.data_format,
        )
        theta = layer.localization([seen, *others] if others else seen)
    return composed(warp, warp_by(layer, layer.output_size, images, theta))


def warp_by(layer, output_size, images, theta):
    """The warp of a copy of the layer that has no network and takes `theta`."""
    without = {"localization": None, "iterations": 1, "output_size": output_size}
    return Made(type(layer).from_config({**layer.get_config(), **without}))([images, theta])


def composed(first, second):
    return second if first is None else first @ second
