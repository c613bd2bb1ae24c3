"""The tables of docs/coming_from.md: both columns of a row give the same numbers."""

import importlib
import pathlib
import re
import types

import keras
import numpy as np
import pytest
from keras import ops

import stn_keras
from stn_keras import geometry

pytestmark = pytest.mark.slow

if keras.backend.backend() != "tensorflow":
    pytest.skip("one backend shows what the others give", allow_module_level=True)

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "coming_from.md"
H, W = 12, 17
EDGE = 3  # pixels beside the edge, which other libraries fill in other ways
RNG = np.random.default_rng(0)
GIVEN = {
    "images": RNG.random((1, H, W, 3), "float32"),
    "theta": np.float32([[[0.5, -0.2, 0.15], [0.1, 0.7, -0.1]]]),
    "grid": RNG.uniform(-1.2, 1.2, (1, 5, 6, 2)).astype("float32"),
    "matrix": np.float32([[[1.1, 0.2, -1.4], [-0.1, 0.9, 2.3], [0.003, -0.002, 1]]]),
    "flow": np.sin(np.arange(H * W * 2, dtype="float32") / 40).reshape(1, H, W, 2),
    "x": RNG.uniform(-3, W + 2, (1, 5, 6)).astype("float32"),
    "y": RNG.uniform(-3, H + 2, (1, 5, 6)).astype("float32"),
    "angle": np.float32([25]),
    "shift": np.float32([[2.3, -1.6]]),
    "factor": np.float32([[1.7, 1.7]]),
    "boxes": np.float32([[1.5, 2, 9, 11.5], [0, 0, W, H], [4, 3, 5, 4]]),
    "h": H,
    "w": W,
    "np": np,
}
HERE = vars(geometry) | {name: getattr(stn_keras, name) for name in stn_keras.__all__} | GIVEN


def pytorch():
    torch = pytest.importorskip("torch")
    moved = {name: np.moveaxis(GIVEN[name], -1, 1) for name in ("images", "flow")}
    arrays = {name: x for name, x in (GIVEN | moved).items() if isinstance(x, np.ndarray)}
    tensors = {name: torch.tensor(x) for name, x in arrays.items()}
    return GIVEN | tensors | {"F": torch.nn.functional}


def voxelmorph():
    return pytorch() | {"vxm": pytest.importorskip("voxelmorph.nn.modules")}


def kornia():
    return pytorch() | {"K": pytest.importorskip("kornia.geometry")}


def torchvision():
    given = pytorch()
    try:
        return given | {"tv": importlib.import_module("torchvision.ops")}
    except (ImportError, RuntimeError) as error:  # an error of those built for another PyTorch
        pytest.skip(f"torchvision: {error}")


def tensorflow():
    return GIVEN | {"tf": pytest.importorskip("tensorflow")}


def opencv():
    return GIVEN | {"cv2": pytest.importorskip("cv2"), "image": GIVEN["images"][0]}


def addons():
    """`transform` calls TensorFlow's operation; `dense_image_warp` follows its documentation."""
    tf = pytest.importorskip("tensorflow")

    def transform(images, rows, interpolation):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=rows,
            output_shape=(H, W),
            interpolation=interpolation.upper(),
            fill_mode="CONSTANT",
            fill_value=0.0,
        )

    def dense_image_warp(images, flow):
        return at(images, *(np.indices((H, W)) - np.moveaxis(flow[0], -1, 0)))

    image = types.SimpleNamespace(transform=transform, dense_image_warp=dense_image_warp)
    return GIVEN | {"tfa": types.SimpleNamespace(image=image)}


def keras_2():
    """`BilinearInterpolation` by its formulas."""

    def warp(inputs):
        images, theta = inputs
        x, y = np.meshgrid(np.linspace(-1, 1, W), np.linspace(-1, 1, H))
        x, y = (theta[0] @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)).reshape(2, H, W)
        return at(images, (y + 1) / 2 * H, (x + 1) / 2 * W)

    return GIVEN | {"BilinearInterpolation": lambda size: warp}


def at(images, rows, columns):
    """Bilinear values between pixels, those of the edge beyond it."""
    images = np.moveaxis(images[0], -1, 0)
    values = [ops.image.map_coordinates(x, [rows, columns], 1, "nearest") for x in images]
    return np.stack(values, -1)[None]


# The name of a section, the names in its left column, the tolerance, and whether values agree only
# away from the edge.
SECTIONS = {
    "PyTorch": (pytorch, 1e-5, False),
    "Layers for Keras 2": (keras_2, 1e-5, False),
    "TensorFlow Addons": (addons, 1e-4, False),
    "VoxelMorph": (voxelmorph, 1e-4, True),
    "kornia": (kornia, 1e-4, False),
    "torchvision": (torchvision, 1e-5, False),
    "TensorFlow": (tensorflow, 1e-5, False),
    "OpenCV": (opencv, 0.06, False),
}
CHANNELS_FIRST = ("PyTorch", "VoxelMorph", "kornia", "torchvision")


def rows():
    """`(section, left, right)` of every row of the page that is code on both sides."""
    sections = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.M)[1:]
    for title, text in zip(sections[::2], sections[1::2]):
        for cells in re.findall(r"^\| `(.+)` \| `(.+)` \|$", text, re.M):
            yield title, *cells


def test_every_section_has_rows():
    assert {title for title, *_ in rows()} == set(SECTIONS)


@pytest.mark.parametrize("section, there, here", list(rows()))
def test_both_calls_give_the_same_numbers(section, there, here):
    known, tolerance, inner = SECTIONS[section]
    wanted = np.array(eval(there, known()))
    found = ops.convert_to_numpy(eval(here, HERE))
    if section in CHANNELS_FIRST and wanted.shape != found.shape:
        wanted = np.moveaxis(wanted, 1, -1)
    if inner:
        wanted, found = (x[:, EDGE:-EDGE, EDGE:-EDGE] for x in (wanted, found))
    np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=0, atol=tolerance)
