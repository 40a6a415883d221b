"""
What 'make release' asks before and after it builds:

    python tools/release.py check   whether this commit can be released
    python tools/release.py sums    whether dist/ has all of it; writes dist/SHA256SUMS
    python tools/release.py notes   prints the CHANGELOG's section of this version

The version is that of nanotun/__init__.py.  A commit without a tag is built as a rehearsal; one
with a tag has to be what the tag says.  Whatever is wrong is one sentence, and exit status 1.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nanotun import __version__  # noqa: E402

DIST = ROOT / "dist"
SUMS = "SHA256SUMS"

#: What a release has, by what a user would call it; {version} stands for the version.
ARTEFACTS = {
    "the wheel for x86-64": "nanotun-{version}-py3-none-*manylinux*_x86_64.whl",
    "the wheel for arm64": "nanotun-{version}-py3-none-*manylinux*_aarch64.whl",
    "the source distribution": "nanotun-{version}.tar.gz",
    "the image": "nanotun-{version}-amd64.image.tar.gz",
    "the package for Debian 12": "nanotun_{version}-*deb12u*_amd64.deb",
    "the package for Debian 13": "nanotun_{version}-*deb13u*_amd64.deb",
    "the package for Ubuntu 24.04": "nanotun_{version}-*ubuntu24.04*_amd64.deb",
    "the bill of materials": "nanotun-{version}.cdx.json",
}

#: Where the date is while there is none.
UNRELEASED = "unreleased"


class NotReadyError(Exception):
    """One sentence: what keeps this from being a release, and what to do."""


def section(changelog: str, version: str) -> tuple[str, str]:
    """
    Find a version in the CHANGELOG.

    @return: its date, or L{UNRELEASED}; and the text of its section.
    @raise NotReadyError: it is not there.
    """
    match = re.search(
        rf"^## \[{re.escape(version)}\] - (\S+)\n(.*?)(?=^## \[|\Z)", changelog, re.M | re.S
    )
    if match is None:
        raise NotReadyError(
            f"CHANGELOG.md has no section of version {version}, which nanotun/__init__.py says; "
            f"write one below the line: ## [{version}] - {UNRELEASED}"
        )
    return match[1], match[2].strip() + "\n"


def check(version: str, changelog: str, changed: Sequence[str], tags: Sequence[str]) -> str:
    """
    Judge a commit.

    @param changed: the files that differ from the commit or that git does not know.
    @param tags: the tags of the commit, of all kinds.
    @return: what it is that is going to be built.
    @raise NotReadyError: it cannot be a release.
    """
    if changed:
        raise NotReadyError(
            "What has changed or is unknown to git would be in the release, and is not in the "
            f"commit: {', '.join(sorted(changed)[:5])}; commit, or build in a fresh clone."
        )
    date, _ = section(changelog, version)
    versions = [tag for tag in tags if re.match(r"v\d", tag)]
    if not versions:
        return f"nanotun {version}, as a rehearsal: the commit has no tag v{version}"
    if versions != [f"v{version}"]:
        raise NotReadyError(
            f"The commit is tagged {', '.join(versions)}, and nanotun/__init__.py says "
            f"{version}; remove the tag, or change the version."
        )
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise NotReadyError(
            f"The section of version {version} in CHANGELOG.md says {date!r} in the place of the "
            "day of the release; write it as 2026-12-31, and tag that commit."
        )
    return f"nanotun {version} of {date}"


def rename(dist: Path) -> None:
    """
    Give the packages names that they keep when they are uploaded.

    A tilde, which Debian's versions have, is a point in the names of files on GitHub, and the
    sums go by the names.  dpkg and apt do not look at a file's name.
    """
    for path in dist.glob("*~*.deb"):
        path.rename(path.with_name(path.name.replace("~", ".")))


def artefacts(dist: Path, version: str) -> list[Path]:
    """
    Find what the release consists of.

    @return: the files, in the order of their names.
    @raise NotReadyError: one is missing or there twice, or there is something else, such as
        what an older version has left.
    """
    found: set[Path] = set()
    for name, pattern in ARTEFACTS.items():
        paths = list(dist.glob(pattern.format(version=version)))
        if len(paths) != 1:
            raise NotReadyError(
                f"{dist.name}/ has {len(paths)} files for {name} "
                f"({pattern.format(version=version)}) in the place of one; run: make release"
            )
        found.update(paths)
    others = {path for path in dist.iterdir() if path.is_file() and path.name != SUMS} - found
    if others:
        raise NotReadyError(
            f"{dist.name}/ has what is no part of the release: "
            f"{', '.join(sorted(path.name for path in others))}; run: make release"
        )
    return sorted(found)


def sums(paths: Sequence[Path]) -> str:
    """The digests of files, in the form that C{sha256sum -c} reads."""
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths
    )


def _git(*arguments: str) -> list[str]:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise NotReadyError("git is missing; install it: apt-get install git") from None
    except subprocess.CalledProcessError as error:
        raise NotReadyError(
            f"A release is made in a clone; git says: {error.stderr.strip()}"
        ) from None
    return done.stdout.splitlines()


def main(arguments: Sequence[str]) -> None:
    """Do what the first argument says."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    match arguments:
        case ["check"]:
            changed = [line[3:] for line in _git("status", "--porcelain")]
            print(check(__version__, changelog, changed, _git("tag", "--points-at", "HEAD")))
        case ["notes"]:
            print(section(changelog, __version__)[1], end="")
        case ["sums"]:
            rename(DIST)
            paths = artefacts(DIST, __version__)
            (DIST / SUMS).write_text(sums(paths))
            for path in (*paths, DIST / SUMS):
                print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.relative_to(ROOT)}")
        case _:
            raise NotReadyError("usage: release.py check|sums|notes")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NotReadyError as error:
        sys.exit(str(error))
