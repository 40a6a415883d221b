"""Tests of L{nanotun.daemon.reload} and its neighbours."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.daemon.owning import CurrentOwners
from nanotun.daemon.reload import Live, Makers
from nanotun.daemon.requests import (
    confirmHandler,
    makeReport,
    reloadHandler,
    silently,
    stopHandler,
)
from nanotun.daemon.upstreams import Upstreams
from nanotun.errors import ConfigError, RunningError
from nanotun.interfaces import IPart
from nanotun.testing import FakeNames


class FakeOwners:
    """Notes its start and stop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = "made"

    def start(self) -> None:
        """Scan."""
        self.state = "started"

    def stop(self) -> None:
        """Scan no more."""
        self.state = "stopped"


class FakeRunning:
    """What is configured anew, all in one; notes how."""

    hasNames = False
    refusal: Exception | None = None

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.router = self.gateway = self

    def reconfigure(self, *arguments: Any) -> None:
        """The router's and the logs'."""
        if self.refusal is not None and isinstance(arguments[0], Settings):
            raise self.refusal
        self.calls.append(arguments)

    def configure(self, settings: Settings) -> None:
        """The gateway's."""
        self.calls.append(("gateway", settings))

    def setProxies(self, hosts: list[str]) -> None:
        """The routes'."""
        self.calls.append(("proxies", tuple(hosts)))


class LiveTests(SynchronousTestCase):
    """L{Live}."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()
        self.write("proxy: socks5://h:1")
        options = Options()
        options.parseOptions(["-c", str(self.path), "--log-dir", ""])
        self.settings = options.settings
        self.running = FakeRunning()
        self.services = MultiService()
        self.lacking: list[str] = []
        self.made: list[FakeOwners] = []
        self.owners = CurrentOwners(None)
        makers = Makers(self.makeWays, self.judge, cast(Any, self.makeOwners), self.lacksRights)
        ways = self.makeWays(options.settings)
        ways.setServiceParent(self.services)
        routes: Any = self.running
        running = self.running
        self.live = Live(
            options,
            makers,
            ways,
            self.owners,
            routes,
            running.router,
            running.gateway,
            running,
            self.services,
        )

    def write(self, text: str) -> None:
        """Write the configuration."""
        self.path.write_text(text)
        self.path.chmod(0o600)

    def makeWays(self, settings: Settings) -> Upstreams:
        """Real ways out."""
        return Upstreams(settings, Clock(), FakeNames())

    def judge(self, settings: Settings, ways: Upstreams, owners: Any) -> Any:
        """A judge that says what it is made of."""
        return "judge", settings, owners

    def makeOwners(self, settings: Settings) -> FakeOwners | None:
        """Owners where there is a rule."""
        if not settings.excludedProcesses:
            return None
        self.made.append(FakeOwners(settings))
        return self.made[-1]

    def lacksRights(self, settings: Settings) -> bool:
        """Whether a setting that needs them is another than at the start."""
        return any(getattr(settings, name) != getattr(self.settings, name) for name in self.lacking)

    def test_nothing(self) -> None:
        """The same file changes nothing at all."""
        ways = self.live.ways
        self.assertEqual(self.live.reload(), {"changed": [], "restart": [], "warnings": []})
        self.assertEqual(self.running.calls, [])
        self.assertIs(self.live.ways, ways)

    def test_proxy(self) -> None:
        """Another proxy: logs, router, gateway and routes hear of it; the ways out are replaced."""
        before = self.live.ways
        self.write("proxy: ['http://other', 'https://third?insecure=1']\nlogLevel: debug")
        answer = self.live.reload()
        self.assertEqual(answer["changed"], ["proxy", "logLevel"])
        logs, router, gateway, proxies = self.running.calls
        ways = self.live.ways
        self.assertEqual(logs, (self.live.settings,))
        self.assertEqual(
            router, (("judge", self.live.settings, None), ways.upstream, ways.direct, True)
        )
        self.assertEqual(gateway, ("gateway", self.live.settings))
        self.assertEqual(proxies, ("proxies", ("other", "third")))
        self.assertEqual(list(self.services), [ways])
        self.assertIs(before.parent, None)
        warned = " ".join(answer["warnings"])
        for text in ("carries no UDP", "Nobody checks the certificate", "addresses instead of"):
            self.assertIn(text, warned)
        self.running.hasNames = True
        self.write("proxy: http://fourth")
        self.assertNotIn("instead of names", " ".join(self.live.reload()["warnings"]))

    def test_relay(self) -> None:
        """Another server or size of the cache is the gateway's."""
        self.write("proxy: h:1\ndns: 192.0.2.1\ndnsCacheSize: 5")
        self.assertEqual(self.live.reload()["changed"], ["dns", "dnsCacheSize"])
        self.assertEqual(self.running.calls[2], ("gateway", self.live.settings))
        self.write("proxy: h:1\ndns: 192.0.2.1\ndnsCacheSize: 5\ndnsCache: false")
        self.live.reload()
        self.assertEqual(self.running.calls[5], ("gateway", self.live.settings))

    def test_owners(self) -> None:
        """The table of processes is made anew, started, and the one before stopped."""
        self.write("proxy: h:1\nexcludedProcesses: curl")
        self.live.reload()
        first = cast(Any, self.owners.owners)
        self.assertEqual(first.state, "started")
        self.assertIs(self.running.calls[1][0][2], first)
        self.write("proxy: h:1\nexcludedProcesses: curl\nlan: proxy")
        self.live.reload()
        self.assertIs(self.owners.owners, first)
        self.write("proxy: h:1\nlan: proxy")
        self.live.reload()
        self.assertIs(self.owners.owners, None)
        self.assertEqual(first.state, "stopped")

    def test_rights(self) -> None:
        """What needs rights that were given up needs a restart, and no more than that."""
        self.lacking = ["excludedProcesses"]
        self.write("proxy: h:2\nexcludedProcesses: curl")
        answer = self.live.reload()
        self.assertEqual((answer["changed"], answer["restart"]), (["proxy"], ["excludedProcesses"]))
        self.lacking = ["proxy"]
        self.settings = self.live.settings
        self.write("proxy: h:3\nlan: proxy")
        answer = self.live.reload()
        self.assertEqual((answer["changed"], answer["restart"]), (["lan"], ["proxy"]))

    def test_bad(self) -> None:
        """Whatever is no good, nothing changes, and nothing of what was begun is left."""
        before = (self.live.settings, self.live.ways, self.owners.owners)
        for text, sentence in (
            ("proxy: h:2\nmtu: 1", "line 2: mtu must be"),
            ("proxy: https://h?ca=/nowhere.pem", "/nowhere.pem"),
        ):
            self.write(text)
            self.assertIn(sentence, str(self.assertRaises(ConfigError, self.live.reload)))
        self.running.refusal = ConfigError("No directory.")
        self.write("proxy: h:2\nexcludedProcesses: curl\nlogLevel: debug")
        self.assertRaises(ConfigError, self.live.reload)
        self.assertEqual(self.made[-1].state, "stopped")
        os.unlink(self.path)
        self.assertRaises(ConfigError, self.live.reload)
        self.assertEqual((self.live.settings, self.live.ways, self.owners.owners), before)
        self.assertEqual(self.running.calls, [])

    def test_flags(self) -> None:
        """The flags of the start still win."""
        self.write("proxy: h:1\nlogDir: /elsewhere")
        self.assertEqual(self.live.reload()["changed"], [])

    def test_directory(self) -> None:
        """Relative paths mean what they meant at the start, be that directory there or not."""
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        password = Path("password-of-the-test")
        password.write_text("secret")
        password.chmod(0o600)
        self.addCleanup(os.unlink, password.resolve())
        self.write("proxy: socks5://ann@h:1\nproxyPasswordFile: password-of-the-test")
        os.chdir("/")
        self.assertEqual(self.live.reload()["changed"], ["proxy", "proxyPasswordFile"])
        self.assertEqual(os.getcwd(), "/")
        self.live._base = "/nowhere"
        self.assertIn("cannot be read", str(self.assertRaises(ConfigError, self.live.reload)))
        self.write("proxy: h:7")
        self.assertIn("proxy", self.live.reload()["changed"])


