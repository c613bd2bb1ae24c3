"""Records the calls of spatial transformers, for each thread separately."""

import contextlib
import threading

_thread = threading.local()  # PyTorch's compiler does not know context variables


@contextlib.contextmanager
def recording():
    """Yields a list to which each call inside adds `(layer, images, theta, warped)`.

    A call of several glimpses counts as one call for each of them.
    """
    outer = getattr(_thread, "calls", None)
    calls: list[tuple] = []
    _thread.calls = calls
    try:
        yield calls
    finally:
        _thread.calls = outer


def recorded(layer, images, theta, warped):
    """Returns `warped`, and records that a layer computed it from `images` and `theta`."""
    calls = getattr(_thread, "calls", None)
    if calls is not None and layer.warped_by.glimpses(theta.shape):
        count = theta.shape[1] or 0  # None in a graph that does not know it
        calls.extend((layer, images, theta[:, k], warped[:, k]) for k in range(count))
    elif calls is not None:
        calls.append((layer, images, theta, warped))
    return warped
