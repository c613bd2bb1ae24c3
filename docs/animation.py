"""The page of `python -m stn_keras demo`, filmed: `python -m docs.animation` moves a digit about.

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
FRAMES, MILLISECONDS, COLOURS = 24, 150, 64


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


def frame(page):
    picture = Image.open(io.BytesIO(page.screenshot()))
    return picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def main():
    with serving() as address, screenshot.browsing(width=960, height=770) as page:
        page.goto(address)
        page.locator("#result img").first.wait_for()
        frames, before = [], {}
        for turn in np.linspace(0, 2 * np.pi, FRAMES, endpoint=False):
            amounts = {
                "Scale": round(0.8 + 0.2 * np.cos(turn), 2),
                "Shift right (%)": round(22 * np.sin(turn)),
                "Shift down (%)": round(-11 * np.sin(2 * turn)),
            }
            for label, amount in amounts.items():
                if amount != before.get(label, 1 if label == "Scale" else 0):
                    slide(page, label, amount)
            before = amounts
            frames.append(frame(page))
    frames[0].save(PICTURE, save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)


if __name__ == "__main__":
    main()
