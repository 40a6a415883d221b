"""
Addresses, MTU and state of an interface, by rtnetlink.

pyroute2 is imported here, and not before a device is configured: the import
takes a tenth of a second that C{--help} need not wait for.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from twisted.logger import Logger

from nanotun.addresses import KERNEL4, KERNEL6

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
    """

    _log = Logger()

    def __init__(self, settings: str = IPV6_SETTINGS) -> None:
        self._settings = settings

    def configure(self, name: str, mtu: int) -> None:
        """See L{LinkConfigurer.configure}."""
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            with IPRoute() as netlink:
                self._configure(netlink, name, mtu)
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from None

    def _configure(self, netlink: Any, name: str, mtu: int) -> None:
        (index,) = netlink.link_lookup(ifname=name)
        netlink.link("set", index=index, mtu=mtu, txqlen=TX_QUEUE_LENGTH)
        address, prefix = KERNEL4.split("/")
        netlink.addr("add", index=index, address=address, prefixlen=int(prefix))
        ipv6 = self._hasIPv6(name)
        if ipv6:
            self._setIPv6(name)
            address, prefix = KERNEL6.split("/")
            netlink.addr(
                "add", index=index, address=address, prefixlen=int(prefix), flags=IFA_F_NODAD
            )
        else:
            self._log.warn(
                "IPv6 is disabled on this machine, so {device} carries IPv4 only.", device=name
            )
        netlink.link("set", index=index, state="up")

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
