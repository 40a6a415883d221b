"""Tests of L{nanotun.daemon.networkwatch}."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, capturedLogs, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.addresses import SOCKET_MARK
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon import networkwatch
from nanotun.daemon.networkwatch import SLEPT, NetworkWatch, sinceBoot, waysOut
from nanotun.errors import RoutingError
from nanotun.interfaces import IPart
from nanotun.linux.departed import GONE_FOR
from nanotun.linux.network import NextHop
from nanotun.linux.sources import LegRoute
from nanotun.routing.follower import CHECK, SETTLE
from nanotun.upstream.dial.sockets import UNMARKED


class FakeMonitor:
    """
    Tells of a change when a test says so.

    @ivar isListening: whether it would tell.
    @ivar refuses: raised by L{start}, if set.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.running = False
        self.isListening = True
        self.refuses: RoutingError | None = None

    def start(self) -> None:
        """Begin."""
        if self.refuses is not None:
            raise self.refuses
        self.running = True

    def stop(self) -> None:
        """End."""
        self.running = False

    def fileno(self) -> int:
        """Negative unless it runs."""
        return 7 if self.running else -1


class FakeDevice:
    """Notes the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        """Note it."""
        self.calls.append("start")

    def stop(self) -> None:
        """Note it."""
        self.calls.append("stop")

    def look(self) -> None:
        """Note it."""
        self.calls.append("look")

    def lookClosely(self) -> None:
        """Note it."""
        self.calls.append("closely")


class FakeVpn:
    """
    Notes the calls.

    @ivar refuses: raised by L{look}, if set.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuses: Exception | None = None

    def forget(self) -> None:
        """Note it."""
        self.calls.append("forget")

    def look(self) -> None:
        """Note it."""
        self.calls.append("look")
        if self.refuses is not None:
            raise self.refuses


class FakeWithdrawals:
    """Notes the calls."""

    def __init__(self) -> None:
        self.calls: list[str | bool] = []

    def networkChanged(self) -> None:
        """Note it."""
        self.calls.append("changed")

    def look(self, told: bool) -> None:
        """Note it."""
        self.calls.append(told)


class FakeDeparted:
    """Says what a test wants."""

    def __init__(self) -> None:
        self.waits = False
        self.refuses: OSError | None = None
        self.looks = 0

    def look(self) -> None:
        """Note it."""
        self.looks += 1
        if self.refuses is not None:
            raise self.refuses


#: A leg that leads nowhere any more, and one that is well.
STALE, WELL = (LegRoute(2, local, ("192.0.2.1", 1080)) for local in ("192.0.2.7", "192.0.2.8"))


class FakeSources:
    """Knows those two."""

    def moved(self, route: LegRoute) -> bool:
        """Whether it is the stale one."""
        return route is STALE


