"""TensorBoard in a headless Chromium: `python -m docs.screenshot LOGS` takes a picture of it.

The logs are those of a network that learns to read rotated, scaled and shifted digits. If there is
no such folder, the network is trained first. The picture needs the system's Chromium (on Debian
`apt install chromium`) and Playwright, which drives it.
"""

import contextlib
import functools
import pathlib
import re
import shutil
import subprocess
import sys

PICTURE = pathlib.Path(__file__).parent / "pictures" / "tensorboard.png"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SETTINGS = '{"ignoreOutliers": false, "scalarSmoothing": 0}'  # whole curves, as they are
IMAGES, EPOCHS = 12_000, 12  # of the training
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


def train(log_dir):
    """Trains a CNN behind an affine transformer, and writes logs to a folder."""
    import keras

    from stn_keras import callbacks, models
    from stn_keras.data import distortions, mnist, pipeline

    (images, labels), (test_images, test_labels) = mnist.load()
    test_images = distortions.fixed(test_images[:2000], "RTS", seed=1)
    model = models.mnist_stn("cnn", "affine", size=test_images.shape[1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    distort = functools.partial(distortions.distort, name="RTS")
    model.fit(
        pipeline.training_batches(
            images[:IMAGES], labels[:IMAGES], batch_size=100, seed=0, distort=distort
        ),
        epochs=EPOCHS,
        steps_per_epoch=IMAGES // 100,
        shuffle=False,
        validation_data=(test_images, test_labels[:2000]),
        callbacks=[
            callbacks.MetricsSummary(log_dir / "digits"),
            callbacks.TransformerSummary(log_dir / "digits", test_images[:256]),
        ],
        verbose=2,
    )


def main(log_dir):
    log_dir = pathlib.Path(log_dir)
    if not log_dir.exists():
        train(log_dir)
    tags = "epoch_accuracy", "warp_spread", "warps"
    with serving(log_dir) as address, browsing(width=880, height=1400) as page:
        page.add_init_script(f"localStorage.setItem('_tb_global_settings', '{SETTINGS}')")
        page.goto(f"{address}?tagFilter={'|'.join(tags)}#timeseries")
        page.get_by_label("Close side pane").click()
        cards = [card(page, tag) for tag in tags]
        page.wait_for_timeout(3000)  # curves are redrawn
        page.screenshot(path=PICTURE, clip=around([found.bounding_box() for found in cards]))


if __name__ == "__main__":
    main(*sys.argv[1:])
