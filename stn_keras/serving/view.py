"""A `showcase.Look` as HTML: the image with the sampled region outlined, the warp, the classes."""

import base64
import html
import io

import numpy as np
from PIL import Image

from stn_keras import observe, plots

__all__ = ["STYLE", "draw"]

# Around an image, as shares of its longer side, for regions that reach outside it.
MARGINS = (0.1, 0.3, 0.6, 1.2)
MOST_CLASSES, FEW_CLASSES = 10, 5  # few on a phone

STYLE = """
.look { --faint: color-mix(in srgb, var(--body-text-color) 70%, transparent); }
.look figure { margin: 0; }
.look .row { display: flex; gap: 1rem; }
.look .row > * { flex: 1 1 0; min-width: 0; max-width: 24rem; }
.look figcaption, .look h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .35rem; }
.look .row h3 { margin-top: 1rem; }
.look h3 span { display: block; font-size: .875rem; font-weight: 400; color: var(--faint); }
.look svg { width: 100%; display: block; border-radius: 6px; background: #e4e4e8; }
.look svg image { image-rendering: pixelated; }
.look .region { fill: none; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.look dl { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin: .7rem 0 0; }
.look dt { font-size: .875rem; color: var(--faint); }
.look dd { margin: 0; min-width: 4rem; font-variant-numeric: tabular-nums; }
.look table { width: 100%; border-collapse: collapse; border: 0 !important; margin: 0; }
.look tr, .look td, .look th { border: 0 !important; }
.look td, .look th { padding: .1rem .2rem; font-weight: 400; text-align: left; }
.look th { white-space: nowrap; width: 1%; }
.look .share { text-align: right; width: 4.2rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.look .bar { height: .8rem; border-radius: 3px; min-width: 1px; background: #8fa3b8; }
.look .first th, .look .first td { font-weight: 700; }
.look .first .bar { background: #0072b2; }
.look .wrong .first .bar { background: #d55e00; }
@media (max-width: 700px) {
  .look { font-size: .875rem; }
  .look td, .look th { padding: 0 .1rem; }
  .look .row h3 { margin-top: .5rem; }
  .look .rest { display: none; }
}
"""


def draw(look, classes, label=None):
    """Draws what a classifier made of a picture.

    Example:

    >>> from stn_keras.serving.showcase import Showcase
    >>> model.save("best.keras")
    >>> showcase = Showcase("best.keras")
    >>> page = draw(showcase.look(images[0]), showcase.classifier.classes, label=3)
    >>> page.count("<svg"), page.count("<table")
    (2, 1)

    Args:
        look: A `showcase.Look`.
        classes: Names of the classes.
        label: Index of the true class; `None` if it is unknown.

    Returns:
        HTML, to be styled by `STYLE`. Each image is an `svg` with a text alternative.
    """
    groups = {"With transformer": look.probabilities}
    if look.plain is not None:
        groups["Without transformer"] = look.plain
    caption = "Input" if label is None else f"Input: {classes[label]}"
    parts = [
        _transformer(caption, name if len(look.warps) > 1 else None, *warp)
        for name, warp in look.warps.items()
    ]
    bars = "".join(_bars(title, shares, classes, label) for title, shares in groups.items())
    return f'<div class="look">{"".join(parts)}<div class="row">{bars}</div></div>'


def _transformer(caption, name, sight, image, warped):
    """The images of a transformer above the readings of its `theta`."""
    line = plots.outline(sight.grid[0], image.shape[:2], align_corners=sight.layer.align_corners)
    found = readings(sight)
    told = "; ".join(f"{key} {value}" for key, value in found.items())
    title = "" if name is None else f"<h3>{html.escape(name)}</h3>"
    return (
        f'{title}<div class="row">'
        f"{_figure(caption, image, f'The input; outlined, the region sampled: {told}', line)}"
        f"{_figure('Warped', warped, 'The warped image')}"
        f'</div><dl aria-label="theta">{"".join(map(_reading, found, found.values()))}</dl>'
    )


