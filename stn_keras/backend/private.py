"""The names that other libraries do not promise to keep, and what happens without them."""


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
