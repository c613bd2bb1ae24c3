"""Images per second of training the CIFAR-10 network: ours, and the same network in PyTorch.

The claim: on a CPU, `train.py` trains at least as fast as PyTorch, and never waits for its images.
From the repository's root:

    python -m benchmarks.training

Ours is what `train.py` does by default: `model.fit` with the recipe `tuned` on the tf.data pipeline
that shuffles, flips and crops. PyTorch has less to do: its images are in memory, normalized,
shuffled and float32; they are not augmented, and no metric is computed. Each configuration has a
process of its own, and all take turns, round by round. The images are noise, which takes as long as
real images. PyTorch is optional: `pip install torch`.

The figures go to `training.csv` in this folder. `python -m benchmarks.report` writes the table of
`docs/speed.md` from them.

Run it on a machine that does nothing else. If cores are shared, PyTorch's OpenMP threads wait for
each other, and its figure falls to a tenth.
"""

import argparse
import functools
import importlib.util
import itertools
import os
import pathlib
import statistics
import time

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the claim is about CPUs
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import report, rounds, tables
from benchmarks.machine import commit, machine
from stn_keras import precision

THEIRS = "PyTorch, float32"
PARAMETERS = 473_120
WARM_UP = 20  # steps


def noise(batch_size):
    """As many images as CIFAR-10 has, without the last, smaller batch."""
    rng, count = np.random.default_rng(0), 50_000 // batch_size * batch_size
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def ours(policy, batch_size):
    """The number of parameters, and the functions to time, which take a number of steps."""
    import keras

    from stn_keras.data import pipeline
    from stn_keras.recipes import RECIPES

    keras.config.set_dtype_policy(policy)
    recipe = RECIPES["tuned"]
    model = recipe.model()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(recipe.optimizer(steps=20_000), loss, metrics=["accuracy"])
    images, labels = noise(batch_size)
    batches = pipeline.training_batches(
        images,
        keras.utils.to_categorical(labels, 10),
        batch_size=batch_size,
        seed=0,
        flip=recipe.flip,
        crop=recipe.crop,
    )

    def fit(steps):
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    def load(steps):
        for _ in batches.take(steps):
            pass

    return model.count_params(), {
        "training": fit,
        "loading": load,
    }


def theirs(batch_size):
    """The same in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.localization = nn.Sequential(
                *(nn.Conv2d(3, 16, 7), nn.MaxPool2d(2), nn.ReLU()),
                *(nn.Conv2d(16, 32, 5), nn.MaxPool2d(2), nn.ReLU()),
                *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 6)),
            )
            self.classifier = nn.Sequential(
                *(nn.Conv2d(3, 8, 5), nn.MaxPool2d(2), nn.ReLU()),
                *(nn.Conv2d(8, 16, 5), nn.MaxPool2d(2), nn.ReLU()),
                *(nn.Flatten(), nn.Linear(400, 1024), nn.ReLU(), nn.Linear(1024, 10)),
            )
            nn.init.zeros_(self.localization[-1].weight)
            self.localization[-1].bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])

        def forward(self, images):
            theta = self.localization(images)
            theta = theta.detach() + 0.1 * (theta - theta.detach())  # ours: gradient_scale
            grid = functional.affine_grid(theta.view(-1, 2, 3), images.shape, align_corners=False)
            return self.classifier(functional.grid_sample(images, grid, align_corners=False))

    network = Network()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    images, labels = (torch.from_numpy(array) for array in noise(batch_size))
    images = (images.permute(0, 3, 1, 2).contiguous().float() - 121) / 64
    batches = itertools.cycle(zip(images.split(batch_size), labels.split(batch_size), strict=True))

    def fit(steps):
        for images, labels in itertools.islice(batches, steps):
            optimizer.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

    return sum(p.numel() for p in network.parameters()), {"training": fit}


def serve(pipe, contender, batch_size, seconds):
    """A worker: warms up, then answers each task that it is sent with its images per second."""
    build = theirs if contender == THEIRS else functools.partial(ours, contender)
    parameters, tasks = build(batch_size)
    assert parameters == PARAMETERS, parameters
    steps = {}
    for name, task in tasks.items():
        task(WARM_UP)  # traces and compiles
        steps[name] = max(1, round(WARM_UP * seconds / duration(task, WARM_UP)))
    pipe.send("ready")
    for name in iter(pipe.recv, None):
        pipe.send(steps[name] * batch_size / duration(tasks[name], steps[name]))


def duration(task, steps):
    start = time.perf_counter()
    task(steps)
    return time.perf_counter() - start


def measure(args):
    """A row for the training of each contender, and for the pipeline alone of the default one."""
    default = precision.choose("auto")
    packages = {
        policy: ["keras", "tensorflow"]
        for policy in dict.fromkeys([default, "float32", "mixed_bfloat16"])
    }
    if importlib.util.find_spec("torch"):
        packages[THEIRS] = ["torch"]
    else:
        print("PyTorch is not installed, so there is nothing to compare with: pip install torch\n")
    pipes = {name: rounds.start(serve, name, args.batch_size, args.seconds) for name in packages}
    for pipe in pipes.values():
        pipe.recv()  # ready
    rates = {(name, "training"): [] for name in pipes} | {(default, "loading"): []}
    for _ in range(args.rounds):
        for (name, task), found in rates.items():
            found.append(rounds.ask(pipes[name], task))
    for pipe in pipes.values():
        pipe.send(None)
    return [
        {"contender": title(name, default), "task": task, "median": statistics.median(found)}
        | {"min": min(found), "max": max(found), "rounds": args.rounds}
        | {"batch_size": args.batch_size, "commit": "" if name == THEIRS else commit(rounds.HERE)}
        | machine(packages[name])
        for (name, task), found in rates.items()
    ]


def title(name, default):
    if name == THEIRS:
        return name
    return f"ours, {name}" + (" (the default there)" if name == default else "")


def main():
    parser = argparse.ArgumentParser(
        description="Compare the speed of training with PyTorch's.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn in a round")
    parser.add_argument(
        "--output", type=pathlib.Path, default=report.TRAINING, help="CSV file of the figures"
    )
    args = parser.parse_args()
    rows = measure(args)
    tables.save(rows, args.output)
    print(tables.of_training(rows))


if __name__ == "__main__":
    main()
