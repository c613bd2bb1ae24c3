"""The real training loop, in-process, on a tiny task: which quadrant is lit in which colour."""

import csv
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
import train_flags
from stn_keras import callbacks, observe, precision, recipes
from stn_keras.data import cifar10

ROOT = pathlib.Path(train.__file__).parent
CLASSES = 4
COLUMNS = {
    "epoch",
    *(f"{split}{metric}" for split in ("", "val_", "test_") for metric in ("accuracy", "loss")),
    "images_per_second",
    "learning_rate",
}
UNFINISHED = ["best.keras", "config.json", "history.csv", "last.keras", "unfinished.npz"]


def lit_quadrants(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, 32, 32, 3)).astype("uint8")
    labels = rng.integers(0, CLASSES, count)
    for image, label in zip(images, labels, strict=True):
        row, column = 16 * (label // 2), 16 * (label % 2)
        image[row : row + 16, column : column + 16, label % 3] = 255
    return images, labels


def tiny(data_dir=None):
    return lit_quadrants(300, seed=0), lit_quadrants(50, seed=1)


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """Runs in a folder of its own, on the tiny task, and leaves Keras's settings alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cifar10, "load", tiny)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


def run(*flags, epochs=2):
    """The exit status of a run named `a`."""
    flags = ["--run", "a", "--validation-images", "40", "--epochs", str(epochs), *flags]
    return train.main(flags)


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def events(folder):
    return EventAccumulator(str(folder)).Reload()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Where a run of the default recipe, over two epochs, has written; and what it printed."""
    base = tmp_path_factory.mktemp("finished")
    policy = keras.config.dtype_policy()
    with pytest.MonkeyPatch.context() as patch, open(base / "stdout", "w") as stdout:
        patch.chdir(base)
        patch.setattr(cifar10, "load", tiny)
        patch.setattr(sys, "stdout", stdout)
        status = run()
    keras.config.set_dtype_policy(policy)
    assert status == 0
    return base


def test_a_run_saves_models_history_pictures_and_settings(finished):
    expected = "best.keras config.json curves.png history.csv last.keras warps.png"
    assert files(finished / "saved_models" / "a") == expected.split()


def test_history_has_a_row_per_epoch_and_the_task_is_learnt(finished):
    found = history(finished / "saved_models" / "a")
    assert found.keys() == COLUMNS
    assert found["epoch"] == [0, 1]
    assert found["loss"][1] < found["loss"][0]
    assert found["test_accuracy"][1] > 1.5 / CLASSES
    assert found["images_per_second"][1] > 0
    assert found["learning_rate"][1] > 0  # what the epoch used, not the end of the cycle


def test_saved_models_score_what_history_says(finished):
    folder = finished / "saved_models" / "a"
    found, (training, test) = history(folder), tiny()
    validation = [array[-40:] for array in training]
    for name, (images, labels), expected in (
        ("last", test, found["test_accuracy"][-1]),
        ("last", validation, found["val_accuracy"][-1]),
        ("best", validation, max(found["val_accuracy"])),
    ):
        model = keras.models.load_model(folder / f"{name}.keras")
        accuracy = np.mean(np.argmax(model(images), axis=-1) == labels)
        assert accuracy == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["curves.png", "warps.png"])
def test_pictures_are_drawn(finished, name):
    picture = matplotlib.image.imread(finished / "saved_models" / "a" / name)
    assert picture.ndim == 3 and min(picture.shape[:2]) > 100
    assert len(np.unique(picture)) > 20


def test_settings_repeat_the_run_and_name_no_folder_of_this_machine(finished):
    text = (finished / "saved_models" / "a" / "config.json").read_text()
    settings = json.loads(text)
    assert settings["command"] == "python train.py --run a --validation-images 40 --epochs 2"
    assert settings["recipe"] == "tuned" and settings["seed"] == 0 and settings["epochs"] == 2
    assert settings["recipe_batch_size"] == 128 and settings["transformer"] is True
    assert settings["batch_size"] == 16 and settings["validation_images"] == 40
    assert settings["classes"][3] == "cat"
    assert settings["precision"] in precision.CHOICES[1:]
    assert settings["keras"] == keras.__version__ and settings["numpy"] == np.__version__
    assert {"python", "tensorflow", "stn_keras", "platform"} <= settings.keys()
    assert str(finished) not in text and str(ROOT) not in text and sys.prefix not in text


