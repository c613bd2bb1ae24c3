"""Matrix transforms of images or volumes."""

import operator
from dataclasses import dataclass, field

from stn_keras.transforms.base import MatrixTransform


@dataclass(frozen=True, eq=False, repr=False)
class ImageOrVolume(MatrixTransform):
    """Base class of matrix transforms of images or, with `axes=3`, volumes."""

    axes: int = field(default=2, kw_only=True)

    def __post_init__(self):
        try:
            axes = operator.index(self.axes)
        except TypeError:
            axes = 0
        if axes not in (2, 3):
            raise ValueError(
                f"`axes` must be 2, for images, or 3, for volumes. Received: axes={self.axes!r}"
            )
        object.__setattr__(self, "axes", axes)

    @property
    def turns(self):
        """How many numbers a rotation has: an angle, or the components of a vector."""
        return 1 if self.axes == 2 else 3

    def get_config(self):
        """The settings, without `axes` for images, as in files of earlier versions."""
        config = super().get_config()
        axes = config.pop("axes")
        return config if axes == 2 else {**config, "axes": axes}

    @classmethod
    def from_config(cls, config):
        """A transform from its settings. Earlier versions allowed a greater `max_rotation`."""
        bound = config.get("max_rotation")
        if bound is None:
            return cls(**config)
        transform = cls(**{**config, "max_rotation": None})
        object.__setattr__(transform, "max_rotation", bound)
        return transform

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__qualname__}({settings})"
