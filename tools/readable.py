"""
Runs a program where all users can read this checkout and the Python that runs it:

    python tools/readable.py PROGRAM...

Tests become other users.  In a home directory that only its owner may enter, as Debian's /root,
or in a clone that was made under a umask of 077, they could not even start nanotun.  The program
gets mounts of its own in which such directories and files are open; they themselves do not change.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import run_tests

ROOT = Path(__file__).resolve().parent.parent

#: In the checkout, what is written to for good, and what tests read as root alone.
KEPT = (run_tests.DIRECTORY, "dist", ".git")

_OTHERS = stat.S_IROTH | stat.S_IXOTH

#: Takes L{KEPT}; the words way and a directory, or files and one, as often as needed; then --, then
#: the program.
#:
#: In place of a directory that is on the way comes an open one with the same entries.  One whose
#: files are closed gets a layer above it, in memory, which has nothing but other modes, and what
#: the program writes there, but for what is kept.
_OPEN = r"""
set -eu
kept=$1
shift
above() {
    mount -t tmpfs -o mode=755 nanotun-tests "$held"
    mkdir "$held/upper" "$held/work" "$held/lower"
    mount --rbind "$1" "$held/lower"
    layers=lowerdir=$held/lower,upperdir=$held/upper,workdir=$held/work
    # With this, the content of a file stays below when its mode changes.
    if ! mount -t overlay -o "$layers,metacopy=on,redirect_dir=on" nanotun-tests "$1" 2>/dev/null
    then
        echo "The files in $1 are closed to other users, and the kernel lets nothing be mounted" \
            "over them; tests that become others skip." >&2
        return
    fi
    find "$1" -mindepth 1 -maxdepth 1 | while read -r entry; do
        case " $kept " in
            *" ${entry##*/} "*)
                if [ -d "$entry" ]; then mount --rbind "$held/lower/${entry##*/}" "$entry"; fi ;;
            *) chmod -R go+rX "$entry" ;;
        esac
    done
    chmod go+rx "$1"
    umount -l "$held/lower"
}
way() {
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
}
while [ "$1" != -- ]; do
    held=$(mktemp -d)
    if [ "$1" = files ]; then above "$2"; else way "$2"; fi
    umount -l "$held"
    rmdir "$held"
    shift 2
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


def hasClosed(directory: Path) -> bool:
    """Whether others can not read something in it."""
    for folder, folders, files in os.walk(directory):
        if Path(folder) == directory:
            folders[:] = sorted(set(folders) - set(KEPT))
            files = sorted(set(files) - set(KEPT))
        for name in (*folders, *files):
            status = os.lstat(os.path.join(folder, name))
            wanted = _OTHERS if stat.S_ISDIR(status.st_mode) else stat.S_IROTH
            if not stat.S_ISLNK(status.st_mode) and status.st_mode & wanted != wanted:
                return True
    return False


def opened(paths: Sequence[Path]) -> Iterator[str]:
    """What L{_OPEN} is to open, so that others can read all that is in C{paths}."""
    layered = {path for path in paths if hasClosed(path)}
    for directory in sorted({*closed(paths), *layered}):
        yield from ("files" if directory in layered else "way", str(directory))


def mayMount() -> bool:
    """Whether this process can have mounts of its own."""
    tried = subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL)
    return tried.returncode == 0


def command(argv: Sequence[str]) -> list[str]:
    """The command that runs C{argv} where others can read what it needs."""
    needed = [ROOT, Path(sysconfig.get_path("stdlib")).resolve()]
    words = list(opened(needed)) if os.geteuid() == 0 else []
    # In some containers root may mount nothing; the tests that become others skip there.
    if not words or not mayMount():
        return list(argv)
    run_tests.makeDirectory()
    unshare = ["unshare", "--mount", "--propagation", "private"]
    return [*unshare, "sh", "-c", _OPEN, "sh", " ".join(KEPT), *words, "--", *argv]


if __name__ == "__main__":
    argv = command(sys.argv[1:])
    os.execvp(argv[0], argv)
