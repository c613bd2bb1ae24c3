"""What a registration did, for its reader."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Level:
    """One size of one transform; arrays have a value per pair.

    Attributes:
        transform: Its name.
        size: Of the fixed picture.
        iterations: How many steps each pair took.
        before: Losses at the level's first parameters.
        after: Losses at its last ones.
        converged: Whether the steps came to rest.
    """

    transform: str
    size: tuple
    iterations: np.ndarray
    before: np.ndarray
    after: np.ndarray
    converged: np.ndarray


@dataclasses.dataclass(frozen=True)
class Report:
    """What `stn_keras.register` did; arrays have a value per pair. Print it for a table.

    Example:

    >>> report = stn_keras.register(images, images, transform="translation").report
    >>> report.converged.all(), report.levels[-1].size
    (np.True_, (32, 32))

    Attributes:
        levels: One entry for each size of each transform, in the order of their computation, with
            `transform`, its name, `size`, that of the fixed picture, and for each pair
            `iterations`, `before` and `after`, the losses, and `converged`.
        loss_before: The loss of the full pictures, as the start lays them.
        loss_after: The loss as the warp lays them.
        overlap: Share of the fixed picture, of its mask, that the warped one covers.
        converged: Whether the last level came to rest, with a loss that is not above the start's
            and, for `"ecc"`, below 0.8: pictures that hardly correlate are not aligned.
    """

    levels: tuple
    loss_before: np.ndarray
    loss_after: np.ndarray
    overlap: np.ndarray
    converged: np.ndarray

    @property
    def iterations(self):
        """How many steps each pair took, at all levels together."""
        return sum(level.iterations for level in self.levels)

    def __str__(self):
        rows = [("transform", "size", "iterations", "loss before", "after")]
        for level in self.levels:
            size = " × ".join(map(str, level.size))
            losses = f"{level.before.mean():.5g}", f"{level.after.mean():.5g}"
            rows.append((level.transform, size, f"{level.iterations.mean():g}", *losses))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, self.summary()])

    def summary(self):
        """One sentence, of means over the pairs."""
        count = len(self.converged)
        converged = "converged" if count == 1 else f"{self.converged.sum()} of {count} converged"
        if not self.converged.any():
            converged = "not converged"
        return (
            f"{converged}: loss {self.loss_before.mean():.5g} → {self.loss_after.mean():.5g}, "
            f"overlap {self.overlap.mean():.0%}"
        )
