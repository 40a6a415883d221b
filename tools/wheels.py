"""
Builds the wheels for machines without Go and without a compiler, and checks them.

    python tools/wheels.py build    makes those for x86-64 and arm64 in dist/
    python tools/wheels.py check    has auditwheel look at them
    python tools/wheels.py again    makes that for x86-64 once more, in another directory and
                                    without what earlier builds have left; it must be the same
    python tools/wheels.py sdist    packs the source, in dist/ as well

The compiler is C{zig cc}, which builds for any machine and any glibc; it and auditwheel
are in the optional dependencies called wheel.  The same source, Go, Zig and setuptools give
the same wheel.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from golang import ROOT

DIST = ROOT / "dist"

#: The oldest glibc that the library can be loaded with, and the name that wheels have for it.
GLIBC = "2.17"
PLATFORM = "manylinux2014"

#: The machines by their names in wheels; Go has other names.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

#: The processors that a wheel has to run on are the oldest, whatever the builder's settings.
PLAIN = {"CGO_CFLAGS": "-O2", "GOAMD64": "v1", "GOARM64": "v8.0"}

#: What would get into the library as well.
IGNORED = (
    "CGO_CPPFLAGS",
    "CGO_CXXFLAGS",
    "CGO_FFLAGS",
    "CGO_LDFLAGS",
    "GOEXPERIMENT",
    "GOFIPS140",
    "GOFLAGS",
)


def commitTime() -> str:
    """
    The time that files in the wheel have: that of the last commit.

    @return: seconds since 1970; C{SOURCE_DATE_EPOCH} if that is set.
    @raise RuntimeError: there is neither.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    try:
        command = ["git", "log", "-1", "--format=%ct"]
        return subprocess.check_output(command, cwd=ROOT, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        raise RuntimeError(
            "The wheel's files get the time of the last commit, and git knows none here: say a "
            "time with SOURCE_DATE_EPOCH=, in seconds since 1970."
        ) from None


def environmentFor(machine: str) -> dict[str, str]:
    """
    The environment of a build.

    @param machine: a key of L{MACHINES}.
    @raise RuntimeError: there is no Zig, or no time.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise RuntimeError("There is no Zig in this Python: build the wheels with make wheel.")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{GLIBC}"]
    kept = {name: value for name, value in os.environ.items() if name not in IGNORED}
    return {
        **kept,
        **PLAIN,
        "CC": shlex.join(compiler),
        "GOARCH": MACHINES[machine],
        "SOURCE_DATE_EPOCH": commitTime(),
    }


def build(machine: str, output: Path) -> Path:
    """
    Make the wheel for one machine.

    @param output: the directory to make it in.  An older one is replaced.
    @return: the wheel.
    @raise RuntimeError: something is missing.
    @raise subprocess.CalledProcessError: it failed, and pip has printed why.
    """
    # setuptools would put what is left from another machine or version into the wheel.
    for left in (ROOT / "build" / "lib", *(ROOT / "build").glob("bdist.*")):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
        options = ["--no-deps", "--no-build-isolation", "-w", scratch]
        # Spelt out: the pip of Debian 12 does not know -C.
        platform = f"--config-settings=--build-option=--plat-name={PLATFORM}_{machine}"
        subprocess.run(
            [*pip, *options, platform, "."], cwd=ROOT, env=environmentFor(machine), check=True
        )
        (made,) = Path(scratch).glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(made, output))


def buildAll() -> None:
    """Make the wheels, and print their names and sizes."""
    for old in DIST.glob("nanotun-*.whl"):
        old.unlink()
    for machine in MACHINES:
        made = build(machine, DIST)
        print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1e6:.1f} MB", flush=True)


def wheelFor(machine: str) -> Path:
    """
    The wheel that was made for a machine.

    @raise RuntimeError: there is none.
    """
    found = sorted(DIST.glob(f"nanotun-*{PLATFORM}_{machine}*.whl"))
    if not found:
        raise RuntimeError(f"There is no wheel for {machine} in dist/: make wheel builds it.")
    return found[-1]


def contents(wheel: Path) -> dict[str, bytes]:
    """The files in a wheel, without their list, whose line ends are not always the same."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.endswith(("/", "/RECORD"))
        }


