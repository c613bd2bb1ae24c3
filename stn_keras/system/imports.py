"""Calls a function as soon as a program has imported Keras.

`import stn_keras` itself does not import Keras, which takes seconds and writes to the terminal: the
commands answer `--help` and wrong flags at once, and keep TensorFlow's messages to themselves.
"""

import importlib
import importlib.abc
import sys
from typing import Any

WITHOUT_KERAS = ("stn_keras.system", "stn_keras.__main__")


def after_keras(function):
    """Calls `function` when Keras is imported: now, or when the program or the library imports it.

    It is called before any module of the library that needs Keras is imported. So `function` may
    import all of them, and none is half imported.
    """
    if "keras" in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _KerasImporter(function))


class _KerasImporter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets the other finders find and load Keras, then calls a function, once."""

    loader: Any  # Keras's own

    def __init__(self, function):
        self.function = function

    def find_spec(self, name, path, target=None):
        if name.startswith("stn_keras.") and not name.startswith(WITHOUT_KERAS):
            importlib.import_module("keras")
        if name != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader  # as if nothing had replaced it
        self.loader.exec_module(module)
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self.function()
