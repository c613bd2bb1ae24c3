"""The examples run, in-process, on a tiny task: which half is lit."""

import re

import matplotlib.image
import numpy as np
import pytest

from examples import follow, keras_application
from stn_keras.data import cifar10

pytestmark = pytest.mark.slow


def lit_halves(data_dir=None):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 60, (64, 32, 32, 3), np.uint8), rng.integers(0, 2, 64)
    for image, label in zip(images, labels, strict=True):
        image[:, 16 * label : 16 * label + 16] += 190
    return (images, labels), (images[:8], labels[:8])


def test_a_keras_application_learns_behind_a_transformer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cifar10, "load", lit_halves)
    picture = tmp_path / "warps.png"
    flags = {"--steps": 10, "--batch-size": 8, "--size": 64, "--picture": picture}
    keras_application.main([str(word) for flag in flags.items() for word in flag])
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss: ([\d.]+)", printed)]
    assert len(losses) == 5 and losses[-1] < losses[0]
    assert len(re.findall(r"images_per_second: [\d.]+", printed)) == 5
    least, most = re.search(r"by ([\d.]+) to ([\d.]+) pixels", printed).groups()
    assert 0 < float(least) <= float(most) < 32
    assert matplotlib.image.imread(picture).ndim == 3


def test_a_face_s_landmarks_follow_a_learned_crop(tmp_path, monkeypatch, capsys):
    picture = np.random.default_rng(0).uniform(size=(1, 512, 512, 3)).astype("float32")
    found = (
        picture,
        np.array([follow.POINTS], "float32"),
        np.array([[[175, 70, 93, 93]]], "float32"),
    )
    monkeypatch.setattr(follow, "face", lambda: found)
    follow.main(["--steps", "10", "--picture", str(tmp_path / "follow.png")])
    (error,) = re.findall(r"there and back: (\S+) pixels", capsys.readouterr().out)
    assert float(error) < 0.01
    assert matplotlib.image.imread(tmp_path / "follow.png").ndim == 3
