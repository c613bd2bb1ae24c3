"""The networks of `examples.register`: U-Nets that predict velocity fields, coarse to fine."""

import keras
from keras import layers, ops

from stn_keras import DenseWarp, VelocityIntegration, geometry, losses

INTEGRATION_STEPS = 5  # no velocity is above a few pixels


def build(size, levels, channels, *, integrate=True):
    """A model that registers pairs of images or volumes of `size`.

    Each level sees both images at a resolution of its own, with the moving image warped by the
    displacement of the levels before, and predicts a velocity at half that resolution. The
    displacements of all levels are composed.

    Args:
        size: `(height, width)` or `(depth, height, width)`, multiples of 4 times all levels.
        levels: For each level, how many pixels along each axis it averages into one, such as
            `(2, 1)`.
        channels: Number of channels of a U-Net's first convolution.
        integrate: Whether the prediction is a velocity, which is integrated, or the displacement.

    Returns:
        A model from `[moving, fixed]`, each `(batch, *size, 1)`, to a dict: for level k
        `"warped_k"`, the moving image averaged and warped, and `"velocity_k"`; `"displacement"` is
        `(batch, *size, 2 or 3)` in pixels.
    """
    moving = keras.Input((*size, 1), name="moving")
    fixed = keras.Input((*size, 1), name="fixed")
    displacement, outputs = None, {}
    for level, factor in enumerate(levels):
        level_size = tuple(length // factor for length in size)
        images, target = average(moving, factor), average(fixed, factor)
        warped = images
        if displacement is not None:
            field = geometry.resize_displacement(displacement, level_size)
            warped = DenseWarp()([images, field])
        network = unet((*level_size, 2), channels, name=f"unet_{level}")
        velocity = network(layers.Concatenate()([warped, target]))
        update = VelocityIntegration(INTEGRATION_STEPS)(velocity) if integrate else velocity
        if displacement is not None:
            before = geometry.resize_displacement(displacement, update.shape[1:-1])
            update = geometry.compose_displacements(before, update)
        displacement = update
        field = geometry.resize_displacement(displacement, level_size)
        outputs[f"warped_{level}"] = DenseWarp()([images, field])
        outputs[f"velocity_{level}"] = velocity
    outputs["displacement"] = geometry.resize_displacement(displacement, size)
    return keras.Model([moving, fixed], outputs)


def unet(shape, channels, name):
    """A U-Net of three resolutions that predicts a vector for each 2×2(×2) pixels of its input."""
    rank = len(shape) - 1
    conv = {2: layers.Conv2D, 3: layers.Conv3D}[rank]
    upsample = {2: layers.UpSampling2D, 3: layers.UpSampling3D}[rank]

    def block(x, channels, strides=1):
        x = conv(channels, 3, strides, padding="same", kernel_initializer="he_normal")(x)
        return layers.LeakyReLU(0.2)(x)

    inputs = keras.Input(shape)
    half = block(block(inputs, channels, 2), channels)
    quarter = block(block(half, 2 * channels, 2), 2 * channels)
    quarter = block(quarter, 2 * channels)
    x = layers.Concatenate()([upsample()(quarter), half])
    x = block(block(x, channels), channels)
    # Almost the identity at first.
    small = keras.initializers.RandomNormal(stddev=1e-3)
    return keras.Model(
        inputs, conv(rank, 3, padding="same", kernel_initializer=small)(x), name=name
    )


def average(images, factor):
    """`(batch, *size, channels)` images, the means of blocks of `factor` pixels along each axis."""
    if factor == 1:
        return images
    size = images.shape[1:-1]
    blocks = [part for length in size for part in (length // factor, factor)]
    blocks = ops.reshape(images, (-1, *blocks, images.shape[-1]))
    return ops.mean(blocks, axis=tuple(range(2, 2 * len(size) + 1, 2)))


def targets(fixed, levels):
    """The targets of the outputs; the smoothness of a velocity ignores its target."""
    found = {f"warped_{level}": average(fixed, factor) for level, factor in enumerate(levels)}
    return found | {f"velocity_{level}": fixed[:, :1] for level in range(len(levels))}


def compile_model(model, levels, optimizer, similarity, smoothness):
    """Compiles a model with two losses for each level: likeness of the images, smooth velocity."""
    names = range(len(levels))
    model.compile(
        optimizer=optimizer,
        loss={f"warped_{k}": similarity for k in names}
        | {f"velocity_{k}": losses.DisplacementGradient("l2") for k in names},
        loss_weights={f"warped_{k}": 1.0 for k in names}
        | {f"velocity_{k}": smoothness for k in names},
    )