def test_tensorboard_has_curves_theta_pictures_settings_and_graph(finished):
    logs = finished / "logs" / "a"
    assert {path.name for path in logs.iterdir() if path.is_dir()} == {
        "train",
        "validation",
        "test",
        "transformer",
    }
    curves = {run: events(logs / run) for run in ("train", "validation", "test")}
    tags = {run: {*found.Tags()["tensors"]} for run, found in curves.items()}
    assert tags["validation"] == tags["test"] == {"epoch_loss", "epoch_accuracy"}
    assert tags["train"] == tags["test"] | {
        "batch_loss",
        "batch_accuracy",
        "epoch_learning_rate",
        "epoch_images_per_second",
    }
    warps = {*events(logs / "transformer").Tags()["tensors"]}
    wanted = "scale_x_mean", "rotation_std", "warp_spread", "warp_shift", "warps"
    assert {f"transformer/{tag}" for tag in wanted} <= warps
    assert "settings" in events(logs).Tags()["tensors"] and events(logs).Tags()["graph"]


def test_tensorboard_counts_epochs_done_everywhere(finished):
    logs = finished / "logs" / "a"
    for run, tag, steps in (
        ("train", "epoch_accuracy", [1, 2]),
        ("test", "epoch_accuracy", [1, 2]),
        ("transformer", "transformer/scale_x_mean", [0, 1, 2]),
        ("train", "batch_loss", [1, 18]),  # 17 steps an epoch
    ):
        assert [event.step for event in events(logs / run).Tensors(tag)] == steps


def test_the_closing_lines_say_how_well_and_where(finished):
    printed = (finished / "stdout").read_text()
    accuracy = history(finished / "saved_models" / "a")["test_accuracy"][-1]
    assert f"Test accuracy after 2 epochs: {accuracy:.2%}" in printed
    assert str(pathlib.Path("saved_models", "a")) in printed
    assert "tensorboard --logdir logs" in printed
    spread = events(finished / "logs/a/transformer").Tensors("transformer/warp_spread")[-1]
    spread = tf.make_ndarray(spread.tensor_proto)
    assert f"Warps vary by {spread:.1f} pixels between images" in printed
    assert "473,120 parameters" in printed and "recipe tuned" in printed
    found = "350 images: 260 for training, 40 for validation, 50 for test"
    assert "10 classes (airplane, " in printed and found in printed


