"""
An ordinary user of the machine, as whom a test runs a command.

The machine looks to that user as most do: everybody may open F{/dev/net/tun}, and may read this
project and its Python, wherever they are.  All of that is mounted in a namespace of the command's.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.trial.unittest import SkipTest

import nanotun
from tests.e2e.lab.process import PROJECT_ROOT

NOBODY = 65534
"""The user's number, and that of its group."""

GROUP = 100
"""Another group that it belongs to."""

SCRIPT = """\
#!/bin/sh
# Runs a command as an ordinary user.
set -e
if [ -z "$MOUNTED" ]; then
    exec unshare --mount --propagation slave env MOUNTED=1 "$0" "$@"
fi
unset MOUNTED
{mounts}
exec setpriv --reuid={user} --regid={user} --groups={user},{group} --pdeathsig KILL \\
    sh -c 'exec "$@"' sh "$@"
"""
"""setpriv itself would find programs that only root can read, as it keeps its capabilities."""

NO_NODE = "mount -t tmpfs -o mode=755 tmpfs /dev/net\n"
NODE = f"""\
{NO_NODE}mknod -m {{mode:04o}} /dev/net/tun c 10 200
"""


def needReadable(outside: bool = True) -> None:
    """
    Skip where another user may not read this checkout, and so not start nanotun.

    @param outside: whether what leads there, and to Python, has to be readable as well.
    """
    paths = {PROJECT_ROOT, Path(nanotun.__file__).parent, Path(sys.prefix)}
    files = {Path(nanotun.__file__), Path(sys.prefix) / "pyvenv.cfg"}
    if outside:
        paths |= {*PROJECT_ROOT.parents, *Path(sys.base_prefix).resolve().parents}
    for path in sorted(paths | files):
        mode = path.stat().st_mode if path.exists() else 0o777
        if not (mode & stat.S_IROTH and (path in files or mode & stat.S_IXOTH)):
            raise SkipTest(
                f"other users cannot read {path}; run 'make test', and before that, if this clone "
                f"was made under a umask of 077, 'chmod -R go+rX {PROJECT_ROOT}'"
            )


def asOrdinary(directory: Path, mode: int | None = 0o666, more: str = "") -> str:
    """
    Make a program that runs its arguments as an ordinary user, to whom C{directory} belongs from
    now on, with everything in it.

    @param mode: that of F{/dev/net/tun}; 0 for none at all, and L{None} for the machine's own.
    @param more: lines of a shell script that change the user's machine further.
    @return: its path.
    @raise SkipTest: see L{needReadable}.
    """
    needReadable(outside=False)
    for path in (directory, *directory.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    needed = {PROJECT_ROOT, Path(sys.prefix), Path(sys.base_prefix), directory}
    needed |= {Path(each).resolve() for each in (sys.executable, *map(str, needed))}
    node = "" if mode is None else NODE.format(mode=mode) if mode else NO_NODE
    mounts = "".join(opened(needed)) + node + more
    path = directory / "as-ordinary"
    path.write_text(SCRIPT.format(mounts=mounts, user=NOBODY, group=GROUP))
    path.chmod(0o755)
    return str(path)


def opened(needed: Iterable[Path]) -> Iterator[str]:
    """
    Lines of a shell script after which everybody can reach some paths: of a directory that only
    its owner may enter, such as F{/root}, everybody sees what leads there.
    """
    closed: dict[Path, set[Path]] = {}
    for path in needed:
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(parent, set()).add(parent / path.relative_to(parent).parts[0])
                break
    for parent, children in closed.items():
        yield f"mount --bind {parent} /mnt\nmount -t tmpfs -o mode=755 tmpfs {parent}\n"
        for child in sorted(children):
            yield f"mkdir {child}\nmount --bind /mnt/{child.name} {child}\n"
        yield "umount -l /mnt\n"
