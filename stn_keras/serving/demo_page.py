"""The page of `python -m stn_keras demo`: sliders distort a picture, and a model classifies it;
sliders bend a word, and a model reads it."""

import dataclasses
import os
import pathlib

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads all of these when it is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr
import numpy as np
from PIL import Image

from stn_keras.data.pictures import PictureError
from stn_keras.serving import canvas, demo_reader, demo_result
from stn_keras.serving.demo_model import Distortion

__all__ = ["build"]

MOST_BYTES, MOST_PIXELS = 10_000_000, 20_000_000  # of an uploaded picture
MOST_TRIED = 200  # test images from which the first to be shown is chosen
INTRODUCTION = """# What a spatial transformer looks at
Distort the picture with the sliders. The yellow outline is the region that the transformer samples;
the dot marks the corner that becomes the upper left one. The other points and the box belong to the
picture, and follow the warp."""
SLIDERS = {  # of each field of `Distortion`: minimum, maximum, step, label
    "rotation": (-90, 90, 1, "Rotation (°)"),
    "scale": (0.5, 1.5, 0.01, "Scale"),
    "shift_x": (-30, 30, 1, "Shift right (%)"),
    "shift_y": (-30, 30, 1, "Shift down (%)"),
    "perspective": (-0.6, 0.6, 0.02, "Perspective"),
    "clutter": (0, 12, 1, "Clutter (patches)"),
}
STYLE = (
    demo_result.STYLE
    + """
footer { display: none !important; }
.alert { color: #b00020; }
#message:not(:has(p)) { display: none; }
:is(input, button):focus-visible { outline: 3px solid #0072b2 !important; outline-offset: 2px; }
"""
)
# On a phone the picture stays above the sliders. `css` would not reach Gradio's container.
HEAD = """<style>
@media (max-width: 700px) and (min-height: 640px) {
  html { scroll-padding-top: 470px; }
  .gradio-container { overflow: visible !important; }
  #seen { position: sticky; top: 0; z-index: 100; background: var(--body-background-fill); }
}
</style>"""
THEME = gr.themes.Default(
    primary_hue="blue",
    font=["system-ui", "sans-serif"],  # no downloads
    font_mono=["monospace"],
)


@dataclasses.dataclass
class Selection:
    """The choice on a page: a picture for each model that can show it, by the model's name, and,
    if it is a test image, the number of its class."""

    pictures: dict
    label: int | None = None


def first_shown(model):
    """The number of the first test image that only the network with transformer classifies right,
    or 0."""
    if model.plain is None:
        return 0
    for number, (image, label) in enumerate(zip(model.images[:MOST_TRIED], model.labels)):
        result = model.classify(image)
        if result.probabilities.argmax() == label != result.plain.argmax():
            return number
    return 0


def blank(model):
    """A grey picture, for a model without test images."""
    return np.full((*(model.picture_size or (64, 64)), model.channels), 128, "uint8")


def build(models, readers=()):
    """The page, a `gradio.Blocks`, of lists of `DemoModel`s and of `DemoReader`s."""
    with gr.Blocks(title="stn_keras", analytics_enabled=False, delete_cache=(60, 60)) as page:
        if models:
            classifying(page, models)
        for reader in readers:
            reading(page, reader)
    return page


def classifying(page, models):
    """The part of the page for `DemoModel`s, of which the first is shown at first."""
    handlers = Handlers(models)
    names = list(handlers.models)
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column(scale=3, min_width=320, elem_id="seen"):
            result = gr.HTML(elem_id="result")
        with gr.Column(scale=2, min_width=320):
            model = gr.Radio(names, value=names[0], label="Model", visible=len(names) > 1)
            number, file, invert, message, pad, parts = sources(models[0], handlers.first[names[0]])
            sliders = {
                name: gr.Slider(low, high, getattr(Distortion, name), step=step, label=label)
                for name, (low, high, step, label) in SLIDERS.items()
            }
            reset = gr.Button("Undo the distortion", size="sm")
    chosen = gr.State(handlers.example(names[0]))
    amounts = list(sliders.values())
    shown = [chosen, result]
    events = [page.load, *(slider.change for slider in sliders.values())]
    on(events, handlers.show, [model, chosen, *amounts], result)
    on(number.input, handlers.choose, [model, number, *amounts], shown)
    on(file.upload, handlers.upload, [model, file, invert, chosen, *amounts], [*shown, message])
    on(pad.input, handlers.draw, [model, pad, chosen, *amounts], shown)
    on(model.change, handlers.change, [model, chosen, *amounts], [*shown, *parts, message])
    on(reset.click, lambda: [getattr(Distortion, name) for name in SLIDERS], None, amounts)


