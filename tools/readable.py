"""
Runs a program where all users can read this checkout and the Python that runs it:

    python tools/readable.py PROGRAM...

Tests become other users.  In a home directory that only its owner may enter, as Debian's /root,
they could not even start nanotun.  The program gets mounts of its own in which such directories
are open; the directories themselves do not change.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_OTHERS = stat.S_IROTH | stat.S_IXOTH

#: The directories, then --, then the program.  In place of a directory comes an open one with the
#: same entries.
_OPEN = r"""
set -eu
while [ "$1" != -- ]; do
    held=$(mktemp -d)
    mount --rbind "$1" "$held"
    mount -t tmpfs -o mode=755 nanotun-tests "$1"
    for entry in "$held"/* "$held"/.[!.]*; do
        place=$1/${entry##*/}
        if [ -L "$entry" ]; then
            cp -P "$entry" "$place"
        elif [ -d "$entry" ]; then
            mkdir "$place"
            mount --rbind "$entry" "$place"
        elif [ -f "$entry" ]; then
            : >"$place"
            mount --bind "$entry" "$place"
        fi
    done
    umount -l "$held"
    rmdir "$held"
    shift
done
shift
# The shell is still in the directory as it was.
cd "$PWD"
exec "$@"
"""


def closed(paths: Iterable[Path]) -> list[Path]:
    """
    The directories on the way to C{paths}, and these, which others can not read; the outermost
    first.
    """
    ways = {each for path in paths for each in (path, *path.parents)}
    return sorted(each for each in ways if each.stat().st_mode & _OTHERS != _OTHERS)


def mayMount() -> bool:
    """Whether this process can have mounts of its own."""
    tried = subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL)
    return tried.returncode == 0


def command(argv: Sequence[str]) -> list[str]:
    """The command that runs C{argv} where others can read what it needs."""
    directories = closed([ROOT, Path(sys.base_prefix).resolve()]) if os.geteuid() == 0 else []
    # In some containers root may mount nothing; the tests that become others skip there.
    if not directories or not mayMount():
        return list(argv)
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _OPEN, "sh"]
    return [*unshare, *map(str, directories), "--", *argv]


if __name__ == "__main__":
    argv = command(sys.argv[1:])
    os.execvp(argv[0], argv)
