"""PyTorch: its own sampler where that computes the same, else operations it differentiates."""

import torch
from torch.nn import functional

floor = torch.floor
PADDING = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
MODES = ("bilinear", "nearest", "bicubic")  # in the order of ATen's numbers, as is PADDING


def compile(function):
    """The function itself: PyTorch's own compiler needs a C++ compiler on the user's machine."""
    return function


def is_fused():
    return False


def with_gradient(forward, backward):
    """`forward(*tensors)`, differentiated by PyTorch."""
    return forward


def shape(tensor):
    return tuple(tensor.shape)


def gather(rows, indices):
    """The rows of `(batch, n, channels)` at each of several `(batch, ...)` indices."""
    batch, count, channels = rows.shape
    flat = rows.reshape(-1, channels)
    first = torch.arange(batch, device=rows.device) * count
    first = first.reshape(-1, *(1,) * (indices[0].ndim - 1))
    found = [flat.index_select(0, (index + first).reshape(-1)) for index in indices]
    return [picked.reshape(*indices[0].shape, channels) for picked in found]


def weigh(samples, weight):
    """The samples times their weight, and 0 where it is 0, even for NaN."""
    weight = weight[..., None]
    # The finite ones of weight 0 PyTorch needs: they are the derivatives by their weights.
    return weight * torch.where((weight != 0) | samples.isfinite(), samples, 0)


def scatter(*args):
    raise NotImplementedError("PyTorch differentiates `gather` by itself.")


channel_sums = keep = scatter


def is_unread():
    return False


def has_native(images, size, *, interpolation, fill_mode, filled, align_corners):
    """Whether PyTorch's sampler gives the same numbers, and the gradients that are asked for."""
    sizes = (*images.shape[1:-1], *size)
    return (
        fill_mode in PADDING
        and not (filled and fill_mode == "constant")
        and not (interpolation == "bicubic" and images.ndim == 5)
        and not (align_corners and 1 in sizes)
        and 0 not in (*images.shape, *sizes)
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def affine_grid(matrix, size, align_corners):
    """`functional.affine_grid`, axis by axis, which takes a third of the time.

    It has as many coordinates as the matrices have rows.
    """
    batch, rows, columns = matrix.shape
    like = {"dtype": matrix.dtype, "device": matrix.device}
    points = matrix[:, None, :, columns - 1]  # (batch, positions · rows)
    for axis, length in enumerate(reversed(size)):
        first = first_position(length, align_corners)
        along = torch.linspace(first, -first, length, **like)
        along = torch.stack([along, torch.ones_like(along)], dim=1)
        points = points.reshape(batch, 1, -1)
        slope = matrix[:, None, :, axis].repeat(1, 1, points.shape[2] // rows)
        points = along.expand(batch, -1, -1) @ torch.cat([slope, points], dim=1)
    return points.reshape(batch, *size, rows)


def first_position(length, align_corners):
    """The normalised coordinate of the first pixel along an axis."""
    if align_corners:
        return 0.0 if length == 1 else -1.0
    return 1 / length - 1


def native(images, grid, plain, unchanged=None, *, interpolation, fill_mode, align_corners, **_):
    """`images`, channels last, at a normalised grid; None if pixels of weight 0 may count.

    `plain(images, grid)` is the same in operations that PyTorch differentiates twice. The images
    that `unchanged`, `(batch,)`, marks come back bit for bit: they are warped by the identity.
    """
    grid = finite(grid, images.shape[1:-1], fill_mode, align_corners)
    grid = grid.to(torch.promote_types(images.dtype, grid.dtype))
    mode, padding = MODES.index(interpolation), list(PADDING).index(fill_mode)
    options = mode, padding, align_corners
    samples = Sampler.apply(images.to(grid.dtype), grid, unchanged, plain, options)
    # Only a pixel that is weighted may count with a weight of 0.
    return samples if interpolation == "nearest" or is_finite(samples) else None


def finite(grid, size, fill_mode, align_corners, far=2.0**20):
    """A grid of finite points: where it is not finite PyTorch would read anywhere.

    Not with zeros outside: there a point that is not finite reads nothing or gives NaN.
    """
    device = grid.device.type if has_numbers(grid) else None
    if fill_mode == "constant" and device in ("cpu", "cuda"):
        return grid
    if (found := magnitudes(grid)) and found[1] < far:
        return grid
    if fill_mode != "reflect":
        return grid.clamp(-far, far).nan_to_num(-far)
    first = [first_position(length, align_corners) for length in reversed(size)]
    return torch.where(grid.abs() < far, grid, grid.new_tensor(first))


def is_finite(samples):
    """Whether no sample is infinite or NaN, and so no pixel that was read.

    PyTorch's sampler multiplies even by weights of 0.
    """
    if not has_numbers(samples):
        return True
    total = samples.detach().sum(dtype=torch.promote_types(samples.dtype, torch.float32))
    return bool(total.isfinite())  # one that overflows only costs time


def is_never(mask):
    """Whether it is known, without waiting for a GPU, that a mask marks nothing."""
    return mask.device.type == "cpu" and has_numbers(mask) and not mask.any()


def magnitudes(tensor):
    """The smallest and the largest absolute value of its numbers; None where that takes time."""
    if tensor.device.type != "cpu" or not has_numbers(tensor) or tensor.numel() == 0:
        return None
    low, high = (x.item() for x in tensor.detach().aminmax())  # NaN if one is
    return max(low, -high, 0.0), max(-low, high)


def has_numbers(tensor):
    """Whether there are numbers yet on which to decide."""
    return not (
        torch.compiler.is_compiling()
        or tensor.is_meta
        or torch._C._are_functorch_transforms_active()
    )


class Sampler(torch.autograd.Function):
    """PyTorch's sampler, channels last, differentiable twice."""

    @staticmethod
    def forward(ctx, images, grid, unchanged, plain, options):
        ctx.save_for_backward(images, grid)
        ctx.plain, ctx.options = plain, options
        mode, padding, align_corners = options
        last = images.ndim - 1  # of `movedim(-1, 1)` PyTorch's exporter makes faulty ONNX
        samples = functional.grid_sample(
            images.movedim(last, 1),
            grid,
            MODES[mode],
            list(PADDING.values())[padding],
            align_corners,
        ).movedim(1, last)
        if unchanged is None or is_never(unchanged):
            return samples
        return torch.where(unchanged.reshape(-1, *[1] * (images.ndim - 1)), images, samples)

    @staticmethod
    def backward(ctx, upstream):
        # Views: of the images alone, where the grid was made from them.
        images, grid = (tensor.view_as(tensor) for tensor in ctx.saved_tensors)
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # for a gradient of the gradient
            inputs = [x for x, needed in zip((images, grid), wanted) if needed]
            samples = ctx.plain(images, grid)
            found = iter(
                torch.autograd.grad(
                    samples, inputs, upstream, create_graph=True, materialize_grads=True
                )
            )
            return *(next(found) if needed else None for needed in wanted), None, None, None
        if MODES[ctx.options[0]] == "nearest" and not wanted[0]:
            return None, torch.zeros_like(grid), None, None, None
        aten = torch.ops.aten
        derivative = (
            aten.grid_sampler_2d_backward if images.ndim == 4 else aten.grid_sampler_3d_backward
        )
        to_images, to_grid = derivative(
            upstream.movedim(-1, 1), images.movedim(-1, 1), grid, *ctx.options, list(wanted)
        )
        return to_images.movedim(1, -1) if wanted[0] else None, to_grid, None, None, None
