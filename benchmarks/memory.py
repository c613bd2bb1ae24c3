"""MiB of this process, on Linux; NaN elsewhere."""

import ctypes
import gc
import pathlib
import sys

PROC = pathlib.Path("/proc/self")
LINUX = sys.platform == "linux"


def resident():
    """MiB in memory."""
    return _status("VmRSS")


def settled():
    """MiB in memory once all that is not needed is freed."""
    gc.collect()
    if LINUX:
        ctypes.CDLL(None).malloc_trim(0)
    return resident()


def added_at_peak(function, *args):
    """MiB that a call adds at its peak, and what it returns."""
    if LINUX:
        (PROC / "clear_refs").write_text("5")  # sets the peak to the resident memory
    before = _status("VmHWM")
    result = function(*args)
    return _status("VmHWM") - before, result


def keep_nothing_freed():
    """Returns freed memory to the system at once, so that only memory in use is resident."""
    if LINUX:
        ctypes.CDLL(None).mallopt(-3, 2**16)  # glibc's M_MMAP_THRESHOLD


def _status(name):
    if not LINUX:
        return float("nan")
    status = (PROC / "status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024
