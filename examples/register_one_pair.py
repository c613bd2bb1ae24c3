"""`stn_keras.register` on the brains of `examples.register`, one pair at a time, without training.

    python -m examples.register_one_pair    # needs pip install ".[register]"

The pairs, the volumes at 4 mm and the loss are those that the network gets, and the measures are
the same. The results go to `results/registration/mni152-register.csv`, for the table of
`results.registration`.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

import keras

import stn_keras
from examples import cells, register_report
from examples.register import RECIPES, RESULTS, SPEED, SPREAD, run_for
from examples.register_pairs import Brains, mni152, to_numpy
from stn_keras import geometry
from stn_keras.training import runs

RECIPE = RECIPES["mni152"]


def measure(path, volumes):
    keras.config.set_image_data_format("channels_last")
    brains = Brains(mni152(), SPREAD, SPEED)

    def displacement_of(moving):
        warp = stn_keras.register(
            brains.coarse(moving),
            brains.fixed,
            transform="displacement",
            loss=RECIPE.similarity,
            smoothness=RECIPE.smoothness,
        )
        return to_numpy(geometry.resize_displacement(warp.displacement(), brains.size))

    displacement_of(brains.volumes[..., :1])  # compiles
    results = register_report.measure_brains(displacement_of, brains, volumes)
    row = {"run": "mni152-register", "data": "mni152", "field": "register"}
    row |= {name: f"{value:.6g}" for name, value in results.items()}
    row |= {"training_seconds": 0, "training_cpu_seconds": 0, **runs.environment()}
    command = f"python -m examples.register_one_pair --volumes {volumes}"
    cells.write(path, row | {"command": command})
    print(", ".join(f"{name} {value:.4g}" for name, value in results.items()))


def main(arguments=None):
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results-dir", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--volumes", type=int, default=register_report.TEST_VOLUMES)
    args = parser.parse_args(arguments)
    path = args.results_dir / "mni152-register.csv"
    return run_for(args.results_dir, measure, path, args.volumes)


if __name__ == "__main__":
    sys.exit(main())
