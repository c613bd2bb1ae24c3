"""Films the page of `python -m stn_keras demo`: `python -m docs.animation` moves a digit about.

It needs the extra `demo`, Playwright and the system's Chromium, as `docs.screenshot` does.
"""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
from PIL import Image

from docs import screenshot

ROOT = pathlib.Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "demo.gif"
FRAMES, MILLISECONDS, COLOURS = 24, 150, 160
# Controls that the film does not use, by their text.
IDLE = (
    *("Model", "Number of the test image", "Upload a picture", "Dark ink", "Draw a digit"),
    *("Perspective", "Clutter", "Undo the distortion", "Word", "Arc", "Wave", "Tilt"),
)


@contextlib.contextmanager
def serving(*models):
    """Starts the page on this machine and yields its address."""
    command = [sys.executable, "-m", "stn_keras", "demo", *map(str, models)]
    environment = {**os.environ, "BROWSER": "true"}  # a command that opens no browser
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as server:
        try:
            shown = next((line for line in server.stdout if line.startswith("http")), None)
            if shown is None:
                raise RuntimeError("The page did not start:\n" + server.stderr.read())
            yield shown.split()[0]
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()  # where Ctrl-C is ignored, as in the background


def slide(page, label, value):
    """Moves a slider; returns once the page shows the result."""
    changed(page, lambda: page.get_by_label(f"range slider for {label}").fill(str(value)))


def changed(page, act):
    """Acts, and waits until the page shows another result."""
    shown = "document.querySelector('#result .result').outerHTML"
    before = page.evaluate(shown)
    act()
    page.wait_for_function(f"before => {shown} != before", arg=before)


def hide(page, names):
    """Takes controls off the page, and the frames that are empty then."""
    page.evaluate(
        """names => {
          for (const part of document.querySelectorAll(".block, button"))
            if (names.some(name => part.innerText.trim().startsWith(name))) part.hidden = true
          for (const form of document.querySelectorAll(".form"))
            form.hidden = [...form.children].every(part => part.hidden)
        }""",
        names,
    )
    page.add_style_tag(content="[hidden] { display: none !important; }")


def frame(page, parts):
    """A picture of the parts of the page."""
    page.evaluate("document.activeElement.blur()")
    clip = screenshot.around([part.bounding_box() for part in parts], margin=8)
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def save(frames):
    """Writes the film with one palette for all frames, so that colours do not flicker."""
    sheet = Image.fromarray(np.concatenate(frames))
    palette = sheet.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    first, *rest = (one.quantize(palette=palette, dither=Image.Dither.NONE) for one in frames)
    first.save(PICTURE, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0)


def main():
    with serving() as address, screenshot.browsing(width=700, height=900) as page:
        page.goto(address)
        page.locator("#result img").first.wait_for()
        hide(page, IDLE)
        parts = page.locator("#result").all() + page.locator(".form").locator("visible=true").all()
        frames, before = [], {}
        # The first digit is misread along this path without a transformer, and read with it.
        for turn in np.linspace(0, 2 * np.pi, FRAMES, endpoint=False):
            amounts = {
                "Rotation (°)": round(25 * np.sin(turn)),
                "Scale": round(0.91 + 0.17 * np.cos(turn), 2),
                "Shift right (%)": round(12 * np.sin(turn)),
                "Shift down (%)": round(-9 * np.sin(2 * turn)),
            }
            for label, amount in amounts.items():
                if amount != before.get(label, 1 if label == "Scale" else 0):
                    slide(page, label, amount)
            before = amounts
            frames.append(frame(page, parts))
    save(frames)


if __name__ == "__main__":
    main()
