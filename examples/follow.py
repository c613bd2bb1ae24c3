"""Maps a face's landmarks and a detector's boxes into a learned crop, and the landmarks back.

A spatial transformer learns to crop a face so that its landmarks are at given places in the crop,
as face recognition expects. The loss is the distance of `warp.to_output(landmarks)` from these
places. It trains on one picture, scikit-image's astronaut, which is moved and turned at random
together with its landmarks.

    pip install ".[follow]"
    python -m examples.follow

prints the mean distance of the landmarks from their places before and after the training, and the
largest error in pixels of a landmark that is mapped to the crop and back. It draws the picture.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

from stn_keras import SpatialTransformer, localization, plots, transforms

# The astronaut's eyes, tip of the nose and corners of the mouth, (x, y) in pixels, and their places
# in the crop, normalised.
POINTS = [[202.5, 100.5], [246.0, 103.0], [226.0, 123.0], [204.0, 141.0], [243.0, 141.0]]
PLACES = [[-0.35, -0.35], [0.35, -0.35], [0.0, 0.05], [-0.3, 0.45], [0.3, 0.45]]
SMALL = (64, 64)


def face():
    """The picture, `(1, 512, 512, 3)`, its landmarks and the boxes of a detector."""
    from skimage import data, feature

    picture = data.astronaut()
    cascade = feature.Cascade(data.lbp_frontal_face_cascade_filename())
    settings = {"scale_factor": 1.2, "step_ratio": 1, "min_size": (60, 60), "max_size": (200, 200)}
    found = cascade.detect_multi_scale(picture, **settings)
    boxes = [[box["c"], box["r"], box["width"], box["height"]] for box in found]
    picture = picture[None].astype("float32") / 255
    return picture, np.array([POINTS], "float32"), np.array([boxes], "float32")


def moved(picture, landmarks, batch, rng):
    """The picture and its landmarks, moved, turned and scaled at random, and made smaller."""
    theta = rng.uniform([-0.4, 0.4, -0.2, -0.6], [0.4, 0.6, 0.0, -0.4], (batch, 4))
    warp = transforms.Similarity().warp(theta.astype("float32"), picture.shape[1:3], SMALL)
    return warp(picture, fill_mode="reflect"), warp.to_output(landmarks)


def train(transformer, picture, landmarks, steps, batch=16):
    """Returns the mean distance of the landmarks from their places at each step, in pixels."""
    optimizer, rng, distances = keras.optimizers.Adam(2e-3), np.random.default_rng(0), []
    half = np.array(transformer.output_size[::-1], "float32") / 2

    @tf.function
    def step(images, points):
        with tf.GradientTape() as tape:
            missing = (
                transformer.warp(images).to_output(points, normalized=False) + 0.5
            ) / half - 1
            distance = tf.norm((missing - PLACES) * half, axis=-1)
            loss = tf.reduce_mean(distance)
        variables = transformer.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    for _ in range(steps):
        distances.append(float(step(*moved(picture, landmarks, batch, rng))))
    return distances


def main(arguments=None):
    args = parse(arguments)
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(0)
    picture, landmarks, boxes = face()
    network = localization.cnn("similarity")
    transformer = SpatialTransformer(network, transform="similarity", output_size=(96, 96))
    transformer.build((None, *SMALL, 3))
    distances = train(transformer, picture, landmarks, args.steps)
    print(
        f"landmarks are {np.mean(distances[:5]):.1f} pixels from their places in a crop of 96×96,"
    )
    print(f"after {args.steps} steps {np.mean(distances[-5:]):.1f}")

    smaller = transforms.Similarity().warp([[0.3, 0.5, -0.1, -0.5]], picture.shape[1:3], SMALL)
    crop = smaller @ transformer.warp(smaller(picture))  # from the whole picture, at its resolution
    corners = np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=1)
    points = np.concatenate([landmarks, corners], axis=1)
    back = np.array(crop.to_input(crop.to_output(points)))
    print(f"boxes in the crop: {np.array(crop.boxes(boxes, 'xywh')).round(1).tolist()}")
    print(f"largest error there and back: {np.abs(back - points).max():.1e} pixels")

    xyxy = keras.utils.bounding_boxes.convert_format(boxes, "xywh", "xyxy")
    plots.save(plots.follow(picture, crop, landmarks, np.array(xyxy)), args.picture)


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Learn a crop that a face's landmarks and boxes follow.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--picture", default="follow.png", help="where to draw what followed")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
