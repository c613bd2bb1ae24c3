"""`.keras` files that are damaged, hostile, or not models."""

import json
import zipfile

import keras
import pytest

from stn_keras.saved import LoadError, load

RAN = []


def saved(path, *layers):
    keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), *layers]).save(path)
    return path


def with_class(path, module, name):
    """Rewrites the file's first layer to be of another class."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1].update(module=module, class_name=name, registered_name=None)
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def test_a_good_file_is_loaded(tmp_path):
    assert load(saved(tmp_path / "a.keras")).output_shape == (None, 4)


def test_a_lambda_is_not_run(tmp_path):
    path = saved(tmp_path / "a.keras", keras.layers.Lambda(lambda x: RAN.append(1) or x))
    RAN.clear()
    with pytest.raises(LoadError, match="a.keras .* Python code, which is not run .*lambda"):
        load(path)
    assert not RAN


@pytest.mark.parametrize("module, name", [("subprocess", "Popen"), ("tests.test_saved", "Evil")])
def test_a_foreign_class_is_not_run(tmp_path, module, name):
    path = saved(tmp_path / "a.keras")
    with_class(path, module, name)
    with pytest.raises(LoadError, match=f"a.keras .*which is not run .*'{name}'") as caught:
        load(path)
    assert len(str(caught.value)) < 200 + len(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file(tmp_path, share):
    path = saved(tmp_path / "a.keras")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(LoadError, match="a.keras .*damaged"):
        load(path)


def test_no_file_and_another_file(tmp_path):
    with pytest.raises(LoadError, match="no file .*a.keras"):
        load(tmp_path / "a.keras")
    (tmp_path / "a.png").write_bytes(saved(tmp_path / "a.keras").read_bytes())
    with pytest.raises(LoadError, match="a.png is not a .keras file"):
        load(tmp_path / "a.png")


def test_a_file_whose_settings_are_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(LoadError, match="a.keras can't be loaded, damaged .*; save it again"):
        load(tmp_path / "a.keras")
