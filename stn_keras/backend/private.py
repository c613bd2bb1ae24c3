"""Names of other libraries that are not public, and what happens in versions that lack them."""

import contextlib


def lite_quantizer():
    """Settings of a LiteRT converter that only measures ranges, and what quantizes by them.

    The public converter does both at once, so warps would become int8, too. Without these names
    the result is None, and models are exported in float32 only.
    """
    setting = "_experimental_calibrate_only"
    with contextlib.suppress(ImportError, AttributeError):
        import tensorflow as tf
        from tensorflow.lite.python import convert

        getattr(tf.lite.TFLiteConverter([]), setting)
        return {setting: True}, convert.mlir_quantize
    return None


def torch_transforms_active():
    """Whether one of PyTorch's function transforms, such as `vmap`, or its forward mode runs now.

    ATen's sampler has no rule for them. Without the names the answer is yes: the library's own
    sampler is used, which is slower.
    """
    import torch

    try:
        functorch = torch._C._are_functorch_transforms_active()
        return functorch or torch.autograd.forward_ad._current_level >= 0
    except AttributeError:
        return True
