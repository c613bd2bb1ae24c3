"""Names of other libraries that are not public, and what replaces them in versions without them."""

import contextlib


def lite_quantizer():
    """The setting with which a LiteRT converter only measures ranges, and the function that uses
    them to quantize.

    The public converter does both at once, so warps would become int8 too. Without these names the
    result is None, and models are exported in float32 only.
    """
    setting = "_experimental_calibrate_only"
    with contextlib.suppress(ImportError, AttributeError):
        import tensorflow as tf
        from tensorflow.lite.python import convert

        getattr(tf.lite.TFLiteConverter([]), setting)
        return {setting: True}, convert.mlir_quantize
    return None


def torch_transforms_active():
    """Whether a function transform of PyTorch, such as `vmap`, or its forward mode is active.

    ATen's sampler has no rule for them. Without these names the answer is yes, so the library's own
    sampler is used, which is slower.
    """
    import torch

    try:
        functorch = torch._C._are_functorch_transforms_active()
        return functorch or torch.autograd.forward_ad._current_level >= 0
    except AttributeError:
        return True
