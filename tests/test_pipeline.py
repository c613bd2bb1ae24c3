"""`data/pipeline.py`: images that carry their number in their pixels, so that none can be lost."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from stn_keras.data.pipeline import (
    evaluation_batches,
    random_crop,
    training_batches,
)

COUNT = 23  # in batches of 5 the last one has 3
IMAGES = np.random.default_rng(0).integers(0, 255, (COUNT, 6, 8, 3)).astype("uint8")
IMAGES[..., 2] = np.arange(COUNT)[:, None, None]  # survives flips and crops
LABELS = np.arange(COUNT) + 100


def epochs(number, *, seed=0, batch_size=5, **options):
    """Images and labels of that many epochs, each a list of batches."""
    batches = training_batches(IMAGES, LABELS, batch_size=batch_size, seed=seed, **options)
    steps = -(-COUNT // batch_size)
    taken = list(batches.take(number * steps).as_numpy_iterator())
    return [taken[epoch * steps : (epoch + 1) * steps] for epoch in range(number)]


def joined(batches):
    """All images and all labels of a list of batches."""
    return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]


def order(batches):
    return joined(batches)[1].tolist()


@pytest.mark.parametrize("batch_size, sizes", [(5, [5, 5, 5, 5, 3]), (23, [23]), (64, [23])])
def test_each_epoch_has_every_image_once(batch_size, sizes):
    for batches in epochs(3, batch_size=batch_size):
        assert [len(images) for images, _ in batches] == sizes
        images, labels = joined(batches)
        assert sorted(labels) == LABELS.tolist()
        assert_array_equal(images, IMAGES[labels - 100])  # no augmentation unless asked for


def test_order_differs_between_epochs_and_seeds_and_can_be_repeated():
    first, second = epochs(2)
    assert len({tuple(order(batches)) for batches in (first, second, *epochs(2, seed=1))}) == 4
    assert order(first) != LABELS.tolist()
    assert [order(batches) for batches in epochs(2)] == [order(first), order(second)]
    assert order(epochs(1, seed=2**32 - 1)[0]) != order(epochs(1, seed=2**32 - 2)[0])


def test_augmentation_differs_between_epochs_and_seeds_and_can_be_repeated():
    def augmented(seed):
        """Each epoch's images, in the original order."""
        found = [joined(batches) for batches in epochs(2, seed=seed, flip=True, crop=2)]
        return [images[np.argsort(labels)] for images, labels in found]

    (first, second), again, (other, _) = augmented(0), augmented(0), augmented(1)
    assert_array_equal([first, second], again)
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


def test_no_two_batches_of_any_epochs_are_augmented_alike():
    images = np.broadcast_to(IMAGES[0], (20, 6, 8, 3))  # all equal, whatever their order
    batches = training_batches(images, np.zeros(20), batch_size=5, seed=0, flip=True, crop=2).take(
        3 * 4
    )
    assert len({images.tobytes() for images, _ in batches.as_numpy_iterator()}) == 3 * 4


def test_labels_and_dtype_stay_with_the_images():
    for batches in epochs(2, flip=True, crop=2):
        images, labels = joined(batches)
        assert images.dtype == np.uint8 and images.shape == IMAGES.shape
        assert labels.dtype == LABELS.dtype
        assert_array_equal(
            images[..., 2], np.broadcast_to((labels - 100)[:, None, None], (COUNT, 6, 8))
        )


def test_every_flip_meets_every_offset():
    images = np.broadcast_to(np.arange(64, dtype="uint8").reshape(1, 8, 8, 1), (400, 8, 8, 1))
    batches = training_batches(
        images, np.zeros(400), batch_size=400, seed=0, flip=True, crop=1
    ).take(1)
    ((moved, _),) = batches.as_numpy_iterator()
    flipped = moved[:, 4, 3, 0] > moved[:, 4, 4, 0]
    row = moved[:, 4, 4, 0] // 8  # 3, 4 or 5, as the image has moved
    assert {*zip(flipped, row)} == {*itertools.product((False, True), (3, 4, 5))}


def test_flip_mirrors_half_of_the_images_left_to_right():
    images = np.random.default_rng(1).integers(0, 256, (1000, 2, 3, 1)).astype("uint8")
    batches = training_batches(images, np.arange(1000), batch_size=1000, seed=0, flip=True)
    found, order = next(batches.as_numpy_iterator())
    images = images[order]
    same = (found == images).all(axis=(1, 2, 3))
    mirrored = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same | mirrored).all()
    assert 400 < (mirrored & ~same).sum() < 600
    assert found.dtype == np.uint8


@pytest.mark.parametrize("margin", [1, 2])
def test_crop_is_a_window_of_the_mirrored_image_anywhere_within_the_margin(margin):
    number = 500
    images = np.random.default_rng(1).integers(0, 256, (number, 5, 7, 2)).astype("uint8")
    found = random_crop(tf.constant(images), margin, [1, 2]).numpy()
    border = [(0, 0), (margin, margin), (margin, margin), (0, 0)]
    padded = np.pad(images, border, mode="reflect")
    offsets = [*itertools.product(range(2 * margin + 1), repeat=2)]
    windows = np.stack([padded[:, y : y + 5, x : x + 7] for y, x in offsets])
    matches = (windows == found).all(axis=(2, 3, 4))  # (offsets, images)
    assert_array_equal(matches.sum(axis=0), 1)
    shares = matches.mean(axis=1) * len(offsets)  # 1 each, were they drawn without chance
    assert shares.min() > 0.3 and shares.max() < 2
    assert found.dtype == np.uint8


def test_no_iterator_waits_for_a_tuning_thread():
    for batches in (
        training_batches(IMAGES, LABELS, batch_size=5, seed=0).take(1),
        evaluation_batches(IMAGES, LABELS, batch_size=5),
    ):
        assert batches.options().autotune.enabled is False


def test_evaluation_keeps_the_order_and_the_last_partial_batch():
    batches = evaluation_batches(IMAGES, LABELS, batch_size=10)
    for _ in range(2):  # the second time from its cache
        taken = list(batches.as_numpy_iterator())
        assert [len(images) for images, _ in taken] == [10, 10, 3]
        images, labels = joined(taken)
        assert_array_equal(images, IMAGES)
        assert_array_equal(labels, LABELS)
