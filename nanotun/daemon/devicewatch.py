"""
Looks whether the device still has its name and its addresses, and is still here.

Routing rules, firewall and status know it by its name.  So it is given its name back,
rather than all of them another one.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.logger import Logger, LogLevel

from nanotun.addresses import KERNEL4, KERNEL6
from nanotun.daemon.device import TunnelDevice
from nanotun.errors import DeviceError
from nanotun.linux.network import addresses
from nanotun.log.trouble import TroubleLog

#: Seconds between two times that it gets its name back: whoever renames it may answer each
#: time.
PEACE = 0.2


class LinkKeeper(Protocol):
    """What this needs of L{nanotun.tun.links.NetlinkLinks}."""

    def rename(self, index: int, name: str) -> None:
        """See L{nanotun.tun.links.NetlinkLinks.rename}."""

    def restore(self, index: int, name: str, present: Collection[str]) -> bool:
        """See L{nanotun.tun.links.NetlinkLinks.restore}."""


def isDeleted(fd: int) -> bool:
    """Whether the kernel has deleted the TUN device that this fd is open for."""
    asked = select.poll()
    asked.register(fd, 0)
    return any(events & select.POLLERR for _, events in asked.poll(0))


def addressesOf(name: str) -> set[str]:
    """
    The addresses of an interface.

    @raise OSError: the kernel does not answer.
    """
    return {each.host for each in addresses() if each.link == name}


class DeviceWatch:
    """
    Looks after the device.

    @param lost: called once, with C{ENODEV}, if the device is in another network namespace.
        Of one that is deleted its reader hears.
    """

    _log = Logger()

    def __init__(
        self,
        device: TunnelDevice,
        links: LinkKeeper,
        lost: Callable[[int], object],
        clock: Any,
        nameOf: Callable[[int], str] = socket.if_indextoname,
        indexOf: Callable[[str], int] = socket.if_nametoindex,
        isDeleted: Callable[[int], bool] = isDeleted,
        addressesOf: Callable[[str], Collection[str]] = addressesOf,
    ) -> None:
        self._device = device
        self._links = links
        self._lost = lost
        self._clock = clock
        self._nameOf = nameOf
        self._indexOf = indexOf
        self._isDeleted = isDeleted
        self._addressesOf = addressesOf
        self._trouble = TroubleLog(clock, self._log, LogLevel.warn)
        self._name = ""
        self._index = 0
        self._renamedAt = -PEACE
        self._complaint = ""

    def start(self) -> None:
        """
        Begin.  The device is open.

        @raise DeviceError: it is gone already.
        """
        self._name = self._device.tun.name
        try:
            self._index = self._indexOf(self._name)
        except OSError:
            raise DeviceError(
                f"the device {self._name} was taken away as soon as it was made; look for a "
                "network manager that does not know it."
            ) from None

    def stop(self) -> None:
        """Nothing is logged or called after this."""
        self._index = 0
        self._trouble.stop()

    def look(self) -> None:
        """Put right what somebody has changed.  Never raises."""
        if not self._index:
            return
        try:
            name = self._nameOf(self._index)
        except OSError as error:
            # Anything else, such as a lack of file descriptors, says nothing about the device.
            if error.errno in (errno.ENXIO, errno.ENODEV):
                self._gone()
            return
        if name != self._name:
            self._nameBack(name)
        elif self._complaint:
            self._complaint = ""
            self._log.info("{name} has its name again.", name=self._name)

    def lookClosely(self) -> None:
        """As L{look}, and at its addresses."""
        self.look()
        if not self._index or self._complaint:
            return
        try:
            restored = self._links.restore(self._index, self._name, self._addressesOf(self._name))
        except OSError as error:
            self._trouble.report(
                f"{self._name} has lost {KERNEL4} or {KERNEL6}, and cannot have it back: "
                f"{error.strerror}."
            )
            return
        if restored:
            self._trouble.report(f"Somebody took addresses away from {self._name}; they are back.")

    def _gone(self) -> None:
        if self._isDeleted(self._device.tun.fileno()):
            return
        self._index = 0
        self._lost(errno.ENODEV)

    def _nameBack(self, name: str) -> None:
        now = self._clock.seconds()
        if now - self._renamedAt < PEACE:
            return
        self._renamedAt = now
        try:
            self._links.rename(self._index, self._name)
        except OSError as error:
            sentence = (
                f"Somebody has renamed {self._name} to {name}, and it cannot have its name back "
                f"({error.strerror}), so that nothing gets through; run 'ip link set {name} name "
                f"{self._name}' or restart nanotun."
            )
            if sentence != self._complaint:
                self._complaint = sentence
                self._log.error("{sentence}", sentence=sentence)
            return
        self._complaint = ""
        self._trouble.report(
            f"Somebody has renamed {self._name} to {name}; it has its name back. Use tunName for "
            "another one."
        )
