"""Selects the Keras dtype policy that trains fastest on this machine without losing accuracy."""

import pathlib
import re

import tensorflow as tf

__all__ = ["CHOICES", "choose"]

CHOICES = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def choose(name):
    """Returns the dtype policy for a name in `CHOICES`; `"auto"` inspects the hardware.

    `"auto"` selects mixed_float16 on a GPU with tensor cores (compute capability 7 and above),
    mixed_bfloat16 on a CPU with bfloat16 instructions (docs/speed.md has the speeds), and float32
    otherwise. The choice depends on the machine alone, so that a run can be repeated there.

    Example:

    >>> keras.config.set_dtype_policy(choose("auto"))  # doctest: +SKIP
    >>> choose("mixed_float16")
    'mixed_float16'

    Args:
        name: `"auto"`, `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.

    Returns:
        The name of a Keras dtype policy. Any `name` other than `"auto"` is returned unchanged.
    """
    if name != "auto":
        return name
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return "mixed_float16" if all(map(has_tensor_cores, gpus)) else "float32"
    return "mixed_bfloat16" if cpu_has_bfloat16() else "float32"


def has_tensor_cores(gpu):
    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
    return capability >= (7, 0)


def cpu_has_bfloat16(cpuinfo=pathlib.Path("/proc/cpuinfo")):
    """Whether the CPU has bfloat16 instructions; False on systems other than Linux."""
    if not cpuinfo.exists():
        return False
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    names = flags[1].split() if flags else []
    return any(name in names for name in BFLOAT16_INSTRUCTIONS)
