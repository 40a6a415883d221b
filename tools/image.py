"""
Builds the container image, and exports it to F{dist/}:

    python tools/image.py WHEEL

From the environment:

 - BASE: an image of Debian's or Ubuntu's to begin with, from a registry; by default a base is made
   by mmdebstrap, and kept in F{build/image/}.
 - SUITE: Debian's release for that base.
 - MIRRORS: apt's lines for it, separated by C{;}; by default mmdebstrap's own for the SUITE.
 - BUILDAH: the command with its options, such as another storage.

Files have the time of the last commit, and the archive is the same if it is built twice from the
same base.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = ROOT / "build" / "image"

#: What the image has beside Python's packages.
PACKAGES = ("python3", "ca-certificates", "nftables", "tini")

#: What nobody reads in a container.
LEFT_OUT = ("man", "info", "locale", "lintian", "doc")

#: Machines, as Debian and as Python's wheels call them.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

#: Older ones fit as well; the last is of a wheel that was built for this machine alone.
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "linux")

#: Bytes; the promise of the README.
LIMIT = 120_000_000


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """
    Run a program to its end; what it says goes to the terminal.

    @return: its standard output.
    """
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"The image is not built: '{shlex.join(argv)}' failed, see above.")
    return done.stdout


def need(program: str) -> None:
    """@raise SystemExit: a program is not installed."""
    if shutil.which(program) is None:
        raise SystemExit(f"The image needs {program}, which is missing: apt-get install {program}")


def epoch() -> str:
    """Seconds since 1970 of the last commit; SOURCE_DATE_EPOCH takes its place."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return given or run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]).strip()


def makeBase(suite: str, when: str) -> Path:
    """Make the archive of a Debian with L{PACKAGES}, unless it is there."""
    path = CONTEXT / f"base-{suite}.tar"
    if path.exists():
        return path
    need("mmdebstrap")
    new = path.with_suffix(".new")
    left = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in LEFT_OUT]
    mirrors = list(filter(None, map(str.strip, os.environ.get("MIRRORS", "").split(";"))))
    run(
        [
            *("mmdebstrap", "--quiet", "--format=tar", "--variant=essential"),
            f"--include={','.join(PACKAGES)}",
            *left,
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            '--customize-hook=cd "$1" && rm -rf etc/hostname etc/resolv.conf '
            "var/lib/apt/lists/* var/cache/apt/* var/log/*",
            *(suite, str(new), *mirrors),
        ],
        {**os.environ, "SOURCE_DATE_EPOCH": when},
    )
    new.rename(path)
    return path


def pythonOf(base: Path | None) -> str:
    """The version of a base's Python, such as C{3.11}."""
    if base is None:
        return os.environ.get("BASE_PYTHON", "3.11")
    with tarfile.open(base) as archive:
        for name in archive.getnames():
            found = re.fullmatch(r"\./usr/bin/python(3\.[0-9]+)", name)
            if found:
                return found[1]
    raise SystemExit(f"{base} has no Python; remove it and build again.")


def makeSite(wheel: Path, python: str, machine: str) -> None:
    """Put nanotun and all that it needs where the Containerfile expects it."""
    site = CONTEXT / "site"
    shutil.rmtree(site, ignore_errors=True)
    platforms = [f"--platform={each}_{machine}" for each in PLATFORMS]
    run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
            *("--only-binary=:all:", f"--python-version={python}", "--implementation=cp"),
            *(*platforms, f"--target={site}", str(wheel)),
        ]
    )
    # Scripts begin with the path of the Python that runs this.
    shutil.rmtree(site / "bin", ignore_errors=True)
    for path in [*site.rglob("__pycache__"), *site.rglob("tests"), *site.rglob("test")]:
        shutil.rmtree(path, ignore_errors=True)
    for path in site.glob("*.dist-info"):
        # It names the wheel's path on this machine.
        (path / "direct_url.json").unlink(missing_ok=True)
        lines = (path / "RECORD").read_text().splitlines()
        kept = [each for each in lines if (site / each.split(",")[0]).exists()]
        (path / "RECORD").write_text("".join(f"{each}\n" for each in kept))


def versionOf(wheel: Path) -> str:
    """nanotun's version, as its wheel says."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        found = re.search(r"^Version: (.*)$", archive.read(name).decode(), re.M)
    if found is None:
        raise SystemExit(f"{wheel} names no version; build it again.")
    return found[1]


def build(wheel: Path, machine: str) -> Path:
    """
    Build the image and export it.

    @return: the compressed archive, for C{gunzip -c} and C{podman load} or C{docker load}.
    """
    CONTEXT.mkdir(parents=True, exist_ok=True)
    when, baseImage = epoch(), os.environ.get("BASE", "")
    base = None if baseImage else makeBase(os.environ.get("SUITE", "bookworm"), when)
    makeSite(wheel, pythonOf(base), machine)
    for name, mode in (("Containerfile", 0o644), ("nanotun", 0o755), ("nanotun.yaml", 0o644)):
        shutil.copy(ROOT / "etc" / "container" / name, CONTEXT)
        (CONTEXT / name).chmod(mode)
    link = CONTEXT / "base.tar"
    link.unlink(missing_ok=True)
    if base is None:
        tarfile.open(link, "w").close()
    else:
        os.link(base, link)
    version = versionOf(wheel)
    tag = f"localhost/nanotun:{version}"
    buildah = shlex.split(os.environ.get("BUILDAH", "buildah"))
    run(
        [
            *(*buildah, "build", "--quiet", "--isolation", "chroot", "--format", "docker"),
            # A network of its own would leave firewall rules and forwarding on this machine.
            *("--network", "host", "--layers=false", "--timestamp", when, "--tag", tag),
            *("--build-arg", f"BASE={baseImage or 'scratch'}"),
            *("--build-arg", f"PACKAGES={' '.join(PACKAGES)}"),
            *("--label", f"org.opencontainers.image.version={version}", str(CONTEXT)),
        ]
    )
    (ROOT / "dist").mkdir(exist_ok=True)
    plain = ROOT / "dist" / f"nanotun-{version}-{MACHINES[machine]}.image.tar"
    plain.unlink(missing_ok=True)
    run([*buildah, "push", "--quiet", tag, f"docker-archive:{plain}:{tag}"])
    packed = plain.with_suffix(".tar.gz")
    new = packed.with_suffix(".new")
    with open(plain, "rb") as source, open(new, "wb") as target:
        with gzip.GzipFile("", "wb", 6, target, mtime=0) as archive:
            shutil.copyfileobj(source, archive, 1 << 20)
    plain.unlink()
    new.rename(packed)
    return packed


def main() -> None:
    """Build, and say how large it is."""
    if len(sys.argv) != 2:
        raise SystemExit("Usage: python tools/image.py WHEEL")
    # Of what is copied and installed; root loads no library that others can write.
    os.umask(0o022)
    machine = os.uname().machine
    if machine not in MACHINES:
        raise SystemExit(f"There is no image for {machine}, only for {', '.join(MACHINES)}.")
    need(shlex.split(os.environ.get("BUILDAH", "buildah"))[0])
    started = time.monotonic()
    packed = build(Path(sys.argv[1]), machine)
    size = packed.stat().st_size
    taken = time.monotonic() - started
    print(f"{packed.relative_to(ROOT)}: {size / 1e6:.1f} MB compressed, built in {taken:.0f} s")
    if size > LIMIT:
        raise SystemExit(f"The image is larger than {LIMIT / 1e6:.0f} MB.")


if __name__ == "__main__":
    main()
