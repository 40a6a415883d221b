"""
Where the journal's changes were made: in which network namespace, and whether that still exists.

A restarted container has a new network namespace, and a journal in files that are the old ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from nanotun.linux.cgroups import MOUNTS

_BOOT = "/proc/sys/kernel/random/boot_id"

#: Since Linux 5.14: a number that no other network namespace of this boot has had (socket(7)).
_SO_NETNS_COOKIE = 71

#: In the place of a network namespace's name.
_UNKNOWN = "?"


class NetworkPlace(NamedTuple):
    """
    A network namespace.

    @ivar boot: the id of the boot (random(4)).
    @ivar namespace: its inode.  The next one may get the same once this one is gone.
    @ivar cookie: the kernel's number for it, which none has twice; 0 if it is not known.
    """

    boot: str
    namespace: int
    cookie: int = 0

    def isSame(self, other: NetworkPlace) -> bool:
        """Whether another one of this boot is the same."""
        if self.cookie and other.cookie:
            return self.cookie == other.cookie
        return self.namespace == other.namespace


def currentPlace() -> NetworkPlace:
    """Where this thread is."""
    with open(_BOOT) as file:
        boot = file.read().strip()
    return NetworkPlace(boot, os.stat("/proc/thread-self/ns/net").st_ino, _cookie())


def _cookie() -> int:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            packed = plain.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError:
        return 0
    return int.from_bytes(packed, "little" if socket.htons(1) != 1 else "big")


def isGone(place: NetworkPlace, here: NetworkPlace, root: str = "") -> bool:
    """
    Whether another network namespace of this boot does not exist any more, as far as can be seen
    from here: nobody is in it, holds it open or has it mounted.

    A process that may not be looked into (ptrace(2)) is taken to be in it, unless it is in ours, as
    the first one of a container is.  What such a process holds open is not seen.

    @param root: prefix of every path, for tests.
    """
    if place.namespace == here.namespace:
        # Its inode has been given to ours.
        return True
    name = f"net:[{place.namespace}]"
    if name in _mounted(root):
        return False
    return not any(each in (name, _UNKNOWN) for each in _used(root))


def _mounted(root: str) -> set[str]:
    """The network namespaces with a mount (ip-netns(8))."""
    try:
        with open(f"{root}{MOUNTS}", encoding="utf-8", errors="surrogateescape") as file:
            # The fourth field is the root of the mount (proc(5)).
            return {fields[3] for line in file if len(fields := line.split()) > 3}
    except OSError:
        return set()


def _used(root: str) -> Iterator[str]:
    """
    The network namespaces that threads are in, and everything that processes hold open.

    L{_UNKNOWN} is among them for a thread that is elsewhere, and may not be looked into.
    """
    for pid in filter(re.compile("[0-9]+").fullmatch, os.listdir(f"{root}/proc")):
        process = f"{root}/proc/{pid}"
        yield _namespaceOf(process, root)
        for thread in _listed(f"{process}/task"):
            yield _namespaceOf(f"{process}/task/{thread}", root)
        for fd in _listed(f"{process}/fd"):
            # It has been closed, or is not to be seen.
            with contextlib.suppress(OSError):
                yield os.readlink(f"{process}/fd/{fd}")


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        # The process has ended, or is not to be seen.
        return []


def _namespaceOf(thread: str, root: str) -> str:
    """
    The network namespace of a thread.

    @param thread: its folder.
    @return: empty if it has ended, or may not be looked into and is in ours.
    """
    try:
        try:
            return os.readlink(f"{thread}/ns/net")
        except PermissionError:
            # This file, which everybody may look at, is another one in each network namespace.
            theirs = os.stat(f"{thread}/net/dev")
            ours = os.stat(f"{root}/proc/thread-self/net/dev")
            return "" if os.path.samestat(theirs, ours) else _UNKNOWN
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except OSError:
        return _UNKNOWN
