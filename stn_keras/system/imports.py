"""Calls a function as soon as a program has imported a module."""

import importlib.abc
import importlib.util
import sys


def after_import(name, function):
    """Calls `function` once the module `name` is imported: now, or when the program does it."""
    if name in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Finder(name, function))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module as Python does, once, and hands it to a `_Loader`."""

    def __init__(self, name, function):
        self.name, self.function = name, function

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            spec.loader = _Loader(spec.loader, self.function)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader, function):
        self.loader, self.function = loader, function

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader  # as if it had never been replaced
        self.loader.exec_module(module)
        self.function()
