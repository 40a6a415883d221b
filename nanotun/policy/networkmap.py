"""
A map from networks to values: an address finds the value of its narrowest network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Generic, TypeVar

from nanotun.config.networks import Network

T = TypeVar("T")


class NetworkMap(Generic[T]):
    """
    Has one dictionary for each length of prefix, so that a look-up in thousands of
    networks takes no longer than in one of each length.

    @param networks: pairs of network and value; of equal networks the first counts.
    """

    def __init__(self, networks: Iterable[tuple[Network | str, T]]) -> None:
        found: dict[int, dict[int, dict[int, T]]] = {4: {}, 6: {}}
        for network, value in networks:
            if isinstance(network, str):
                network = ip_network(network)
            shift = network.max_prefixlen - network.prefixlen
            bits = int(network.network_address) >> shift
            found[network.version].setdefault(shift, {}).setdefault(bits, value)
        self._by4 = sorted(found[4].items())
        self._by6 = sorted(found[6].items())

    def find(self, host: str) -> T | None:
        """
        Look an address up.

        @param host: a literal address without a scope.
        @return: the value of the narrowest network that contains it; L{None} for none.
        """
        if ":" in host:
            tables, family = self._by6, AF_INET6
        else:
            tables, family = self._by4, AF_INET
        if not tables:
            return None
        address = int.from_bytes(inet_pton(family, host), "big")
        for shift, values in tables:
            value = values.get(address >> shift)
            if value is not None:
                return value
        return None
