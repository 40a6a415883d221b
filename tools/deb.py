"""
Makes the Debian package.

    python tools/deb.py build            in dist/, for the system that this runs on
    python tools/deb.py copyright TREE   prints what the package says about copyright; TREE is
                                         what is installed

debhelper does the work, with etc/debian/ and what 'make build' has made.  Two builds of one
commit are identical, wherever they are made: all times in the package are the commit's, or
SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import email.utils
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

from golang import ROOT

PYTHON = "/usr/bin/python3"
ENVIRONMENT_PYTHON = ROOT / ".venv" / "bin" / "python"

#: Licences that every Debian has below F{/usr/share/common-licenses}, by how they begin.
COMMON = {
    "Apache License": "Apache-2.0",
    "GNU GENERAL PUBLIC LICENSE": "GPL-2",
}


class Fault(Exception):
    """There will be no package; the text is for a user."""


def versionOf(python: str) -> tuple[int, int]:
    """The version of an interpreter: major and minor."""
    script = "import sys; print(*sys.version_info[:2])"
    major, minor = subprocess.check_output([python, "-c", script], text=True).split()
    return int(major), int(minor)


def suffix(release: dict[str, str]) -> str:
    """
    The end of the package's version, which orders it among those for other systems.

    @param release: what os-release(5) says.
    """
    number = release.get("VERSION_ID", "")
    short = {"debian": f"deb{number}u", "ubuntu": f"ubuntu{number}."}.get(release["ID"])
    if not number or short is None:
        raise Fault(f"This is {release['ID']} {number}; packages are made on Debian and Ubuntu.")
    return f"~{short}1"


def commitTime() -> int:
    """The time of all files: SOURCE_DATE_EPOCH, the last commit's, or that of a source archive."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    # Git refuses to read the checkout of another user.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    if shutil.which("git"):
        done = subprocess.run([*git, "log", "-1", "--format=%ct"], capture_output=True, text=True)
        if done.returncode == 0:
            return int(done.stdout)
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)


def changelog(version: str, series: str, when: int) -> str:
    """The package's own changelog."""
    control = (ROOT / "etc" / "debian" / "control").read_text()
    (maintainer,) = [line[12:] for line in control.splitlines() if line.startswith("Maintainer: ")]
    date = datetime.fromtimestamp(when, UTC)
    return (
        f"nanotun ({version}) {series}; urgency=medium\n\n"
        "  * What has changed is in /usr/share/doc/nanotun/changelog.gz.\n\n"
        f" -- {maintainer}  {email.utils.format_datetime(date)}\n"
    )


def build() -> Path:
    """
    Make the package.

    @return: where it is.
    @raise Fault: something is missing.
    @raise subprocess.CalledProcessError: a step fails, and has printed why.
    """
    if shutil.which("dh") is None:
        raise Fault("Packages are made by debhelper; install it: apt-get install debhelper")
    python = os.path.realpath(PYTHON)
    major, minor = versionOf(python)
    if versionOf(str(ENVIRONMENT_PYTHON)) != (major, minor):
        raise Fault(
            f"The package is for this system's Python {major}.{minor}, and .venv has another "
            f"version; make it anew: make clean build PYTHON={PYTHON}"
        )
    script = "import nanotun; print(nanotun.__version__)"
    version = subprocess.check_output([ENVIRONMENT_PYTHON, "-c", script], cwd=ROOT, text=True)
    release = platform.freedesktop_os_release()
    full = f"{version.strip()}-1{suffix(release)}"
    when = commitTime()
    with tempfile.TemporaryDirectory(prefix="nanotun-deb-") as name:
        tree = Path(name, "nanotun")
        shutil.copytree(ROOT / "etc" / "debian", tree / "debian")
        series = release.get("VERSION_CODENAME", "unstable")
        (tree / "debian" / "changelog").write_text(changelog(full, series, when))
        variables = {
            "BASE": python,
            "BASE_DEPENDS": f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})",
            "CHECKOUT": str(ROOT),
            "DEB_BUILD_OPTIONS": "nocheck",
            "SOURCE_DATE_EPOCH": str(when),
        }
        # MAKEFLAGS of a make that runs this are not for debian/rules.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        for mine in ("DESTDIR", "PREFIX", "SYSCONFDIR", "PYTHON"):
            kept.pop(mine, None)
        subprocess.run(
            # Without C++, which build-essential has.
            ["dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps"],
            cwd=tree,
            env={**kept, **variables},
            check=True,
        )
        (made,) = Path(name).glob("nanotun_*.deb")
        place = ROOT / "dist" / made.name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(made, place)
    return place


def _texts(package: Distribution) -> Iterator[tuple[str, str]]:
    """The licence files of an installed package: their path in it, and their text."""
    for file in package.files or ():
        about = file.parts[0].endswith(".dist-info")
        named = file.name.lower().startswith(("licen", "copying", "notice"))
        if about and (named or "licenses" in file.parts):
            yield str(file), file.read_text()


def copyrights(tree: Path) -> str:
    """
    @param tree: what is installed, for F{/}.
    @return: what the package says about copyright, of every part of it.
    """
    (site,) = tree.glob("usr/lib/nanotun/lib/python3*/site-packages")
    inside = f"/{site.relative_to(tree)}"
    said = [
        "nanotun, and what it needs besides Python, which is below",
        f"{inside}.",
        "Each part has the licence below its name.",
    ]
    for package in sorted(distributions(path=[str(site)]), key=lambda each: each.name.lower()):
        about = package.metadata
        author = about["Author"] or about["Author-email"] or "its authors"
        title = f"{package.name} {package.version}, by {author}"
        said += ["", "", title, "=" * len(title)]
        texts = list(_texts(package))
        if not texts:
            raise Fault(f"{package.name} says nothing of its licence; add it to {__file__}")
        for place, text in texts:
            common = [name for line, name in COMMON.items() if line in text[:400]]
            if common and len(text) > 4000:
                said += ["", f"As /usr/share/common-licenses/{common[0]} says; the notices are in"]
                said += [f"{inside}/{place}."]
            else:
                said += ["", *(line.rstrip() for line in text.strip().splitlines())]
    return "\n".join(said) + "\n"


def main(arguments: list[str]) -> int:
    """Run one of the commands in the module's docstring."""
    try:
        if arguments == ["build"]:
            made = build()
            print(f"{made.relative_to(ROOT)}: {made.stat().st_size} bytes")
        elif len(arguments) == 2 and arguments[0] == "copyright":
            print(copyrights(Path(arguments[1])), end="")
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except Fault as fault:
        print(fault, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
