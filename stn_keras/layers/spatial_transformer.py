"""The spatial transformer as a Keras layer."""

from collections.abc import Sequence

import keras
from keras import ops

from stn_keras import backend, transforms
from stn_keras.checks.arguments import (
    Size,
    as_coordinates,
    as_count,
    as_number,
    as_size,
    as_type,
    check_rank,
    is_symbolic,
)
from stn_keras.checks.images import (
    as_options,
    check_batch,
    check_images,
    check_interpolation,
    dtype_of_output,
    fill_tensor,
    from_channels_last,
    resized,
    same_batch,
    size_of,
    to_channels_last,
)
from stn_keras.geometry import compose
from stn_keras.layers import networks, ownership, recording
from stn_keras.layers.base import OneArgument
from stn_keras.layers.following import symbolic_warp
from stn_keras.layers.networks import check_theta, images_of, scale_gradient
from stn_keras.sampler import sample
from stn_keras.sampler.blocks import mean_of_blocks
from stn_keras.sampler.glimpses import Glimpses

__all__ = ["SpatialTransformer"]

OPTIONS = ("interpolation", "fill_mode", "fill_value", "align_corners", "data_format")
SETTINGS = ("output_size", *OPTIONS, "antialias", "iterations", "gradient_scale")


@keras.saving.register_keras_serializable("stn_keras")
class SpatialTransformer(OneArgument):
    """Warps each image by a transform whose parameters a network predicts from the image.

    [Spatial Transformer Networks, Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025).

    Example:

    >>> localize = stn_keras.localization.head()  # a zero kernel and the identity as bias
    >>> layer = SpatialTransformer(keras.Sequential([keras.layers.Flatten(), localize]))
    >>> images = np.random.rand(2, 28, 28, 1).astype("float32")
    >>> np.array_equal(layer(images), images)  # a fresh layer returns its input
    True

    Args:
        localization: Keras layer or model from images to `theta`, `(batch, num_parameters)`, or
            `(batch, glimpses, num_parameters)` for several warps of each image. If it is None, the
            layer is called on `[images, theta]`. A network with several inputs, such as a moving
            and a fixed image, receives all inputs of the layer, and the layer warps the first one.
            A network belongs to one layer. To give its `theta` to several layers, call the network
            yourself. Use `stn_keras.localization.head` as the last layer. With another last layer
            and pixels in 0 … 255, the first steps of Adam can move all samples out of the image.
        transform: What `theta` means: a name or an instance of `stn_keras.transforms`. An instance
            with `axes=3`, such as `transforms.Affine(axes=3)`, warps volumes.
        output_size: `(height, width)` of the warped images, or `(depth, height, width)` of volumes;
            `None` keeps the size of the input.
        interpolation: `"nearest"`, `"bilinear"` or, for images only, `"bicubic"`; see
            `stn_keras.grid_sample`.
        fill_mode: `"constant"`, `"nearest"`, `"reflect"` or `"wrap"`; see `stn_keras.grid_sample`.
        fill_value: One number, or one per channel, for `fill_mode="constant"`.
        align_corners: See `stn_keras.geometry`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        antialias: Number of samples along each axis that are averaged for each output pixel. More
            than 1 avoids aliasing if a warp shrinks the image. It is equivalent to average pooling
            after sampling a finer grid, as in the paper. It needs `align_corners=False`.
        iterations: Number of times the localization network is applied: first to the images, then
            to the images as warped so far. The matrices are composed, so the output is sampled from
            the images only once, as in [Lin & Lucey, 2017](https://arxiv.org/abs/1612.03897). More
            than 1 needs a matrix transform.
        gradient_scale: Factor on the gradient of `theta`. Under plain gradient descent, a factor
            below 1 makes the localization network learn more slowly than the rest of the model,
            which keeps training stable. It has no effect under Adam, whose steps do not depend on
            the scale of gradients. With 0, no gradient is computed, and the network learns only
            from losses of its own.

    Call arguments:
        inputs: Images `(batch, height, width, channels)`, or volumes `(batch, depth, height,
            width, channels)`, with the channels where `data_format` says. Without a network,
            `[images, theta]`. For a network with several inputs, the list of them, images first.

    Returns:
        The warped images. If `theta` has glimpses, they are axis 1. The dtype is the layer's
        compute dtype; with `"nearest"`, integers keep their dtype. Coordinates are float32 or wider
        under every dtype policy. So is `theta`, unless the localization network computes it in half
        precision.

    Raises:
        ValueError: if an argument or an input has a wrong rank, shape or name.
    """

    def __init__(
        self,
        localization: keras.Layer | None = None,
        *,
        transform: str | dict | transforms.Transform = "affine",
        output_size: Size | None = None,
        interpolation: str = "bilinear",
        fill_mode: str = "constant",
        fill_value: float | Sequence[float] = 0.0,
        align_corners: bool = False,
        data_format: str | None = None,
        antialias: int = 1,
        iterations: int = 1,
        gradient_scale: float = 1.0,
        **kwargs,
    ):
        # With autocast, Keras would cast `theta` to the compute dtype; bfloat16 is too coarse.
        super().__init__(autocast=False, **kwargs)
        options = as_options(interpolation, fill_mode, fill_value, align_corners, data_format)
        if localization is not None and not isinstance(localization, keras.Layer):
            raise ValueError(
                "`localization` must be a Keras layer or model, or None. "
                f"Received: localization={localization!r}"
            )
        if localization is not None:
            networks.check_format(localization, options["data_format"])
        self.localization = localization
        self.transform = transforms.get(transform)
        axes = self.transform.axes
        if output_size is not None:
            output_size = as_size(output_size, "output_size", axes=(axes,))
        self.output_size = output_size
        self.interpolation = options["interpolation"]
        check_interpolation(self.interpolation, axes, f"transform={self.transform}")
        self.fill_mode = options["fill_mode"]
        self.fill_value = options["fill_value"]
        self.align_corners = options["align_corners"]
        self.data_format = options["data_format"]
        self.antialias = as_count(antialias, "antialias")
        if self.antialias > 1 and self.align_corners:
            raise ValueError(
                "`antialias` greater than 1 needs align_corners=False. "
                f"Received: antialias={antialias}, align_corners=True"
            )
        self.iterations = as_count(iterations, "iterations")
        if self.iterations > 1 and (
            localization is None or not isinstance(self.transform, transforms.MatrixTransform)
        ):
            raise ValueError(
                "`iterations` greater than 1 needs a localization network and a matrix transform. "
                f"Received: iterations={iterations}, localization={localization}, "
                f"transform={self.transform}"
            )
        # The transform whose parameters `theta(images)` gives.
        several = self.iterations > 1
        self.warped_by = transforms.closure_of(self.transform) if several else self.transform
        self.gradient_scale = as_number(gradient_scale, "gradient_scale")
        ownership.claim(localization, self)

    from_file = False  # a loaded network is trained, so it need not start at the identity

    @property
    def _wanted(self):
        return networks.wanted_by(self.localization)

    def build(self, input_shape):
        images_shape = networks.images_shape(input_shape, self.localization)
        check_images(images_shape, self.fill_value, self.data_format, (self.transform.axes + 2,))
        theta_shape = networks.theta_shape(input_shape, self.localization)
        check_theta(theta_shape, self.transform)
        if self.iterations > 1 and self.transform.glimpses(theta_shape):
            raise ValueError(
                "`iterations` needs a localization network that gives one warp per image. "
                f"Received: iterations={self.iterations}, theta.shape={theta_shape}"
            )
        if self.localization is not None and not self.from_file:
            networks.check_start(self.localization, self.transform)

    def call(self, inputs):
        images, theta = self._images_and_theta(inputs)
        warped = self._warp(images, theta, self.output_size, self.antialias)
        return recording.recorded(self, images, theta, warped)

    def warp(self, inputs):
        """The `stn_keras.Warp` that a call of the layer applies to its images.

        It also warps labels, maps points and boxes, and can be inverted. If `theta` has glimpses,
        it is a `stn_keras.sampler.glimpses.Glimpses`.

        Args:
            inputs: The inputs of a call of the layer.
        """
        if self.localization is None:
            self._check_pair(inputs)
        if is_symbolic(*keras.tree.flatten(inputs)):
            return symbolic_warp(self, inputs)
        images, theta = self._images_and_theta(inputs)
        size = size_of(backend.shape(images), self.data_format)
        return self.warped_by.warp(theta, size, self.output_size, self.align_corners)

    def warp_spec(self, inputs):
        """What is known of a `warp` of symbolic images and `theta`."""
        images, theta = inputs
        check_theta(theta.shape, self.transform)
        batch, *_ = self.compute_output_shape([images.shape, theta.shape])
        size = size_of(images.shape, self.data_format)
        sizes = size, self.output_size or size
        leading, *known = self.transform.warp_spec(theta, *sizes, self.align_corners)
        return (batch, *leading[1:]), *known

    def _images_and_theta(self, inputs):
        if self.localization is None:
            images, theta = inputs
        else:
            images, theta = images_of(inputs), self.theta(inputs)
        images, theta = ops.convert_to_tensor(images), as_coordinates(theta)
        check_rank(images, "images")
        ranks = (self.transform.axes + 2,)
        check_images(tuple(images.shape), self.fill_value, self.data_format, ranks)
        if self.gradient_scale != 1:
            theta = scale_gradient(theta, self.gradient_scale)
        if self.localization is None:
            images, theta = same_batch(images, theta, "theta")
        return images, theta

    def theta(self, inputs):
        """The parameters of each image's warp, `(batch, num_parameters)` or `(batch, glimpses,
        num_parameters)`.

        The localization network predicts them from the inputs of a call. With several `iterations`
        they are the parameters of the composed matrices, which belong to `warped_by`.

        Raises:
            ValueError: if the layer has no localization network.
        """
        if self.localization is None:
            raise ValueError(
                "A `SpatialTransformer` without `localization` is given its theta: "
                "it is called on `[images, theta]`."
            )
        images, *others = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        for position, other in enumerate(others, 1):
            check_batch(images, f"inputs[{position}]", other)
        theta = self.localization(inputs)
        if self.iterations == 1:
            return theta
        settings = size_of(ops.shape(images), self.data_format), self.align_corners
        matrix = self.transform.matrix_in(theta, *settings)
        for _ in range(self.iterations - 1):
            seen = self._warp(images, self.warped_by.from_matrix(matrix), output_size=None)
            others = [ops.convert_to_tensor(other) for other in others]
            theta = self.localization([seen, *others] if others else seen)
            step = self.transform.matrix_in(theta, *settings)
            matrix = compose(matrix, step)
        return self.warped_by.from_matrix(matrix)

    def grid(self, theta, size):
        """The normalised sampling grid of `theta`, for an output of a size.

        It is `(batch, height, width, 2)`, or `(batch, depth, height, width, 3)` for volumes.
        """
        return self.warped_by.grid(theta, size, align_corners=self.align_corners)

    def _warp(self, images, theta, output_size, antialias=1):
        images = ops.cast(images, self._dtype_of(images))
        images = to_channels_last(images, self.data_format)
        input_size = backend.shape(images, 1, -1)
        fine_size = [length * antialias for length in output_size or input_size]
        warp = self.warped_by.warp(theta, input_size, fine_size, self.align_corners)
        glimpses = warp if isinstance(warp, Glimpses) else None
        samples = sample(
            images,
            glimpses.in_rows() if glimpses else warp,
            fill_tensor(self.fill_value, self.fill_mode, images, theta),
            interpolation=self.interpolation,
            fill_mode=self.fill_mode,
        )
        dtype = keras.backend.standardize_dtype(images.dtype)
        if antialias > 1:
            samples = mean_of_blocks(samples, antialias)
        warped = from_channels_last(as_type(samples, dtype), self.data_format)
        if glimpses:
            return glimpses.from_rows(warped, fine_size[0] // antialias, self.data_format)
        return warped

    def _dtype_of(self, images):
        copied = self.interpolation == "nearest" and self.antialias == 1  # averages are floats
        return dtype_of_output(images, copied, self.compute_dtype)

    def compute_output_spec(self, inputs):
        shapes = keras.tree.map_structure(lambda x: x.shape, inputs)
        images = images_of(inputs)
        return keras.KerasTensor(self.compute_output_shape(shapes), self._dtype_of(images))

    def compute_output_shape(self, input_shape):
        shape = networks.images_shape(input_shape, self.localization)
        if self.localization is None and shape[0] == 1:
            shape = (input_shape[1][0], *shape[1:])
        size = size_of(shape, self.data_format) if self.output_size is None else self.output_size
        batch, *rest = resized(shape, size, self.data_format)
        theta_shape = networks.theta_shape(input_shape, self.localization)
        return (batch, *self.transform.glimpses(theta_shape), *rest)

    def get_config(self):
        return {
            **super().get_config(),
            "localization": ownership.serialize(self.localization),
            "transform": keras.saving.serialize_keras_object(self.transform),
            **{name: getattr(self, name) for name in SETTINGS},
        }

    @classmethod
    def from_config(cls, config):
        layer = cls(**{**config, "localization": ownership.deserialize(config["localization"])})
        layer.from_file = True
        return layer
