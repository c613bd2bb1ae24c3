"""Serves the page of `stn_keras.serving.demo_page`, on this machine only.

It needs Gradio, `pip install ".[demo]"`, and the TensorFlow backend. The page loads nothing from
other hosts, and uploaded files are deleted once they are read.
"""

import os
import tempfile
import threading
import webbrowser
from unittest import mock

import keras
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from stn_keras.serving import demo_page
from stn_keras.serving.demo_model import DemoModel, Distortion
from stn_keras.serving.demo_reader import DemoReader, is_reader

__all__ = ["SHIPPED", "serve"]

SHIPPED = tuple(
    f"saved_models/{name}.keras" for name in ("mnist_rts/last", "cifar10/best", "read_text/last")
)
# What browsers let the page load: its own files only.
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'"


def serve(paths=(), port=None):
    """Serves the page at 127.0.0.1 until Ctrl-C, and opens it in the browser.

    `paths` are those of `.keras` files with spatial transformers, classifiers or readers of words,
    by default of the models in the repository's `saved_models/`, and `port` is by default the first
    free one from 7860 on.
    Raises a `ValueError` on other backends and as `DemoModel` does, an `OSError` if the port is
    taken.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "The page needs the TensorFlow backend, on which the pictures are distorted. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}"
        )
    print("Loading the models; the page takes half a minute to appear", flush=True)
    paths = paths or SHIPPED
    reads = {path: is_reader(path) for path in paths}
    readers = [DemoReader(path) for path in paths if reads[path]]
    models = [DemoModel(path) for path in paths if not reads[path]]
    for model in models:  # the first call compiles
        model.classify(demo_page.blank(model), Distortion(rotation=1, clutter=1))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # of uploads
        app = demo_page.build(models, readers)
        with mock.patch.dict(os.environ, no_proxy="*"):  # Gradio asks whether its page is there
            _, address, _ = app.launch(
                server_name="127.0.0.1",
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                max_file_size=demo_page.MOST_BYTES,
                footer_links=[],
                theme=demo_page.THEME,
                css=demo_page.STYLE,
                head=demo_page.HEAD,
                app_kwargs={
                    "middleware": [Middleware(BaseHTTPMiddleware, dispatch=own_files_only)]
                },
            )
        print(f"{address} shows the page; Ctrl-C ends it", flush=True)
        webbrowser.open(address)
        try:
            threading.Event().wait()
        finally:
            app.close(verbose=False)


async def own_files_only(request, call_next):
    """The answer to a request, with `POLICY`."""
    response = await call_next(request)
    response.headers["content-security-policy"] = POLICY
    return response
