"""
Tells whether this machine forwards packets of other machines, or of containers.

The kernel has a switch for each interface and IP version (C{net.ipv4.conf.*.forwarding}), that of
the interface by which a packet arrives, and it tells of changes by netlink
(L{nanotun.routing.monitor}).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

#: Seconds that an answer is used, should the kernel's message about a change be lost.
MAX_AGE = 3.0

#: Of both IP versions; C{all} is the switch that most people mean.
DIRECTORIES = ("/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf")


def switches(directories: Iterable[str] = DIRECTORIES) -> Iterator[bool]:
    """
    Whether each interface forwards.

    @raise OSError: that cannot be found out.
    """
    for directory in directories:
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            continue  # A kernel without this version of IP.
        # So that one look is enough where everything is forwarded.
        for name in sorted(names, key=lambda each: each != "all"):
            try:
                with open(f"{directory}/{name}/forwarding", "rb") as file:
                    # IPv6 has a 2, too: as 1, but router advertisements are heard.
                    yield file.read().strip() != b"0"
            except FileNotFoundError:
                continue  # The interface has just gone.


class Forwarding:
    """
    Asks the kernel, and remembers the answer for L{MAX_AGE}.

    @param seconds: the clock.
    @param read: see L{switches}.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        read: Callable[[], Iterable[bool]] = switches,
    ) -> None:
        self._seconds = seconds
        self._read = read
        self._known = True
        self._asked = -MAX_AGE

    def forwards(self) -> bool:
        """Whether it does, by any interface; so it is said, too, if that cannot be found out."""
        now = self._seconds()
        if not self._asked <= now < self._asked + MAX_AGE:
            self._asked = now
            try:
                self._known = any(self._read())
            except OSError:
                self._known = True
        return self._known

    def forget(self) -> None:
        """Something has changed: ask the kernel anew."""
        self._asked = -MAX_AGE
