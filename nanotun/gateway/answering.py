"""
What answers the queries that come in by datagrams and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from nanotun.gateway.counters import Counters
from nanotun.gateway.wire import LARGEST


class Answering(Protocol):
    """L{nanotun.gateway.relay.DnsRelay}, or L{nanotun.gateway.fakeip.FakeDns} before it."""

    counters: Counters

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
    ) -> bool:
        """See L{nanotun.gateway.relay.DnsRelay.query}."""
