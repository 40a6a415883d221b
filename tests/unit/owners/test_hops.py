"""
Tests for L{nanotun.owners.hops}.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.hops import CLEARED_LIMIT, LOOK_INTERVAL, NextHops
from nanotun.owners.localproxy import LocalProxies
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.testing import FakeSockets
from nanotun.upstream.schemes.table import parseProxyURL

HERE = Endpoint("127.0.0.1", 1090)
PROXY = Endpoint("172.17.0.2", 1080)
SERVER = Endpoint("198.51.100.7", 443)
OWN = ("127.0.0.1", "192.0.2.1", "198.18.0.2")


class NextHopsTests(SynchronousTestCase):
    """Tests for L{NextHops}."""

    def setUp(self) -> None:
        """A proxy at the loopback, and another one elsewhere."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.looks: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.answers: dict[Endpoint, str | None] = {}
        self.asked: list[frozenset[int]] = []
        self.failure: Exception | None = None
        self.takes = 0.0
        self.original: Flow | None = None
        self.told: list[frozenset[str]] = []
        self.urls = [f"socks5://{HERE}", "socks5://10.0.0.9:1080"]

    def hops(self) -> NextHops:
        """Make them, not started."""
        proxies = LocalProxies(map(parseProxyURL, self.urls), FakeSockets(), lambda: frozenset(OWN))
        hops = NextHops(
            proxies,
            self.probe,
            lambda flow: self.original,
            lambda hosts: ("fd17::2",) if PROXY.host in hosts else (),
            lambda host: host in OWN,
            self.clock,
            self.inThread,
        )
        return hops

    def started(self) -> NextHops:
        """Make and start them."""
        hops = self.hops()
        hops.notice(frozenset({5000}), frozenset({7}))
        hops.start()
        hops.follow(self.told.append)
        return hops

    def probe(self, endpoint: Endpoint, pids: frozenset[int]) -> str | None:
        """Answer."""
        if self.failure is not None:
            raise self.failure
        self.asked.append(pids)
        self.clock.advance(self.takes)
        return self.answers.get(endpoint, "")

    def inThread(self, look: Callable[[], Any]) -> Deferred[Any]:
        """Instead of a thread."""
        self.looks.append((look, Deferred()))
        return self.looks[-1][1]

    def finish(self) -> None:
        """Complete the look that was begun."""
        ((look, done),) = self.looks
        self.looks.clear()
        try:
            result = look()
        except OSError as error:
            done.errback(error)
        else:
            done.callback(result)

    def sends(self, host: str) -> Flow:
        """A flow of this machine without a socket, whose packets come from a host."""
        flow = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 5000), SERVER)
        self.original = flow._replace(source=Endpoint(host, 4000))
        return flow

    def test_start(self) -> None:
        """A next hop is known before the start is over, and told of."""
        self.answers[HERE] = PROXY.host
        hops = self.started()
        self.assertEqual(hops.hops, {PROXY.host})
        self.assertEqual(self.told, [{PROXY.host}])
        self.assertEqual((self.looks, self.asked), ([], [{7}]))

    def test_none(self) -> None:
        """That there is none is told of once, so that an earlier one is forgotten."""
        hops = self.started()
        self.clock.advance(LOOK_INTERVAL)
        hops.notice(frozenset({5001}), frozenset({8}))
        self.finish()
        self.assertEqual(self.told, [frozenset()])
        self.urls = ["socks5://10.0.0.9:1080"]
        self.started()
        self.assertEqual(self.told, [frozenset(), frozenset()])

    def test_again(self) -> None:
        """Another address after the container's restart replaces the first."""
        self.answers[HERE] = PROXY.host
        hops = self.started()
        self.answers[HERE] = "172.17.0.3"
        hops.notice(frozenset({5001}), frozenset({8}))
        self.finish()
        self.assertEqual(hops.hops, {"172.17.0.3"})
        self.answers[HERE] = ""
        hops.notice(frozenset({5002}), frozenset({9}))
        self.finish()
        self.assertEqual(self.told, [{PROXY.host}, {"172.17.0.3"}, frozenset()])

    def test_manyProxies(self) -> None:
        """Many proxies do not hold up the start: those that are left are looked at in a thread."""
        self.urls = [f"socks5://127.0.0.1:{port}" for port in range(1090, 1100)]
        last = Endpoint("127.0.0.1", 1099)
        self.answers[last] = PROXY.host
        self.takes = 0.2
        hops = self.started()
        self.assertEqual((len(self.asked), hops.hops), (3, frozenset()))
        self.finish()
        self.assertEqual((len(self.asked), hops.hops), (13, {PROXY.host}))

    def test_stopped(self) -> None:
        """The stop does not wait for proxies that are still to be looked at."""
        hops = self.started()
        hops.look()
        hops.stop()
        self.asked.clear()
        self.finish()
        self.assertEqual(self.asked, [])

    def test_unclear(self) -> None:
        """As long as it is not clear, the last answer stays."""
        self.answers[HERE] = PROXY.host
        hops = self.started()
        self.answers[HERE] = None
        hops.look()
        self.finish()
        self.assertEqual(hops.hops, {PROXY.host})

    def test_busy(self) -> None:
        """A helper that is too busy to connect onwards stays one as long as it listens."""
        self.answers[HERE] = PROXY.host
        hops = self.started()
        self.answers[HERE] = ""
        hops.look()
        self.finish()
        self.assertEqual(hops.hops, {PROXY.host})
        hops.notice(frozenset({5001}), frozenset({8}))
        self.finish()
        self.assertEqual(hops.hops, frozenset())

    def test_reasons(self) -> None:
        """
        A real proxy is left alone until something else listens; a relay, and an address where
        nobody listens, are looked at now and then.
        """
        hops = self.started()
        for _ in range(3):
            self.clock.advance(LOOK_INTERVAL)
            hops.notice(frozenset({5000}), frozenset({7}))
            self.assertEqual(self.looks, [])
        hops.notice(frozenset({5001}), frozenset())
        self.assertEqual(self.looks, [], "its process is not known yet")
        hops.notice(frozenset({5001}), frozenset({8}))
        self.answers[HERE] = PROXY.host
        self.finish()
        hops.notice(frozenset({5001}), frozenset({8}))
        self.assertEqual(self.looks, [])
        self.clock.advance(LOOK_INTERVAL)
        hops.notice(frozenset({5001}), frozenset({8}))
        self.answers[HERE] = ""
        self.finish()
        hops.notice(frozenset(), frozenset())
        self.finish()
        self.clock.advance(LOOK_INTERVAL)
        hops.notice(frozenset(), frozenset())
        self.finish()

    def test_changeDuringLook(self) -> None:
        """What begins to listen during a look is looked at afterwards."""
        hops = self.started()
        hops.notice(frozenset({5001}), frozenset({8}))
        hops.notice(frozenset({5002}), frozenset({9}))
        self.finish()
        self.finish()
        self.assertEqual(self.asked, [{7}, {8}, {9}])

    def test_ownFlow(self) -> None:
        """A flow of the container, or of a proxy elsewhere, that NAT has changed is the proxy's."""
        self.answers[HERE] = PROXY.host
        hops = self.started()
        for host in (PROXY.host, "fd17::2", "10.0.0.9"):
            owner = hops.ownerOf(self.sends(host))
            assert owner is not None
            self.assertEqual((owner.name, owner.excluded), (host, LOCAL_PROXY))

    def test_neighbour(self) -> None:
        """
        A flow of another container waits only until it is clear that it is not the proxy's, and
        the next ones do not wait.
        """
        self.answers[HERE] = PROXY.host
        hops = self.started()
        self.clock.advance(LOOK_INTERVAL)
        flow = self.sends("172.17.0.3")
        self.assertRaises(OutOfTime, hops.ownerOf, flow)
        self.assertRaises(OutOfTime, hops.ownerOf, flow)
        self.finish()
        self.assertIsNone(hops.ownerOf(flow))
        self.clock.advance(LOOK_INTERVAL)
        self.assertIsNone(hops.ownerOf(flow))
        self.assertEqual(self.looks, [])

    def test_restartedSender(self) -> None:
        """A container that was started anew with another address is found by its first flow."""
        self.answers[HERE] = PROXY.host
        hops = self.started()
        self.clock.advance(LOOK_INTERVAL)
        self.answers[HERE] = "172.17.0.3"
        flow = self.sends("172.17.0.3")
        self.assertRaises(OutOfTime, hops.ownerOf, flow)
        self.finish()
        owner = hops.ownerOf(flow)
        assert owner is not None
        self.assertEqual(owner.excluded, LOCAL_PROXY)

    def test_formerNeighbour(self) -> None:
        """A neighbour that gets the proxy's address is not taken for a neighbour any more."""
        hops = self.started()
        self.assertIsNone(hops.ownerOf(self.sends(PROXY.host)))
        self.answers[HERE] = PROXY.host
        hops.notice(frozenset({5001}), frozenset({8}))
        self.assertRaises(OutOfTime, hops.ownerOf, self.sends(PROXY.host))
        self.finish()
        self.assertIsNotNone(hops.ownerOf(self.sends(PROXY.host)))

    def test_own(self) -> None:
        """A flow that was not changed, or is this machine's own, has no owner here."""
        hops = self.started()
        flow = self.sends("192.0.2.1")
        self.assertIsNone(hops.ownerOf(flow))
        self.original = None
        self.assertIsNone(hops.ownerOf(flow))

    def test_noProxy(self) -> None:
        """Without such a proxy nothing is looked up."""
        self.urls = ["direct://"]
        hops = self.started()
        self.original = self.sends("172.17.0.3")
        hops._originalOf = lambda flow: self.fail("asked")  # type: ignore[assignment]
        self.assertIsNone(hops.ownerOf(self.original))

    def test_many(self) -> None:
        """The memory of other hosts is bounded."""
        hops = self.started()
        for number in range(CLEARED_LIMIT + 10):
            self.assertIsNone(hops.ownerOf(self.sends(f"172.18.{number // 250}.{number % 250}")))
        self.assertLessEqual(len(hops._cleared), CLEARED_LIMIT)

    def test_failure(self) -> None:
        """If the kernel cannot be asked, nothing changes, and the next occasion tries again."""
        self.failure = OSError(errno.EMFILE, "too many files")
        hops = self.started()
        self.assertEqual((hops.hops, self.told), (frozenset(), []))
        hops.notice(frozenset({5000}), frozenset({7}))
        self.finish()
        self.failure = None
        self.answers[HERE] = PROXY.host
        hops.notice(frozenset({5000}), frozenset({7}))
        self.finish()
        self.assertEqual(self.told, [{PROXY.host}])

    def test_mistakeAtStart(self) -> None:
        """An internal error is logged, and does not keep the daemon from starting."""
        self.failure = ZeroDivisionError()
        hops = self.started()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        hops.notice(frozenset({5000}), frozenset({7}))
        self.assertEqual(len(self.looks), 1)

    def test_mistake(self) -> None:
        """An internal error in who is told is logged, and the next occasion tries again."""
        hops = self.started()
        self.patch(hops, "_changed", lambda hosts: 1 // 0)
        self.answers[HERE] = PROXY.host
        hops.look()
        self.finish()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        hops.notice(frozenset({5000}), frozenset({7}))
        self.assertEqual(len(self.looks), 1)

    def test_stop(self) -> None:
        """A look under way at the stop changes nothing, and no flow waits for it."""
        self.answers[HERE] = PROXY.host
        hops = self.started()
        self.clock.advance(LOOK_INTERVAL)
        self.answers[HERE] = "172.17.0.3"
        hops.look()
        hops.stop()
        hops.look()
        self.assertIsNone(hops.ownerOf(self.sends("172.17.0.3")))
        self.finish()
        self.assertEqual(self.told, [{PROXY.host}])
        self.assertEqual(self.looks, [])
