"""A teacher's answers as labels: soft, and for each view of an image its own.

[Hinton et al., 2015](https://arxiv.org/abs/1503.02531); that teacher and student must be shown the
same view, [Beyer et al., 2022](https://arxiv.org/abs/2106.05237). Asked once, before the student
is trained, the teacher costs no time in its training.
"""

import math

import tensorflow as tf

from stn_keras.data import pipeline

__all__ = ["soft_labels"]

BATCH = 500


def soft_labels(teacher, images, labels, *, crop, temperature, trust, verbose=0):
    """What a teacher answers to each view of each image, mixed with the truth.

    Example:

    >>> teacher = stn_keras.models.cifar10_teacher(width=1)
    >>> truth = keras.utils.to_categorical(labels, 10)
    >>> soft_labels(teacher, images, truth, crop=3, temperature=2.0, trust=0.9).shape
    (8, 18, 10)

    Args:
        teacher: Model from images to logits.
        images: uint8 array `(n, height, width, channels)`.
        labels: One-hot array `(n, classes)`.
        crop: See `pipeline.view`.
        temperature: By which the logits are divided: above 1 answers become softer.
        trust: Share of the answers, from 0 to 1; the rest is the labels'.
        verbose: 1 shows how far the teacher is, as in `keras.Model.predict`.

    Returns:
        float32 array `(n, pipeline.VIEWS, classes)`, for `pipeline.training_batches`.
    """
    every = tf.data.Dataset.from_tensor_slices(images).batch(BATCH)

    def seen(number):
        return every.map(
            lambda batch: pipeline.view(batch, tf.fill(tf.shape(batch)[:1], number), crop)
        )

    views = tf.data.Dataset.range(pipeline.VIEWS, output_type=tf.int32).flat_map(seen)
    logits = teacher.predict(
        views.with_options(pipeline.UNTUNED),
        steps=pipeline.VIEWS * math.ceil(len(images) / BATCH),
        verbose=verbose,
    )
    answers = tf.nn.softmax(logits / temperature).numpy().reshape(pipeline.VIEWS, *labels.shape)
    return (trust * answers + (1 - trust) * labels).swapaxes(0, 1).astype("float32")
