"""The command line, standard output and error of the commands, and TensorFlow's messages there."""

import argparse
import contextlib
import os
import re
import sys
import tempfile
import threading

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_STDERR = threading.RLock()  # all threads share the file descriptor
NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+:\d+\] "  # absl's information and warnings
    rb"|E\d{4} .*(cuInit|Unable to register|cuda_(platform|driver|diagnostics))"  # no GPU
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "  # TensorFlow's own
    rb"|To enable the following instructions: "
    rb"|fully_quantize: "  # LiteRT's converter
    rb"|WARNING:absl:Importing a function .* unsaved custom gradients"  # of second order
)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """Exits with a one-line message; argparse would print the usage first."""
        program = self.prog.removeprefix("python -m ").partition(" ")[0]
        self.exit(2, f"{program}: {message} ({self.prog} --help lists all flags)\n")


def prepare():
    """Makes printing possible without a standard output, and of characters it can't encode."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # in a service, or closed; no other file may get its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def give_up():
    """Ends printing after a `BrokenPipeError`: the reader, such as `head`, has left.

    Returns:
        The exit status of a program that SIGPIPE ends.
    """
    with contextlib.suppress(OSError, ValueError):  # no file behind it
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())  # for what is still to be flushed
        os.close(null)
    return 128 + 13


@contextlib.contextmanager
def quiet():
    """Removes TensorFlow's messages about itself and the hardware from stderr inside the block.

    Everything else written to stderr appears when the block ends. Import Keras inside the block,
    and run the first operation there, which looks for GPUs. `TF_CPP_MIN_LOG_LEVEL=0` turns this
    off. Blocks of several threads run one after the other.

    Example:

    >>> with quiet():
    ...     import keras
    """
    with _STDERR, contextlib.ExitStack() as stack:
        if os.environ.setdefault(LEVEL, "2") == "0":
            yield
            return
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
