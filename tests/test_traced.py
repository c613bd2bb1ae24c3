"""TensorFlow traces few operations of a warp, and XLA can compile them as they are."""

import collections

import keras
import pytest

from stn_keras import SpatialTransformer, grid_sample
from stn_keras.transforms import TRANSFORMS

if keras.backend.backend() != "tensorflow":
    pytest.skip("graphs of TensorFlow", allow_module_level=True)
import tensorflow as tf

SIZE = (32, 32)
OPTIONS = [
    {},
    {"interpolation": "bicubic", "fill_mode": "reflect"},
    {"interpolation": "bicubic", "fill_value": 1.0},
    {"interpolation": "nearest"},
    {"fill_mode": "wrap"},
    {"fill_mode": "nearest", "align_corners": True},
    {"fill_value": 1.0},
]


def traced(warp, *last):
    """The nodes of a warp and of both its gradients, in lists, one per function."""

    def both(images, where, upstream):
        with tf.GradientTape() as tape:
            tape.watch([images, where])
            warped = warp(images, where)
        return warped, tape.gradient(warped, [images, where], upstream)

    images = tf.TensorSpec((None, *SIZE, 3))
    function = tf.function(both).get_concrete_function(images, tf.TensorSpec((None, *last)), images)
    graph = function.graph.as_graph_def()
    return [list(graph.node)] + [list(inner.node_def) for inner in graph.library.function]


def sums_of_sums(nodes):
    """Sums of sums that are marked for XLA, if nothing else reads the inner sums."""
    inputs = {node.name: [name.split(":")[0] for name in node.input] for node in nodes}
    readers = collections.Counter(name for names in inputs.values() for name in names)
    sums = [
        node.name for node in nodes if node.op in ("AddV2", "AddN") and "_XlaCompile" in node.attr
    ]
    return [
        (outer, inner)
        for outer in sums
        for inner in inputs[outer]
        if inner in sums and readers[inner] == 1
    ]


def layer(**options):
    transformer = SpatialTransformer(**options)
    return lambda images, theta: transformer([images, theta])


@pytest.mark.parametrize("interpolation, most", [("bilinear", 900), ("bicubic", 1300)])
def test_few_operations_are_traced(interpolation, most):
    assert sum(map(len, traced(layer(interpolation=interpolation), 6))) <= most


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_marked_has_no_sums_of_sums(name):
    transformer = layer(transform=name)
    functions = traced(transformer, SpatialTransformer(transform=name).transform.num_parameters)
    assert any("_XlaCompile" in node.attr for nodes in functions for node in nodes)
    assert not any(map(sums_of_sums, functions))


@pytest.mark.parametrize("options", OPTIONS)
def test_nor_with_other_options(options):
    functions = traced(lambda *tensors: grid_sample(*tensors, **options), *SIZE, 2)
    assert not any(map(sums_of_sums, functions))
