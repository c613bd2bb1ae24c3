"""How well `stn_keras.register` aligns pairs whose warp is known.

    python -m benchmarks.registration homographies --pairs 500
    python -m benchmarks.registration viewpoint --opencv-doc FOLDER
    python -m benchmarks.registration stereo
    python -m benchmarks.registration kinds --pairs 5
    python -m benchmarks.registration brains --mricron-data FOLDER

`homographies` and `stereo` need scikit-image for its photographs and OpenCV, whose
`findTransformECC` and `StereoSGBM` get the same pictures. `viewpoint` needs `graf1.png`,
`graf3.png` and `H1to3p.xml` of Debian's package opencv-doc, `kinds` and `brains` need nilearn, and
`brains` needs `ch2bet.nii.gz` of Debian's package mricron-data. Each prints its results; times are
of the processor, so that other work on the machine counts less.
"""

import argparse
import functools
import os
import pathlib
import re
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from matplotlib.figure import Figure

import stn_keras
from stn_keras import geometry, losses, plots, transforms
from stn_keras.registration.alignment import start_warp

SIDE = 256  # pixels of a pair
REACH = 0.12  # of the side, that corners move by
MARGIN = 64  # pixels around the fixed picture, which the moving one may show
CORNERS = np.array([[0, 0], [SIDE - 1, 0], [SIDE - 1, SIDE - 1], [0, SIDE - 1]], "float64")
BLURS = (3, 5, 9, 15)  # of `findTransformECC`, of which the best is reported
# Four points of the graffiti wall in graf1 and graf3, read off the pictures by eye.
BY_EYE = (
    [(188, 133), (668, 262), (400, 510), (130, 497)],
    [(307, 107), (534, 325), (340, 505), (168, 452)],
)


def photographs():
    """Grey photographs of scikit-image, of which its wheel has the files."""
    from skimage import color, data

    names = ("astronaut", "camera", "chelsea", "coffee", "rocket", "gravel", "grass", "brick")
    for name in names:
        picture = np.asarray(getattr(data, name)())
        picture = color.rgb2gray(picture) * 255 if picture.ndim == 3 else picture
        yield name, picture.astype("float32")


def pairs(count, seed=0):
    """`(moving, fixed, homography)`, uint8 pictures, the homography from fixed to moving pixels."""
    import cv2

    rng = np.random.default_rng(seed)
    sources = [enlarged(picture) for _, picture in photographs()]
    for number in range(count):
        source = sources[number % len(sources)]
        top, left = (rng.integers(MARGIN, length - SIDE - MARGIN + 1) for length in source.shape)
        moved = CORNERS + rng.uniform(-REACH * SIDE, REACH * SIDE, CORNERS.shape)
        homography = cv2.getPerspectiveTransform(*np.float32([CORNERS, moved]))
        to_window = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], "float64")
        moving = cv2.warpPerspective(
            source, homography @ to_window, (SIDE, SIDE), flags=cv2.INTER_CUBIC
        )
        moving = cv2.GaussianBlur(moving, (0, 0), rng.uniform(0.3, 1.5))
        moving = rng.uniform(0.7, 1.3) * moving + rng.uniform(-30, 30)
        fixed = source[top : top + SIDE, left : left + SIDE]
        noisy = (x + rng.normal(0, 4, x.shape) for x in (moving, fixed))
        yield *(np.clip(np.round(x), 0, 255).astype("uint8") for x in noisy), homography


def enlarged(picture):
    """A picture with room for a window and its margin."""
    import cv2

    factor = max((SIDE + 2 * MARGIN + 32) / min(picture.shape), 1)
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def rectangle(size):
    """The corner pixels of a picture, `(4, 2)`."""
    height, width = size
    return np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], "float64")


def corner_error(found, true, corners=CORNERS):
    """Mean distance in pixels of the corners under two homographies."""
    return np.linalg.norm(through(found, corners) - through(true, corners), axis=1).mean()


def through(homography, points=CORNERS):
    mapped = np.column_stack([points, np.ones(4)]) @ np.asarray(homography, "float64").T
    return mapped[:, :2] / mapped[:, 2:]


def by_opencv(moving, fixed, blur, steps=300):
    """The homography that `findTransformECC` finds from the identity; the identity if it fails."""
    import cv2

    start = np.eye(3, dtype="float32")
    criteria = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-6
    try:
        found = cv2.findTransformECC(
            fixed, moving, start, cv2.MOTION_HOMOGRAPHY, criteria, None, blur
        )[1]
    except cv2.error:
        return np.eye(3)
    return found


def by_register(moving, fixed):
    warp = stn_keras.register(batched(moving), batched(fixed), transform="projective")
    return to_array(warp.matrix)[0]


def batched(picture):
    """A picture as float32 `(1, height, width, channels)`."""
    picture = np.asarray(picture, "float32")
    return picture[None] if picture.ndim > 2 else picture[None, ..., None]


