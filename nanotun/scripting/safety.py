"""
Who can write a file, and so decide what nanotun does.

Whoever may write a file, or any directory on the way to it, can replace it.  In a directory
with the sticky bit, such as /tmp, only its owner can replace an entry, but everybody can add
some.  So a directory of root's in there is safe; a script right in there is not, because a
module that somebody puts beside it might be imported.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator

from nanotun.errors import ConfigError

#: Symbolic links on one path, as in the kernel (path_resolution(7)).
LINK_LIMIT = 40


def writersOf(
    path: str,
    what: str,
    known: Collection[str] = (),
    lstat: Callable[[str], os.stat_result] = os.lstat,
) -> dict[int, str]:
    """
    The users besides root who can change a file, by themselves or by a directory or symbolic
    link on the way to it.

    Access control lists need no look of their own: what they allow shows in the bits of the
    group.

    @param path: an absolute path.
    @param what: the file, as the subject of a sentence.
    @param known: places that need no look.
    @return: their numbers, each with the first place on the way that belongs to that user.
    @raise ConfigError: it cannot be read, or not only owners can change it; with one sentence.
    """
    found: dict[int, str] = {}
    try:
        steps = list(stepsTo(path, lstat))
    except OSError as error:
        raise ConfigError(f"{what} cannot be read ({error.strerror}); check its path.") from None
    last = steps[-1][0]
    for place, status in steps:
        if place in known:
            continue
        if status.st_uid != 0:
            found.setdefault(status.st_uid, place)
        if stat.S_ISLNK(status.st_mode) or not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            continue
        if status.st_mode & stat.S_ISVTX and place != os.path.dirname(last):
            continue
        whom = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
        where = "it" if place == last else f"the directory {place}"
        raise ConfigError(
            f"{what} could be changed by others than its owner, because {where} can be written by "
            f"{whom}; run 'chmod go-w {place}'."
        )
    return found


def stepsTo(
    path: str, lstat: Callable[[str], os.stat_result] = os.lstat
) -> Iterator[tuple[str, os.stat_result]]:
    """
    Each directory and link on the way to a file, from the root on, and the file at last.

    @raise OSError: the way ends before it.
    """
    here, links = "/", 0
    parts = path.split("/")[::-1]
    yield here, lstat(here)
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        place = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        status = lstat(place)
        yield place, status
        if not stat.S_ISLNK(status.st_mode):
            here = place
            continue
        links += 1
        if links > LINK_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(place)
        if target.startswith("/"):
            here = "/"
        parts.extend(target.split("/")[::-1])