@pytest.mark.slow
def test_the_same_seed_repeats_the_history_and_the_weights(finished):
    assert run() == 0
    again, first = (base / "saved_models" / "a" for base in (pathlib.Path(), finished))
    for name in COLUMNS - {"images_per_second"}:
        assert history(again)[name] == history(first)[name], name
    found, wanted = (keras.models.load_model(path / "last.keras") for path in (again, first))
    for one, other in zip(found.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_seed_decides_weights_and_batches(monkeypatch):
    def start(model, batches, **options):
        images, labels = next(batches.as_numpy_iterator())
        started.append(np.concatenate([w.ravel() for w in [*model.get_weights(), images, labels]]))
        raise KeyboardInterrupt

    started = []
    monkeypatch.setattr(keras.Model, "fit", start)
    for number, seed in enumerate("001"):
        run("--output-dir", f"{number}", "--log-dir", f"{number}/logs", "--seed", seed)
    first, again, other = started
    np.testing.assert_array_equal(first, again)
    assert np.mean(first == other) < 0.1


@pytest.mark.filterwarnings("error::UserWarning")  # Keras warns of batches it can't shuffle
def test_the_published_recipe_without_transformer():
    assert run("--recipe", "published", "--no-transformer", "--precision", "float32") == 0
    folder = pathlib.Path("saved_models/a")
    settings, found = json.loads((folder / "config.json").read_text()), history(folder)
    assert settings["recipe"] == "published" and settings["transformer"] is False
    assert settings["recipe_batch_size"] == 64 and settings["precision"] == "float32"
    assert found["learning_rate"] == pytest.approx([0.01, 0.01])
    assert found["loss"][1] < found["loss"][0]
    model = keras.models.load_model(folder / "last.keras")
    assert model.count_params() == 424_698 and not observe.transformers(model)
    assert "curves.png" in files(folder) and "warps.png" not in files(folder)


def test_validation_chooses_the_best_epoch_and_test_images_choose_nothing(monkeypatch):
    def start(model, batches, callbacks, **options):
        given.extend(callbacks)
        raise KeyboardInterrupt

    given = []
    monkeypatch.setattr(keras.Model, "fit", start)
    run("--no-transformer")
    checkpoints = [c for c in given if isinstance(c, callbacks.Checkpoint)]
    monitored = {
        pathlib.Path(checkpoint.filepath).name: checkpoint.save_best_only and checkpoint.monitor
        for checkpoint in checkpoints
    }
    assert monitored == {"best.keras": "val_accuracy", "last.keras": False}


def test_a_missing_package_is_named_with_its_remedy(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "keras", None)
    assert train.main([]) == 1
    message = capsys.readouterr().err
    assert "keras" in message and message.endswith("; pip install -r requirements.txt\n")


def test_flags_offer_what_there_is():
    choices = {action.dest: action.choices for action in train_flags.build_parser()._actions}
    assert choices["recipe"] == [*recipes.RECIPES]
    assert choices["precision"] == [*precision.CHOICES]


def test_each_flag_is_explained_with_its_default():
    for action in train_flags.build_parser()._actions[1:]:  # all but --help
        text = action.help
        assert text[0].isupper() and text.partition(" (default")[0].endswith(".")
        assert text.count("default") == (action.nargs != 0), action.dest
        if action.default not in (None, True, False):
            assert f"(default: {action.default})" in text


def test_help_comes_before_tensorflow():
    script = f"""
import runpy, sys
sys.argv = ["train.py", "--help"]
sys.path.insert(0, {str(ROOT)!r})
try:
    runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
finally:
    assert "keras" not in sys.modules and "tensorflow" not in sys.modules
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0 and not process.stderr
    assert "--recipe {tuned,published}" in process.stdout


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--epoch-count", "3"], "--epoch-count"),
        (["--epochs", "0"], "--epochs: must be a whole number from 1 to 4294967295. Received: '0'"),
        (["--epochs", "-3"], "--epochs: must be a whole number from 1 to 4294967295"),
        (["--epochs", "x"], "--epochs: must be a whole number from 1 to 4294967295"),
        (["--epochs", "1.5"], "--epochs: must be a whole number from 1 to 4294967295"),
        (["--seed", "-1"], "--seed: must be a whole number from 0 to 4294967295. Received: '-1'"),
        (["--seed", "4294967296"], "--seed: must be"),
        (["--validation-images", "0"], "--validation-images: must be"),
        (["--recipe", "foo"], "'tuned', 'published'"),
        (["--precision", "foo"], "'auto', 'float32', 'mixed_bfloat16', 'mixed_float16'"),
        (["--resume"], "--run NAME"),
        (["--image-size", "64"], "--image-size is for --images"),
        (["--run", "a/b"], "--run is a name, not a path"),
        (["--run", "/a"], "--run is a name, not a path"),
        (["--run", ".."], "--run is a name, not a path"),
    ],
    ids=" ".join,
)
def test_flags_that_make_no_sense(capsys, flags, named):
    with pytest.raises(SystemExit) as exit:
        train.main(flags)
    assert exit.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("train.py: ") and message.count("\n") == 1
    assert named.replace("'", "") in message.replace("'", "")
    assert os.listdir() == []


def refused(capsys, status, *named):
    """Checks that the run which returned `status` failed with a short message of these words."""
    message = capsys.readouterr().err
    assert status != 0
    assert "train.py: " in message and "Traceback" not in message
    explanation = message.partition("train.py: ")[2]
    assert len(explanation) < 400, explanation
    for words in named:
        assert words in explanation
    assert "{{" not in explanation and "[Op:" not in explanation  # TensorFlow's names of nodes


@pytest.mark.parametrize("number", ["300", "301"])
def test_no_image_left_to_train_on(capsys, number):
    status = run("--validation-images", number)
    refused(capsys, status, "--validation-images must be less than the 300 images", number)
    assert os.listdir() == []


@pytest.mark.parametrize("flag", ["--output-dir", "--log-dir"])
def test_a_folder_that_cannot_be_made(capsys, flag):
    pathlib.Path("file").touch()  # no folder can lie below it, not even root's
    refused(capsys, run(flag, "file/below"), "file/below", flag)
    assert os.listdir() == ["file"]


@pytest.mark.parametrize("folder", ["saved_models", "logs"])
def test_an_earlier_run_is_not_touched(capsys, monkeypatch, folder):
    earlier = pathlib.Path(folder, "a")
    earlier.mkdir(parents=True)
    (earlier / "last.keras").write_text("weeks of training")
    monkeypatch.setattr(cifar10, "load", None)  # it is refused before anything slow
    refused(capsys, run(), str(earlier), "--run")
    assert files(earlier) == ["last.keras"]
    assert (earlier / "last.keras").read_text() == "weeks of training"


def test_a_refused_run_can_be_started_again_under_its_name(capsys, monkeypatch):
    def damaged(data_dir):
        raise cifar10.DataError("The data set is damaged. Delete it and load again.")

    monkeypatch.setattr(cifar10, "load", damaged)
    for _ in range(2):
        refused(capsys, run(), "The data set is damaged. Delete it")
        assert os.listdir() == []


def test_data_is_looked_for_where_data_dir_says(capsys, monkeypatch):
    def nowhere(data_dir):
        raise cifar10.DataError(f"nothing in {data_dir}")

    monkeypatch.setattr(cifar10, "load", nowhere)
    refused(capsys, run("--data-dir", "shelf"), "nothing in shelf")


@pytest.fixture
def cut_off(monkeypatch):
    """Lets the save number `count` (there are two in an epoch) write half a file and raise `error`.

    Returns a dict that then holds what had been saved until then.
    """

    def install(count, error):
        saved, save, calls = {}, keras.Model.save, []

        def save_half(model, path):
            calls.append(path)
            if len(calls) == count:
                saved.update({p.name: p.read_bytes() for p in path.parent.glob("[!.]*.keras")})
            save(model, path)
            if len(calls) >= count:
                os.truncate(path, path.stat().st_size // 2)
                raise error

        monkeypatch.setattr(keras.Model, "save", save_half)
        return saved

    return install


@pytest.mark.parametrize(
    "count, error, status, words",
    [
        (2, OSError(errno.ENOSPC, "No space left on device"), 1, ("has no room left", "make room")),
        (3, KeyboardInterrupt(), 130, ("interrupted", "--run a --resume")),
    ],
    ids=["full disk", "Ctrl-C"],
)
def test_cut_off_in_mid_save(capsys, cut_off, count, error, status, words):
    saved = cut_off(count, error)
    found = run("--no-transformer")
    assert found == status
    refused(capsys, found, *words)
    folder = pathlib.Path("saved_models/a")
    models = {path.name: path.read_bytes() for path in folder.iterdir() if "keras" in path.name}
    assert models == saved and "best.keras" in saved
    assert not list(folder.glob(".*"))
    for name in saved:
        keras.models.load_model(folder / name)


def test_a_full_disk_is_reported_without_the_names_of_graph_nodes(capsys, monkeypatch):
    def full(data_dir):
        text = "{{function_node __wrapped__Flush}} logs/events.v2; No space left\n\tmore [Op:Flush]"
        raise tf.errors.ResourceExhaustedError(None, None, text)

    monkeypatch.setattr(cifar10, "load", full)
    status = run()
    refused(capsys, status, "logs/events.v2; No space left\n", "--log-dir")
    assert os.listdir() == []


def test_a_disk_that_is_full_at_once_leaves_no_folder_behind(capsys, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    refused(capsys, run("--no-transformer"), "has no room left", "Nothing had been trained yet")
    assert not any(any(pathlib.Path(name).iterdir()) for name in ("saved_models", "logs"))


LONG_RUN = """
import sys, train
from stn_keras.data import cifar10
from tests import test_train

cifar10.load = test_train.tiny
sys.exit(test_train.run("--recipe", "published", "--no-transformer", epochs=100_000))
"""


def interrupt(command, *conditions):
    """Sends a process SIGINT, as Ctrl-C does, whenever the next condition holds.

    Conditions are functions of the process and what it has written. Returns its exit status and
    what it has written to stdout and stderr.
    """
    out, err = pathlib.Path("out"), pathlib.Path("err")
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=out.open("w"),
        stderr=err.open("w"),
    )
    try:
        for condition in conditions:
            deadline = time.monotonic() + 120
            while not condition(process, out.read_text() + err.read_text()):
                assert process.poll() is None, err.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
    message = err.read_text()
    assert "Traceback" not in message
    return process.returncode, out.read_text(), message


@pytest.mark.slow
def test_an_interrupted_epoch_is_finished_and_its_result_printed():
    folder = pathlib.Path("saved_models/a")
    status, printed, message = interrupt(
        ["-c", LONG_RUN], lambda *_: (folder / "last.keras").exists()
    )
    assert status == 130 and "Stopping after epoch " in message
    assert message.endswith("resume it with: python train.py --run a --resume\n")
    assert files(folder) == sorted([*UNFINISHED, "curves.png"])
    assert keras.models.load_model(folder / "last.keras").count_params() == 424_698
    epochs = len(history(folder)["epoch"])
    assert epochs == printed.count(" - val_loss: ")
    assert f"Test accuracy after {epochs} epoch" in printed


@pytest.mark.slow
def test_a_second_interrupt_says_what_is_lost_and_ends_at_once():
    status, printed, message = interrupt(
        ["-c", LONG_RUN],
        lambda _, written: "Epoch 1/" in written,
        lambda _, written: "Stopping after epoch 1. Ctrl-C again stops now and loses" in written,
    )
    assert status == -signal.SIGINT and "val_loss" not in printed
    assert message.endswith("has learnt so far.\n")
    left = files(pathlib.Path("saved_models/a"))
    assert left == ["config.json", "history.csv", "unfinished.npz"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_an_interrupt_during_the_imports_shows_no_traceback():
    def importing(process, _):
        return "tensorflow" in pathlib.Path(f"/proc/{process.pid}/maps").read_text()

    status, printed, _ = interrupt([str(ROOT / "train.py")], importing)
    assert status == -signal.SIGINT and not printed
    assert sorted(os.listdir()) == ["err", "out"]
