"""Sphinx: `python -m sphinx -W docs build/docs`."""

import inspect
import re

import keras
from sphinx.util.inspect import stringify_signature

import stn_keras

project = "stn_keras"
author = "The stn_keras authors"
copyright = f"2026, {author}"
release = stn_keras.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
html_theme = "furo"
html_title = f"{project} {release}"
exclude_patterns = ["pictures"]
nitpicky = False
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "literal"
myst_heading_anchors = 3
napoleon_custom_sections = [("Call arguments", "params_style")]
napoleon_use_ivar = True
python_use_unqualified_type_names = True


def directives_of_comments(app, page, source):
    """Pages hide their directives from GitHub in comments: `<!-- {name} ... -->`."""
    source[0] = re.sub(r"<!-- (\{[\w-]+\}.*?)-->", r"```\1```", source[0], flags=re.S)


def links_to_other_folders(app, page, source):
    """Pages outside this folder are not in the HTML, so links to them become plain text."""
    outside = r"\[([^\]]+)\]\((?:\.\./)+(?:CONTRIBUTING|results/\w+|benchmarks/\w+)\.md[^)]*\)"
    source[0] = re.sub(outside, r"\1", source[0])


def to_restructured_text(app, what, name, thing, options, lines):
    """Docstrings write links as Markdown does: `[text](address)`."""
    text = re.sub(r"\[([^\]]+)\]\(\s*(https?://[^)]+)\)", r"`\1 <\2>`__", "\n".join(lines))
    lines[:] = text.split("\n")


def signature_of_init(app, what, name, thing, options, signature, returned):
    """A layer's own arguments, where autodoc takes `Layer.__new__`'s `*args, **kwargs`."""
    if what == "class" and issubclass(thing, keras.Layer):
        signature = stringify_signature(inspect.signature(thing), unqualified_typehints=True)
    return signature, returned


def setup(app):
    app.connect("source-read", directives_of_comments)
    app.connect("source-read", links_to_other_folders)
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-process-docstring", to_restructured_text)
