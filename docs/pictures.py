"""Draws the pictures of the documentation with the library itself: `python -m docs.pictures`."""

import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle

from stn_keras import SpatialTransformer, affine_grid, plots, transforms
from stn_keras.geometry import from_boxes

FOLDER = pathlib.Path(__file__).parent / "pictures"
INK, ORANGE, BLUE = "#202020", "#d55e00", "#0072b2"


def letter(height=48, width=64):
    """An F, which no rotation or reflection leaves as it is, on a coloured ground."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    image = np.stack([0.95 - 0.45 * x, 0.75 - 0.2 * y, 0.55 + 0.4 * x * y], axis=-1)
    image[8:40, 20:27] = image[8:14, 20:46] = image[21:27, 20:40] = 0.1
    return image.astype("float32")


def warp(theta, **options):
    """The letter's warp and its sampling grid."""
    layer, image = SpatialTransformer(**options), letter()
    theta = np.array([theta], "float32")
    size = layer.output_size or image.shape[:2]
    return np.array(layer([image[None], theta]))[0], np.array(layer.grid(theta, size))[0]


def row(shown):
    """The figure of a dict from titles to what `warp` returns."""
    warped, grids = zip(*shown.values(), strict=True)
    images = np.stack([letter()] * len(shown))
    return plots.warps(images, np.clip(warped, 0, 1), grids, list(shown))


def pull():
    return row(
        {
            "identity": warp([1, 0, 0, 0, 1, 0]),
            "scale ½": warp([0.5, 0, 0, 0, 0.5, 0]),
            "x + 0.5": warp([1, 0, 0.5, 0, 1, 0]),
            "rotation 0.4": warp([0.4, 0, 0], transform="rigid"),
        }
    )


def families():
    wave = np.zeros((4, 4, 2))
    wave[..., 1] = 0.4 * np.sin(np.pi * np.linspace(-1, 1, 4))
    thetas = {
        "translation": [0.4, -0.2],
        "attention": [0.6, 0.2, -0.1],
        "box": [0.3, 0.7, -0.2, 0],
        "rigid": [0.5, 0.1, 0],
        "similarity": [0.5, 0.7, 0, 0],
        "affine": [0.8, 0.4, 0, 0.1, 0.6, 0],
        "projective": [0.8, 0, 0, 0, 0.8, 0, 0.3, 0.2],
        "thin_plate_spline": wave.ravel(),
    }
    assert thetas.keys() == transforms.TRANSFORMS.keys()
    return row({name: warp(theta, transform=name) for name, theta in thetas.items()})


def glimpses():
    boxes = [[18, 6, 50, 17], [18, 17, 42, 31], [18, 31, 32, 42]]
    height, width, _ = letter().shape
    shown = {
        f"{right - left}×{bottom - top} pixels": warp(
            np.array(from_boxes([left, top, right, bottom], (height, width))),
            transform="box",
            output_size=(24, 24),
            antialias=2,
        )
        for left, top, right, bottom in boxes
    }
    return row(shown)


def align_corners():
    figure = Figure(figsize=(8, 2.6), dpi=110, layout="constrained")
    for axis, aligned in zip(figure.subplots(1, 2), (False, True), strict=True):
        identity = [[1.0, 0, 0, 0, 1, 0]]
        x = np.array(affine_grid(identity, (1, 4), align_corners=aligned))[0, 0, :, 0]
        half = (x[1] - x[0]) / 2
        for i, centre in enumerate(x):
            shade = str(0.75 + 0.06 * i)
            axis.bar(centre, 1, 2 * half, color=shade, edgecolor=INK)
            axis.text(centre, 0.72, f"pixel {i}", ha="center", fontsize=9)
            axis.text(centre, 0.2, f"{centre:.3g}", ha="center", fontsize=9)
        axis.plot(x, np.full(4, 0.5), "o", color=INK, markersize=5)
        for low, high in ((-0.15, 0), (1, 1.15)):
            axis.vlines([-1, 1], low, high, color="#d55e00", linewidth=3)
        axis.set(xlim=(-1.5, 1.5), ylim=(-0.15, 1.15), yticks=[], xticks=[-1, 0, 1])
        axis.set_title(f"align_corners={aligned}", fontsize=10)
        axis.spines[["left", "right", "top", "bottom"]].set_visible(False)
    return figure