def readings(sight):
    """The first image's `theta` in words: a dict of names and numbers with their units."""
    outside = {"outside the image": f"{100 * sight.outside[0]:.0f} % of samples"}
    if sight.matrix is None:
        return {"theta": f"{sight.theta[0].size} numbers, not a matrix", **outside}
    height, width = (n - sight.layer.align_corners for n in sight.images.shape[1:3])
    found = {key: values[0] for key, values in observe.decompose(sight.matrix[:1]).items()}
    x, y = found["translation_x"] * width / 2, found["translation_y"] * height / 2
    numbers = {
        "rotation": f"{found['rotation']:+.1f}°",
        "scale x, y": f"{found['scale_x']:.2f}, {found['scale_y']:.2f}",
        "shear": f"{found['shear']:+.2f}",
        "translation x, y": f"{x:+.1f}, {y:+.1f} px",
        **outside,
    }
    return {key: value.replace("-", "−") for key, value in numbers.items()}


def _reading(name, value):
    return f"<div><dt>{name}</dt><dd>{value}</dd></div>"


def _figure(caption, image, alternative, line=None):
    """A captioned image, with the region outlined and a dot at its first corner."""
    height, width = image.shape[:2]
    margin = 0 if line is None else _margin(line, height, width)
    box = f"{-0.5 - margin} {-0.5 - margin} {width + 2 * margin} {height + 2 * margin}"
    region = "" if line is None else _region(line, max(height, width) / 50)
    return (
        f'<figure><figcaption>{html.escape(caption)}</figcaption><svg viewBox="{box}" role="img" '
        f'aria-label="{html.escape(alternative)}"><image x="-0.5" y="-0.5" width="{width}" '
        f'height="{height}" href="{_address(image)}"/>{region}</svg></figure>'
    )


def _margin(line, height, width):
    """Room for the outline, in few steps, so that the image rarely changes its size."""
    longer = max(height, width)
    beyond = np.maximum(-0.5 - line, line - (width - 0.5, height - 0.5)) / longer
    farthest = np.max(beyond, initial=0, where=np.isfinite(beyond))
    return longer * next((share for share in MARGINS if share > farthest), MARGINS[-1])


def _region(line, radius):
    line = line[np.isfinite(line).all(axis=1)]
    if not len(line):
        return ""
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in line)
    x, y = line[0]
    edge, colour = "#202020", plots.HIGHLIGHT
    return (
        f'<polyline class="region" points="{points}" stroke="{edge}" stroke-width="5"/>'
        f'<polyline class="region" points="{points}" stroke="{colour}" stroke-width="2.5"/>'
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}" fill="{colour}" stroke="{edge}" '
        f'stroke-width="{radius / 4:.2f}"/>'
    )


def _address(image):
    """A PNG file as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _bars(title, shares, classes, label):
    """The probabilities as bars; of many classes, only the most probable ones in their order."""
    first = int(np.argmax(shares))
    shown = sorted(np.argsort(-shares, kind="stable")[:MOST_CLASSES])
    verdict = "" if label is None else ", right" if first == label else ", wrong"
    places = np.argsort(np.argsort(-shares, kind="stable"))
    rows = "".join(_row(classes[k], shares[k], places[k]) for k in shown)
    return (
        f'<section class="{verdict[2:]}"><h3><span>{title}</span>{html.escape(classes[first])}'
        f'{verdict}</h3><table aria-label="Probabilities: {title}">{rows}</table></section>'
    )


def _row(name, share, place):
    kind = "first" if place == 0 else "rest" if place >= FEW_CLASSES else ""
    percent = f"{100 * share:.1f}"
    return (
        f'<tr class="{kind}"><th scope="row">{html.escape(name)}</th>'
        f'<td><div class="bar" style="width:{percent}%"></div></td>'
        f'<td class="share">{percent} %</td></tr>'
    )
