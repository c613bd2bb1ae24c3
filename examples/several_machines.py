"""One model trained on several machines, each with a part of every batch, on the JAX backend.

It uses `keras.distribution`: every process runs the same program on the same data, takes its part
of each batch of 64, and ends with the same weights as a single machine that trains on whole
batches. `train.py` can't do this, because TensorFlow's `MultiWorkerMirroredStrategy` does not work
with Keras 3.

    python -m examples.several_machines --address 10.0.0.1:5005 --processes 2 --process 0
    python -m examples.several_machines --address 10.0.0.1:5005 --processes 2 --process 1

are the commands for two hosts; 10.0.0.1 is the first one. Each prints the losses and saves
`model.keras`. Without flags the program trains on one machine.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

from stn_keras import SpatialTransformer, localization
from stn_keras.system.files import replacing

BATCH = 64  # over all machines; one machine takes its part


def main(arguments=None):
    args = parse(arguments)
    if args.processes > 1:
        if jax.config.jax_platforms == "cpu":  # where machines have no GPUs to talk through
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(args.address, args.processes, args.process)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    keras.config.set_image_data_format("channels_last")  # as the data are
    keras.utils.set_random_seed(0)

    model = build()
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        Part(*shifted_squares(count=512), args.processes, args.process),
        epochs=args.epochs,
        verbose=2,
    )
    with replacing(args.model) as path:
        model.save(path)  # on every machine: if only one asks for the weights, it waits for ever


class Part(keras.utils.PyDataset):
    """The part of every batch that a process trains on; all processes shuffle alike."""

    def __init__(self, images, labels, processes, process):
        super().__init__()
        self.images, self.labels = images, labels
        self.processes, self.process = processes, process
        self.epoch = -1
        self.on_epoch_end()

    def __len__(self):
        return len(self.images) // BATCH

    def __getitem__(self, step):
        batch = self.order[step * BATCH : (step + 1) * BATCH]
        mine = np.split(batch, self.processes)[self.process]
        return self.images[mine], self.labels[mine]

    def on_epoch_end(self):
        self.epoch += 1
        self.order = np.random.default_rng(self.epoch).permutation(len(self.images))


def build():
    images = keras.Input((32, 32, 1))
    x = SpatialTransformer(localization.cnn("translation"), transform="translation")(images)
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(x))
    return keras.Model(images, keras.layers.Dense(2)(x))


def shifted_squares(count):
    """Images with a full or a hollow square somewhere, and which of the two it is."""
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(0, 0.1, (count, 32, 32, 1)), rng.integers(0, 2, count)
    for image, label, (row, column) in zip(images, labels, rng.integers(0, 20, (count, 2))):
        image[row : row + 12, column : column + 12] = 1
        if label:
            image[row + 3 : row + 9, column + 3 : column + 9] = 0
    return images.astype("float32"), labels


def parse(arguments):
    parser = argparse.ArgumentParser(description="Train on several machines.")
    parser.add_argument("--address", help="host:port of the first process")
    parser.add_argument("--processes", type=int, default=1, help=f"a divisor of {BATCH}")
    parser.add_argument("--process", type=int, default=0, help="number of this one, from 0")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--model", default="model.keras", help="where to save it")
    args = parser.parse_args(arguments)
    if args.processes < 1 or BATCH % args.processes:
        parser.error(f"--processes must divide {BATCH}. Received: {args.processes}")
    if not 0 <= args.process < args.processes:
        parser.error(f"--process must be from 0 to {args.processes - 1}. Received: {args.process}")
    if args.processes > 1 and not args.address:
        parser.error("several processes need --address")
    return args


if __name__ == "__main__":
    main()
