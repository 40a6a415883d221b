"""
Runs the wheel for arm64 on a machine that is emulated: imports all of it, and has it carry
TCP and UDP (tests/smoke.py).

    python tools/arm64.py

Python for arm64 comes from Debian, and is unpacked, not installed.  Of the emulator,
qemu-user-static, only the program is used: the kernel's binfmt_misc needs no entry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from golang import ROOT
from wheels import PLATFORM, wheelFor

#: The Debian that Python comes from, and its version there.
SUITE = "bookworm"
PYTHON = "3.11"

EMULATOR = "qemu-aarch64-static"

#: Seconds for Debian's packages to arrive, and for the program to run.
PATIENCE = 1800


def unpack(root: Path) -> None:
    """
    Unpack Python for arm64 and what it needs.

    @raise subprocess.CalledProcessError: it failed; mmdebstrap has printed why.
    """
    made = root.with_suffix(".tar")
    command = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64"]
    packages = "--include=python3,ca-certificates"
    # What it leaves if it is killed goes with the rest.
    scratch = {**os.environ, "TMPDIR": str(root.parent)}
    command += [packages, SUITE, str(made)]
    subprocess.run(command, env=scratch, check=True, timeout=PATIENCE)
    root.mkdir()
    # Devices are for root to make, and not needed.
    untar = ["tar", "-x", "--no-same-owner", "--exclude=./dev/*", "-f", str(made)]
    subprocess.run([*untar, "-C", str(root)], check=True)
    made.unlink()


def install(wheel: Path, target: Path) -> None:
    """
    Install a wheel and what it depends on for arm64's Python, by wheels only.

    @raise subprocess.CalledProcessError: it failed; pip has printed why.
    """
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    where = ["--target", str(target), "--only-binary=:all:", "--no-compile"]
    what = ["--platform", f"{PLATFORM}_aarch64", "--python-version", PYTHON]
    user = ["--root-user-action=ignore"]
    subprocess.run([*pip, *user, *where, *what, str(wheel)], check=True, timeout=PATIENCE)


def run(root: Path, target: Path, *arguments: str) -> None:
    """
    Run arm64's Python.

    @raise subprocess.CalledProcessError: its exit status was not 0.
    """
    python = str(root / "usr" / "bin" / f"python{PYTHON}")
    subprocess.run(
        [EMULATOR, "-L", str(root), python, *arguments],
        env={"PATH": os.defpath, "PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(target)},
        check=True,
        timeout=PATIENCE,
    )


def main() -> int:
    """Do all of it."""
    # Root loads no library that others can write.
    os.umask(0o022)
    for program in (EMULATOR, "mmdebstrap"):
        if shutil.which(program) is None:
            print(
                f"The wheel for arm64 is tried with {program}, which is not here: install "
                "qemu-user-static and mmdebstrap.",
                file=sys.stderr,
            )
            return 1
    try:
        wheel = wheelFor("aarch64")
        with tempfile.TemporaryDirectory() as scratch:
            # Whoever mmdebstrap becomes has to get there.
            os.chmod(scratch, 0o755)
            root, target = Path(scratch, "root"), Path(scratch, "target")
            install(wheel, target)
            unpack(root)
            run(root, target, "-c", "from nanotun.console import main; main()", "--version")
            run(root, target, str(ROOT / "tests" / "smoke.py"))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as error:
        print(f"{error.cmd[0]} took more than {PATIENCE} s.", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{Path(error.cmd[0]).name} failed.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