class FakeAssociations:
    """
    Notes which legs it would end, and whether dials are opened anew.

    @ivar refuses: raised instead, if set.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[bool, bool, bool]] = []
        self.refuses: OSError | None = None

    def networkMoved(self, moved: Callable[[LegRoute], bool], dials: bool) -> None:
        """Note it."""
        if self.refuses is not None:
            raise self.refuses
        self.calls.append((moved(STALE), moved(WELL), dials))


class NetworkWatchCase(SynchronousTestCase):
    """A watch that has not started."""

    monitor: FakeMonitor

    def setUp(self) -> None:
        self.clock = Clock()
        self.device = FakeDevice()
        self.departed = FakeDeparted()
        self.vpn = FakeVpn()
        self.standing = FakeWithdrawals()
        self.associations = FakeAssociations()
        self.ways: tuple[str, ...] = ("up0",)
        self.moves = 0
        # Seconds by which the clock since the boot is ahead.
        self.ahead = 0.0
        self.watch = self.makeWatch()

    def moved(self) -> None:
        """Note it."""
        self.moves += 1

    def makeWatch(self) -> NetworkWatch:
        """Make one."""

        def makeMonitor(changed: Callable[[], None]) -> FakeMonitor:
            self.monitor = FakeMonitor(changed)
            return self.monitor

        return NetworkWatch(
            self.clock,
            makeMonitor,  # type: ignore[arg-type]
            self.device,  # type: ignore[arg-type]
            lambda: self.ways,
            self.associations,
            (self.moved,),
            self.standing,  # type: ignore[arg-type]
            self.vpn,  # type: ignore[arg-type]
            self.departed,  # type: ignore[arg-type]
            FakeSources,  # type: ignore[arg-type]
            lambda: self.clock.seconds() + self.ahead,
        )


class DeviceLookTests(NetworkWatchCase):
    """When the device is looked at."""

    def test_part(self) -> None:
        """It is a part of the daemon, and starts and stops the device's watch."""
        verifyObject(IPart, self.watch)
        self.watch.start()
        self.assertTrue(self.monitor.running)
        self.watch.stop()
        self.assertFalse(self.monitor.running)
        self.assertEqual(self.device.calls, ["start", "stop"])
        self.clock.advance(10 * CHECK)
        self.assertEqual(self.device.calls, ["start", "stop"])

    def test_message(self) -> None:
        """A message leads to a look at once, and to a close one when all has settled."""
        self.watch.start()
        for _ in range(3):
            self.monitor.changed()
        self.assertEqual(self.device.calls[1:], ["look"] * 3)
        self.clock.advance(SETTLE)
        self.assertEqual(self.device.calls[4:], ["closely"])

    def test_check(self) -> None:
        """Without a message there is a close look every few seconds."""
        self.watch.start()
        self.clock.pump([CHECK] * 3)
        self.assertEqual(self.device.calls[1:], ["closely"] * 3)

    def test_deaf(self) -> None:
        """A kernel that sends no messages does not keep the daemon from running."""
        self.monitor.refuses = RoutingError("The kernel does not tell of changes.")
        with capturedLogs() as events:
            self.watch.start()
        self.assertEqual(
            list(map(formatEvent, events)),
            ["The kernel does not tell of changes. They are looked for every few seconds."],
        )
        self.clock.advance(CHECK)
        self.assertEqual(self.device.calls, ["start", "closely"])

    def test_standing(self) -> None:
        """Nothing stands after a message, at once; every few seconds the clock is looked at."""
        self.watch.start()
        self.monitor.changed()
        self.assertEqual(self.standing.calls, ["changed"])
        self.clock.advance(CHECK)
        self.monitor.isListening = False
        self.clock.advance(CHECK)
        self.assertEqual(self.standing.calls, ["changed", True, False])

    def test_bug(self) -> None:
        """An internal error in one look does not keep the next from being made."""

        def broken() -> None:
            raise ZeroDivisionError

        self.watch.start()
        self.device.lookClosely = broken  # type: ignore[method-assign]
        self.clock.advance(CHECK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        del self.device.lookClosely
        self.clock.advance(CHECK)
        self.assertEqual(self.device.calls, ["start", "closely"])


class MoveTests(NetworkWatchCase):
    """What follows from a change of the network."""

    def setUp(self) -> None:
        super().setUp()
        self.watch.start()

    def change(self) -> None:
        """The kernel tells of a change, and all settles."""
        self.monitor.changed()
        self.clock.advance(SETTLE)

    def test_quiet(self) -> None:
        """While nothing happens nothing is done."""
        self.clock.pump([CHECK] * 10)
        self.assertEqual((self.moves, self.associations.calls), (0, []))

    def test_legs(self) -> None:
        """After a message, legs are looked at even if the way out is the same."""
        self.change()
        self.assertEqual((self.moves, self.associations.calls), (0, [(True, False, False)]))
        self.clock.advance(CHECK)
        self.assertEqual(len(self.associations.calls), 1)

    def test_anotherWay(self) -> None:
        """Another way out renews everything, once; also without a message."""
        self.ways = ("up1",)
        self.change()
        self.assertEqual((self.moves, self.associations.calls), (1, [(True, False, True)]))
        self.clock.advance(CHECK)
        self.assertEqual(self.moves, 1)
        self.ways = ("up0",)
        self.clock.advance(CHECK)
        self.assertEqual((self.moves, len(self.associations.calls)), (2, 2))

    def test_flap(self) -> None:
        """While there is no way out nothing is renewed; when it is back, it is."""
        self.ways = ()
        self.change()
        self.assertEqual((self.moves, self.associations.calls), (0, [(True, False, False)]))
        self.ways = ("up0",)
        self.change()
        self.assertEqual(self.moves, 1)

    def test_departing(self) -> None:
        """While an address is missing there is a look in time for its connections to end."""
        self.departed.waits = True
        self.change()
        self.departed.waits = False
        looks = self.departed.looks
        self.clock.advance(GONE_FOR)
        self.assertEqual(self.departed.looks, looks + 1)

    def test_slept(self) -> None:
        """After a sleep all associations end, whatever the network is."""
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.ahead = 3600.0
        self.clock.advance(CHECK)
        self.assertEqual((self.moves, self.associations.calls), (1, [(True, True, True)]))
        self.assertEqual(
            lines, ["The machine has slept for 3602 s; UDP is sent over new associations."]
        )
        self.clock.advance(CHECK)
        self.assertEqual(self.moves, 1)

    def test_stopped(self) -> None:
        """A daemon that was stopped for a while has slept, too; a busy one has not."""
        self.clock.advance(CHECK + SLEPT)
        self.assertEqual(self.moves, 0)
        self.clock.advance(CHECK + SLEPT + 0.5)
        self.assertEqual(self.moves, 1)

    def test_kernelSilent(self) -> None:
        """If the kernel does not answer once, the next look is made."""
        self.departed.refuses = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        self.ways = ("up1",)
        self.change()
        self.assertEqual(self.moves, 0)
        self.departed.refuses = None
        self.change()
        self.assertEqual(self.moves, 1)

    def test_nothingForgotten(self) -> None:
        """What the kernel kept from being done after a change or a sleep is done later."""
        silent = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        self.departed.refuses = silent
        self.change()
        self.departed.refuses = None
        self.clock.advance(CHECK)
        self.assertEqual((self.moves, self.associations.calls), (0, [(True, False, False)]))
        self.associations.refuses = silent
        self.ways = ("up1",)
        self.clock.advance(CHECK)
        self.associations.refuses = None
        self.clock.advance(CHECK)
        self.assertEqual((self.moves, self.associations.calls[1:]), (1, [(True, False, False)]))
        self.departed.refuses = silent
        self.ahead = 3600.0
        self.clock.advance(CHECK)
        self.assertEqual(self.moves, 1)
        self.departed.refuses = None
        self.clock.advance(CHECK)
        self.assertEqual((self.moves, self.associations.calls[2:]), (2, [(True, True, True)]))
        self.clock.advance(CHECK)
        self.assertEqual((self.moves, len(self.associations.calls)), (2, 3))


class VpnTests(NetworkWatchCase):
    """When other VPNs are looked for."""

    def test_looks(self) -> None:
        """At the start, after changes, and every few seconds; routes are forgotten at once."""
        self.watch.start()
        self.assertEqual(self.vpn.calls, ["look"])
        self.monitor.changed()
        self.assertEqual(self.vpn.calls[1:], ["forget"])
        self.clock.advance(SETTLE)
        self.assertEqual(self.vpn.calls[2:], ["look"])
        self.clock.advance(CHECK)
        self.assertEqual(self.vpn.calls[3:], ["look"])

    def test_bug(self) -> None:
        """Neither a silent kernel nor a bug in one look keeps the others from being made."""
        self.departed.refuses = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        self.vpn.refuses = ZeroDivisionError()
        self.watch.start()
        self.clock.pump([CHECK] * 2)
        self.assertEqual(self.vpn.calls, ["look"] * 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)


class WaysTests(SynchronousTestCase):
    """L{waysOut}."""

    def test_hosts(self) -> None:
        """The ways to proxies, servers and the Internet count, but no names are looked up."""
        asked: list[str] = []

        def nextHops(hosts: list[str], mark: int) -> list[NextHop]:
            asked.extend(hosts)
            self.assertEqual(mark, SOCKET_MARK)
            return [NextHop(2, "192.0.2.1")] * len(asked)

        self.patch(networkwatch, "nextHops", nextHops)
        sources = ["192.0.2.9"]
        self.patch(networkwatch, "sourceTo", lambda peer, family, make: sources[0])
        flags = {"proxy": "socks5://192.0.2.7", "dns": "192.0.2.53"}
        values = {name: flagValue(KEYS[name], text) for name, text in flags.items()}
        ways = waysOut(makeSettings({}, values, None))
        self.assertEqual(ways, {NextHop(2, "192.0.2.1"), "192.0.2.9"})
        self.assertEqual(asked, ["192.0.2.7", "192.0.2.53", "8.8.8.8", "2001:4860:4860::8888"])
        asked.clear()
        named = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "socks5://p.test")}, None)
        waysOut(named)
        self.assertNotIn("p.test", asked)
        # Another address of ours makes another way.
        sources[0] = "192.0.2.10"
        self.assertNotEqual(waysOut(named), ways)
        self.patch(networkwatch, "nextHops", lambda hosts, mark: [])
        sources[0] = ""
        self.assertEqual(waysOut(named), frozenset())

    def test_tunnel(self) -> None:
        """A default route into the tunnel is no way out, so it is no other one either."""
        settings = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "192.0.2.7:1")}, None)
        hops = [NextHop(2, "192.0.2.1")]
        self.patch(networkwatch, "interfaceNames", lambda: {2: "up0", 3: "nano0"})
        self.patch(networkwatch, "nextHops", lambda hosts, mark: hops)
        routed: dict[str, str] = {"192.0.2.7": "192.0.2.9"}
        self.patch(networkwatch, "sourceTo", lambda peer, family, make: routed.get(peer[0], ""))
        before = waysOut(settings)
        hops.append(NextHop(3, "0.0.0.0"))
        routed.update({"8.8.8.8": "198.18.0.2", "2001:4860:4860::8888": "fdfe:dcba:9876::2"})
        self.assertEqual(waysOut(settings), before)
        self.assertEqual(before, {NextHop(2, "192.0.2.1"), "192.0.2.9"})

    def test_cell(self) -> None:
        """
        For the unmarked packets of an ordinary user's run, the device of a daemon is a way out.
        """
        settings = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "192.0.2.7:1")}, None)
        marks: set[int] = set()

        def nextHops(hosts: object, mark: int) -> list[NextHop]:
            marks.add(mark)
            return [NextHop(3, "0.0.0.0")]

        self.patch(networkwatch, "interfaceNames", lambda: {3: "nano0"})
        self.patch(networkwatch, "nextHops", nextHops)
        self.patch(networkwatch, "sourceTo", lambda peer, family, make: "")
        ways = waysOut(settings, UNMARKED, inCell=True)
        self.assertEqual((ways, marks), ({NextHop(3, "0.0.0.0")}, {0}))

    def test_sinceBoot(self) -> None:
        """The clock that tells of a sleep runs."""
        self.assertGreater(sinceBoot(), 0)
        self.assertLessEqual(sinceBoot(), sinceBoot())
