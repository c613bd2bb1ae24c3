"""A spatial transformer in front of a network of `keras.applications`.

`keras.applications.MobileNetV3Small` receives its images through a `SpatialTransformer`. Both are
trained by the network's loss, on CIFAR-10 enlarged to 160×160. The localization network sees the
images at 32×32, which is enough and costs little.

    python -m examples.keras_application --steps 30

prints the loss and the images per second five times, then the distance of the warps from the
identity, and draws the warps of eight test images. `--weights imagenet` starts from pretrained
weights, which Keras downloads.
"""

import argparse
import math

import keras
import tensorflow as tf

from stn_keras import SpatialTransformer, callbacks, localization, metrics, plots
from stn_keras.data import cifar10, pipeline


def build(size, weights):
    """From pixels in 0 … 255, `(batch, size, size, 3)`, to ten logits."""
    look = [keras.layers.AveragePooling2D(size // 32), keras.layers.Rescaling(1 / 127.5, offset=-1)]
    localize = keras.Sequential([*look, localization.cnn()])
    images = keras.Input((size, size, 3))
    # Mirror the image at its edges, because pretrained networks have not seen black borders.
    warped = SpatialTransformer(localize, fill_mode="reflect", name="transformer")(images)
    features = keras.applications.MobileNetV3Small(
        input_shape=(size, size, 3), include_top=False, pooling="avg", weights=weights
    )(warped)
    return keras.Model(images, keras.layers.Dense(10, name="logits")(features))


def main(arguments=None):
    args = parse(arguments)
    keras.config.set_image_data_format("channels_last")  # as the data are
    keras.utils.set_random_seed(0)

    def enlarge(images):
        return tf.image.resize(images, (args.size, args.size))

    training, (test_images, _) = cifar10.load()
    batches = pipeline.training_batches(*training, batch_size=args.batch_size, seed=0, flip=True)

    model = build(args.size, args.weights)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    steps = math.ceil(args.steps / 5)
    model.fit(
        batches.map(lambda images, labels: (enlarge(images), labels)),
        epochs=5,
        steps_per_epoch=steps,
        shuffle=False,  # the batches are shuffled already
        verbose=2,
        callbacks=[callbacks.Throughput(steps * args.batch_size)],
    )

    seen = enlarge(test_images[:8])
    theta = model.get_layer("transformer").theta(seen)
    pixels = metrics.identity_distance(theta).numpy() * args.size / 2
    plots.save(callbacks.draw(model, seen)["transformer"], args.picture)
    print(f"\nThe warps move the pixels of {args.size}×{args.size} test images", end=" ")
    print(f"by {pixels.min():.1f} to {pixels.max():.1f} pixels: {args.picture}")


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Train MobileNetV3Small behind a spatial transformer.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=160, help="of the images, a multiple of 32")
    parser.add_argument("--weights", choices=["imagenet"], help="start from pretrained weights")
    parser.add_argument("--picture", default="warps.png", help="where to draw the warps")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
