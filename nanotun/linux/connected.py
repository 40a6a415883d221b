"""
Tells whether an address belongs to a network that is connected to this machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from nanotun.addresses import LARGEST4, LARGEST6
from nanotun.linux.network import Address, Network, addresses, links

#: Seconds for which a reading is used: a machine joins and leaves networks.
MAX_AGE = 3.0


def reached() -> tuple[Address, ...]:
    """
    The addresses of all interfaces.  That of one that is down, or has no carrier, has no
    link's name: what is in its network may be anywhere, and routed to there.

    @raise OSError: the kernel does not answer.
    """
    return addresses({link.number: link.name for link in links() if link.up and link.carrier})


class ConnectedNetworks:
    """
    Reads the networks of all interfaces at need, and uses each reading for L{MAX_AGE}.

    @param device: the TUN device's name; its networks do not count.
    @param seconds: the clock.
    @param read: reads the addresses of all interfaces, as L{reached} does.
    """

    def __init__(
        self,
        device: str,
        seconds: Callable[[], float],
        read: Callable[[], Iterable[Address]] = reached,
    ) -> None:
        self._device = device
        self._seconds = seconds
        self._read = read
        self._asked = -MAX_AGE
        self._networks: frozenset[Network] = frozenset()

    def holds(self, host: str) -> bool:
        """
        Whether a connected network holds an address.  Never raises: if the kernel does not
        answer, the last reading counts.

        @param host: a literal address without a scope.
        """
        now = self._seconds()
        if not self._asked <= now < self._asked + MAX_AGE:
            with contextlib.suppress(OSError):
                self._networks = frozenset(self._believed())
                self._asked = now
        address = ip_address(host)
        return any(address in network for network in self._networks)

    def _believed(self) -> Iterable[Network]:
        """The connected networks without the device's, and without those that are too large."""
        for address in self._read():
            network = address.connected
            if network is not None and address.link not in ("", self._device):
                if network.prefixlen >= (LARGEST4 if network.version == 4 else LARGEST6):
                    yield network
