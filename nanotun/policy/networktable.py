"""
Many networks, only to tell whether an address is in one of them: ranges in order, and one
bisection.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from nanotun.config.networks import Network


class Span(NamedTuple):
    """The addresses of one network, as numbers: the first and the last."""

    six: bool
    first: int
    last: int


def spanOf(network: Network) -> Span:
    """The addresses of a network.  Its C{broadcast_address} takes five times as long."""
    first = int(network.network_address)
    last = first + (1 << network.max_prefixlen - network.prefixlen) - 1
    return Span(network.version == 6, first, last)


class NetworkTable:
    """
    A set of networks.

    @param spans: may overlap; those that do, or that touch, become one range.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        four: list[tuple[int, int]] = []
        six: list[tuple[int, int]] = []
        for span in spans:
            (six if span.six else four).append((span.first, span.last))
        firsts, lasts = _ranges(four)
        # No array has numbers of 128 bits.
        self._four: _Ranges = array("I", firsts), array("I", lasts)
        self._six: _Ranges = _ranges(six)

    @classmethod
    def of(cls, networks: Iterable[Network]) -> NetworkTable:
        """A table of networks that are parsed already."""
        return cls(map(spanOf, networks))

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._four[0]) + len(self._six[0])

    def has(self, number: int, six: bool) -> bool:
        """
        Whether an address is in one of the networks.

        @param number: the address.
        @param six: whether it is an IPv6 address.
        """
        firsts, lasts = self._six if six else self._four
        at = bisect_right(firsts, number) - 1
        return at >= 0 and number <= lasts[at]

    def rangeOf(self, number: int, six: bool) -> str:
        """
        The range that an address is in, for a sentence.

        @return: such as C{"192.0.2.0 to 192.0.2.255"}; empty for none.
        """
        firsts, lasts = self._six if six else self._four
        at = bisect_right(firsts, number) - 1
        if at < 0 or number > lasts[at]:
            return ""
        family = IPv6Address if six else IPv4Address
        first, last = family(firsts[at]), family(lasts[at])
        return str(first) if first == last else f"{first} to {last}"


_Ranges = tuple[Sequence[int], Sequence[int]]


def _ranges(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The first and the last numbers of what the pairs cover, in order."""
    pairs.sort()
    firsts: list[int] = []
    lasts: list[int] = []
    for first, last in pairs:
        if lasts and first <= lasts[-1] + 1:
            lasts[-1] = max(lasts[-1], last)
        else:
            firsts.append(first)
            lasts.append(last)
    return firsts, lasts
