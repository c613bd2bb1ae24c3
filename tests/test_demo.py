"""The page of `python -m stn_keras demo`, and the page in a headless Chromium.

Skipped where Gradio is missing, the latter also where Chromium or Playwright is:
`apt install chromium`, `pip install ".[dev,demo]"`.
"""

import base64
import io
import os
import pathlib
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image
from test_demo_model import network

from docs import animation, screenshot
from stn_keras.__main__ import main

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[1]


def test_the_library_and_its_help_import_nothing_of_it():
    code = (
        "import sys, stn_keras, stn_keras.__main__ as command\n"
        "try: command.parse(['demo', '--help'])\n"
        "except SystemExit: pass\n"
        "page = 'stn_keras.serving.demo_page'\n"
        "print({'gradio', 'starlette', page} & {*sys.modules}, '[MODEL ...]')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and run.stdout.endswith("set() [MODEL ...]\n"), run.stderr
    assert "--port" in run.stdout


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    for name in ("stn_keras.serving.demo", "stn_keras.serving.demo_page"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err.strip().endswith('pip install ".[demo]"')


@pytest.fixture
def handlers(tmp_path, rng):
    """Events of a page with a model of grey images, and one of colours without test images."""
    pytest.importorskip("gradio")
    from stn_keras.serving import demo_page
    from stn_keras.serving.demo_model import DemoModel

    for name, channels in (("grey", 1), ("colour", 3)):
        (tmp_path / name).mkdir()
        network([0.5, 0, 0, 0, 0.5, 0], shape=(12, 12, channels)).save(tmp_path / name / "a.keras")
    images = rng.integers(0, 256, (5, 12, 12, 1), np.uint8)
    np.savez(tmp_path / "grey" / "test_images.npz", images=images, labels=np.arange(5) % 3)
    return demo_page.Handlers(
        [DemoModel(tmp_path / name / "a.keras") for name in ("grey", "colour")]
    )


AMOUNTS = (0, 1, 0, 0, 0, 0)


def test_a_test_image_is_chosen_and_a_model(handlers):
    chosen, shown = handlers.choose("grey", 4, *AMOUNTS)
    assert chosen.label == 1 and "Input: 1" in shown
    chosen, shown, number, invert, drawing, message = handlers.change("colour", chosen, *AMOUNTS)
    assert chosen.label is None and chosen.pictures["colour"].shape == (12, 12, 3)
    assert not message
    assert not (number.visible or invert.visible or drawing.visible)
    assert handlers.change("grey", chosen, *AMOUNTS)[2].visible


def test_the_first_image_is_one_that_only_the_transformer_makes_readable(handlers, monkeypatch):
    from stn_keras.serving import demo_model, demo_page

    grey = handlers.models["grey"]
    assert handlers.first == {"grey": 0, "colour": 0}
    labels = iter(grey.labels)
    right, wrong = np.eye(3), np.eye(3)[[1, 2, 0]]

    def classify(image):
        label = next(labels)
        plain = wrong if label == 2 else right
        return demo_model.Result(image, None, {}, right[label], plain[label])

    monkeypatch.setattr(grey, "classify", classify)
    monkeypatch.setattr(grey, "plain", grey.classifier)
    assert demo_page.first_shown(grey) == 2


def test_another_model_shows_the_same_upload(handlers, tmp_path, rng):
    before, _ = handlers.choose("grey", 0, *AMOUNTS)
    (tmp_path / "upload.png").write_bytes(png(rng, (30, 20, 3)))
    chosen, *_ = handlers.upload("grey", tmp_path / "upload.png", True, before, *AMOUNTS)
    other, shown, *_ = handlers.change("colour", chosen, *AMOUNTS)
    assert other is chosen and "Input<" in shown
    assert chosen.pictures["colour"].shape == (12, 12, 3)
    assert handlers.change("grey", other, *AMOUNTS)[0] is chosen


def test_uploads_are_read_and_deleted(handlers, tmp_path, rng, monkeypatch):
    page = sys.modules["stn_keras.serving.demo_page"]
    monkeypatch.setattr(page, "MOST_PIXELS", 600)
    before, _ = handlers.choose("grey", 0, *AMOUNTS)
    file = tmp_path / "upload.png"
    for content, words in (
        (b"no picture", "can't be read"),
        (png(rng, (20, 31)), "million pixels"),
    ):
        file.write_bytes(content)
        chosen, shown, message = handlers.upload("grey", file, False, before, *AMOUNTS)
        assert chosen is before and "<img" in shown
        assert words in message and 'role="alert"' in message and "upload" not in message
        assert not file.exists()
    content = png(rng, (12, 12))
    pictures = []
    for invert in (False, True):
        file.write_bytes(content)
        chosen, _, message = handlers.upload("grey", file, invert, before, *AMOUNTS)
        assert chosen.label is None and not message and not file.exists()
        pictures.append(chosen.pictures["grey"].astype(int))
    np.testing.assert_array_equal(pictures[0] + pictures[1], 255)


def png(rng, size):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(file, "PNG")
    return file.getvalue()


def drawing(ink, mode="RGBA"):
    file = io.BytesIO()
    Image.fromarray(ink).convert(mode).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_a_drawing_is_light_on_a_dark_ground(handlers):
    ink = np.zeros((280, 280, 4), "uint8")
    before, _ = handlers.choose("grey", 0, *AMOUNTS)
    for nothing in ("", None, "data:image/png;base64,!", drawing(ink), drawing(ink + 9, "L")):
        assert handlers.draw("grey", nothing, before, *AMOUNTS)[0] is before
    ink[140:, :, 3] = 255
    chosen, shown = handlers.draw("grey", drawing(ink), before, *AMOUNTS)
    assert chosen.label is None and "Input<" in shown
    picture = chosen.pictures["grey"]
    assert picture.shape == (12, 12, 1) and not picture[:6].any() and (picture[6:] == 255).all()


def test_only_this_machine_is_served(monkeypatch, handlers, capsys):
    from stn_keras.serving import demo

    asked, folders = {}, []

    def launch(self, **options):
        asked.update(options)
        folders.append(pathlib.Path(os.environ["GRADIO_TEMP_DIR"]))
        assert folders[0].is_dir() and not self.analytics_enabled
        assert urllib.request.getproxies()["no"] == "*"
        raise KeyboardInterrupt

    monkeypatch.setattr("gradio.Blocks.launch", launch)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(demo, "DemoModel", {"a.keras": handlers.models["grey"]}.get)
    monkeypatch.setattr(demo, "is_reader", lambda path: False)
    with pytest.raises(KeyboardInterrupt):
        demo.serve(["a.keras"], port=7999)
    wanted = {"server_name": "127.0.0.1", "server_port": 7999, "share": False, "footer_links": []}
    assert {name: asked[name] for name in wanted} == wanted
    assert capsys.readouterr().out.startswith("Loading the models; the page takes")
    assert os.environ["http_proxy"] and "no_proxy" not in os.environ
    assert not folders[0].exists() and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_another_backend_is_refused(monkeypatch, capsys):
    pytest.importorskip("gradio")
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert main(["demo"]) == 1
    assert "needs the TensorFlow backend" in capsys.readouterr().err


# In a browser


@pytest.fixture(scope="module")
def browser():
    """The page of the shipped models, and the addresses that it asks for."""
    pytest.importorskip("gradio")
    pytest.importorskip("playwright")
    if screenshot.CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with animation.serving() as address, screenshot.browsing(1280, 900) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        policy = page.goto(address).header_value("content-security-policy")
        page.locator("#result img").first.wait_for()
        yield page, address, asked, policy


def seen(page):
    """The result on the page: the figure, its readings, and the bars of both networks."""
    result = page.locator("#result")
    return [
        result.locator("img").first.get_attribute("src"),
        result.locator("img").first.get_attribute("alt"),
        *(table.inner_text() for table in result.locator("table").all()),
    ]


def test_the_first_picture_is_read_with_the_transformer_only(browser):
    page, *_ = browser
    verdicts = [title.inner_text().split()[-1] for title in page.locator("#result h3").all()]
    assert verdicts == ["right", "wrong"]


def test_a_slider_changes_the_picture_the_outline_and_the_bars(browser):
    page, *_ = browser
    before = seen(page)
    assert len(before) == 4  # the digits' network is shown without its transformer, too
    page.get_by_label("range slider for Rotation (°)").focus()
    animation.changed(page, lambda: page.keyboard.press("ArrowRight"))
    assert seen(page)[0] != before[0]
    animation.slide(page, "Rotation (°)", 90)
    assert not any(old == new for old, new in zip(before, seen(page), strict=True))
    page.get_by_role("button", name="Undo the distortion").click()
    page.wait_for_function(
        "before => document.querySelector('#result img').getAttribute('src') == before",
        arg=before[0],
    )
    assert seen(page) == before


def test_a_damaged_file_gives_a_message(browser, tmp_path):
    page, *_ = browser
    before = seen(page)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.locator("input[type=file]").set_input_files(tmp_path / "bad.png")
    alert = page.get_by_role("alert").filter(has_text="can't be read as a picture")
    alert.wait_for()
    assert seen(page) == before
    page.locator("input[type=file]").set_input_files(ROOT / "docs" / "pictures" / "cat.png")
    alert.wait_for(state="detached")
    assert seen(page)[0] != before[0]


def test_a_drawing_is_shown(browser):
    page, *_ = browser
    page.get_by_role("button", name="Draw a digit").click()
    box = page.locator("canvas").bounding_box()

    def draw():
        page.mouse.move(box["x"] + 140, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 140, box["y"] + 220, steps=5)
        page.mouse.up()

    animation.changed(page, draw)
    page.get_by_role("button", name="Draw a digit").click()
    assert page.locator("#result h3").first.inner_text().split() == ["With", "transformer", "1"]


def test_a_phone_shows_the_picture_above_the_sliders(browser):
    page, *_ = browser
    page.set_viewport_size({"width": 390, "height": 844})
    slider = page.get_by_label("range slider for Rotation (°)")
    slider.scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    image, box = page.locator("#result img").first.bounding_box(), slider.bounding_box()
    assert image["y"] >= 0 and image["width"] > 120
    assert image["y"] + image["height"] < box["y"] < 844
    page.set_viewport_size({"width": 1280, "height": 900})


def test_everything_has_a_name_and_comes_from_this_machine(browser):
    page, address, asked, policy = browser
    animation.changed(page, page.get_by_label("cifar10").click)
    assert page.locator("#result table").count() == 1
    for control in page.locator("input:visible, button:visible, #result img, canvas:visible").all():
        name = control.evaluate(
            "x => x.alt || x.ariaLabel || x.labels?.[0]?.innerText || x.innerText"
        )
        assert name.strip(), control.evaluate("x => x.outerHTML")
    assert {url[: len(address)] for url in asked if url.startswith("http")} == {address}
    assert policy.startswith("default-src 'self'")
