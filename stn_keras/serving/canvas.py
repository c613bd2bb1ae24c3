"""A canvas on which a digit is drawn, as an HTML component of Gradio and as a picture."""

import base64
import binascii
import io

import numpy as np
from PIL import Image

__all__ = ["HTML", "SCRIPT", "picture"]

SIDE = 280  # pixels
START = "data:image/png;base64,"
HTML = f"""<canvas width="{SIDE}" height="{SIDE}" role="img" aria-label="Canvas for a digit, drawn
with the pointer" style="width: 100%; max-width: {SIDE}px; touch-action: none; background: #fff;
border: 1px solid #8fa3b8; border-radius: 6px; cursor: crosshair"></canvas>
<button type="button" style="display: block; margin-top: .5rem; font-size: 1rem">Clear</button>"""
# The value is the address of a PNG file; each stroke changes it.
SCRIPT = """
const canvas = element.querySelector("canvas"), pen = canvas.getContext("2d");
pen.lineWidth = 22; pen.lineCap = pen.lineJoin = "round"; pen.strokeStyle = "#000";
const at = event => {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  return [scale * (event.clientX - box.left), scale * (event.clientY - box.top)];
};
const stroke = event => { pen.lineTo(...at(event)); pen.stroke(); };
canvas.onpointerdown = event => {
  canvas.setPointerCapture(event.pointerId);
  pen.beginPath(); pen.moveTo(...at(event)); stroke(event);
};
canvas.onpointermove = event => { if (event.buttons) stroke(event); };
canvas.onpointerup = () => { props.value = canvas.toDataURL("image/png"); trigger("input"); };
element.querySelector("button").onclick = () => pen.clearRect(0, 0, canvas.width, canvas.height);
"""


def picture(address, size):
    """The drawing as light ink on a dark ground, uint8 `(*size, 1)`; `None` if there is none."""
    try:
        if not address.startswith(START) or len(address) > 10 * SIDE**2:
            return None
        file = io.BytesIO(base64.b64decode(address[len(START) :], validate=True))
        with Image.open(file, formats=["PNG"]) as image:
            if image.size != (SIDE, SIDE) or image.mode != "RGBA":
                return None
            ink = image.getchannel("A").resize(size[::-1], Image.Resampling.BOX)
    except (AttributeError, binascii.Error, OSError, SyntaxError, ValueError):
        return None
    return np.asarray(ink)[..., np.newaxis] if ink.getbbox() else None
