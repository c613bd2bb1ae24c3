"""How each framework calls a warp and its gradients.

Each function takes a warp, `warp(images, coordinates)`, the arrays `(images, coordinates,
upstream)`, and the way of calling, and returns the device and `run(job)`. `run` returns the warped
images and the job's gradients when all of them are computed. `coordinates` are theta or a grid. The
upstream gradient is an argument, because a compiler could fold a constant away.

Ways: `"compiled"` as a whole, `"default"` as Keras calls a layer on CPUs (on TensorFlow inside a
`tf.function` that is not compiled), or `"eager"`.
"""

import functools
import os

JOBS = {  # which of (images, coordinates) a gradient is sent to
    "forward": (),
    "+ gradient of coordinates": (1,),
    "+ gradient of images": (0,),
    "+ gradients of coordinates and images": (1, 0),
}
WAYS = {  # in which a model calls a layer
    "tensorflow": ("compiled", "default"),
    "jax": ("compiled",),
    "torch": ("default",),
}


def on_tensorflow(warp, arrays, way):
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays]
    device = tf.config.list_logical_devices()[-1].device_type

    calls = {job: functools.partial(on_tape, warp, job) for job in JOBS}
    if way != "eager":
        compiled = True if way == "compiled" else None
        calls = {
            job: tf.function(call, autograph=False, jit_compile=compiled)
            for job, call in calls.items()
        }

    def run(job):
        result = calls[job](*tensors)
        if device != "CPU":
            tf.test.experimental.sync_devices()
        return result

    return device, run


def on_tape(warp, job, images, coordinates, upstream):
    """The warped images and a job's gradients, on TensorFlow."""
    import tensorflow as tf

    inputs = [(images, coordinates)[k] for k in JOBS[job]]
    if not inputs:
        return (warp(images, coordinates),)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        warped = warp(images, coordinates)
    return warped, *tape.gradient(warped, inputs, upstream, tf.UnconnectedGradients.ZERO)


def on_jax(warp, arrays, way):
    import jax

    tensors = [jax.numpy.asarray(array) for array in arrays]

    def do(job, images, coordinates, upstream):
        if not JOBS[job]:
            return (warp(images, coordinates),)
        warped, gradients = jax.vjp(warp, images, coordinates)
        found = gradients(upstream)
        return warped, *(found[k] for k in JOBS[job])  # compiled, the others are not computed

    call = do if way == "eager" else jax.jit(do, static_argnums=0)
    return jax.default_backend().upper(), lambda job: jax.block_until_ready(call(job, *tensors))


def on_torch(warp, arrays, way):
    import torch

    torch.set_num_threads(os.cpu_count())  # by default one per physical core
    cuda = torch.cuda.is_available()
    *tensors, upstream = (torch.from_numpy(a).to("cuda" if cuda else "cpu") for a in arrays)

    def run(job):
        wanted = JOBS[job]
        inputs = [tensor.detach().requires_grad_(k in wanted) for k, tensor in enumerate(tensors)]
        chosen = [inputs[k] for k in wanted]
        with torch.set_grad_enabled(bool(wanted)):
            warped = warp(*inputs)
        if warped.requires_grad:
            gradients = torch.autograd.grad(warped, chosen, upstream, materialize_grads=True)
        else:  # of nearest pixels, which do not depend on where exactly they are sampled
            gradients = map(torch.zeros_like, chosen)
        result = warped.detach(), *gradients
        if cuda:
            torch.cuda.synchronize()
        return result

    return torch.cuda.get_device_name() if cuda else "CPU", run


FRAMEWORKS = {"tensorflow": on_tensorflow, "jax": on_jax, "torch": on_torch}
