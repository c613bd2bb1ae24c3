"""Exports of the PyTorch backend: Keras's own to ONNX, run by ONNX Runtime, and PyTorch's."""

import keras
import pytest
from numpy.testing import assert_allclose

from stn_keras import SpatialTransformer, localization, transforms

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="is about the PyTorch backend"
)

SIZE = (12, 10, 2)
OPTIONS = {
    "bicubic": {"interpolation": "bicubic", "fill_mode": "reflect"},
    "fill": {"fill_value": 0.5},
    "wrap": {"fill_mode": "wrap"},
    "aligned": {"interpolation": "nearest", "fill_mode": "nearest", "align_corners": True},
    "size": {"output_size": (5, 7), "antialias": 2},
    "iterations": {"iterations": 2},
    "channels first": {"data_format": "channels_first"},
}


@pytest.mark.filterwarnings("ignore")  # those of PyTorch's exporter
@pytest.mark.parametrize(
    "options",
    [*({"transform": name} for name in transforms.TRANSFORMS), *OPTIONS.values()],
    ids=[*transforms.TRANSFORMS, *OPTIONS],
)
def test_a_model_is_exported_for_any_batch(rng, tmp_path, options):
    onnxruntime = pytest.importorskip("onnxruntime")
    transform = transforms.get(options.get("transform", "affine"))
    network = keras.Sequential([keras.layers.Flatten(), localization.head(transform)])
    layer = SpatialTransformer(network, **{"data_format": "channels_last", **options})
    model = keras.Sequential([keras.Input(SIZE), layer])
    for weight in model.weights:
        weight.assign(weight + rng.normal(0, 0.02, weight.shape))
    model(rng.random((3, *SIZE), "float32"))  # Keras exports what has been called
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,) = session.get_inputs()
    for count in (3, 1):
        images = rng.random((count, *SIZE), "float32")
        (found,) = session.run(None, {given.name: images})
        expected = keras.ops.convert_to_numpy(model(images))
        assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("transform", transforms.TRANSFORMS)
def test_pytorch_exports_a_layer(rng, transform):
    import torch

    layer = SpatialTransformer(transform=transform)
    identity = layer.transform.identity
    moved = identity + rng.normal(0, 0.1, identity.shape).astype("float32")
    images, theta = torch.rand(2, *SIZE), torch.tensor([identity, moved])

    class Warp(torch.nn.Module):
        def forward(self, images, theta):
            return layer([images, theta])

    exported = torch.export.export(Warp(), (images, theta)).module()
    assert_allclose(exported(images, theta), layer([images, theta]), rtol=0, atol=1e-5)
    theta = theta.flip(0)  # the identity is at another place
    assert_allclose(exported(images, theta), layer([images, theta]), rtol=0, atol=1e-5)