def sampling():
    figure = Figure(figsize=(10.7, 1.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, 7)
    zoomed_out = [1.7, 0, 0, 0, 1.7, 0]
    fills = {
        "constant": {"fill_value": (0.9, 0.9, 0.92)},
        "nearest": {},
        "reflect": {},
        "wrap": {},
    }
    corner = [0.12, 0, 0.4375, 0, 0.12, -0.4167]  # of the upper arm's end
    for axis, (mode, options) in zip(axes, fills.items(), strict=False):
        axis.imshow(np.clip(warp(zoomed_out, fill_mode=mode, **options)[0], 0, 1))
        axis.set_title(f"fill_mode\n{mode}", fontsize=9)
    for axis, name in zip(axes[4:], ("nearest", "bilinear", "bicubic"), strict=True):
        shown = warp(corner, interpolation=name, output_size=(192, 256))[0]
        axis.imshow(np.clip(shown, 0, 1))
        axis.set_title(f"interpolation\n{name}", fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure


def following():
    """A point and a box in an image and in its warp, and which method leads where."""
    image, spline = letter()[None], transforms.ThinPlateSpline((3, 3))
    theta = np.array(
        [0.1, -0.2, 0, 0.2, 0, -0.3, 0.3, 0, -0.2, 0.2, 0, 0.3, 0, 0, 0.2, -0.2, -0.2, 0]
    )
    warp = spline.warp(0.7 * theta[None].astype("float32"), image.shape[1:3])
    point, box = np.array([[[45.0, 11.0]]], "float32"), np.array([[[19, 7, 47, 41]]], "float32")
    figure = Figure(figsize=(8.6, 3), dpi=110)
    left, right = axes = figure.subplots(1, 2, width_ratios=(1, 1), gridspec_kw={"wspace": 0.6})
    there = np.array(warp.to_output(point)), np.array(warp.boxes(box))
    shown = (image, point, box), (np.clip(warp(image), 0, 1), *there)
    for axis, name, (picture, place, edges) in zip(axes, ("input", "output"), shown, strict=True):
        low, high = edges[0, 0, :2], edges[0, 0, 2:]
        axis.imshow(picture[0])
        axis.add_patch(Rectangle(low - 0.5, *(high - low), fill=False, color=BLUE, linewidth=2))
        axis.plot(*place[0, 0], "o", color=ORANGE, markersize=9, markeredgecolor="white")
        axis.set(xticks=[], yticks=[], title=name)
    width = image.shape[2]
    for y, text, back, colour in (
        (2, "warp(images)", False, INK),
        (16, "warp.to_output(points)", False, ORANGE),
        (30, "warp.boxes(boxes)", False, BLUE),
        (44, "warp.to_input(points)", True, ORANGE),
    ):
        ends = [((width, y), left.transData), ((-2, y), right.transData)]
        (start, start_in), (end, end_in) = reversed(ends) if back else ends
        arrow = ConnectionPatch(start, end, start_in, end_in, arrowstyle="-|>", color=colour)
        arrow.set(linewidth=2, mutation_scale=16)
        figure.add_artist(arrow)
        left.text(width * 1.3, y - 1.5, text, ha="center", va="bottom", fontsize=9, color=colour)
    return figure


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, draw in {
        "pull": pull,
        "transforms": families,
        "glimpses": glimpses,
        "align_corners": align_corners,
        "sampling": sampling,
        "following": following,
    }.items():
        plots.save(draw(), FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