def check(machine: str) -> None:
    """
    Have auditwheel look at a wheel, and have it repaired: nothing may need that.

    @raise RuntimeError: it is not for the platform in its name, or was changed.
    @raise subprocess.CalledProcessError: it is for no platform, as auditwheel has said.
    """
    wheel = wheelFor(machine)
    auditwheel = [sys.executable, "-m", "auditwheel"]
    said = subprocess.check_output([*auditwheel, "show", str(wheel)], text=True)
    print(said.strip(), flush=True)
    found = re.search(rf'tag:\s+"manylinux_(\d+)_(\d+)_{machine}"', said)
    if found is None or (int(found[1]), int(found[2])) > tuple(map(int, GLIBC.split("."))):
        raise RuntimeError(f"{wheel.name} needs more than glibc {GLIBC}: see above.")
    with tempfile.TemporaryDirectory() as scratch:
        # It knows no other machine's platforms by name, but finds the right one.
        repair = ["repair", "--plat", "auto", "--no-update-tags", "--patcher", "none"]
        subprocess.run([*auditwheel, *repair, "-w", scratch, str(wheel)], check=True)
        repaired = Path(scratch, wheel.name)
        if not repaired.exists() or contents(repaired) != contents(wheel):
            raise RuntimeError(f"auditwheel repair changes {wheel.name}, which has to be right.")


def again(machine: str) -> None:
    """
    Make a wheel once more, of the files that git knows.

    @raise RuntimeError: it is another one.
    @raise subprocess.CalledProcessError: it cannot be made.
    """
    wheel = wheelFor(machine)
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "elsewhere")
        for name in filter(None, names.split("\0")):
            if (ROOT / name).exists():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, tree / name)
        caches = {
            name: str(Path(scratch, name))
            for name in ("GOCACHE", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
        }
        code = "import sys, wheels; wheels.build(sys.argv[1], wheels.DIST)"
        subprocess.run(
            [sys.executable, "-c", code, machine],
            env={**os.environ, **caches, "SOURCE_DATE_EPOCH": commitTime()},
            cwd=tree / "tools",
            umask=0o077,
            check=True,
        )
        (second,) = (tree / "dist").iterdir()
        if (second.name, second.read_bytes()) != (wheel.name, wheel.read_bytes()):
            old, new = contents(wheel), contents(second)
            other = sorted(name for name in old | new if old.get(name) != new.get(name))
            raise RuntimeError(
                f"A second build gave another {wheel.name}; what differs: "
                f"{', '.join(other) or 'times, modes or order'}."
            )
    print(f"{wheel.name} is the same again.")


def pack(path: Path, when: int) -> None:
    """
    Pack an archive again, without what differs between two clones: owners, times, modes and order.

    @param when: the time of all files, in seconds since 1970.
    """

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid, member.uname, member.gname = when, 0, 0, "", ""
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        member.pax_headers = {}
        return member

    new = path.with_suffix(".new")
    with tarfile.open(path) as old, open(new, "wb") as file:
        with gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for member in sorted(old.getmembers(), key=lambda each: each.name):
                    content = old.extractfile(member) if member.isfile() else None
                    archive.addfile(plain(member), content)
    new.rename(path)


def sdist() -> None:
    """
    Pack the source, and print the archive's name and size.

    @raise RuntimeError: there is no time for its files.
    @raise subprocess.CalledProcessError: it failed; setuptools has said why.
    """
    for old in DIST.glob("nanotun-*.tar.gz"):
        old.unlink()
    code = "import nanotun_build; print(nanotun_build.build_sdist('dist'))"
    path = os.pathsep.join(filter(None, (str(ROOT / "tools"), os.environ.get("PYTHONPATH"))))
    said = subprocess.check_output(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, text=True
    )
    made = DIST / said.splitlines()[-1]
    pack(made, int(commitTime()))
    print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1e6:.1f} MB")


def main(arguments: list[str]) -> int:
    """Run the commands in the module's docstring, in the order that they are given."""
    if not arguments or not set(arguments) <= {"build", "check", "again", "sdist"}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        for command in arguments:
            if command == "build":
                buildAll()
            elif command == "check":
                for machine in MACHINES:
                    check(machine)
            elif command == "sdist":
                sdist()
            else:
                again("x86_64")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode or 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
