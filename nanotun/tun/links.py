"""
Addresses, MTU and state of an interface, by rtnetlink.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from nanotun.addresses import KERNEL4, KERNEL6
from nanotun.tun.netlink import RouteSocket

#: Packets that wait in the kernel for us.  The kernel's 500 are gone after one
#: burst of connections while Python decides; a packet lost here costs the app a
#: retransmission timeout.
TX_QUEUE_LENGTH = 4096

#: IFA_F_NODAD of linux/if_addr.h: nobody else is on this link to ask.
IFA_F_NODAD = 0x02

#: What keeps the kernel from speaking IPv6 on its own on the link: no
#: link-local address (IN6_ADDR_GEN_MODE_NONE), no router solicitations.  And
#: what keeps our address when somebody sets the link down and up again.
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
    @param connect: makes what reaches the kernel.
    """

    _log = Logger()

    def __init__(
        self, settings: str = IPV6_SETTINGS, connect: Callable[[], RouteSocket] = RouteSocket
    ) -> None:
        self._settings = settings
        self._connect = connect

    def configure(self, name: str, mtu: int) -> None:
        """See L{LinkConfigurer.configure}."""
        with self._connect() as kernel:
            index = kernel.indexOf(name)
            kernel.setSizes(index, mtu, TX_QUEUE_LENGTH)
            kernel.addAddress(index, KERNEL4)
            if self._hasIPv6(name):
                self._setIPv6(name)
                kernel.addAddress(index, KERNEL6, IFA_F_NODAD)
            else:
                self._log.warn(
                    "IPv6 is disabled on this machine, so {device} carries IPv4 only.", device=name
                )
            kernel.setUp(index)

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
                # Containers often have /proc/sys read-only.  The kernel then
                # says a few words on the link that nobody answers, and the
                # IPv6 address goes with the link's state.
                self._log.debug(
                    "{setting} of {device} stays: {error}",
                    setting=setting,
                    device=name,
                    error=error.strerror,
                )
