"""The common base of the layers, which are called on one argument."""

import keras


class OneArgument(keras.Layer):
    """A layer that is called on one tensor or list, and rejects other calls before Keras does."""

    @property
    def _wanted(self):
        """What the layer is called on, for the error message."""
        return "one argument"

    def __call__(self, *args, **kwargs):
        if len(args) > 1:
            self._refuse(f"{len(args)} arguments")
        if any(tensor is None for tensor in keras.tree.flatten(args)):
            self._refuse("None" if args[0] is None else "None instead of a tensor")
        return super().__call__(*args, **kwargs)

    def _check_pair(self, inputs):
        """Refuses inputs of a layer that takes two, unless they are two."""
        several = isinstance(inputs, (list, tuple))
        if not several or len(inputs) != 2:
            self._refuse(f"{len(inputs)} inputs" if several else f"a {type(inputs).__name__}")

    def _refuse(self, received):
        name = type(self).__name__
        raise ValueError(f"`{name}` must be called on {self._wanted}. Received: {received}")
