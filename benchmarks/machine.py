"""The machine, the versions and the commit of a measurement."""

import os
import pathlib
import re
import shutil
import subprocess
from importlib import metadata


def machine(packages):
    info = pathlib.Path("/proc/cpuinfo")  # Linux's
    model = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    return {"processor": model and model[1], "cores": os.cpu_count(), "versions": versions}


def commit(checkout):
    """The commit of a checkout, with a + if files differ from it; empty outside git."""
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", checkout, "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
