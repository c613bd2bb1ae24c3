"""Programs without the messages that TensorFlow writes while it is loaded.

Imports nothing heavy. `import stn_keras.quiet` loads Keras all the same, since it imports the
package first; a program beside the package that must not runs this file alone:
`runpy.run_path("stn_keras/quiet.py")["quiet"]`.
"""

import contextlib
import os
import re
import sys
import tempfile

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+:\d+\] "  # absl's information and warnings
    rb"|E\d{4} .*(cuInit|Unable to register|cuda_(platform|driver|diagnostics))"  # no GPU
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "  # TensorFlow's own
    rb"|To enable the following instructions: "
)


@contextlib.contextmanager
def quiet():
    """Leaves out of stderr what TensorFlow says inside the block about itself and the hardware.

    All else that is written there appears when the block ends. Put what imports Keras inside, and
    the first operation, which looks for GPUs. `TF_CPP_MIN_LOG_LEVEL=0` turns it off.

    Example:

    >>> with quiet():
    ...     import keras
    """
    if os.environ.setdefault(LEVEL, "2") == "0":
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            written = stack.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(2)
        except OSError:  # no stderr, or nowhere to keep what is written there
            yield
            return
        _flush()
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if not NOISE.match(line):
                    os.write(2, line)


def _flush():
    if sys.stderr is not None:
        sys.stderr.flush()
