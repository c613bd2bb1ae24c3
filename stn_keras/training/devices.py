"""Divides batches among devices."""

import tensorflow as tf

from stn_keras.training.messages import counted
from stn_keras.training.runs import UsageError


def strategy(distribute, batches):
    """The `tf.distribute` strategy to build and train under: `"mirrored"` for all GPUs, or `None`.

    `batches` are the number of images and the batch size of each data set. A batch that can't be
    divided evenly is a `UsageError`: losses are averaged over the devices, which is correct only if
    each has the same number of images.
    """
    if distribute != "mirrored":
        return tf.distribute.get_strategy()
    mirrored = tf.distribute.MirroredStrategy()
    devices = mirrored.num_replicas_in_sync
    for images, batch_size in batches:
        for size in (min(batch_size, images), images % batch_size):
            if size % devices:
                raise UsageError(
                    f"--distribute mirrored: a batch of {counted(size, 'image')} can't be divided "
                    f"evenly among {devices} devices; change --validation-images, or hide devices "
                    "with CUDA_VISIBLE_DEVICES"
                )
    return mirrored
