"""`replacing` leaves the complete new file or the old one; messages of errors with files."""

import contextlib
import errno
import os

import pytest

from stn_keras.system import files
from stn_keras.system.files import clear, explain, replacing


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("before")
    return path


def test_the_new_content_replaces_the_old_one_at_the_end(path):
    with replacing(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert os.listdir(path.parent) == [path.name]


def test_a_first_file_appears_only_once_it_is_whole(tmp_path):
    with replacing(str(tmp_path / "new.png")) as temporary:
        temporary.write_text("after")
        assert not (tmp_path / "new.png").exists()
    assert os.listdir(tmp_path) == ["new.png"]


def test_the_temporary_file_keeps_folder_and_suffix_and_is_hidden(path):
    with replacing(path) as temporary:
        temporary.touch()
        assert temporary.parent == path.parent  # a rename can't cross file systems
        assert temporary.suffix == ".keras"  # Keras and Matplotlib choose the format by it
        assert temporary.name.startswith(".") and str(os.getpid()) in temporary.name


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(path, error):
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_text("aft")
        raise error
    assert path.read_text() == "before"
    assert os.listdir(path.parent) == [path.name]


def test_a_block_that_writes_nothing_loses_nothing(path):
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "before"


def test_clear_removes_what_a_kill_has_left(path):
    with replacing(path) as temporary:
        left = temporary
        temporary.write_text("after")
    left.write_text("half")
    clear(path.parent)
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_appears_whole_and_replaces_no_other(tmp_path):
    for expected in ("first", None):
        with contextlib.ExitStack() as stack:
            if expected is None:
                stack.enter_context(pytest.raises(OSError))
            temporary = stack.enter_context(replacing(tmp_path / "model"))
            temporary.mkdir()
            (temporary / "part").write_text(expected or "second")
        assert (tmp_path / "model" / "part").read_text() == "first"
        assert os.listdir(tmp_path) == ["model"]


def explained(path):
    """The message if no file can be written to `path`."""
    with pytest.raises(OSError) as caught, replacing(path) as temporary:
        temporary.write_text("after")
    return explain(caught.value)


def test_an_error_names_the_path_asked_for_and_the_remedy(tmp_path, path):
    missing = tmp_path / "missing"
    assert explained(missing / "x.onnx") == f"{missing} does not exist; check the path"
    assert explained(path / "x.onnx").startswith(f"{path} is a file where a folder is wanted; ")
    (tmp_path / "full" / "er").mkdir(parents=True)
    assert explained(tmp_path / "full").startswith(f"{tmp_path / 'full'} is a folder where a file")
    assert sorted(os.listdir(tmp_path)) == ["full", "model.keras"]


def test_what_can_not_be_written_is_said_before_the_work(path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(PermissionError) as caught, replacing(path):
        pytest.fail("the block has begun")
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("named", [True, False])
def test_an_error_on_the_temporary_file_is_one_on_the_path(path, named):
    with pytest.raises(OSError) as caught, replacing(path) as temporary:
        raise OSError(errno.ENOSPC, "No space left on device", *[str(temporary)] * named)
    assert explain(caught.value) == f"{path} has no room left; make room or choose another path"


def test_errors_of_other_files_and_of_other_kinds():
    other = PermissionError(errno.EACCES, "Permission denied", "b.txt")
    assert explain(other).startswith("b.txt is closed to this user; change its permissions")
    strange = OSError(errno.EIO, "Input/output error", "c.txt")
    assert explain(strange) == "c.txt can't be used: Input/output error; choose another path"
    assert explain(OSError("just so")) == "just so"
    assert explain(OSError(errno.ENOSPC, "")).startswith("The disk has no room left; make room")


def test_the_longest_names(tmp_path):
    path = tmp_path / ("\u732b" * 80 + ".png")
    with files.replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    names = [files.shorten(f"{'x' * 300}{k}", 251) for k in range(2)]
    assert len({*names}) == 2 and all(len(name) <= 251 for name in names)
