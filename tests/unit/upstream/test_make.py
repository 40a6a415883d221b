"""Tests of L{nanotun.upstream.make}."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import DatagramsUnsupported
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.interfaces import IUpstream, UpstreamSettings
from nanotun.testing import FakeUpstream
from nanotun.upstream.dial.resolver import AddressBook
from nanotun.upstream.make import MadeUpstream, makeAll
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.upstream_cases import FakeReactor, FakeStream, unmarkedContext


def entryOf(name: str, *urls: str, via: str = "") -> UpstreamSettings:
    """An entry of the settings."""
    return UpstreamSettings(name, tuple(map(parseProxyURL, urls)), "failover", via)


class MakeAllTests(SynchronousTestCase):
    """L{makeAll}."""

    def setUp(self) -> None:
        """Stand in for what flows of each upstream use."""
        self.reactor = FakeReactor()
        self.context = unmarkedContext(self.reactor)._replace(
            addresses=AddressBook(self.reactor).of
        )
        self.together: dict[str, FakeUpstream] = {}

    def make(self, *entries: UpstreamSettings) -> dict[str, MadeUpstream]:
        """The upstreams of these entries."""

        def together(entry: UpstreamSettings, single: list[IUpstream]) -> IUpstream:
            upstream = self.together[entry.name] = FakeUpstream(entry.name)
            self.assertEqual([each.describe() for each in single], list(map(str, entry.proxy)))
            return upstream

        return makeAll(entries, self.context, together)

    def test_single(self) -> None:
        """Each upstream has one for each of its proxies, in their order."""
        made = self.make(
            entryOf("proxy", "socks5://h:1"), entryOf("office", "http://b:80", "socks5://a:1")
        )
        self.assertEqual(list(made), ["proxy", "office"])
        self.assertIs(made["office"].upstream, self.together["office"])
        self.assertEqual(
            [each.describe() for each in made["office"].single], ["http://b:80", "socks5://a:1"]
        )

    def test_via(self) -> None:
        """A proxy is dialled through the upstream that its entry names, as the flows of that."""
        made = self.make(
            entryOf("one", "socks5://h:1"),
            entryOf("two", "http://second.example", via="one"),
            entryOf("three", "socks5://192.0.2.3", via="two"),
        )
        made["three"].single[0].connect(Endpoint("192.0.2.1", 443))
        self.assertEqual(self.together["two"].asked, [LiteralEndpoint("192.0.2.3", 1080)])
        made["two"].single[0].connect(Endpoint("192.0.2.1", 443))
        self.assertEqual(self.together["one"].asked, [LiteralEndpoint("second.example", 80)])
        self.assertEqual(self.reactor.lookups, [])

    def test_ownLogIn(self) -> None:
        """nanotun itself logs in by a name of its own, and the template is shown."""
        via = entryOf("one", "socks5://h:1")
        made = self.make(
            via, entryOf("two", "socks4://{process}.{source}.{uid}@192.0.2.2", via="one")
        )
        (two,) = made["two"].single
        self.assertEqual(two.describe(), "socks4://{process}.{source}.{uid}@192.0.2.2:1080")
        two.connect(Endpoint("192.0.2.1", 443))
        with self.together["one"].answer() as far:
            name = f"nanotun.local.{os.geteuid()}\0".encode()
            self.assertEqual(far.recv(100), b"\4\1\1\xbb\xc0\0\2\1" + name)

    def test_order(self) -> None:
        """An upstream that was not made yet is an error, and not a way past the chain."""
        entry = entryOf("two", "http://second.example", via="one")
        self.assertRaises(KeyError, self.make, entry)

    def test_datagrams(self) -> None:
        """A chain carries no UDP, and says why."""
        made = self.make(entryOf("one", "socks5://h:1"), entryOf("two", "socks5://b", via="one"))
        (two,) = made["two"].single
        self.assertFalse(two.carriesDatagrams)
        error = self.failureResultOf(two.associate(4), DatagramsUnsupported)
        self.assertEqual(
            str(error.value),
            "The proxy socks5://b:1080 is dialled through one, and a chain carries no UDP.",
        )

    def test_dials(self) -> None:
        """
        A proxy behind another one is not dialled by this machine, unless the other one is in a
        group with direct://.
        """
        made = self.make(
            entryOf("one", "socks5://192.0.2.1:1"),
            entryOf("mixed", "socks5://192.0.2.1:1", "direct://"),
            entryOf("two", "socks5://192.0.2.2:1", via="one"),
            entryOf("three", "socks5://192.0.2.3:1", via="mixed"),
        )
        dialled = {
            name: each.single[0].dials(Endpoint(f"192.0.2.{last}", 1))
            for last, (name, each) in zip((1, 1, 2, 3), made.items(), strict=True)
        }
        self.assertEqual(dialled, {"one": True, "mixed": True, "two": False, "three": True})

    def test_directMember(self) -> None:
        """direct:// looks a proxy's name up, and then all know its addresses."""

        def makeStream(family: int) -> Any:
            return FakeStream([errno.EINPROGRESS])

        # It can only be asked about addresses.
        self.context = self.context._replace(openStream=makeStream, leadsIn=lambda host: 1 // 0 > 0)
        made = self.make(
            entryOf("mixed", "socks5://192.0.2.1:1", "direct://"),
            entryOf("two", "socks5://second.example:1", via="mixed"),
        )
        made["mixed"].single[1].connect(LiteralEndpoint("second.example", 1))
        ((receiver, name),) = self.reactor.lookups
        self.assertEqual(name, "second.example")
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", "192.0.2.2", 1))
        self.assertFalse(made["two"].single[0].dials(Endpoint("192.0.2.2", 1)))
        receiver.resolutionComplete()
        self.assertTrue(made["two"].single[0].dials(Endpoint("192.0.2.2", 1)))

    def test_directMemberAlone(self) -> None:
        """It does so for a check that has no addresses in common with anything."""
        self.context = self.context._replace(addresses=None, leadsIn=lambda host: 1 // 0 > 0)
        made = self.make(entryOf("mixed", "socks5://192.0.2.1:1", "direct://"))
        made["mixed"].single[1].connect(LiteralEndpoint("second.example", 1))
        self.assertEqual([name for _, name in self.reactor.lookups], ["second.example"])
