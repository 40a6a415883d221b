"""
What answers the queries that come in by datagrams and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.message import LARGEST


class Answering(Protocol):
    """The L{DnsRelay<nanotun.gateway.dns.relay.DnsRelay>}, or the fake-ip front before it."""

    counters: Counters

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
    ) -> bool:
        """See L{nanotun.gateway.dns.relay.DnsRelay.query}."""
