"""The result for a picture as HTML: the figure of the warps, their readings, the classes."""

import base64
import html
import io

import numpy as np

from stn_keras import observe
from stn_keras.sampler.boxes import HALF, around
from stn_keras.viz.following import mark

__all__ = ["STYLE", "draw"]

MOST_CLASSES, FEW_CLASSES = 10, 5  # few on a phone

STYLE = """
.result { --faint: color-mix(in srgb, var(--body-text-color) 70%, transparent); }
.result, .result figure { margin: 0; }
.result { display: flex; gap: 1rem; }
.result > * { flex: 1 1 0; min-width: 0; }
.result figcaption, .result h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .35rem; }
.result h3 span, .result dt { font-size: .875rem; font-weight: 400; color: var(--faint); }
.result h3 span { display: block; }
.result img { max-width: 100%; max-height: 60vh; border-radius: 6px; }
.result dl { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin: .7rem 0 1rem; }
.result dd { margin: 0; min-width: 4rem; font-variant-numeric: tabular-nums; }
.result table { width: 100%; border-collapse: collapse; border: 0 !important; margin: 0 0 1rem; }
.result :is(tr, td, th) { border: 0 !important; }
.result :is(td, th) { padding: .1rem .2rem; font-weight: 400; text-align: left; }
.result th { white-space: nowrap; width: 1%; }
.result .share { text-align: right; width: 4.2rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.result .bar { height: .8rem; border-radius: 3px; min-width: 1px; background: #8fa3b8; }
.result .first :is(th, td) { font-weight: 700; }
.result .first .bar { background: #0072b2; }
.result .wrong .first .bar { background: #d55e00; }
@media (max-width: 700px) {
  .result { font-size: .875rem; }
  .result img { max-height: 330px; }
  .result :is(.rest, dl) { display: none; }
}
"""


def draw(result, classes, label=None):
    """HTML, to be styled by `STYLE`, of a `demo_model.Result`.

    `classes` are the names of the classes, and `label` the index of the true one, if it is known.
    """
    caption = "Input" if label is None else f"Input: {classes[label]}"
    figures = observe.figures(result.seen, result.image)
    _follow(figures, result)
    warps = "".join(
        _warps(name if len(figures) > 1 else caption, observation, figures[name])
        for name, observation in result.seen.items()
    )
    bars = _bars("With transformer", result.probabilities, classes, label)
    if result.plain is not None:
        bars += _bars("Without transformer", result.plain, classes, label)
    return f'<div class="result"><div>{warps}</div><div>{bars}</div></div>'


def _follow(figures, result):
    """Draws the picture's points and their box before and after each warp of the picture."""
    first, *_ = result.seen.values()
    boxes = around(result.points[:, np.newaxis] + HALF)
    for name, seen in result.seen.items():
        sizes = seen.images.shape[1:3], seen.warped.shape[1:3]
        if sizes[0] != result.image.shape[1:3] or not np.array_equal(seen.images, first.images):
            continue  # the input of this transformer is not the picture
        warp = seen.layer.warped_by.warp(seen.theta, *sizes, seen.layer.align_corners)
        rows = (result.points, boxes), (warp.to_output(result.points), warp.boxes(boxes))
        for axis, row in zip(figures[name].axes, rows):
            mark(axis, *(np.asarray(values)[0] for values in row))


def _warps(caption, observation, figure):
    """The figure of a transformer above the readings of its `theta`."""
    found = readings(observation)
    told = "; ".join(f"{name} {value}" for name, value in found.items())
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in found.items())
    return (
        f'<figure><figcaption>{html.escape(caption)}</figcaption><img src="{address_of(figure)}" '
        f'alt="The input; outlined, the region sampled: {told}. Below it, the warped image; '
        'points and a box are in both"></figure>'
        f'<dl aria-label="theta">{rows}</dl>'
    )


def address_of(figure):
    """The address of a figure that is part of the page."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def readings(observation):
    """The first image's `theta` in words: a dict of names and numbers with their units."""
    outside = {"outside the image": f"{100 * observation.outside[0]:.0f} % of samples"}
    if observation.matrix is None:
        return {"theta": f"{observation.theta[0].size} numbers, not a matrix", **outside}
    height, width = (n - observation.layer.align_corners for n in observation.images.shape[1:3])
    found = {key: values[0] for key, values in observe.decompose(observation.matrix[:1]).items()}
    x, y = found["translation_x"] * width / 2, found["translation_y"] * height / 2
    numbers = {
        "rotation": f"{found['rotation']:+.1f}°",
        "scale x, y": f"{found['scale_x']:.2f}, {found['scale_y']:.2f}",
        "shear": f"{found['shear']:+.2f}",
        "translation x, y": f"{x:+.1f}, {y:+.1f} px",
        **outside,
    }
    return {key: value.replace("-", "−") for key, value in numbers.items()}


def _bars(title, shares, classes, label):
    """The probabilities as bars; of many classes, only the most probable ones in their order."""
    ranked = np.argsort(-shares, kind="stable")
    first = int(ranked[0])
    verdict = "" if label is None else ", right" if first == label else ", wrong"
    rows = ""
    for k in sorted(ranked[:MOST_CLASSES]):
        kind = "first" if k == first else "rest" if k not in ranked[:FEW_CLASSES] else ""
        percent = f"{100 * shares[k]:.1f}"
        rows += (
            f'<tr class="{kind}"><th scope="row">{html.escape(classes[k])}</th>'
            f'<td><div class="bar" style="width:{percent}%"></div></td>'
            f'<td class="share">{percent} %</td></tr>'
        )
    return (
        f'<section class="{verdict[2:]}"><h3><span>{title}</span>{html.escape(classes[first])}'
        f'{verdict}</h3><table aria-label="Probabilities: {title}">{rows}</table></section>'
    )
