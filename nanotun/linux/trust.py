"""
Who may write to a file, and files that nobody but root can have written.

L{openTrusted} looks at directory and file by their descriptors, so that nobody can put another
one in their place afterwards.  Their parents need no look: whatever a name leads to, the content
that is read was written by root.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat

from nanotun.errors import NanotunError


class NotTrusted(NanotunError):
    """Somebody other than root can write to a file or its directory."""


def openTrusted(directory: str, name: str, flags: int) -> int:
    """
    Open a regular file that only root can write to: it and its directory belong to root, or
    to the user that this process runs as, and neither group nor others may write to them.

    @param flags: as for L{os.open}.
    @return: its descriptor.
    @raise NotTrusted: others can write to it; with one sentence.
    @raise OSError: it cannot be opened.
    """
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(directory, os.fstat(parent))
        more = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags | more, dir_fd=parent)
    finally:
        os.close(parent)
    path = os.path.join(directory, name)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotTrusted(f"{path} is not trusted, because it is no regular file.")
        _check(path, status)
    except BaseException:
        os.close(fd)
        raise
    return fd


def othersMayWrite(path: str) -> bool:
    """
    Whether anybody besides a file's owner, and root, may write to it.

    A user's own group, of the same name, lets nobody else in as long as nobody else is in it.
    Ubuntu and others give each user one, and a umask of 002 with it.

    @raise OSError: there is no such file.
    """
    status = os.stat(path)
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP:
        return False
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return True
    own = owner.pw_gid == group.gr_gid and owner.pw_name == group.gr_name
    if not own or not {owner.pw_name}.issuperset(group.gr_mem):
        return True
    if any(each.pw_gid == group.gr_gid and each.pw_uid != owner.pw_uid for each in pwd.getpwall()):
        return True
    try:
        # Of a file with such a list, the group's bits are the most that any of its entries gives.
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False


def _check(path: str, status: os.stat_result) -> None:
    who = ""
    if status.st_uid not in (0, os.geteuid()):
        who = f"the user {_userName(status.st_uid)}"
    elif status.st_mode & stat.S_IWOTH:
        who = "everybody"
    elif status.st_mode & stat.S_IWGRP:
        who = f"the group {_groupName(status.st_gid)}"
    if who:
        raise NotTrusted(f"{path} is not trusted, because {who} can write to it; only root may.")


def _userName(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _groupName(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)
