"""Tests of L{nanotun.policy.asked}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun import script
from nanotun.flow import Endpoint, Flow, Owner, Protocol
from nanotun.policy.asked import scriptFlow

FLOW = Flow(7, Protocol.TCP, Endpoint("198.18.0.2", 40000), Endpoint("192.0.2.1", 443))


def shown(
    flow: Flow = FLOW,
    name: str | None = None,
    fake: bool = False,
    local: bool = True,
    owner: Owner | None = None,
    looked: bool = True,
) -> script.Flow:
    """What a script sees of a flow."""
    return scriptFlow(flow, name, fake, local, owner, looked, {1000: "ann"}.__getitem__)


class AskedTests(SynchronousTestCase):
    """L{scriptFlow}."""

    def test_flow(self) -> None:
        """A script sees both ends, the protocol, the name and the number."""
        flow = shown(name="example.org")
        self.assertEqual(
            (flow.id, flow.protocol, flow.domain, flow.address, flow.port),
            (7, "tcp", "example.org", "192.0.2.1", 443),
        )
        self.assertEqual((flow.source, flow.sourcePort, flow.local), ("198.18.0.2", 40000, True))
        flow = shown(FLOW._replace(protocol=Protocol.UDP, destination=Endpoint("2001:db8::1", 53)))
        self.assertEqual((flow.protocol, flow.host, flow.port), ("udp", "2001:db8::1", 53))

    def test_nameless(self) -> None:
        """A destination without a name has none, however that is said."""
        self.assertIsNone(shown(name="").domain)
        self.assertIsNone(shown(name=None).domain)

    def test_fake(self) -> None:
        """A fake address is not shown: it says nothing of the destination."""
        flow = shown(name="example.org", fake=True)
        self.assertIsNone(flow.address)
        self.assertEqual(flow.host, "example.org")

    def test_process(self) -> None:
        """The process has its user's name beside the number."""
        owner = Owner(4711, 1000, "curl", "/usr/bin/curl", "/user.slice")
        expected = script.Process(4711, 1000, "ann", "curl", "/usr/bin/curl", "/user.slice")
        self.assertEqual(shown(owner=owner).process, expected)

    def test_socketOnly(self) -> None:
        """Of a process that was not found, what is known of its socket is there."""
        process = shown(owner=Owner(0, 1000, cgroup="/system.slice/a.service")).process
        assert process is not None
        self.assertEqual((process.pid, process.name, process.user), (0, "", "ann"))
        self.assertEqual(process.unit, "a.service")

    def test_notFound(self) -> None:
        """A process that was looked for and not found is None; else reading it is an error."""
        self.assertIsNone(shown().process)
        self.assertRaises(script.NotLookedUp, getattr, shown(looked=False), "process")

    def test_forwarded(self) -> None:
        """Another machine's flow has no process, whether one was looked for or not."""
        self.assertIsNone(shown(local=False, looked=False).process)
        self.assertFalse(shown(local=False).local)
