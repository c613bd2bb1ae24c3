"""`data/distortions.py`, tested on images that show where each of their pixels came from."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import geometry
from stn_keras.data import distortions, pipeline
from stn_keras.data.distortions import DISTORTIONS, distort, fixed, homography

training_batches = pipeline.training_batches
pytestmark = pytest.mark.slow
SIDES = {"R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60}


@pytest.fixture
def seed(rng):
    return rng.integers(0, 2**31, 2)


def by(name, **options):
    return functools.partial(distort, name=name, **options)


def blots(rng, count):
    """Bright squares of 8×8 somewhere in the middle of dark images, as digits are."""
    images = np.zeros((count, 28, 28, 1), "uint8")
    for image, (y, x) in zip(images, rng.integers(6, 15, (count, 2))):
        image[y : y + 8, x : x + 8] = 255
    return images


def ramps(count):
    """Images that hold the coordinates of their pixels, counted from the middle."""
    steps = np.arange(28) - 13.5
    image = np.stack(np.meshgrid(steps, steps), axis=-1)  # x, y
    return tf.constant(np.tile(image, (count, 1, 1, 1)), "float32")


def slopes(images):
    """`(batch, 2, 2)`: how the sampled coordinates change from pixel to pixel at the middle."""
    middle = middles(images)
    across = (middle[:, :, -1] - middle[:, :, 0]).mean(axis=1) / 5
    down = (middle[:, -1] - middle[:, 0]).mean(axis=1) / 5
    return np.stack([across, down], axis=-1)


def middles(images):
    side = images.shape[1] // 2
    return np.asarray(images)[:, side - 3 : side + 3, side - 3 : side + 3]


@pytest.mark.parametrize("name", DISTORTIONS)
def test_the_same_seed_draws_the_same_pixels_bit_for_bit(rng, seed, name):
    images = blots(rng, 12)
    distorted = distort(images, name, seed).numpy()
    assert distorted.dtype == np.uint8 and distorted.shape == (12, SIDES[name], SIDES[name], 1)
    assert_array_equal(distort(images, name, seed), distorted)
    assert not np.array_equal(distort(images, name, seed + 1), distorted)


@pytest.mark.parametrize("name", ["R", "RTS", "TC"])
def test_digits_stay_on_the_canvas(rng, seed, name):
    images = blots(rng, 200)
    distorted = distort(images, name, seed).numpy().astype(float)
    ink = distorted.sum(axis=(1, 2, 3)) / (64 * 255)
    least, most = {"R": (0.97, 1.03), "RTS": (0.45, 1.5), "TC": (1, 4.4)}[name]
    assert least <= ink.min() <= ink.max() <= most


def test_r_turns_by_up_to_ninety_degrees_either_way(seed):
    turned = slopes(distortions.rotate(ramps(2000), seed))
    angles = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert_allclose(np.linalg.det(turned), 1, atol=1e-3)
    assert -90 <= angles.min() < -87 and 87 < angles.max() <= 90
    assert_allclose(np.histogram(angles, 6, (-90, 90))[0], 2000 / 6, rtol=0.25)


def test_rts_turns_scales_and_places(seed):
    inside = distortions.rotate_scale_translate(tf.ones_like(ramps(2000)), seed)
    inside = middles(inside).min(axis=(1, 2, 3)) > 0.999  # their middle sees only the image
    turned = slopes(distortions.rotate_scale_translate(ramps(2000), seed))[inside]
    scales = np.linalg.det(turned) ** -0.5
    angles = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert len(scales) > 500
    assert -45.1 < angles.min() < -40 and 40 < angles.max() < 45.1
    assert 0.69 < scales.min() < 0.8 and 1.1 < scales.max() < 1.21


def test_rts_of_cifar_images_keeps_their_size(rng, seed):
    images = rng.integers(1, 256, (50, 32, 32, 3), "uint8")
    distorted = distort(images, "RTS", seed).numpy()
    assert distorted.shape == images.shape
    assert 0.1 < (distorted == 0).all(axis=-1).mean() < 0.6  # black beside the small ones


def test_p_moves_the_corners_by_five_pixels(seed, monkeypatch):
    seen = []
    monkeypatch.setattr(distortions, "homography", lambda p, t: seen.append(t) or homography(p, t))
    distortions.project(ramps(3000), seed)
    corners = np.asarray(seen[0]) * 14  # in pixels
    centred = corners - corners.mean(axis=0)
    # 5 pixels, and where it is 14 / scale, the deviation of that: uniform scales of 0.75 to 1.
    scale = np.random.default_rng(0).uniform(0.75, 1, 100_000)
    assert_allclose(centred.std(axis=0), np.hypot(5, np.std(14 / scale)), rtol=0.08)
    assert_allclose(np.abs(corners.mean(axis=0)), np.mean(14 / scale), rtol=0.05)


def test_a_homography_sends_points_to_their_targets(rng):
    points = tf.constant([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    targets = points + rng.uniform(-0.3, 0.3, (5, 4, 2)).astype("float32")
    theta = homography(points, targets)
    matrix = distortions.transforms.Projective().matrix(theta)
    moved = geometry.transform_points(matrix, tf.tile(points[None], (5, 1, 1)))
    assert_allclose(moved, targets, atol=1e-5)


def test_e_bends_by_one_and_a_half_pixels(seed):
    bent = np.asarray(distortions.bend(ramps(2000), seed))[:, 13:15, 13:15].mean(axis=(1, 2))
    assert_allclose(bent.mean(axis=0), 0, atol=0.15)
    assert np.all((bent.std(axis=0) > 0.8) & (bent.std(axis=0) < 2))  # the middle of four points


def test_tc_places_the_digit_whole_and_six_patches(rng, seed):
    images = blots(rng, 300)
    images[::2] = 0  # every other image is empty, so that what it shows is clutter
    canvases = distort(images, "TC", seed).numpy().astype(float) / 255
    assert set(np.unique(canvases)) <= {0, 1}
    ink = canvases.sum(axis=(1, 2, 3))
    assert ink[::2].mean() > 0 and ink[::2].max() <= 6 * 36
    assert ink[1::2].min() >= 64
    coverage = canvases[1::2].mean(axis=(0, 3))
    halves = [coverage[:30].sum(), coverage[30:].sum(), coverage[:, :30].sum()]
    assert_allclose(halves, coverage.sum() / 2, rtol=0.2)


def test_fixed_sets_do_not_depend_on_what_else_is_drawn(rng):
    images = blots(rng, 700)  # more than one batch
    first = fixed(images, "RTS", seed=3)
    tf.random.uniform(())
    assert_array_equal(fixed(images, "RTS", seed=3), first)
    assert first.shape == (700, 42, 42, 1)
    assert not np.array_equal(first[:500], fixed(images, "RTS", seed=4)[:500])


def test_training_batches_distort_every_epoch_afresh_and_can_be_repeated(rng):
    images, labels = blots(rng, 10), np.arange(10)

    def taken(seed):
        batches = training_batches(images, labels, batch_size=5, seed=seed, distort=by("R"))
        return list(batches.take(4).as_numpy_iterator())

    batches, again = taken(0), taken(0)
    plain = pipeline.training_batches(images, labels, batch_size=5, seed=0)
    for batch, other, (_, order) in zip(batches, again, plain.take(4), strict=True):
        assert_array_equal(batch[0], other[0])
        assert_array_equal(batch[1], order)
    first, second = (np.concatenate([b[0] for b in half]) for half in (batches[:2], batches[2:]))
    orders = [
        np.argsort(np.concatenate([b[1] for b in half])) for half in (batches[:2], batches[2:])
    ]
    assert not np.array_equal(first[orders[0]], second[orders[1]])


@pytest.mark.parametrize("name", distortions.DISTORTIONS)
def test_augmented_images_are_distorted_too(rng, name):
    batches = training_batches(
        blots(rng, 4), np.arange(4), batch_size=4, seed=0, flip=True, crop=2, distort=by(name)
    )
    images, _ = next(iter(batches))
    assert images.shape == distort(blots(rng, 4), name, (0, 0)).shape


@pytest.mark.parametrize("name", ["R", "RTS"])
def test_an_image_is_flipped_independently_of_its_angle(name):
    ramp = np.tile(8 * np.arange(28, dtype="uint8")[:, None], (1000, 28, 1, 1))  # bright at right
    batches = training_batches(
        ramp, np.zeros(1000), batch_size=1000, seed=0, flip=True, distort=by(name)
    )
    middle = middles(next(iter(batches))[0])[..., 0].astype(float)
    across = middle[:, :, -1].mean(axis=1) - middle[:, :, 0].mean(axis=1)
    down = middle[:, -1].mean(axis=1) - middle[:, 0].mean(axis=1)
    flipped, clockwise = across < 0, across * down > 0
    for share in flipped.mean(), clockwise.mean(), (flipped == clockwise).mean():
        assert 0.4 < share < 0.6


@pytest.mark.parametrize("deviation", [0.5, 1.0])
def test_elastic_images_bend_afresh_by_so_many_pixels(deviation, monkeypatch):
    monkeypatch.setitem(distortions.DISTORTIONS, "R", lambda images, seed: images)
    ramp = np.tile(9 * np.arange(28, dtype="uint8")[:, None], (1000, 28, 1, 1))
    batches = training_batches(
        ramp, np.zeros(1000), batch_size=500, seed=0, distort=by("R", elastic=deviation)
    )
    first, second = (
        (batch.numpy() - 9.0 * np.arange(28)[:, None]) / 9 for batch, _ in batches.take(2)
    )
    assert_allclose(first[:, 9, 9].std(), deviation, rtol=0.2)  # one of the 16 points
    assert abs(first[:, 9, 9].mean()) < deviation / 5
    assert np.abs(first - second)[:, 9, 9].mean() > deviation / 2


def test_an_unknown_distortion_is_named():
    with pytest.raises(ValueError, match="Received: name='S'"):
        distort(np.zeros((1, 28, 28, 1), "uint8"), "S", (0, 0))
