"""`tf.data` pipelines over images held in memory as uint8."""

import tensorflow as tf

__all__ = ["evaluation_batches", "training_batches"]

# TensorFlow's thread that tunes a pipeline wakes ever more rarely, and an iterator that is done
# waits for it: up to a minute at the end of a training.
UNTUNED = tf.data.Options()
UNTUNED.autotune.enabled = False


def training_batches(images, labels, *, batch_size, seed, flip=False, crop=0, first_epoch=0):
    """Endless batches: each epoch every image once, shuffled and augmented afresh by `seed`.

    Example:

    >>> batches = training_batches(images, labels, batch_size=4, seed=0, flip=True, crop=3)
    >>> history = model.fit(batches, epochs=2, steps_per_epoch=2, verbose=0)

    Args:
        images: uint8 array `(n, height, width, channels)`.
        labels: array `(n,)` or `(n, classes)`.
        batch_size: Images a batch; the last one of an epoch may be smaller.
        seed: Integer that fixes the order and the augmentation of every epoch.
        flip: Whether to mirror each image left to right with probability ½.
        crop: Pixels by which each image is moved at most, along both axes, its edge mirrored.
        first_epoch: Number of the epoch to begin with, where training goes on.

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
            chosen = random_flip(chosen, seeds[0])
        if crop:
            chosen = random_crop(chosen, crop, seeds[1])
        return chosen, tf.gather(labels, indices)

    return (
        tf.data.Dataset.counter(first_epoch)
        .flat_map(epoch)
        .map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(UNTUNED)
    )


def evaluation_batches(images, labels, *, batch_size):
    """Every image once, in order, the last and smaller batch included.

    Example:

    >>> loss, accuracy = model.evaluate(evaluation_batches(images, labels, batch_size=5), verbose=0)

    Args:
        images: Array `(n, height, width, channels)`.
        labels: Array `(n,)` or `(n, classes)`.
        batch_size: Images a batch.

    Returns:
        A `tf.data.Dataset` of `(images, labels)` in the arrays' dtypes, kept in memory.
    """
    return (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .batch(batch_size)
        .cache()
        .prefetch(tf.data.AUTOTUNE)
        .with_options(UNTUNED)
    )


def random_flip(images, seed):
    """Mirrors each image left to right with probability ½."""
    heads = tf.random.stateless_uniform(tf.shape(images)[:1], seed) < 0.5
    # A fraction of the time that `tf.where` with `images[:, :, ::-1]` takes.
    choices = tf.stack([images, tf.reverse(images, axis=[2])], axis=1)
    return tf.gather(choices, tf.cast(heads, tf.int32), axis=1, batch_dims=1)


def random_crop(images, margin, seed):
    """Moves each image by up to `margin` pixels along both axes, its edge mirrored."""
    height, width = images.shape[1:3]
    shape = [2, tf.shape(images)[0]]
    offsets = tf.random.stateless_uniform(shape, seed, 0, 2 * margin + 1, tf.int32)

    def window(offsets, length):
        """Indices of the moved axis, mirrored about its first and last pixel."""
        indices = tf.abs(offsets[:, None] - margin + tf.range(length))
        return length - 1 - tf.abs(length - 1 - indices)

    rows = tf.gather(images, window(offsets[0], height), axis=1, batch_dims=1)
    return tf.gather(rows, window(offsets[1], width), axis=2, batch_dims=1)
