"""Tests of L{nanotun.daemon.standing}: what ends standing decisions, and when."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable
from typing import Any, cast

from twisted.application.service import IService
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.options import Options
from nanotun.config.times import DAY, WEEK, TimeSpan, minutesToEdge, timeSpan
from nanotun.daemon.cellservice import makeCellService
from nanotun.daemon.networkwatch import NetworkWatch
from nanotun.daemon.reload import Live
from nanotun.daemon.service import NanotunService
from nanotun.daemon.standing import HORIZON, TOLERANCE, Withdrawals, lead, untilEdge
from nanotun.daemon.tap import makeService
from nanotun.linux.markedroute import MarkedRoute
from nanotun.testing import MemoryTunOpener
from tests.unit.daemon.test_reload import LiveCase

#: Of CET: summer time begins at 02:00 on 2026-03-29 and ends at 03:00 on 2026-10-25.
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


class EdgeTests(SynchronousTestCase):
    """L{minutesToEdge} and L{untilEdge}."""

    def setUp(self) -> None:
        """Go by a clock with summer time."""
        before = os.environ.get("TZ")
        self.addCleanup(self.useZone, before)
        self.useZone(BERLIN)

    def useZone(self, zone: str | None) -> None:
        """Change the time zone; L{None} for the machine's own."""
        if zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = zone
        time.tzset()

    def at(self, text: str) -> float:
        """The seconds since 1970 at C{"2026-03-29 01:59:00"} of UTC."""
        self.useZone("UTC0")
        seconds = time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))
        self.useZone(BERLIN)
        return seconds

    def seconds(self, now: float, *spans: str) -> float:
        """The seconds until the first edge."""
        return untilEdge([timeSpan(each) for each in spans], lambda: now)

    def test_minutes(self) -> None:
        """Nothing changes before the edge, and something may at it."""
        chance = random.Random(3)
        for _ in range(200):
            spans = [self.someSpan(chance) for _ in range(chance.choice((1, 2)))]
            first = chance.randrange(WEEK)
            minutes = minutesToEdge(spans, first // DAY, first % DAY)
            changes = self.firstChange(spans, first)
            self.assertGreater(minutes, 0)
            self.assertLessEqual(minutes, changes)

    def someSpan(self, chance: random.Random) -> TimeSpan:
        """Any span."""
        days = frozenset(chance.sample(range(7), chance.randrange(1, 8)))
        first, last = chance.sample(range(0, DAY, 30), 2)
        return TimeSpan(days, first, last or DAY)

    def firstChange(self, spans: Iterable[TimeSpan], first: int) -> int:
        """The minutes until any span begins or ends."""

        def values(moment: int) -> list[bool]:
            return [each.includes(moment // DAY % 7, moment % DAY) for each in spans]

        now = values(first)
        return next((n for n in range(1, WEEK + 1) if values(first + n) != now), WEEK + 1)

    def test_exact(self) -> None:
        """The next edge of all spans counts, to the fraction of a second."""
        # 16:59:30 in Berlin, on a Wednesday.
        now = self.at("2026-07-01 14:59:30") + 0.25
        self.assertEqual(self.seconds(now, "08:00-18:00", "Mo-Fr 10:00-17:00"), 29.75)
        self.assertEqual(self.seconds(now + 29.75, "17:00-17:05"), 300.0)
        self.assertEqual(self.seconds(now, "Sa 08:00-18:00"), HORIZON)

    def test_midnight(self) -> None:
        """Whole days end at midnight, and a span may end on the next day."""
        now = self.at("2026-07-01 21:58:00")
        self.assertEqual(self.seconds(now, "We"), 120.0)
        self.assertEqual(self.seconds(now, "22:00-00:01"), 180.0)

    def test_summerTime(self) -> None:
        """When the hour changes everything may."""
        for change in ("2026-03-29 01:00:00", "2026-10-25 01:00:00"):
            moment = self.at(change)
            for before in (1.0, 59.5, 300.0):
                self.assertEqual(self.seconds(moment - before, "12:00-13:00"), before)
            self.assertEqual(self.seconds(moment, "12:00-13:00"), HORIZON)

    def test_whatever(self) -> None:
        """Around the changes of the hour all spans stay as they are until the edge."""
        spans = [timeSpan(each) for each in ("01:30-02:30", "02:00-03:00", "Su 02:59-03:01")]

        def values(moment: float) -> list[bool]:
            here = time.localtime(moment)
            minute = here.tm_hour * 60 + here.tm_min
            return [each.includes(here.tm_wday, minute) for each in spans]

        for change in ("2026-03-29 01:00:00", "2026-10-25 01:00:00"):
            start = self.at(change) - 7200
            for now in range(int(start), int(start) + 14400, 97):
                seconds = untilEdge(spans, lambda now=now: now + 0.5)  # type: ignore[misc]
                end = int(now + 0.5 + seconds)
                for moment in range(now, end, 5):
                    self.assertEqual(values(moment), values(now))


class WithdrawalsTests(SynchronousTestCase):
    """L{Withdrawals}."""

    def setUp(self) -> None:
        """Make them."""
        self.calls: list[str] = []
        self.ahead = 1000.0
        self.withdrawals = Withdrawals(
            lambda: self.calls.append("withdraw"),
            (lambda: self.calls.append("forget"),),
            lambda: self.ahead,
        )

    def test_network(self) -> None:
        """What is known of the network is forgotten before decisions are withdrawn."""
        self.withdrawals.networkChanged()
        self.assertEqual(self.calls, ["forget", "withdraw"])

    def test_quiet(self) -> None:
        """As long as nothing happens they stand."""
        for _ in range(3):
            self.withdrawals.look(True)
        self.assertEqual(self.calls, [])

    def test_clock(self) -> None:
        """They are withdrawn each time that the clock was set, however slowly."""
        self.ahead += 3600
        self.withdrawals.look(True)
        self.withdrawals.look(True)
        self.assertEqual(self.calls, ["withdraw"])
        for _ in range(3):
            self.ahead -= TOLERANCE / 2
            self.withdrawals.look(True)
        self.assertEqual(self.calls, ["withdraw"] * 2)

    def test_deaf(self) -> None:
        """If the kernel does not tell of changes there may have been one at any time."""
        self.withdrawals.look(False)
        self.withdrawals.look(False)
        self.assertEqual(self.calls, ["forget", "withdraw"] * 2)

    def test_lead(self) -> None:
        """The time of day is ahead of the steady clock by what it says."""
        self.assertLess(abs(time.time() - time.monotonic() - lead()), 1.0)


class UpstreamChangeTests(LiveCase):
    """What comes with a reload."""

    def test_changed(self) -> None:
        """The upstreams that a reload makes end standing decisions when they say so."""
        self.write("proxy: socks5://h:2")
        self.live.reload()
        self.live.current.upstreams._context.changed()
        self.assertEqual(self.withdrawn, [1])


def partsOf(service: IService) -> Any:
    """The parts of a service."""
    return next(each for each in cast(Any, service) if type(each) is NanotunService).parts


class WholeTests(SynchronousTestCase):
    """All parts together."""

    def setUp(self) -> None:
        """The options of a service."""
        self.options = Options()
        self.options.parseOptions(["--proxy", "socks5://192.168.7.7", "--log-dir", ""])

    def test_standing(self) -> None:
        """
        A change of the network has everybody forget it, and nothing stands any more; nor does it
        if an upstream says so, be it of the start or of a reload; upstreams settle with the engine.
        """
        cell = makeCellService(self.options, MemoryTunOpener(), print)
        for service in (makeService(self.options), cell):
            parts = partsOf(service)
            router, gateway = parts.router, parts.gateway
            (watch,) = (part for part in parts.after if isinstance(part, NetworkWatch))
            (marked,) = (part for part in parts.before if isinstance(part, MarkedRoute))
            settles = [router._upstreams._context.settle]
            settles += [each._maker._settle for each in parts.before if isinstance(each, Live)]
            self.assertEqual({*settles}, {parts.engine.tellStood})
            calls: list[str] = []
            self.patch(parts.engine, "withdraw", lambda calls=calls: calls.append("withdrawn"))
            changes = [watch._heardOf, router._upstreams._context.changed]
            changes += [each._maker._changed for each in parts.before if isinstance(each, Live)]
            for change in changes:
                router.dialling.standing._current["any"] = 1, 0.0
                change()
                self.assertEqual(calls.pop(), "withdrawn")
            marked._known["192.0.2.1"] = 1, 0.0
            locality = gateway._locality
            locality._known["192.0.2.1"] = True, locality._seconds(), locality._changes
            self.assertTrue(gateway.isLocal("192.0.2.1"))
            watch._heardOf()
            self.assertEqual(marked._known, {})
            self.assertFalse(gateway.isLocal("192.0.2.1"))

    def test_surroundings(self) -> None:
        """
        The judge knows whether this machine forwards, which VPN there is and what time it is;
        nothing of a firewall's or a VPN's comes from a cell.
        """
        parts = partsOf(makeService(self.options))
        judge = parts.router._judge
        (watch,) = (part for part in parts.after if isinstance(part, NetworkWatch))
        forwarding = judge._behind._forwards.__self__
        self.patch(forwarding, "_read", lambda: [False])
        self.assertFalse(judge._behind._forwards())
        self.patch(forwarding, "_read", lambda: [True])
        watch._heardOf()
        self.assertTrue(judge._behind._forwards())
        standing = judge._standing
        self.assertEqual(standing._past, cast(Any, watch._vpn).isPast)
        self.assertIs(standing._untilEdge, untilEdge)
        inCell = partsOf(makeCellService(self.options, MemoryTunOpener(), print)).router._judge
        self.assertFalse(inCell._behind._forwards())
        self.assertFalse(inCell._standing._past("1.1.1.1"))
