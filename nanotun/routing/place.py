"""
Where the journal's changes were made: in which network namespace, and whether that still exists.

A restarted container has a new network namespace, and a journal in files that are the old ones.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from nanotun.linux.cgroups import MOUNTS

_BOOT = "/proc/sys/kernel/random/boot_id"

#: Since Linux 5.14: a number that no other network namespace of this boot has had (socket(7)).
_SO_NETNS_COOKIE = 71


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

    @param root: prefix of every path, for tests.
    """
    if place.namespace == here.namespace:
        # Its inode has been given to ours.
        return True
    name = f"net:[{place.namespace}]"
    if name in _mounted(root):
        return False
    return not any(name in names for names in _used(root))


def _mounted(root: str) -> set[str]:
    """The network namespaces with a mount (ip-netns(8))."""
    try:
        with open(f"{root}{MOUNTS}", encoding="utf-8", errors="surrogateescape") as file:
            # The fourth field is the root of the mount (proc(5)).
            return {fields[3] for line in file if len(fields := line.split()) > 3}
    except OSError:
        return set()


def _used(root: str) -> Iterator[set[str]]:
    """For each process, the network namespaces of its threads and its descriptors."""
    for pid in filter(re.compile("[0-9]+").fullmatch, os.listdir(f"{root}/proc")):
        for folder in ("task", "fd"):
            found = set()
            try:
                for each in os.listdir(f"{root}/proc/{pid}/{folder}"):
                    link = f"{each}/ns/net" if folder == "task" else each
                    found.add(os.readlink(f"{root}/proc/{pid}/{folder}/{link}"))
            except OSError:
                # It has ended, or is not to be seen.
                pass
            yield found
