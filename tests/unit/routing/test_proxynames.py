"""
Tests for L{nanotun.routing.proxynames}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IHostnameResolver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import UpstreamError
from nanotun.routing.proxynames import ProxyResolver


@implementer(IHostnameResolver)
class SystemResolver:
    """
    The system's.

    @ivar asked: for what.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.found: list[str] = []

    def resolveHostName(
        self, receiver: Any, name: str, port: int = 0, types: Any = None, semantics: str = "TCP"
    ) -> Any:
        """Answer at once."""
        self.asked.append(name)
        receiver.resolutionBegan(None)
        for host in self.found:
            receiver.addressResolved(IPv4Address("TCP", host, port))
        receiver.resolutionComplete()
        return None


class Receiver:
    """Collects addresses."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.complete = False

    def resolutionBegan(self, resolution: Any) -> None:
        """Nothing to do."""

    def addressResolved(self, address: Any) -> None:
        """Note it."""
        self.found.append(address)

    def resolutionComplete(self) -> None:
        """Note it."""
        self.complete = True


class ProxyResolverTests(SynchronousTestCase):
    """Tests for L{ProxyResolver}."""

    def setUp(self) -> None:
        """Make one."""
        self.system = SystemResolver()
        self.answers: dict[int, Any] = {4: ["9.0.0.1"], 6: ["2001:db8::1"]}
        self.hosts = Path(self.mktemp())
        self.hosts.write_text("127.0.0.1 localhost\n10.0.0.1 Home.Example home # gone.example\n")
        self.resolver = ProxyResolver(self.system, self.ask, str(self.hosts))

    def ask(self, name: str, family: int) -> Deferred[list[str]]:
        """The relay."""
        answer = self.answers[family]
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def lookUp(self, name: str = "proxy.example") -> list[str]:
        """The addresses."""
        return self.successResultOf(self.resolver.lookUp(name))

    def test_relay(self) -> None:
        """Only the relay is asked."""
        verifyObject(IHostnameResolver, self.resolver)
        self.assertEqual(self.lookUp(), ["2001:db8::1", "9.0.0.1"])
        self.assertEqual(self.system.asked, [])

    def test_receiver(self) -> None:
        """The reactor's clients get addresses with their port, of the requested types."""
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, "proxy.example", 1080)  # type: ignore[arg-type]
        self.assertTrue(receiver.complete)
        self.assertEqual(
            receiver.found,
            [IPv6Address("TCP", "2001:db8::1", 1080), IPv4Address("TCP", "9.0.0.1", 1080)],
        )
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, "proxy.example", 1, [IPv4Address], "UDP")  # type: ignore[arg-type]
        self.assertEqual(receiver.found, [IPv4Address("UDP", "9.0.0.1", 1)])

    def test_literal(self) -> None:
        """An address is left to the system's resolver."""
        self.resolver.resolveHostName(Receiver(), "192.0.2.1", 1)  # type: ignore[arg-type]
        self.assertEqual(self.system.asked, ["192.0.2.1"])

    def test_hostsFile(self) -> None:
        """An entry of the hosts file comes first."""
        self.system.found = ["10.0.0.1"]
        for name in ("home.example", "HOME."):
            self.assertEqual(self.lookUp(name), ["10.0.0.1"])
        self.assertEqual(self.lookUp("gone.example"), ["2001:db8::1", "9.0.0.1"])

    def test_localName(self) -> None:
        """If the relay's servers do not know a name, the system's resolver is asked."""
        self.answers = {4: [], 6: []}
        self.system.found = ["192.168.1.9", "198.19.0.7"]
        self.assertEqual(self.lookUp(), ["192.168.1.9"])

    def test_nobodyAnswers(self) -> None:
        """If no server can be asked, the last answer is used."""
        self.resolver.remember("proxy.example", ["9.0.0.5"])
        self.answers = {4: UpstreamError("x"), 6: UpstreamError("x")}
        self.assertEqual(self.lookUp(), ["9.0.0.5"])
        self.assertEqual(self.system.asked, [])
        self.system.found = ["192.168.1.9"]
        self.assertEqual(self.lookUp("other.example"), ["192.168.1.9"])

    def test_oneFamilyFails(self) -> None:
        """One family's answer is enough."""
        self.answers = {4: ["9.0.0.1"], 6: UpstreamError("x")}
        self.assertEqual(self.lookUp(), ["9.0.0.1"])

    def test_notReady(self) -> None:
        """Before there is a relay, the system's resolver is asked."""

        def notYet(name: str, family: int) -> Deferred[list[str]]:
            raise AttributeError("names")

        self.system.found = ["9.0.0.6"]
        resolver = ProxyResolver(self.system, notYet, str(self.hosts))
        self.assertEqual(self.successResultOf(resolver.lookUp("proxy.example")), ["9.0.0.6"])
