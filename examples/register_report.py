"""What `examples.register` measures on unseen pairs, and its pictures."""

import time

import keras
import numpy as np
from matplotlib.figure import Figure

from examples.register_pairs import TEST_SEED, to_numpy
from stn_keras import DenseWarp, geometry, metrics, plots
from stn_keras.training.tensorboard import tensorflow

TEST_PAIRS, TEST_VOLUMES = 10_000, 20
BRAIN = 0.1  # of the volume's greatest value: more than outside
SPACING = 2  # pixels between the lines of a grid


def measure_digits(model, digits, batch_size=100):
    """Results on pairs of test digits, a dict."""
    count = min(TEST_PAIRS, len(digits.images))
    moving, fixed = digits(np.random.default_rng(TEST_SEED), count)
    predict(model, moving[:batch_size], fixed[:batch_size])  # traces and compiles
    start, cpu = time.perf_counter(), time.process_time()
    outputs = predict(model, moving, fixed, batch_size)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "pairs": count,
        "mse_before": np.mean((moving - fixed) ** 2),
        "mse_after": np.mean((outputs["warped"] - fixed) ** 2),
        "folded_percent": 100 * folded_share(outputs["displacement"]),
        "seconds_a_pair": seconds / count,
        "cpu_seconds_a_pair": cpu / count,
    }


def measure_brains(displacement_of, brains, count=None):
    """Mean results on unseen warps, a dict; lengths in voxels of the whole volumes.

    `displacement_of(moving)` aligns a whole volume with that of `brains`.
    """
    rows = [
        measure_brain(displacement_of, brains, number) for number in range(count or TEST_VOLUMES)
    ]
    return {"pairs": len(rows)} | {name: np.mean([row[name] for row in rows]) for name in rows[0]}


def measure_brain(displacement_of, brains, number):
    moving, true = brains.unseen(np.random.default_rng([TEST_SEED, number]))
    start, cpu = time.perf_counter(), time.process_time()
    displacement = displacement_of(moving[..., :1])
    warped = to_numpy(brains.warp([moving, displacement]))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    best = to_numpy(brains.warp([moving, true]))
    inside = brains.volumes[..., 0] > BRAIN
    masks = {"gray": 1, "white": 2}
    volumes = {"before": moving, "after": warped, "best": best}
    return {
        **{
            f"{mask}_{when}": dice(volume[..., channel], brains.volumes[..., channel])
            for when, volume in volumes.items()
            for mask, channel in masks.items()
        },
        "displacement": np.linalg.norm(true, axis=-1)[inside].mean(),
        "error": np.linalg.norm(displacement - true, axis=-1)[inside].mean(),
        "folded_percent": 100 * folded_share(displacement),
        "seconds_a_pair": seconds,
        "cpu_seconds_a_pair": cpu,
    }


def whole_displacement(model, brains, moving):
    """The predicted displacement in voxels of the whole volumes."""
    coarse = predict(model, brains.coarse(moving), brains.fixed)["displacement"]
    return to_numpy(geometry.resize_displacement(coarse, brains.size))


def predict(model, moving, fixed, batch_size=1):
    """The `"displacement"` of pairs, and the `"warped"` moving images."""
    outputs = model.predict([moving, fixed], batch_size=batch_size, verbose=0)
    displacement = outputs["displacement"]
    warped = DenseWarp()
    parts = [
        to_numpy(warped([moving[k : k + batch_size], displacement[k : k + batch_size]]))
        for k in range(0, len(moving), batch_size)
    ]
    return {"displacement": displacement, "warped": np.concatenate(parts)}


def folded_share(displacement):
    metric = metrics.FoldedShare()
    for start in range(0, len(displacement), 100):
        metric.update_state(None, displacement[start : start + 100])
    return float(metric.result())


def dice(first, second):
    """Overlap of two masks, the values above one half: 0 to 1."""
    first, second = first > 0.5, second > 0.5
    return 2 * np.sum(first & second) / (np.sum(first) + np.sum(second))


def figure(moving, fixed, warped, displacement):
    """A row for each pair, or for each plane through the middle of the first pair's volumes."""
    rows = [np.stack(arrays) for arrays in zip(moving, fixed, warped)]
    fields, names = list(displacement), [""] * len(rows)
    if moving.ndim == 5:
        rows, fields = zip(*[plane(rows[0], fields[0], axis) for axis in range(3)])
        names = ["axial", "coronal", "sagittal"]
    drawing = Figure(figsize=(8, 2.1 * len(rows)), dpi=100, layout="constrained")
    panels = drawing.subplots(len(rows), 4, squeeze=False)
    for line, images, field, name in zip(panels, rows, fields, names):
        line[0].set_ylabel(name)
        for panel, image in zip(line, images):
            panel.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
        draw_grid(line[3], field)
        for panel in line:
            panel.set(xticks=[], yticks=[])
    for panel, title in zip(panels[0], ("moving", "fixed", "warped", "warped grid")):
        panel.set_title(title, fontsize=10)
    return drawing


def plane(images, field, axis):
    """The middle slices of volumes, and the displacement within it, `(rows, columns, 2)`."""
    middle = images.shape[axis + 1] // 2
    within = [component for component in range(3) if component != 2 - axis]
    # The head is up where the slice shows z.
    turn = slice(None, None, -1) if axis else slice(None)
    images = np.take(images, middle, axis + 1)[:, turn]
    return images, np.take(field, middle, axis)[turn][..., within] * ([1, -1] if axis else [1, 1])


def draw_grid(panel, field):
    """Lines through the places `p + displacement(p)` that the output's pixels come from."""
    height, width = field.shape[:2]
    y, x = np.mgrid[:height, :width]
    x, y = x + field[..., 0], y + field[..., 1]
    for lines in ((x, y), (x.T, y.T)):
        step = max(SPACING, max(height, width) // 24)
        panel.plot(*(line[::step].T for line in lines), color="#1f5fa8", linewidth=0.5)
    panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")


class Pictures(keras.callbacks.Callback):
    """Writes the `figure` of a few fixed pairs to TensorBoard, before training and every epoch."""

    def __init__(self, log_dir, moving, fixed):
        super().__init__()
        self.log_dir, self.moving, self.fixed = log_dir / "pairs", moving, fixed
        self.epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.epoch is None:
            self._write(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._write(epoch + 1)

    def _write(self, epoch):
        self.epoch, tf = epoch, tensorflow()
        outputs = predict(self.model, self.moving, self.fixed)
        drawn = figure(self.moving, self.fixed, outputs["warped"], outputs["displacement"])
        with tf.summary.create_file_writer(str(self.log_dir)).as_default(step=epoch):
            tf.summary.image("pairs", plots.pixels(drawn)[np.newaxis])
