"""The report of a registration."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Level:
    """The fit of one transform at one level of the pyramid; arrays have one value per pair.

    Attributes:
        transform: Name of the transform.
        size: Size of the fixed picture at this level.
        iterations: Number of steps of each pair.
        before: Losses before the first step.
        after: Losses after the last step.
        converged: Whether the last steps hardly changed the warp or the loss.
    """

    transform: str
    size: tuple
    iterations: np.ndarray
    before: np.ndarray
    after: np.ndarray
    converged: np.ndarray


@dataclasses.dataclass(frozen=True)
class Report:
    """The report of `stn_keras.register`; arrays have one value per pair. `print` shows a table.

    Example:

    >>> report = stn_keras.register(images, images, transform="translation").report
    >>> report.converged.all(), report.levels[-1].size
    (np.True_, (32, 32))

    Attributes:
        levels: One entry for each level of each transform, in the order of the computation. An
            entry has the attributes `transform` (its name) and `size` (of the fixed picture), and
            the arrays `iterations`, `before` and `after` (the losses) and `converged`.
        loss_before: The loss of the full pictures under the initial warp.
        loss_after: The loss of the full pictures under the returned warp.
        overlap: The share of the fixed picture that the warped picture covers. Masked pixels do not
            count.
        converged: Whether the last level converged, the loss is not greater than before, and at
            least a tenth of the fixed picture, or half of what the initial warp covers, is covered.
            For `"ecc"` the loss must also be below 0.8, because pictures that hardly correlate are
            not aligned.
    """

    levels: tuple
    loss_before: np.ndarray
    loss_after: np.ndarray
    overlap: np.ndarray
    converged: np.ndarray

    @property
    def iterations(self):
        """The number of steps of each pair, summed over all levels."""
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
        """One line, with means over the pairs."""
        count = len(self.converged)
        converged = "converged" if count == 1 else f"{self.converged.sum()} of {count} converged"
        if not self.converged.any():
            converged = "not converged"
        return (
            f"{converged}: loss {self.loss_before.mean():.5g} → {self.loss_after.mean():.5g}, "
            f"overlap {self.overlap.mean():.0%}"
        )
