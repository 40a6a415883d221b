"""
Tests for L{nanotun.gateway.dns.choice}.
"""

from __future__ import annotations

from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.choice import ServerChoice
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.interfaces import DnsServer
from tests.unit.gateway.gateway_cases import FIRST, ask, read


class Wanted:
    """Notes which servers are wanted, and whether past the proxies."""

    def __init__(self) -> None:
        self.direct: list[bool] = []

    def of(self, servers: tuple[DnsServer, ...], direct: bool) -> None:
        """See L{NameServers.of}."""
        self.direct.append(direct)


class ServerChoiceTests(SynchronousTestCase):
    """Tests for L{ServerChoice}."""

    def test_own(self) -> None:
        """A proxy's own name is asked past the proxies; what is below it, and all else, is not."""
        wanted = Wanted()
        servers = cast(NameServers, wanted)
        choice = ServerChoice(servers, (FIRST,), frozenset(("proxy.example",)))
        for name in ("proxy.example", "PROXY.Example", "a.proxy.example", "example", "a b.example"):
            choice.of(read(ask(name)))
        self.assertEqual(wanted.direct, [True, True, False, False, False])

    def test_none(self) -> None:
        """Without own names none is asked past the proxies, not even a name that is none."""
        wanted = Wanted()
        choice = ServerChoice(cast(NameServers, wanted), (FIRST,))
        choice.of(read(ask("proxy.example")))
        choice.of(read(ask("a b")))
        self.assertEqual(wanted.direct, [False, False])
