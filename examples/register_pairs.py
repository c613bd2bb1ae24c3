"""The pairs of images and volumes of `examples.register`: batches, and pairs for tests.

Each batch depends only on a seed, the epoch and the number of the batch, so a resumed training sees
the same batches as an uninterrupted one.
"""

import importlib.util
import pathlib

import keras
import numpy as np

from examples.register_networks import average, targets
from stn_keras import DenseWarp, VelocityIntegration, geometry
from stn_keras.data import mnist
from stn_keras.system.files import FileError

VALIDATION_IMAGES = 5_000  # the last training images
VALIDATION_SEED, TEST_SEED = 1_000_001, 1_000_002
PADDING = 2  # pixels around a digit, so that its sides are 32
# The brain in millimetres from the file's corner (z, y, x), with a margin for the warps.
CORNER, EXTENT = (-18, 6, 18), (192, 224, 160)
MILLIMETRES, COARSE = 2, 2  # a voxel; voxels averaged into one for the network


class Batches(keras.utils.PyDataset):
    """Training batches of `pairs(rng, batch_size)`, which returns the moving and fixed images."""

    def __init__(self, pairs, levels, *, batch_size, steps, seed, first_epoch=0):
        super().__init__()
        self.pairs, self.levels = pairs, levels
        self.batch_size, self.steps, self.seed, self.epoch = batch_size, steps, seed, first_epoch

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, self.epoch, index])
        moving, fixed = self.pairs(rng, self.batch_size)
        return (moving, fixed), targets(fixed, self.levels)

    def on_epoch_end(self):
        self.epoch += 1


class Digits:
    """Pairs of different handwritings of the same MNIST digit, float32 (32, 32, 1) in 0 … 1."""

    def __init__(self, images, labels):
        images = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
        self.images, self.labels = images, labels
        self.places = [np.flatnonzero(labels == label) for label in range(10)]

    def __call__(self, rng, count):
        """`(moving, fixed)`, both `(count, 32, 32, 1)`."""
        first = rng.permutation(len(self.images))[:count]
        second = np.array([self._other(rng, place) for place in first])
        return tuple(self.images[places].astype("float32") / 255 for places in (first, second))

    def _other(self, rng, place):
        same = self.places[self.labels[place]]
        chosen = rng.integers(len(same) - 1)
        return same[-1] if same[chosen] == place else same[chosen]


def digits():
    """The `Digits` of training, validation and test images."""
    (images, labels), test = mnist.load()
    rest = len(images) - VALIDATION_IMAGES
    return (
        Digits(images[:rest], labels[:rest]),
        Digits(images[rest:], labels[rest:]),
        Digits(*test),
    )


class Brains:
    """Pairs of a warped volume and the volume itself, averaged for the network.

    Args:
        volumes: `(depth, height, width, 1 + masks)`: the volume and its masks, 0 … 1.
        spread: Standard deviation of the Gaussian that smooths the random velocities, in voxels.
        speed: Their standard deviation along each axis, in voxels.
    """

    def __init__(self, volumes, spread, speed):
        self.volumes = volumes[np.newaxis].astype("float32")
        self.size = volumes.shape[:3]
        self.spread, self.speed = spread, speed
        self.integration, self.warp = VelocityIntegration(6), DenseWarp()
        self.fixed = self.coarse(self.volumes[..., :1])

    def __call__(self, rng, count):
        """`(moving, fixed)`, both `(count, *coarse_size, 1)`."""
        size = tuple(length // COARSE for length in self.size)
        moving = [
            self.warp([self.fixed, self.displacement(velocity, size)])
            for velocity in self.velocities(rng, count)
        ]
        return to_numpy(keras.ops.concatenate(moving)), np.repeat(self.fixed, count, axis=0)

    @staticmethod
    def coarse(volumes):
        """Volumes as the network sees them."""
        return to_numpy(average(volumes, COARSE))

    def unseen(self, rng):
        """A warped volume with its masks, and the displacement that undoes the warp."""
        (velocity,) = self.velocities(rng, 1)
        moving = self.warp([self.volumes, self.displacement(velocity, self.size)])
        return to_numpy(moving), to_numpy(self.displacement(-velocity, self.size))

    def displacement(self, velocity, size):
        return geometry.resize_displacement(self.integration(velocity), size)

    def velocities(self, rng, count):
        """Fields of smooth noise on every fourth voxel, each `(1, depth, height, width, 3)`."""
        size = tuple(length // 4 for length in self.size)
        return [
            smooth_noise(rng, size, self.spread / 4)[np.newaxis] * np.float32(self.speed / 4)
            for _ in range(count)
        ]


def smooth_noise(rng, size, spread):
    """`(*size, 3)`: white noise smoothed by a periodic Gaussian; each component has variance 1."""
    frequencies = np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij")
    gaussian = np.exp(-2 * (np.pi * spread) ** 2 * sum(f**2 for f in frequencies))
    spectrum = np.fft.fftn(rng.standard_normal((3, *size)), axes=(1, 2, 3)) * gaussian
    noise = np.moveaxis(np.fft.ifftn(spectrum, axes=(1, 2, 3)).real, 0, -1)
    return (noise / noise.std(axis=(0, 1, 2))).astype("float32")


def mni152():
    """The MNI152 T1 template, gray and white matter: `(96, 112, 80, 3)` in 0 … 1, at 2 mm."""
    return np.stack([coarser(template(name)) for name in ("t1", "gm", "wm")], axis=-1)


def template(name):
    """A volume of nilearn's wheel, `(z, y, x)` at 1 mm.

    The file is read directly: `nilearn.datasets` resamples by interpolation, without averaging.
    """
    package = importlib.util.find_spec("nilearn")
    if package is None:
        raise FileError(
            "nilearn, which has the MNI152 volumes, is not installed: pip install '.[register]'"
        )
    import nibabel  # which nilearn requires

    folder = pathlib.Path(package.origin).parent / "datasets" / "data"
    image = nibabel.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")
    return np.asarray(image.dataobj, "float32").transpose(2, 1, 0) / 255


def coarser(volume):
    """The part of a volume around the brain, at `MILLIMETRES`."""
    ends = [corner + extent for corner, extent in zip(CORNER, EXTENT)]
    padding = [
        (max(0, -corner), max(0, end - n)) for corner, end, n in zip(CORNER, ends, volume.shape)
    ]
    starts = [corner + before for corner, (before, _) in zip(CORNER, padding)]
    part = tuple(slice(start, start + extent) for start, extent in zip(starts, EXTENT))
    padded = np.pad(volume, padding)[part]
    return to_numpy(average(padded[np.newaxis, ..., np.newaxis], MILLIMETRES))[0, ..., 0]


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)
