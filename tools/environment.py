"""
Makes the virtual environment that nanotun is installed as.

    .venv/bin/python tools/environment.py FRESH PLACE PYTHON

FRESH is a new directory, which somebody moves to PLACE afterwards.  PYTHON is the Python that
runs nanotun there, of the same minor version as the one that runs this.

No package index is asked, as the environment that runs this has all that nanotun needs:
each dependency is packed into a wheel again, and nanotun's own is built of this checkout with
the library that 'make build' has made.  pip installs those, and finds out whether something is
lacking.  Nothing in FRESH says where it was made.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from golang import LIBRARY, ROOT
from setuptools._vendor.packaging.requirements import Requirement
from setuptools._vendor.packaging.utils import canonicalize_name

#: What the wheel is made of.  It is built of a copy, as root must not write into the checkout
#: of somebody else.
SOURCES = ("nanotun", "twisted", "tools", "licenses")
SOURCE_FILES = ("LICENSE", "README.md", "pyproject.toml", "setup.py")

#: What pip writes about an installation, as opposed to what a package contains.
PIPS_OWN = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}

#: What works at the place only where the environment was made.
USELESS = ("activate", "activate.csh", "activate.fish", "Activate.ps1")


class EnvironmentFault(Exception):
    """The environment cannot be made; the text is for a user."""


def _need(requirement: str) -> Distribution:
    """The installed package that a requirement is about."""
    name = Requirement(requirement).name
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise EnvironmentFault(
            f"{name} is missing in {sys.prefix}; make it anew: make clean build"
        ) from None
    if not found.files or not found.read_text("WHEEL"):
        raise EnvironmentFault(
            f"{name} in {sys.prefix} was not installed by pip; make it anew: make clean build"
        )
    return found


def dependencies(of: str) -> list[Distribution]:
    """
    @param of: the name of an installed package.
    @return: the packages that it needs, and those that they need, as they are installed.
    @raise EnvironmentFault: one is missing.
    """
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, str]] = set()
    queue = [(of, "")]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in asked:
            continue
        asked.add((name, extra))
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                key = canonicalize_name(needed.name)
                found[key] = _need(text)
                queue.extend((key, each) for each in ("", *needed.extras))
    return list(found.values())


def pack(installed: Distribution, directory: Path) -> Path:
    """
    Make a wheel of an installed package, without its commands, which pip writes anew, and
    without byte code.

    @param directory: where to make it.
    @return: the wheel.
    """
    files = [
        file
        for file in installed.files or ()
        if ".." not in file.parts
        and file.suffix != ".pyc"
        and not (file.parent.suffix == ".dist-info" and file.name in PIPS_OWN)
    ]
    (info,) = {file.parts[0] for file in files if file.parts[0].endswith(".dist-info")}
    about = installed.read_text("WHEEL") or ""
    tags = [line[5:].split("-") for line in about.splitlines() if line.startswith("Tag: ")]
    tag = "-".join(".".join(sorted(set(part))) for part in zip(*tags, strict=True))
    wheel = directory / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    rows = io.StringIO()
    record = csv.writer(rows, lineterminator="\n")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            hashed = f"{file.hash.mode}={file.hash.value}" if file.hash else ""
            record.writerow([file, hashed, file.size])
            archive.write(str(file.locate()), str(file))
        record.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(f"{info}/RECORD", rows.getvalue())
    return wheel


def buildWheel(directory: Path) -> Path:
    """
    Build nanotun's wheel of a copy of this checkout.

    @param directory: an empty one.
    @return: the wheel.
    @raise EnvironmentFault: the library has not been built.
    """
    library = ROOT / LIBRARY
    if not library.exists():
        raise EnvironmentFault(f"{LIBRARY} is missing; build it: make build")
    copy = directory / "source"
    copy.mkdir()
    leave = shutil.ignore_patterns("__pycache__", "*.so", "dropin.cache")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=leave)
    for name in SOURCE_FILES:
        shutil.copy(ROOT / name, copy)
    _pip(
        ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, copy],
        {"NANOTUN_LIBRARY": str(library)},
    )
    (wheel,) = directory.glob("nanotun-*.whl")
    shutil.rmtree(copy)
    return wheel


def _pip(arguments: Sequence[str | Path], variables: dict[str, str] | None = None) -> None:
    """Run pip of this environment, without a package index."""
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, *arguments],
        env={**os.environ, "PIP_NO_INDEX": "1", **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise EnvironmentFault(done.stdout.strip())


def settle(fresh: Path, place: Path) -> None:
    """
    Let an environment be for another place than the one where it was made.

    @param fresh: where it is.
    @param place: where it will be.
    """
    for name in USELESS:
        (fresh / "bin" / name).unlink(missing_ok=True)
    # For the headers of packages that contain some; none does.
    shutil.rmtree(fresh / "include")
    old, new = str(fresh).encode(), str(place).encode()
    files = [file for file in (fresh / "bin").iterdir() if not file.is_symlink()]
    for file in (fresh / "pyvenv.cfg", *files):
        file.write_bytes(file.read_bytes().replace(old, new))
    # The hashes of the commands have changed with them.
    for record in fresh.glob("lib/python3*/site-packages/*.dist-info/RECORD"):
        site = record.parent.parent
        rows = io.StringIO()
        with record.open(newline="") as stream:
            for name, hashed, size in csv.reader(stream):
                row = [name, hashed, size]
                if name.startswith("../"):
                    content = (site / name).read_bytes()
                    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
                    row = [name, f"sha256={digest.decode().rstrip('=')}", str(len(content))]
                csv.writer(rows, lineterminator="\n").writerow(row)
        record.write_text(rows.getvalue())


def make(fresh: Path, place: Path, python: str) -> None:
    """
    Make the environment.

    @param fresh: a directory that does not exist.
    @param place: where the environment will be.
    @param python: the interpreter.
    @raise EnvironmentFault: it cannot be made.
    """
    with tempfile.TemporaryDirectory() as name:
        wheels = Path(name)
        wheel = buildWheel(wheels)
        for installed in dependencies("nanotun"):
            pack(installed, wheels)
        version = wheel.name.split("-")[1]
        subprocess.run([python, "-m", "venv", "--without-pip", fresh], check=True)
        _pip(
            [
                *("--python", fresh / "bin" / "python", "install", "--no-compile", "--no-index"),
                # By its name: for a path, pip notes where the wheel was.
                *("--root-user-action=ignore", "--find-links", wheels, f"nanotun=={version}"),
            ]
        )
    settle(fresh, place)


def main(arguments: list[str]) -> int:
    """Run the command in the module's docstring."""
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    fresh, place, python = arguments
    try:
        make(Path(fresh), Path(place), python)
    except EnvironmentFault as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