def homographies(args):
    contenders = {"stn_keras.register": by_register}
    contenders |= {
        f"findTransformECC, blur {blur}": functools.partial(by_opencv, blur=blur) for blur in BLURS
    }
    (first,) = pairs(1)
    by_register(*first[:2])  # compiles
    if args.drawing:
        draw(*first[:2], args.drawing)
    rows = {name: [] for name in contenders}
    for moving, fixed, homography in pairs(args.pairs):
        for name, method in contenders.items():
            start = time.process_time(), time.perf_counter()
            found = method(moving, fixed)
            spent = time.process_time() - start[0], time.perf_counter() - start[1]
            rows[name].append((corner_error(found, homography), *spent))
    print("| method | median error (px) | quartiles | below 1 px | ms a pair, processor | clock |")
    print("|---|---|---|---|---|---|")
    for name, values in rows.items():
        errors, processor, clock = np.transpose(values)
        low, middle, high = np.percentile(errors, (25, 50, 75))
        share, spent = np.mean(errors < 1), (1000 * x.mean() for x in (processor, clock))
        times = " | ".join(f"{x:.0f}" for x in spent)
        print(f"| {name} | {middle:.3f} | {low:.3f} – {high:.3f} | {share:.1%} | {times} |")


def draw(moving, fixed, path):
    moving, fixed = batched(moving), batched(fixed)
    aligned = stn_keras.register(moving, fixed, transform="projective")(moving)
    plots.save(plots.alignment(fixed[0], moving[0], to_array(aligned)[0]), path)


def viewpoint(args):
    """A painted wall from two places, whose homography is known."""
    import cv2

    folder = args.opencv_doc
    fixed, moving = (
        batched(cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE))
        for name in ("graf1.png", "graf3.png")
    )
    numbers = re.search("<data>(.*?)</data>", (folder / "H1to3p.xml").read_text(), re.DOTALL)
    true = np.array(numbers[1].split(), "float64").reshape(3, 3)
    size = fixed.shape[1:3]
    corners = rectangle(size)
    starts = {
        "the default": transforms.Affine().warp(np.eye(2, 3, dtype="float32")[None], size),
        "15 poses, the best": poses(size),
        "4 points by eye": from_points(*BY_EYE, size),
    }
    print("| start | its error (px) | transforms | mean corner error (px) | loss | converged |")
    print("|---|---|---|---|---|---|")
    for name, initial in starts.items():
        for stages in (["projective"], ["affine", "projective"]):
            several = fixed.repeat(len(initial.tensor), axis=0)
            warp = stn_keras.register(moving, several, transform=stages, initial=initial)
            best = np.argmin(warp.report.loss_after)
            first, last = (
                corner_error(to_array(x.matrix)[best], true, corners) for x in (initial, warp)
            )
            loss, converged = warp.report.loss_after[best], warp.report.converged[best]
            names = ", ".join(stages)
            print(f"| {name} | {first:.1f} | {names} | {last:.2f} | {loss:.3f} | {converged} |")


def from_points(fixed, moving, size):
    """The homography that takes four points of the fixed picture to the moving one."""
    import cv2

    matrix = cv2.getPerspectiveTransform(*np.float32([fixed, moving]))
    matrix = geometry.from_pixel_matrix(matrix[None], size, inverse=True)
    return transforms.Projective().warp(transforms.Projective().from_matrix(matrix), size)


def poses(size):
    """Warps that turn, and that squeeze along x, to start from."""
    turns, squeezes = np.meshgrid(np.radians([-40, -20, 0, 20, 40]), [0.6, 0.8, 1.0])
    zero = np.zeros(turns.size)
    turned = transforms.Rigid().warp(np.column_stack([turns.ravel(), zero, zero]), size)
    linear = np.column_stack([squeezes.ravel(), zero, zero, zero, zero + 1, zero])
    return turned @ transforms.Affine().warp(linear, size)


def kinds(args):
    """MNI152 in T1 against its inverted, gamma-changed copy under known rigid warps, at 4 mm."""
    brain = halved(mni152())
    size, rng = brain.shape[1:-1], np.random.default_rng(0)
    transform = transforms.Rigid(axes=3)
    errors, converged = [], []
    for _ in range(args.pairs):
        turn, shift = rng.uniform(-0.15, 0.15, 3), rng.uniform(-0.1, 0.1, 3)
        true = transform.warp(np.concatenate([turn, shift])[None].astype("float32"), size)
        fixed = true(np.where(brain > 0.05, 1 - brain**0.6, 0).astype("float32"))
        warp = stn_keras.register(brain, fixed, transform=transform, loss="nmi")
        points = np.argwhere(brain[0, ..., 0] > 0.1)[::97, ::-1][None].astype("float32")
        apart = to_array(warp.to_input(points)) - to_array(true.to_input(points))
        errors.append(np.linalg.norm(apart, axis=-1).mean())
        converged.extend(warp.report.converged)
    print(
        f"mean error in voxels: median {np.median(errors):.3f}, largest {max(errors):.3f}; "
        f"{sum(converged)} of {len(errors)} pairs converged"
    )


