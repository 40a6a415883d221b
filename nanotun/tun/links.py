"""
Sets addresses, MTU and state of an interface.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection
from typing import Protocol

from twisted.logger import Logger

from nanotun.addresses import KERNEL4, KERNEL6
from nanotun.linux.linkchange import LinkChanges

#: Packets that the kernel queues for us.  One burst of connections fills its default of
#: 500 while Python decides; a packet lost here costs the app a retransmission timeout.
TX_QUEUE_LENGTH = 4096

#: IFA_F_NODAD of linux/if_addr.h: no duplicates to detect, as nobody else is on this link.
IFA_F_NODAD = 0x02

#: Keep the kernel from sending IPv6 packets of its own on the link: no link-local address
#: (IN6_ADDR_GEN_MODE_NONE), no router solicitations.  And keep our address when the link
#: is set down and up again.
IPV6_VALUES = {
    "addr_gen_mode": "1",
    "accept_ra": "0",
    "router_solicitations": "0",
    "keep_addr_on_down": "1",
}

IPV6_SETTINGS = "/proc/sys/net/ipv6/conf"


class LinkConfigurer(Protocol):
    """What L{nanotun.tun.device} needs of this module."""

    def configure(self, name: str, mtu: int) -> None:
        """
        Give the interface its addresses and MTU, and bring it up.

        @param mtu: bytes.
        @raise OSError: the kernel refused; the text says what.
        """


class NetlinkLinks:
    """
    See L{LinkConfigurer}.

    @param settings: the folder of the kernel's IPv6 settings per interface.
    """

    _log = Logger()

    def __init__(self, settings: str = IPV6_SETTINGS) -> None:
        self._settings = settings

    def configure(self, name: str, mtu: int) -> None:
        """See L{LinkConfigurer.configure}."""
        with LinkChanges() as changes:
            self._configure(changes, name, mtu)

    def rename(self, index: int, name: str) -> None:
        """
        Give an interface another name.  One that is up is set down for it if the kernel is
        older than Linux 6.2.

        @raise OSError: the kernel refused, for instance because the name is taken (EEXIST).
        """
        with LinkChanges() as changes:
            self._rename(changes, index, name)

    def restore(self, index: int, name: str, present: Collection[str]) -> bool:
        """
        Give the interface back the addresses of L{configure} that it has lost.  IPv6 is left
        out while it is disabled there.

        @param present: the addresses that it has.
        @return: whether any was missing.
        @raise OSError: the kernel refused.
        """
        lacking = [each for each in (KERNEL4, KERNEL6) if each.partition("/")[0] not in present]
        if KERNEL6 in lacking and not self._hasIPv6(name):
            lacking.remove(KERNEL6)
        if lacking:
            with LinkChanges() as changes:
                self._add(changes, index, name, lacking)
        return bool(lacking)

    def _configure(self, changes: LinkChanges, name: str, mtu: int) -> None:
        index = socket.if_nametoindex(name)
        changes.resize(index, mtu, TX_QUEUE_LENGTH)
        wanted = [KERNEL4]
        if self._hasIPv6(name):
            wanted.append(KERNEL6)
        else:
            self._log.warn(
                "IPv6 is disabled on this machine, so {device} carries IPv4 only.", device=name
            )
        self._add(changes, index, name, wanted)
        changes.setUp(index, True)

    def _add(self, changes: LinkChanges, index: int, name: str, addresses: Collection[str]) -> None:
        for each in addresses:
            address, prefix = each.split("/")
            flags = 0
            if each == KERNEL6:
                self._setIPv6(name)
                flags = IFA_F_NODAD
            changes.addAddress(index, address, int(prefix), flags)

    def _rename(self, changes: LinkChanges, index: int, name: str) -> None:
        try:
            changes.rename(index, name)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            changes.setUp(index, False)
            try:
                changes.rename(index, name)
            finally:
                changes.setUp(index, True)

    def _hasIPv6(self, name: str) -> bool:
        try:
            with open(f"{self._settings}/{name}/disable_ipv6") as setting:
                return setting.read().strip() == "0"
        except OSError:
            return False

    def _setIPv6(self, name: str) -> None:
        for setting, value in IPV6_VALUES.items():
            try:
                with open(f"{self._settings}/{name}/{setting}", "w") as file:
                    file.write(value)
            except OSError as error:
                # /proc/sys is often read-only in containers.  The kernel then sends a few
                # packets on the link that nobody answers, and the IPv6 address is lost when
                # the link is set down.
                self._log.debug(
                    "{setting} of {device} cannot be changed: {error}",
                    setting=setting,
                    device=name,
                    error=error.strerror,
                )
