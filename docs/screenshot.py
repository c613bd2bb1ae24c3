"""TensorBoard in a headless Chromium: `python -m docs.screenshot logs/RUN` takes a picture of it.

It needs the system's Chromium (on Debian `apt install chromium`) and Playwright, which drives it.
"""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys

PICTURE = pathlib.Path(__file__).parent / "pictures" / "tensorboard.png"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SECONDS = 60  # to load the logs and draw a page
# No sandbox, which Chromium refuses to root: it opens nothing but pages of this machine. The others
# keep it from asking other hosts.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]


@contextlib.contextmanager
def serving(log_dir):
    """Starts TensorBoard on a free port of this machine and yields its address."""
    flags = [f"--logdir={log_dir}", "--host=127.0.0.1", "--port=0"]
    command = [sys.executable, "-m", "tensorboard.main", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = []
            for line in server.stderr:
                said.append(line)
                if address := re.search(r"http://[\d.:]+/", line):
                    break
            else:
                raise RuntimeError("TensorBoard did not start:\n" + "".join(said))
            yield address[0]
        finally:
            server.kill()


@contextlib.contextmanager
def browsing(width=1150, height=1060):
    """Yields an empty page of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(1000 * SECONDS)
        yield page
        browser.close()


def card(page, tag):
    """The card of a tag under Time Series, once its curve or its image is there."""
    found = page.locator("card-view").filter(has_text=tag).first
    found.scroll_into_view_if_needed()  # what is out of sight is not drawn
    found.locator("line-chart canvas, img").first.wait_for()
    return found


def around(boxes, margin=16):
    """The rectangle that holds all boxes."""
    left, top = (min(box[side] for box in boxes) - margin for side in "xy")
    right = max(box["x"] + box["width"] for box in boxes) + margin
    bottom = max(box["y"] + box["height"] for box in boxes) + margin
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def main(log_dir):
    tags = "epoch_accuracy", "outside_mean", "scale_x_mean", "warps"
    with serving(log_dir) as address, browsing() as page:
        page.goto(f"{address}?tagFilter={'|'.join(tags)}#timeseries")
        page.get_by_label("Close side pane").click()
        cards = [card(page, tag) for tag in tags]
        page.wait_for_timeout(3000)  # curves are redrawn
        page.screenshot(path=PICTURE, clip=around([found.bounding_box() for found in cards]))


if __name__ == "__main__":
    main(*sys.argv[1:])
