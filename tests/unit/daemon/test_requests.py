"""Tests of L{nanotun.daemon.requests}."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.options import Options
from nanotun.daemon.ending import Ending
from nanotun.daemon.requests import (
    confirmHandler,
    makeReport,
    reloadHandler,
    silently,
    statusHandler,
    stopHandler,
)
from nanotun.errors import ConfigError, RunningError
from nanotun.interfaces import End
from nanotun.owners.values import EMPTY


class HandlerTests(SynchronousTestCase):
    """The handlers."""

    def test_confirm(self) -> None:
        """A confirmation that is not awaited is one sentence."""
        for confirm in (None, lambda: False):
            error = self.assertRaises(RunningError, confirmHandler(confirm))
            self.assertIn("waits for no confirmation", str(error))
        self.assertEqual(confirmHandler(lambda: True)(), {"confirmed": True})

    def test_stop(self) -> None:
        """A request to stop is answered before the stop begins."""
        reactor: Any = Clock()
        stops: list[int] = []
        reactor.stop = lambda: stops.append(1)
        self.assertEqual(stopHandler(reactor)(), {"pid": os.getpid()})
        self.assertEqual(stops, [])
        reactor.advance(0)
        self.assertEqual(stops, [1])

    def test_restart(self) -> None:
        """A request to stop for a restart says so before the stop begins."""
        reactor: Any = Clock()
        ending = Ending()
        ends: list[End] = []
        reactor.stop = lambda: ends.append(ending.how())
        stopHandler(reactor, ending.restart)()
        reactor.advance(0)
        self.assertEqual(ends, [End.RESTART])

    def test_reload(self) -> None:
        """systemd is told when a reload begins and when it ends, even if it fails."""
        events: list[str] = []

        class Both:
            """The notifier and what is reloaded."""

            def reloading(self) -> None:
                """Begin."""
                events.append("reloading")

            def reloaded(self) -> None:
                """End."""
                events.append("reloaded")

            def reload(self) -> dict[str, Any]:
                """Fail."""
                raise ConfigError("No.")

        both: Any = Both()
        handler = reloadHandler(both, both)
        self.assertRaises(ConfigError, handler)
        self.assertEqual(events, ["reloading", "reloaded"])
        self.assertIs(silently(handler)(), None)

    def test_proxies(self) -> None:
        """Status and reload ask the proxies first; a reload warns of those that are down."""
        asked: list[Deferred[None]] = []

        class Both:
            """The notifier, the upstreams, and what is reloaded."""

            def __getattr__(self, name: str) -> Any:
                return self

            def __call__(self, *_: Any) -> None:
                """Be told something."""

            def refresh(self) -> Deferred[None]:
                """See L{Upstreams.refresh}."""
                asked.append(Deferred())
                return asked[-1]

            def reports(self) -> dict[str, Any]:
                """See L{Upstreams.reports}."""
                proxies = [{"trouble": ""}, {"trouble": "It is off."}]
                # As of one that is dialled through the other.
                return {"proxy": {"proxies": proxies}, "deep": {"proxies": proxies[1:]}}

            def reload(self) -> dict[str, Any]:
                """See L{Live.reload}."""
                return {"changed": ["proxy"], "warnings": ["Beware."]}

        both: Any = Both()
        reloaded, status = reloadHandler(both, both)(), statusHandler(both, cast(Any, dict))()
        self.assertNoResult(reloaded)
        self.assertNoResult(status)
        for each in asked:
            each.callback(None)
        self.assertEqual(
            self.successResultOf(reloaded),
            {"changed": ["proxy"], "warnings": ["Beware.", "It is off."]},
        )
        self.assertEqual(self.successResultOf(status), {})

    def test_report(self) -> None:
        """
        The report has every section; those of absent parts, and of parts that fail, are
        nothing.
        """

        class Broken:
            """No part of it works."""

            def __getattr__(self, name: str) -> Any:
                return lambda: 1 // 0

        class Reporting:
            """The upstreams, and the value that holds them."""

            owners = None
            script = None
            settings = Broken()

            def report(self) -> dict[str, int]:
                """See L{Upstreams.report}."""
                return {"a": 1}

            def reports(self) -> dict[str, int]:
                """See L{Upstreams.reports}."""
                return {"office": 2}

        times = iter([10.0, 12.5])
        broken: Any = Broken()
        live: Any = Reporting()
        live.current = live.upstreams = live
        report = makeReport(
            live, "", broken, broken, broken, broken, None, broken, lambda: next(times)
        )()
        self.assertEqual(
            list(report),
            [
                "daemon",
                "device",
                "upstream",
                "upstreams",
                "engine",
                "dns",
                "verdicts",
                "script",
                "processes",
                "history",
                "routes",
                "resources",
            ],
        )
        self.assertEqual(report["daemon"]["uptime"], 2.5)
        self.assertIs(report["daemon"]["config"], None)
        self.assertEqual(report["upstream"], {"a": 1})
        self.assertEqual(report["upstreams"], {"office": 2})
        absent = ("device", "engine", "dns", "verdicts", "processes", "routes")
        self.assertEqual([report[name] for name in absent], [None] * 6)
        self.flushLoggedErrors()

    def test_userRules(self) -> None:
        """The report has all of the user's rules, those as well that have decided nothing."""
        options = Options()
        rules = ("{to: office, ports: 25}", "{to: reject, domains: a.example}")
        words = ["--proxy", "h", "--upstream", "office=socks5://g"]
        options.parseOptions([*words, *(f"--rule={rule}" for rule in rules)])
        current = SimpleNamespace(settings=options.settings, owners=None, script=None)
        router: Any = SimpleNamespace(report=lambda: {"rules": {"default": 3, "#1": 2}})
        live: Any = SimpleNamespace(current=current)
        parts: Any = mock.MagicMock()
        report = makeReport(live, "", parts, parts, parts, router, None, parts, lambda: 0.0)()
        self.assertEqual(
            report["verdicts"],
            {
                "rules": {"default": 3, "#1": 2},
                "userRules": [
                    {"rule": "#1", "to": "office", "where": "--rule", "flows": 2},
                    {"rule": "#2", "to": "reject", "where": "--rule", "flows": 0},
                ],
            },
        )
        self.flushLoggedErrors()

    def test_recorded(self) -> None:
        """The report says whether the kernel records who makes sockets."""
        owners = SimpleNamespace(lookups=5, misses=3, waiting=0, table=EMPTY)
        for works in (True, False):
            live: Any = SimpleNamespace(current=SimpleNamespace(owners=owners, script=None))
            recorder: Any = SimpleNamespace(works=works)
            parts: Any = mock.MagicMock()
            report = makeReport(live, "", parts, parts, parts, parts, None, recorder, lambda: 0.0)()
            self.assertIs(report["processes"]["recorded"], works)
            self.assertEqual(report["processes"]["lookups"], 5)
            self.assertEqual(report["processes"]["misses"], 3)
        self.flushLoggedErrors()