class NeighbourTests(SynchronousTestCase):
    """L{CurrentOwners} and the handlers."""

    def test_currentOwners(self) -> None:
        """The part starts and stops what it holds."""
        empty = CurrentOwners(None)
        verifyObject(IPart, empty)
        empty.start()
        empty.stop()
        owners: Any = FakeOwners(cast(Any, None))
        part = CurrentOwners(owners)
        part.start()
        self.assertEqual(owners.state, "started")
        part.stop()
        self.assertEqual(owners.state, "stopped")

    def test_confirm(self) -> None:
        """Nothing to confirm is one sentence."""
        for confirm in (None, lambda: False):
            error = self.assertRaises(RunningError, confirmHandler(confirm))
            self.assertIn("waits for no confirmation", str(error))
        self.assertEqual(confirmHandler(lambda: True)(), {"confirmed": True})

    def test_stop(self) -> None:
        """Who asks for a stop is answered before it begins."""
        reactor: Any = Clock()
        stops: list[int] = []
        reactor.stop = lambda: stops.append(1)
        self.assertEqual(stopHandler(reactor)(), {"pid": os.getpid()})
        self.assertEqual(stops, [])
        reactor.advance(0)
        self.assertEqual(stops, [1])

    def test_reload(self) -> None:
        """systemd hears of the beginning and the end, however it ends."""
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

    def test_report(self) -> None:
        """The report has every section; those of parts that there are not are nothing."""
        settings: Any = replace

        class Tunnel:
            """No part of it works."""

            device = property(lambda self: 1 // 0)

        times = iter([10.0, 12.5])
        broken: Any = Tunnel()
        report = makeReport(
            settings,
            "",
            broken,
            broken,
            broken,
            {"upstream": lambda: {"a": 1}},
            lambda: next(times),
        )()
        self.assertEqual(report["daemon"]["uptime"], 2.5)
        self.assertIs(report["daemon"]["config"], None)
        self.assertEqual(report["upstream"], {"a": 1})
        self.assertEqual([report[name] for name in ("device", "engine", "routes")], [None] * 3)
        self.flushLoggedErrors()
