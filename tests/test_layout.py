"""Where the library's files lie: floors that import only what is below them, and no circles."""

import ast
import graphlib
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "stn_keras"
LONGEST = 250  # lines
# From top to bottom; a file imports only what is on its own floor or below it.
FLOORS = (
    {"__main__"},
    {"training", "serving", "callbacks", "export", "predict", "saved", "resume", "recipes"}
    | {"history", "precision"},
    {"data"},
    {"registration"},
    {"observe", "plots", "viz", "models", "regularizers", "metrics", "losses"},
    {"layers", "localization"},
    {"transforms"},
    {"geometry", "sampling", "sampler"},
    {"backend", "checks"},
    {"system"},
)


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imports(name):
    """The library's modules that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    found &= {*FILES}
    packages = {module for module in found if any(m.startswith(f"{module}.") for m in found)}
    return found - {"stn_keras", name} - packages


GRAPH = {name: imports(name) for name in FILES if name != "stn_keras"}


def floor(module):
    wing = module.split(".")[1]
    (number,) = [k for k, names in enumerate(FLOORS) if wing in names]
    return number


def test_no_import_is_part_of_a_circle():
    assert list(graphlib.TopologicalSorter(GRAPH).static_order())


def test_imports_go_down():
    up = [(a, b) for a, found in GRAPH.items() for b in found if floor(b) < floor(a)]
    assert not up


LONGER = {"stn_keras.layers.spatial_transformer"}


@pytest.mark.parametrize("name", sorted({*FILES} - LONGER))
def test_files_are_short(name):
    assert len(FILES[name].read_text().splitlines()) <= LONGEST


def foreign_names(path):
    """The names of other libraries that a file uses, with dots."""
    tree, modules = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.module.startswith("stn_keras"):
            modules |= {alias.asname or alias.name for alias in node.names}
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    dotted = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    yield from (name for name in dotted if name.partition(".")[0] in modules - {"stn_keras"})


def test_private_names_of_other_libraries_are_in_one_file():
    private = re.compile(r"\.(_(?!_)\w+|src|python|core|capi)\b")
    for name in {*FILES} - {"stn_keras.backend.private"}:
        assert not [used for used in foreign_names(FILES[name]) if private.search(used)]
