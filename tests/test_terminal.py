"""`quiet` removes messages from stderr; programs answer at once and print nothing else."""

import os
import subprocess
import sys
import time
from concurrent import futures

import pytest

from stn_keras.system.terminal import quiet

pytestmark = pytest.mark.slow
NOISE = [  # of TensorFlow 2.21 and of releases before it, as they came
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795751164.180919   15593 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1795751164.181422   15593 cudart_stub.cc:31] Could not find cuda drivers",
    "E0000 00:00:1795751173.595362   15593 cuda_platform.cc:52] failed call to cuInit: INTERNAL",
    "E0000 00:00:1730000000.000000   1 cuda_dnn.cc:8310] Unable to register cuDNN factory",
    "W0000 00:00:1730000000.000000   1 gpu_device.cc:2344] Cannot dlopen some GPU libraries.",
    "2024-10-27 03:33:20.000000: I tensorflow/core/util/port.cc:153] oneDNN custom operations",
]
WORDS = [
    "E0000 00:00:1795751173.595362   15593 env.cc:1] Disk quota exceeded",
    "Traceback (most recent call last):",
    "Warning: half of it",
]


def write(lines):
    os.write(2, "".join(f"{line}\n" for line in lines).encode())


@pytest.fixture(autouse=True)
def level(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


def test_noise_is_left_out_and_all_else_comes(capfd):
    write(NOISE[:1])
    with quiet():
        write(NOISE + WORDS)
        print("of Python", file=sys.stderr)
    write(NOISE[1:2])
    said = capfd.readouterr().err.splitlines()
    assert sorted(said) == sorted([NOISE[0], *WORDS, "of Python", NOISE[1]])


def test_what_was_said_before_an_error_comes(capfd):
    with pytest.raises(KeyError), quiet():
        write(NOISE + WORDS)
        raise KeyError
    assert capfd.readouterr().err.splitlines() == WORDS


def test_whoever_asks_for_all_messages_gets_them(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet():
        write(NOISE)
    assert capfd.readouterr().err.splitlines() == NOISE


def test_blocks_of_several_threads_leave_stderr_as_it_was(capfd):
    def work(k):
        with quiet():
            time.sleep(0.01 * k)
            write([str(k)])

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(6)))
    write(["after"])
    assert sorted(capfd.readouterr().err.split()) == [*map(str, range(6)), "after"]


def test_without_stderr():
    code = (
        "import os; os.close(2)\n"
        "from stn_keras.system.terminal import quiet\n"
        "with quiet(): print(1)"
    )
    finished = subprocess.run([sys.executable, "-c", code], stdout=-1)
    assert finished.stdout == b"1\n" and finished.returncode == 0


def command(*words):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    words = [sys.executable, "-m", "stn_keras", *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["export", "--help"]])
def test_help_comes_at_once(words):
    """In a second, the best of three: twice the goal, because the machine may be busy."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        finished = command(*words)
        times.append(time.perf_counter() - start)
    assert finished.returncode == 0 and "usage: " in finished.stdout and not finished.stderr
    assert min(times) < 1


def test_help_imports_no_keras():
    code = (
        "import sys, stn_keras.__main__\nsys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_error_is_all_that_is_said(tmp_path):
    finished = command("predict", tmp_path / "a.keras", "a.png")
    assert finished.returncode == 1 and not finished.stdout
    assert (
        finished.stderr == f"stn_keras: there is no file {tmp_path / 'a.keras'}; check the path\n"
    )


def test_prepare_and_give_up():
    load = "from stn_keras.system import terminal; terminal.prepare()"
    code = f"{load}; print(chr(0xDCE9), flush=True); raise SystemExit(terminal.give_up())"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (finished.returncode, finished.stdout.strip(), finished.stderr) == (141, b"?", b"")
    code = f"import sys; sys.stdout = None; {load}; sys.stdout.flush()"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
