"""Selects the Keras dtype policy that trains fastest on this machine without losing accuracy."""

import pathlib
import re

import tensorflow as tf

__all__ = ["CHOICES", "choose"]

CHOICES = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


def choose(name):
    """Returns the dtype policy for a name in `CHOICES`; `"auto"` inspects the hardware.

    `"auto"` selects mixed_float16 on a GPU with tensor cores (compute capability 7 and above),
    mixed_bfloat16 on a CPU with fast bfloat16 instructions (docs/speed.md has the speeds), and
    float32 otherwise. The choice depends on the machine alone, so that a run can be repeated there.

    Example:

    >>> keras.config.set_dtype_policy(choose("auto"))  # doctest: +SKIP
    >>> choose("mixed_float16")
    'mixed_float16'

    Args:
        name: `"auto"`, or the name of a policy, which is returned unchanged.

    Returns:
        The name of a Keras dtype policy.
    """
    if name != "auto":
        return name
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        cores = all(found.get("compute_capability", (0, 0)) >= (7, 0) for found in details)
        return "mixed_float16" if cores else "float32"
    return "mixed_bfloat16" if cpu_has_fast_bfloat16() else "float32"


def cpu_has_fast_bfloat16(cpuinfo=pathlib.Path("/proc/cpuinfo")):
    """Whether bfloat16 is faster than float32 on this CPU; False on systems other than Linux.

    It is faster with AMX, and on AMD's CPUs with AVX512_BF16. On Intel's CPUs, training with
    AVX512_BF16 alone is slower by a quarter.
    """
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    # Of the first processor.
    fields = dict(re.findall(r"^(flags|vendor_id)\s*:(.*)$", text.partition("\n\n")[0], re.M))
    flags = fields.get("flags", "").split()
    amd = fields.get("vendor_id", "").strip() == "AuthenticAMD"
    return "amx_bf16" in flags or (amd and "avx512_bf16" in flags)