def reading(page, reader):
    """The part of the page for a `DemoReader`."""
    gr.Markdown("# Read a bent word\nType a word, and bend it with the sliders.")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            result = gr.HTML(elem_id="read")
        with gr.Column(scale=2, min_width=320):
            word = gr.Textbox("spatial", label="Word of up to 8 letters", max_length=8)
            sliders = [
                gr.Slider(low, high, start, step=step, label=label)
                for low, high, start, step, label in demo_reader.SLIDERS.values()
            ]
    events = [page.load, word.input, *(slider.change for slider in sliders)]
    on(events, reader.read, [word, *sliders], result)


def on(events, function, inputs, outputs):
    options = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    gr.on(events, function, inputs, outputs, trigger_mode="always_last", **options)


def sources(model, first):
    """The components that choose the picture, at first that number; those that depend on the model
    are last."""
    tests, last, grey = parts_for(model)
    number = gr.Slider(0, last, first, step=1, label="Number of the test image", visible=tests)
    with gr.Row():
        file = gr.UploadButton("Upload a picture", file_types=["image"], size="sm")
        invert = gr.Checkbox(label="Dark ink on light paper", visible=grey)
    message = gr.HTML(elem_id="message")
    with gr.Accordion("Draw a digit", open=False, visible=grey) as drawing:
        pad = gr.HTML("", html_template=canvas.HTML, js_on_load=canvas.SCRIPT)
    return number, file, invert, message, pad, [number, invert, drawing]


def parts_for(model):
    """Whether there are test images, the number of the last, and whether images are grey."""
    return len(model.images) > 0, max(1, len(model.images) - 1), model.channels == 1


class Handlers:
    """The events of the page; each method returns the values of the components that it changes."""

    def __init__(self, models):
        paths = [model.path for model in models]
        names = [path.resolve().parent.name for path in paths]
        if len({*names}) < len(names):
            names = [str(path) for path in paths]
        self.models = dict(zip(names, models, strict=False))
        self.first = {name: first_shown(model) for name, model in self.models.items()}

    def example(self, name, number=None):
        model = self.models[name]
        if not len(model.images):
            return Selection({name: blank(model)})
        number = self.first[name] if number is None else int(number)
        return Selection({name: model.images[number]}, int(model.labels[number]))

    def show(self, name, chosen, *amounts):
        model = self.models[name]
        result = model.classify(chosen.pictures[name], Distortion(*amounts))
        return demo_result.draw(result, model.classifier.classes, chosen.label)

    def choose(self, name, number, *amounts):
        chosen = self.example(name, number)
        return chosen, self.show(name, chosen, *amounts)

    def change(self, name, chosen, *amounts):
        tests, last, grey = parts_for(self.models[name])
        parts = (
            gr.Slider(maximum=last, value=self.first[name], visible=tests),
            gr.Checkbox(visible=grey),
            gr.Accordion(visible=grey),
        )
        chosen = chosen if name in chosen.pictures else self.example(name)
        return chosen, self.show(name, chosen, *amounts), *parts, ""

    def upload(self, name, path, invert, chosen, *amounts):
        try:
            pictures = read(self.models, path)
        except PictureError as error:
            alert = f'<p class="alert" role="alert">{error}</p>'
            return chosen, self.show(name, chosen, *amounts), alert
        if invert:  # for grey images only
            for other, picture in pictures.items():
                if picture.shape[-1] == 1:
                    pictures[other] = 255 - picture
        chosen = Selection(pictures)
        return chosen, self.show(name, chosen, *amounts), ""

    def draw(self, name, address, chosen, *amounts):
        drawn = {
            other: canvas.picture(address, model.picture_size or (28, 28))
            for other, model in self.models.items()
            if model.channels == 1
        }
        chosen = chosen if drawn[name] is None else Selection(drawn)
        return chosen, self.show(name, chosen, *amounts)


def read(models, path):
    """An uploaded picture as each model takes it; its file is deleted.

    Raises `PictureError` with a sentence for the page.
    """
    pictures: dict[str, np.ndarray] = {}
    try:
        with Image.open(path) as file:
            pixels = file.width * file.height
        if pixels <= MOST_PIXELS:
            pictures |= {name: model.read(path) for name, model in models.items()}
    except Exception as error:  # Pillow raises many types
        raise PictureError("This file can't be read as a picture; choose another one.") from error
    finally:
        pathlib.Path(path).unlink(missing_ok=True)
    if pixels > MOST_PIXELS:
        raise PictureError(
            f"This picture has {pixels / 1e6:.0f} million pixels; choose one of at most "
            f"{MOST_PIXELS / 1e6:.0f} million."
        )
    return pictures
