"""`tf.data` pipelines for uint8 images held in memory."""

import tensorflow as tf

__all__ = ["evaluation_batches", "training_batches"]

# The thread that tunes a pipeline sleeps longer and longer. A finished iterator waits for it, up to
# a minute at the end of training.
UNTUNED = tf.data.Options()
UNTUNED.autotune.enabled = False


def training_batches(
    images, labels, *, batch_size, seed, flip=False, crop=0, distort=None, first_epoch=0
):
    """Infinite batches in which every epoch has each image once, newly shuffled and augmented.

    Example:

    >>> batches = training_batches(images, labels, batch_size=4, seed=0, flip=True, crop=3)
    >>> history = model.fit(batches, epochs=2, steps_per_epoch=2, shuffle=False, verbose=0)

    Args:
        images: uint8 array `(n, height, width, channels)`.
        labels: array `(n,)` or `(n, classes)`.
        batch_size: Number of images in a batch; the last batch of an epoch may be smaller.
        seed: Integer that determines the order and the augmentation of every epoch.
        flip: Whether to flip each image horizontally with probability ½.
        crop: Largest random translation along both axes, in pixels; the image is mirrored at its
            edges.
        distort: Function that distorts each batch, after flips and crops: from images and a seed
            of two integers to images, such as `distortions.distort` with a name.
        first_epoch: Number of the first epoch, if training is resumed.

    Returns:
        A `tf.data.Dataset` of `(images, labels)` in the arrays' dtypes, for
        `fit(steps_per_epoch=ceil(n / batch_size))`.
    """
    images, labels = tf.constant(images), tf.constant(labels)
    batches = -(-len(images) // batch_size)

    def epoch(number):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(images)), seed=tf.stack([seed, number])
        )
        steps = tf.data.Dataset.range(number * batches, (number + 1) * batches)
        return tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices(order).batch(batch_size), steps
        )

    def batch(indices, step):
        chosen = tf.gather(images, indices)
        seeds = tf.unstack(tf.random.experimental.stateless_split(tf.stack([seed, step]), 2))
        if flip:
            chosen = tf.image.stateless_random_flip_left_right(chosen, seeds[0])
        if crop:
            chosen = random_crop(chosen, crop, seeds[1])
        if distort:
            # Another seed than that of flips and crops.
            drawn = tf.random.experimental.stateless_fold_in(tf.stack([seed, step]), 2)
            chosen = distort(chosen, seed=drawn)
        return chosen, tf.gather(labels, indices)

    return (
        tf.data.Dataset.counter(first_epoch)
        .flat_map(epoch)
        .map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(UNTUNED)
    )


def evaluation_batches(images, labels, *, batch_size):
    """Batches of all images once, in order; the last batch may be smaller.

    Example:

    >>> loss, accuracy = model.evaluate(evaluation_batches(images, labels, batch_size=5), verbose=0)

    Args:
        images: Array `(n, height, width, channels)`.
        labels: Array `(n,)` or `(n, classes)`.
        batch_size: Number of images in a batch.

    Returns:
        A `tf.data.Dataset` of `(images, labels)` in the arrays' dtypes, cached in memory.
    """
    return (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .batch(batch_size)
        .cache()
        .prefetch(tf.data.AUTOTUNE)
        .with_options(UNTUNED)
    )


def random_crop(images, margin, seed):
    """Translates each image by up to `margin` pixels along both axes, mirrored at its edges."""
    height, width = images.shape[1:3]
    shape = [2, tf.shape(images)[0]]
    offsets = tf.random.stateless_uniform(shape, seed, 0, 2 * margin + 1, tf.int32)

    def window(offsets, length):
        """Indices of the translated axis, mirrored about its first and last pixel."""
        indices = tf.abs(offsets[:, None] - margin + tf.range(length))
        return length - 1 - tf.abs(length - 1 - indices)

    rows = tf.gather(images, window(offsets[0], height), axis=1, batch_dims=1)
    return tf.gather(rows, window(offsets[1], width), axis=2, batch_dims=1)
