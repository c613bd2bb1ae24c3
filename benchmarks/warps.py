"""The same warp by everyone who can, and its gradients in every framework, for `sampler.py`.

Bilinear, zeros outside, `align_corners=False`; `theta`, `(batch, 2, 3)`, maps normalized output
coordinates to normalized input coordinates. Images are `(batch, height, width, channels)`, but
`(batch, channels, height, width)` for those in `NCHW`.
"""

import functools
import math
import os

import numpy as np

JOBS = {  # which of (images, theta) a gradient is sent to
    "forward": (),
    "+ gradient of theta": (1,),
    "+ gradients of theta and images": (1, 0),
}


@functools.cache
def transformer():
    import stn_keras

    return stn_keras.SpatialTransformer()


def ours(images, theta):
    return transformer()([images, theta])


def pytorch(images, theta):
    from torch.nn.functional import affine_grid, grid_sample

    grid = affine_grid(theta, images.shape, align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def kornia(images, theta):
    import torch
    from kornia.geometry.transform import invert_affine_transform, warp_affine

    size = images.shape[2:]
    matrix = torch.stack([torch.stack(row, -1) for row in between_pixels(theta, size)], 1)
    return warp_affine(images, invert_affine_transform(matrix), size, align_corners=False)


def affine_transform(images, theta):
    from keras import ops

    x_row, y_row = between_pixels(theta, images.shape[1:3])
    projective = [ops.zeros_like(theta[:, 0, 0])] * 2
    return ops.image.affine_transform(images, ops.stack([*x_row, *y_row, *projective], -1))


def map_coordinates(images, theta):
    """It samples one channel of one image: vectorized over both."""
    from keras import ops

    def warp(image_and_coordinates):
        image, coordinates = image_and_coordinates
        sample = functools.partial(ops.image.map_coordinates, coordinates=coordinates, order=1)
        return ops.transpose(ops.vectorized_map(sample, ops.transpose(image, (2, 0, 1))), (1, 2, 0))

    y, x = (ops.arange(length, dtype="float32") for length in images.shape[1:3])
    x_row, y_row = between_pixels(theta[..., None, None], images.shape[1:3])
    coordinates = ops.stack([a * x + b * y[:, None] + c for a, b, c in (y_row, x_row)], 1)
    return ops.vectorized_map(warp, (images, coordinates))


def between_pixels(theta, size):
    """Rows `(a, b, c)` of theta's matrix between pixels, whose centres are at 0, 1, 2, …"""
    (height, width), rows = size, []
    for row, length in enumerate((width, height)):
        a, b, c = (theta[:, row, k] * (length / 2) for k in range(3))
        origin = a * (1 / width - 1) + b * (1 / height - 1) + c + (length - 1) / 2
        rows.append((a * (2 / width), b * (2 / height), origin))
    return rows


CONTENDERS = {
    "ours": ours,
    "PyTorch": pytorch,
    "kornia": kornia,
    "keras affine_transform": affine_transform,
    "keras map_coordinates": map_coordinates,
}
NCHW = {"PyTorch": ["torch"], "kornia": ["kornia", "torch"]}  # and the packages they need


def can(contender, job, sizes):
    """`affine_transform` is documented to have no gradient of its transform. `map_coordinates` has
    one that takes more than ten gigabytes, and as many seconds, of the largest images."""
    if contender == "keras affine_transform":
        return job == "forward"
    return contender != "keras map_coordinates" or job == "forward" or math.prod(sizes) < 2**24


# Of each framework the device, and `run(job)`: the warped images and the job's gradients, once they
# are all there.


def on_tensorflow(warp, arrays):
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays]
    device = tf.config.list_logical_devices()[-1].device_type

    def do(job, images, theta, upstream):
        inputs = [(images, theta)[k] for k in JOBS[job]]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            warped = warp(images, theta)
        return warped, *tape.gradient(warped, inputs, upstream)

    jit = warp is not affine_transform  # which XLA has not
    compiled = {
        job: tf.function(functools.partial(do, job), autograph=False, jit_compile=jit)
        for job in JOBS
    }

    def run(job):
        result = compiled[job](*tensors)
        if device != "CPU":
            tf.test.experimental.sync_devices()
        return result

    return device, run


def on_jax(warp, arrays):
    import jax

    tensors = [jax.numpy.asarray(array) for array in arrays]

    @functools.partial(jax.jit, static_argnums=0)
    def do(job, images, theta, upstream):
        warped, gradients = jax.vjp(warp, images, theta)
        return warped, *(gradients(upstream)[k] for k in JOBS[job])  # the others are not computed

    return jax.default_backend().upper(), lambda job: jax.block_until_ready(do(job, *tensors))


def on_torch(warp, arrays):
    import torch

    torch.set_num_threads(os.cpu_count())  # by default one per physical core
    cuda = torch.cuda.is_available()
    *tensors, upstream = (torch.from_numpy(a).to("cuda" if cuda else "cpu") for a in arrays)

    def run(job):
        wanted = JOBS[job]
        inputs = [tensor.detach().requires_grad_(k in wanted) for k, tensor in enumerate(tensors)]
        with torch.set_grad_enabled(bool(wanted)):
            warped = warp(*inputs)
        chosen = [inputs[k] for k in wanted]
        gradients = torch.autograd.grad(warped, chosen, upstream) if wanted else ()
        if cuda:
            torch.cuda.synchronize()
        return warped.detach(), *gradients

    return torch.cuda.get_device_name() if cuda else "CPU", run


FRAMEWORKS = {"tensorflow": on_tensorflow, "jax": on_jax, "torch": on_torch}


def prepare(contender, backend, sizes):
    """A contender's device and `run`, on images, a theta near the identity, a random upstream."""
    rng = np.random.default_rng(0)
    batch, height, width, channels = sizes
    y, x = (np.linspace(-1, 1, length, dtype="float32") for length in (height, width))
    x, y = x[:, None], y[:, None, None]
    along_x, along_y, phase = rng.uniform(-3, 3, (3, batch, 1, 1, channels)).astype("float32")
    # Smooth, and dark at the edges: where pixels differ much from their neighbours, the gradient
    # of theta jumps with the last digits of the coordinates.
    images = np.sin(along_x * x + along_y * y + phase) * (1 - x**2) * (1 - y**2)
    theta = (np.eye(2, 3) + 0.1 * rng.standard_normal((batch, 2, 3))).astype("float32")
    upstream = rng.standard_normal(sizes, dtype="float32")
    if contender in NCHW:
        images, upstream = (np.moveaxis(array, -1, 1).copy("C") for array in (images, upstream))
    framework = FRAMEWORKS["torch" if contender in NCHW else backend]
    return framework(CONTENDERS[contender], (images, theta, upstream))
