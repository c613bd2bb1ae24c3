"""PyTorch: its own sampler if that computes the same, else operations that it differentiates."""

import functools

import torch
from torch.nn import functional

from stn_keras.backend.private import torch_transforms_active

floor = torch.floor
PADDING = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
MODES = ("bilinear", "nearest", "bicubic")  # in the order of ATen's numbers, as is PADDING


def compile(function):
    """The function itself: PyTorch's compiler would need a C++ compiler on the user's machine."""
    return function


def jit(function):
    """The function itself, for the same reason."""
    return function


def per_warp(function):
    return function


def value_and_gradient(function):
    def call(point, *tensors):
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            values = function(point, *tensors)
            (slope,) = torch.autograd.grad(values.sum(), point)
        return values.detach(), slope

    return call


def with_gradient(forward, backward, *tensors, first=None):
    """`forward(*tensors)`, differentiated by PyTorch."""
    return forward(*tensors)


def shape(tensor, start=0, stop=None):
    return tuple(tensor.shape[start:stop])


def in_full(function):
    """The function, computed in the precision of its inputs even under `torch.autocast`."""

    @functools.wraps(function)
    def call(tensor, *args, **options):
        with torch.autocast(tensor.device.type, enabled=False):
            return function(tensor, *args, **options)

    return call


matmul = in_full(torch.matmul)


def gather_sum(rows, indices, weights, finite=False):
    return sum(map(weighted, gather(rows, indices), weights))


def gather(rows, indices):
    """The rows of `(batch, n, channels)` at each of several `(batch, ..., 1)` indices."""
    batch, count, channels = rows.shape
    flat = rows.reshape(-1, channels)
    first = torch.arange(batch, device=rows.device) * count
    first = first.reshape(-1, *(1,) * (indices[0].ndim - 1))
    found = [flat.index_select(0, (index + first).reshape(-1)) for index in indices]
    return [picked.reshape(*indices[0].shape[:-1], channels) for picked in found]


def weighted(pixels, weight):
    """The pixels times their weight, and 0 where the weight is 0, even if the pixel is NaN."""
    if not pixels.is_floating_point():
        return torch.where(weight != 0, pixels, 0)
    pixels = pixels.to(weight.dtype)
    # Finite pixels stay, even with a weight of 0: they are the derivatives by their weights.
    return weight * torch.where((weight != 0) | pixels.isfinite(), pixels, 0)


def scatter_sum(*args):
    raise NotImplementedError("PyTorch differentiates `gather_sum` by itself.")


gather_dots = scatter_sum


def sample(generic, images, warp, fill, **options):
    """Samples by PyTorch's own sampler if it computes the same, else by `generic`."""
    return in_full(sample_in_full)(images, generic, warp, fill, **options)


def sample_in_full(images, generic, warp, fill, **options):
    if is_native(images, warp, fill, **options):
        samples = native(images, generic, warp, fill, **options)
        if images.device.type != "cpu" or is_finite(samples):
            return samples
    return generic(images, warp, fill, **options)


def is_native(images, warp, fill, *, interpolation, fill_mode):
    """Whether PyTorch's sampler computes the same numbers and gradients."""
    sizes = (*images.shape[1:-1], *warp.output_size)
    return (
        images.is_floating_point()
        and fill_mode in PADDING
        and fill is None
        # PyTorch rounds to pixels in the same way only if the warp is given by a grid.
        and (interpolation != "nearest" or warp.is_grid)
        and not (interpolation == "bicubic" and images.ndim == 5)
        and not (warp.align_corners and 1 in sizes)
        and 0 not in (*images.shape, *sizes)
        # PyTorch's compiler fuses `generic`, which does not read pixels of weight 0.
        and not torch.compiler.is_compiling()
        and not images.is_meta
        and not torch_transforms_active()
    )


def native(images, generic, warp, fill, *, interpolation, fill_mode):
    """Samples by PyTorch's own sampler, which multiplies pixels even by weights of 0."""

    def plain(images, grid):
        options = {"interpolation": interpolation, "fill_mode": fill_mode}
        return generic(images, warp.as_grid(grid), fill, **options)

    grid = warp.grid() if warp.normalised_matrix is None else affine_grid(warp)
    grid = finite(grid, images.shape[1:-1], fill_mode, warp.align_corners)
    grid = grid.to(torch.promote_types(images.dtype, grid.dtype))
    same_size = tuple(warp.input_size) == tuple(warp.output_size)
    unchanged = warp.is_identity() if same_size else None
    if unchanged is not None and unchanged.device.type == "cpu" and not unchanged.any():
        unchanged = None
    settings = MODES.index(interpolation), list(PADDING).index(fill_mode), warp.align_corners
    return Sampler.apply(images.to(grid.dtype), grid, unchanged, plain, settings)


def affine_grid(warp):
    """`functional.affine_grid`, axis by axis, which takes a third of the time."""
    matrix = warp.normalised_matrix
    batch, rows, columns = matrix.shape
    like = {"dtype": matrix.dtype, "device": matrix.device}
    points = matrix[:, None, :, columns - 1]  # (batch, 1, positions · rows)
    for axis, length in enumerate(reversed(warp.output_size)):
        first = first_position(length, warp.align_corners)
        along = torch.linspace(first, -first, length, **like)
        along = torch.stack([along, torch.ones_like(along)], dim=1)
        points = points.reshape(batch, 1, -1)
        slope = matrix[:, None, :, axis].repeat(1, 1, points.shape[2] // rows)
        points = along.expand(batch, -1, -1) @ torch.cat([slope, points], dim=1)
    return points.reshape(batch, *warp.output_size, rows)


def finite(grid, size, fill_mode, align_corners, far=2.0**20):
    """The grid with finite points: at others, PyTorch might read any memory.

    With zeros outside, the grid is returned unchanged, because PyTorch then reads nothing at such
    points or returns NaN.
    """
    if fill_mode == "constant" and grid.device.type in ("cpu", "cuda"):
        return grid
    if fill_mode != "reflect":
        return grid.clamp(-far, far).nan_to_num(-far)
    first = [first_position(length, align_corners) for length in reversed(size)]
    return torch.where(grid.abs() < far, grid, grid.new_tensor(first))


def first_position(length, align_corners):
    """The normalised coordinate of the first pixel along an axis."""
    if align_corners:
        return 0.0 if length == 1 else -1.0
    return 1 / length - 1


def is_finite(samples):
    """Whether no sample is infinite or NaN, and therefore no pixel that was read."""
    total = samples.detach().sum(dtype=torch.promote_types(samples.dtype, torch.float32))
    return bool(total.isfinite())  # a sum that overflows only costs time


class Sampler(torch.autograd.Function):
    """PyTorch's sampler, channels last, differentiable twice.

    `plain(images, grid)` computes the same by operations that PyTorch differentiates twice. Images
    that `unchanged`, `(batch,)`, marks are returned bit for bit: their warp is the identity.
    """

    @staticmethod
    def forward(ctx, images, grid, unchanged, plain, options):
        ctx.save_for_backward(images, grid)
        ctx.plain, ctx.options = plain, options
        mode, padding, align_corners = options
        last = images.ndim - 1
        samples = functional.grid_sample(
            images.movedim(last, 1),
            grid,
            MODES[mode],
            list(PADDING.values())[padding],
            align_corners,
        ).movedim(1, last)
        if unchanged is None:
            return samples
        return torch.where(unchanged.reshape(-1, *[1] * last), images, samples)

    @staticmethod
    def backward(ctx, upstream):
        # As views: if the grid depends on the images, their gradient must not go through the grid.
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
