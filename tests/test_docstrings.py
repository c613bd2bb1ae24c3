"""Docstrings of all public names are complete, and their examples run as printed."""

import doctest
import importlib
import inspect
import pathlib
import re
import runpy

import keras
import numpy as np
import pytest

import stn_keras

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
MODULES = (
    "geometry",
    "sampling",
    "sampler.warps",
    "sampler.glimpses",
    "transforms",
    "layers",
    "losses",
    "registration",
    "localization",
    "models",
    "metrics",
    "regularizers",
    "recipes",
    "callbacks",
    "observe",
    "plots",
    "history",
    "resume",
    "precision",
    "saved",
    "predict",
    "export",
    "data.cifar10",
    "data.mnist",
    "data.pictures",
    "data.pipeline",
    "data.distortions",
)


def described(module):
    """The module's public functions and classes, but no exceptions, which need only a line."""
    for name in module.__all__:
        thing = getattr(module, name)
        if callable(thing) and not (inspect.isclass(thing) and issubclass(thing, Exception)):
            yield name


NAMES = [
    pytest.param(module, name, id=f"{path}.{name}")
    for path in MODULES
    for module in [importlib.import_module(f"stn_keras.{path}")]
    for name in described(module)
]
public = pytest.mark.parametrize("module, name", NAMES)


@pytest.fixture
def given(tmp_path, monkeypatch, rng):
    """The names that examples use: eight pictures with labels, and a model of one transformer.

    The pictures are files, too, `pets/cat/0.png` to `pets/dog/7.png`; `run/` has the names of two
    classes and the history of two epochs. The shipped reader and the pictures of the documentation
    are in their places.
    """
    monkeypatch.chdir(tmp_path)
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype="uint8")
    for folder in ("pets/cat", "pets/dog", "run"):
        pathlib.Path(folder).mkdir(parents=True)
    for folder in ("saved_models/read_text", "docs/pictures"):
        pathlib.Path(folder).parent.mkdir()
        pathlib.Path(folder).symlink_to(ROOT / folder)
    for number, image in enumerate(images):
        keras.utils.save_img(f"pets/{'cat' if number < 4 else 'dog'}/{number}.png", image)
    pathlib.Path("run/config.json").write_text('{"classes": ["cat", "dog"]}')
    pathlib.Path("run/history.csv").write_text("epoch,loss\n0,0.9\n1,0.8\n")
    x = keras.Input((32, 32, 3))
    head = keras.Sequential([keras.layers.Flatten(), stn_keras.localization.head()])
    warped = stn_keras.SpatialTransformer(head, name="transformer")(x)
    model = keras.Model(x, keras.layers.Dense(10)(keras.layers.Flatten()(warped)))
    model.compile(
        keras.optimizers.SGD(1e-6),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    names = {"stn_keras": stn_keras, "keras": keras, "ops": keras.ops, "np": np, "pytest": pytest}
    return names | {"images": images, "labels": rng.integers(0, 10, 8), "model": model}


@public
def test_examples_run(module, name, given):
    """With the names of their module and its package, and those given."""
    thing = getattr(module, name)
    names = vars(inspect.getmodule(thing)) | vars(module)
    scope = given | names | {"transforms": stn_keras.transforms}
    examples = doctest.DocTestParser().get_doctest(thing.__doc__, scope, name, module.__file__, 0)
    assert examples.examples, f"{name} has no example"
    said = []
    doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert not said, "".join(said)


@public
def test_every_argument_is_described(module, name):
    thing = getattr(module, name)
    parameters = inspect.signature(thing).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    missing = [n for n in named if not re.search(rf"^\s+{n}: \S", thing.__doc__, re.MULTILINE)]
    assert not missing, f"{name} says nothing of {missing}"


@public
def test_no_argument_hides_behind_an_asterisk(module, name):
    kinds = [p.kind for p in inspect.signature(getattr(module, name)).parameters.values()]
    assert inspect.Parameter.VAR_POSITIONAL not in kinds


def test_the_reference_shows_a_layer_s_own_arguments():
    pytest.importorskip("sphinx")
    conf = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    layer, hidden = stn_keras.SpatialTransformer, "(*args, **kwargs)"
    shown, _ = conf["signature_of_init"](None, "class", "", layer, None, hidden, None)
    assert "interpolation: str = 'bilinear'" in shown and "*args" not in shown
    other = conf["signature_of_init"](None, "class", "", dict, None, hidden, None)
    assert other == (hidden, None)


@public
def test_functions_say_what_they_return(module, name):
    thing = getattr(module, name)
    writes = ("compact", "cut", "save", "write_graph", "write_settings")
    if inspect.isfunction(thing) and name not in writes:
        assert re.search(r"^ +(Returns|Yields):\n +\S", thing.__doc__, re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_a_reference_page_has_every_public_name(module):
    directive = f".. automodule:: stn_keras.{module}\n"
    pages = [path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md")]
    (page,) = [page for page in pages if directive in page]
    missing = [
        name
        for name in importlib.import_module(f"stn_keras.{module}").__all__
        if f"`{name}`" not in page
    ]
    assert not missing, f"{module}: {missing}"


@pytest.mark.parametrize("page", ["README.md", *sorted(map(str, ROOT.glob("docs/*.md")))])
def test_the_code_of_a_page_runs(page, given):
    """All of its Python blocks, one after the other."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    for block in blocks:
        exec(compile(block, page, "exec"), given)