def stereo(args):
    """The Motorcycle pair of the Middlebury benchmark, at a quarter of its size."""
    import cv2
    from skimage import data

    left, right, disparity = data.stereo_motorcycle()
    left, right = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (left, right))
    matcher = cv2.StereoSGBM_create(0, 64, 5, P1=200, P2=800, uniquenessRatio=5)
    start = time.process_time()
    by_matcher = matcher.compute(left, right) / 16
    times = {"StereoSGBM": time.process_time() - start}
    start = time.process_time()
    warp = stn_keras.register(
        batched(right), batched(left), transform=["translation", "displacement"], loss="lncc"
    )
    times["stn_keras.register"] = time.process_time() - start
    by_warp = -to_array(warp.displacement())[0, ..., 0]
    known = np.isfinite(disparity) & (disparity > 0)
    print("| method | mean error (px) | above 3 px | without an answer | processor time (s) |")
    print("|---|---|---|---|---|")
    for name, found in {"StereoSGBM": by_matcher, "stn_keras.register": by_warp}.items():
        answered = known & (found >= 0) if name == "StereoSGBM" else known
        apart = np.abs(found - disparity)[answered]
        missing = 1 - answered.sum() / known.sum()
        print(
            f"| {name} | {apart.mean():.2f} | {np.mean(apart > 3):.1%} | {missing:.1%} "
            f"| {times[name]:.1f} |"
        )


def brains(args):
    """Colin27 onto MNI152, at 2 mm: affine, then a displacement."""
    import nibabel

    file = nibabel.as_closest_canonical(nibabel.load(args.mricron_data / "ch2bet.nii.gz"))
    moving = halved(batched(np.asarray(file.dataobj).transpose(2, 1, 0)[..., None]))
    fixed = mni152()
    moving *= fixed[fixed > 0].mean() / moving[moving > 0].mean()  # for the figure
    start = time.process_time(), time.perf_counter()
    affine = stn_keras.register(moving, fixed)
    field = stn_keras.register(moving, fixed, initial=affine, transform="displacement", loss="lncc")
    spent = time.process_time() - start[0], time.perf_counter() - start[1]
    before = start_warp("affine", moving.shape[1:-1], fixed.shape[1:-1])
    found = {"before": before, "affine": affine, "affine, then displacement": field}
    lncc, mask = losses.LocalCrossCorrelation(), (moving > 0).astype("float32")
    print("| warp | Dice of the brain masks | local correlation |")
    print("|---|---|---|")
    for name, warp in found.items():
        overlap = dice(to_array(warp(mask)) > 0.5, fixed > 0)
        print(f"| {name} | {overlap:.4f} | {-float(lncc(fixed, warp(moving))):.4f} |")
    folds = (to_array(geometry.jacobian_determinant(field.displacement())) <= 0).mean()
    print(f"folded share {folds:.2%}; {spent[0]:.0f} s of the processor, {spent[1]:.0f} s in all")
    print(affine.report, field.report, sep="\n")
    if args.drawing:
        volumes = {name: to_array(warp(moving)) for name, warp in found.items()}
        plots.save(planes({"fixed": fixed, **volumes}), args.drawing)


def dice(first, second):
    """Overlap of two masks, 0 to 1."""
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def planes(volumes):
    """A figure of the three middle planes of named volumes."""
    figure = Figure(figsize=(10, 6), dpi=100, layout="constrained")
    panels = figure.subplots(3, len(volumes), squeeze=False)
    for axis in range(3):
        for panel, (name, volume) in zip(panels[axis], volumes.items(), strict=True):
            plane = np.take(volume[0, ..., 0], volume.shape[axis + 1] // 2, axis)
            panel.imshow(plane[:: -1 if axis else 1], cmap="gray", vmin=0, vmax=1)  # head up
            panel.set_title("" if axis else name, fontsize=10)
            panel.set_axis_off()
    return figure


def mni152():
    """The T1 template of nilearn's wheel, `(1, 96, 112, 80, 1)` in 0 … 1, at 2 mm."""
    from examples.register_pairs import mni152

    return mni152()[None, ..., :1].astype("float32")


def halved(volumes):
    """Volumes `(1, depth, height, width, 1)`, averaged over 2 × 2 × 2 voxels."""
    even = volumes[:, : volumes.shape[1] // 2 * 2, : volumes.shape[2] // 2 * 2]
    even = even[:, :, :, : volumes.shape[3] // 2 * 2]
    return to_array(keras.ops.average_pool(even, 2)).astype("float32")


def to_array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = {task.__name__: task for task in (homographies, viewpoint, stereo, kinds, brains)}
    parser.add_argument("task", choices=tasks)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--drawing", type=pathlib.Path, help="file of the figure")
    parser.add_argument("--opencv-doc", type=pathlib.Path, help="folder of graf1.png")
    parser.add_argument("--mricron-data", type=pathlib.Path, help="folder of ch2bet.nii.gz")
    args = parser.parse_args(arguments)
    tasks[args.task](args)


if __name__ == "__main__":
    main()
