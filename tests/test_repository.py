"""No data set is committed, and no file that makes a clone large."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MEGABYTE = 10**6
DATA_SETS = (".tfrecord", ".tar", ".gz", ".tgz", ".zip", ".h5", ".hdf5", ".parquet", ".ubyte")


@pytest.fixture(scope="module")
def sizes():
    """Bytes of each committed file by its path."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git does not list the files: {error}")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return {str(path.relative_to(ROOT)): path.stat().st_size for path in paths if path.exists()}


def is_data_set(name):
    return any(ending in path_part for path_part in name.split("/") for ending in DATA_SETS)


def test_no_data_set_is_committed(sizes):
    assert not [name for name in sizes if is_data_set(name)]
    assert is_data_set("mnist/3.0.1/mnist-test.tfrecord-00000-of-00001")


def test_no_committed_file_is_above_3_megabytes(sizes):
    assert not {name: size for name, size in sizes.items() if size > 3 * MEGABYTE}


def test_a_checkout_is_at_most_12_megabytes(sizes):
    assert sum(sizes.values()) <= 12 * MEGABYTE  # CONTRIBUTING.md says how files become smaller
