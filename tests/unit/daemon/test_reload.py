"""Tests of L{nanotun.daemon.reload}."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.options import Options
from nanotun.config.selectors import Selector
from nanotun.daemon import current as currentModule
from nanotun.daemon.current import Current, Maker, Vicinity, logOptions, makeJudge, ownersFor
from nanotun.daemon.lists import readLists
from nanotun.daemon.privileges import Privileges
from nanotun.daemon.reload import Live
from nanotun.daemon.scripts import scriptFor
from nanotun.daemon.upstreams import Upstreams
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.interfaces import IPart
from nanotun.linux.forwarding import Forwarding
from nanotun.linux.markedroute import MarkedRoute
from nanotun.log.service import LogOptions
from nanotun.log.trouble import TroubleLog
from nanotun.owners import make as ownersModule
from nanotun.owners.options import OwnerOptions
from nanotun.owners.recorder import Recorder
from nanotun.testing import FakeNames

#: What a daemon may do that looks for flows' processes.
ALL = frozenset({"NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"})


class FakeHops:
    """Where proxies on this machine pass connections on to."""

    hops = frozenset({"172.17.0.2"})

    def follow(self, changed: Callable[[frozenset[str]], object]) -> None:
        """Tell it at once."""
        changed(self.hops)


class FakeOwners:
    """Notes its start and stop."""

    refusal: Exception | None = None

    def __init__(self, options: OwnerOptions) -> None:
        self.options = options
        self.state = "made"
        self.hops = FakeHops()
        self.successors: list[FakeOwners | None] = []

    def handOver(self, successor: FakeOwners | None) -> None:
        """Note it; its sockets are still open."""
        assert self.state == "started"
        self.successors.append(successor)

    def start(self) -> None:
        """Scan."""
        if self.refusal is not None:
            raise self.refusal
        self.state = "started"

    def stop(self) -> None:
        """Scan no more."""
        self.state = "stopped"


class FakeFollower:
    """
    The router, the gateway or the routes.

    @ivar calls: what it was configured with.
    @ivar hops: what L{passBack} was called with.
    @ivar tally: is told so here.
    @ivar rulesChanges: how often it was told that the user's rules are others.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.hops: list[tuple[str, ...]] = []
        self.rulesChanges = 0
        self.tally = self
        self.names = FakeNames()
        self.trouble = TroubleLog(Clock(), Logger())

    def configure(self, *arguments: Any, **named: Any) -> None:
        """Take it over."""
        self.calls.append((*arguments, *named.values()))

    def rulesChanged(self) -> None:
        """Note it."""
        self.rulesChanges += 1

    def passBack(self, hosts: Iterable[str]) -> None:
        """Note where proxies pass connections on to."""
        self.hops.append(tuple(hosts))

    def isLocal(self, host: str) -> bool:
        """Whether an address is this machine's."""
        return False


class FakeRoot(MultiService):
    """The outermost service, which can refuse to log as it is told."""

    refusal: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[LogOptions] = []

    def configure(self, options: LogOptions) -> None:
        """Note the options, or refuse them."""
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(options)


class LiveCase(SynchronousTestCase):
    """A daemon's configuration in force, in the middle of parts that note what they get."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.made: list[FakeOwners] = []
        # How often standing decisions were withdrawn.
        self.withdrawn: list[int] = []
        self.ownersRefusal: Exception | None = None
        self.patch(ownersModule, "makeOwners", self.makeOwners)
        self.router, self.gateway, self.routes = (FakeFollower() for _ in range(3))
        self.root = FakeRoot()
        self.path = Path(self.mktemp()).resolve()
        self.write("proxy: socks5://h:1")
        self.live = self.makeLive()

    def makeLive(self, rights: frozenset[str] = ALL) -> Live:
        """A daemon with the configuration of now, that has started."""
        options = Options()
        options.parseOptions(["-c", str(self.path), "--log-dir", ""])
        settings = options.settings
        gateway: Any = self.gateway
        marked = MarkedRoute("nano0", Clock().seconds)
        upstreams = Upstreams(settings, Clock(), gateway.names, self.router.trouble, marked.leadsIn)
        recorder = Recorder(cast(Any, None))
        script = scriptFor(settings, self.clock)
        owners = ownersFor(settings, Clock(), recorder, script=script)
        lists = readLists(settings, os.geteuid())
        around = Vicinity(marked, Forwarding(Clock().seconds))
        judge = makeJudge(settings, upstreams, owners, lists.lists, gateway, around, script=script)
        trouble, changed = self.router.trouble, lambda: self.withdrawn.append(1)
        maker = Maker(Clock(), gateway, trouble, around, recorder, changed, lambda: None)
        upstreams.setServiceParent(self.root)
        live = Live(
            options,
            str(self.path),
            Current(settings, upstreams, owners, judge, lists, script),
            maker,
            gateway,
            cast(Any, self.router),
            cast(Any, self.routes),
            Privileges(rights, cast(Any, None)),
            cast(Any, self.root),
            Clock(),
        )
        live.start()
        return live

    def makeOwners(
        self,
        options: OwnerOptions,
        reactor: Any,
        recorder: Recorder,
        places: Mapping[Selector, str],
    ) -> FakeOwners:
        """Owners that may refuse to start."""
        self.made.append(FakeOwners(options))
        self.made[-1].refusal = self.ownersRefusal
        return self.made[-1]

    def write(self, text: str) -> None:
        """Write the configuration."""
        self.path.write_text(text)
        self.path.chmod(0o600)

    def inForce(self) -> list[Any]:
        """Everything that a reload may change."""
        calls = [len(each.calls) for each in (self.router, self.gateway, self.routes, self.root)]
        owners: Any = self.live.current.owners
        state = None if owners is None else owners.state
        return [self.live.current, list(self.root), state, *calls]


class LiveTests(LiveCase):
    """L{Live}."""

    def test_part(self) -> None:
        """As a part it starts and stops the owners, where there are any."""
        verifyObject(IPart, self.live)
        self.live.stop()
        self.assertEqual(self.made, [])
        self.write("proxy: h:1\nexcludedProcesses: curl")
        live = self.makeLive()
        (owners,) = self.made
        self.assertEqual(owners.state, "started")
        live.stop()
        self.assertEqual(owners.state, "stopped")

    def test_nothing(self) -> None:
        """The same file changes nothing at all."""
        before = self.inForce()
        self.assertEqual(self.live.reload(), {"changed": [], "restart": [], "warnings": []})
        self.assertEqual(self.inForce(), before)

    def test_proxy(self) -> None:
        """Another proxy: every part is configured with it, and the upstreams are replaced."""
        before = self.live.current
        self.write("proxy: ['http://other', 'https://third?insecure=1']\nlogLevel: debug")
        answer = self.live.reload()
        self.assertEqual(answer["changed"], ["proxy", "logLevel"])
        current = self.live.current
        settings, upstreams = current.settings, current.upstreams
        self.assertEqual([proxy.host for proxy in settings.proxy], ["other", "third"])
        self.assertIsNot(current.judge, before.judge)
        self.assertEqual(self.router.calls, [(current.judge, upstreams, True, None, False, False)])
        self.assertEqual(self.root.calls, [logOptions(settings)])
        self.assertEqual(
            self.gateway.calls, [(settings, upstreams.byName, None, {}, current.names)]
        )
        self.assertEqual(self.routes.calls, [(settings,)])
        self.assertEqual(list(self.root), [upstreams])
        self.assertIs(before.upstreams.parent, None)
        warned = " ".join(answer["warnings"])
        for text in ("carries no UDP", "Nobody checks the certificate"):
            self.assertIn(text, warned)

    def test_upstreams(self) -> None:
        """All upstreams are replaced at once, and only what is new of them is warned of."""
        self.write("proxy: http://h\nupstreams: {office: 'socks5://a', abroad: 'http://b'}")
        answer = self.live.reload()
        self.assertEqual(answer["changed"], ["proxy", "upstreams"])
        self.assertEqual(len(answer["warnings"]), 2)
        before = self.live.current.upstreams
        self.write("proxy: http://h\nupstreams: {office: 'http://c', abroad: 'http://b'}")
        answer = self.live.reload()
        self.assertEqual(answer["changed"], ["upstreams"])
        self.assertEqual(
            answer["warnings"],
            ["The upstream office (http://c:80) carries no UDP: apps hear so at once."],
        )
        upstreams = self.live.current.upstreams
        self.assertEqual(list(self.root), [upstreams])
        for name in ("proxy", "office", "abroad", "direct"):
            self.assertIsNot(upstreams.byName[name], before.byName[name])
        self.assertIs(self.router.calls[-1][1], upstreams)
        self.assertEqual(self.gateway.calls[-1][1], upstreams.byName)

    def test_noRoutes(self) -> None:
        """A daemon that changes no route is configured all the same."""
        self.live._routes = None
        self.write("proxy: h:2\ndns: 192.0.2.1")
        self.assertEqual(self.live.reload()["changed"], ["proxy", "dns"])
        self.assertEqual((len(self.gateway.calls), self.routes.calls), (1, []))

    def test_relay(self) -> None:
        """Another server or size of the cache reaches the gateway, and warns of no proxy."""
        self.write("proxy: h:1\ndns: 192.0.2.1\ndnsCacheSize: 5")
        answer = self.live.reload()
        self.assertEqual(answer["changed"], ["dns", "dnsCacheSize"])
        self.assertEqual(answer["warnings"], [])
        settings, *_ = self.gateway.calls[-1]
        self.assertEqual((settings.dns[0].host, settings.dnsCacheSize), ("192.0.2.1", 5))
        self.write("proxy: h:1\ndns: 192.0.2.1\ndnsCacheSize: 5\ndnsCache: false")
        self.live.reload()
        settings, *_ = self.gateway.calls[-1]
        self.assertFalse(settings.dnsCache)

    def test_namesInClear(self) -> None:
        """A reload that has names looked up past the proxy again warns of it."""
        before = self.live.current
        settings = replace(before.settings, autoDefaultRoute=True)
        self.live.current = before._replace(settings=settings)
        for way, warned in (("proxy", False), ("direct", True)):
            self.write(f"proxy: h:1\nautoDefaultRoute: true\ndnsVia: {way}")
            answer = self.live.reload()
            self.assertEqual(answer["changed"], ["dnsVia"])
            self.assertEqual("in the clear" in " ".join(answer["warnings"]), warned)

    def test_owners(self) -> None:
        """Owners are made anew only if the settings say something else of processes."""
        self.write("proxy: h:1\nexcludedProcesses: curl")
        self.live.reload()
        first = cast(Any, self.live.current.owners)
        self.assertEqual(first.state, "started")
        self.assertIs(self.live.current.judge._owners, first)
        self.write("proxy: h:1\nexcludedProcesses: curl\nlan: proxy")
        self.live.reload()
        self.assertIs(self.live.current.owners, first)
        self.assertIs(self.live.current.judge._owners, first)
        self.assertEqual(first.state, "started")
        self.write("proxy: h:1\nexcludedProcesses: curl\nlan: proxy\nexcludeRefresh: 20s")
        self.live.reload()
        second = cast(Any, self.live.current.owners)
        self.assertEqual((first.state, second.state), ("stopped", "started"))
        self.assertEqual(first.successors, [second])
        self.write("proxy: h:1\nlan: proxy")
        self.live.reload()
        self.assertIs(self.live.current.owners, None)
        self.assertEqual(second.state, "stopped")
        self.assertEqual(second.successors, [None])

    def test_ownersOfRules(self) -> None:
        """Owners follow the processes that rules name, and log-ins that are a program's own."""
        seen: list[Any] = []
        for text in (
            "rules: [{to: reject, processes: [curl]}]",
            "rules: [{to: reject, processes: [curl, git]}]",
            "rules: [{to: direct, processes: [curl]}, {to: reject, processes: [git]}]",
            "upstreams: {tor: 'socks5://{user}:x@t'}",
            "upstreams: {tor: 'socks5://{user}-{process}:x@t'}",
            "lan: proxy",
        ):
            self.write(f"proxy: h:1\n{text}")
            self.live.reload()
            seen.append(self.live.current.owners)
            self.assertIs(self.live.current.judge._owners, seen[-1])
        self.assertIs(seen[1], seen[2])
        self.assertEqual(len(set(map(id, seen))), 5)
        self.assertIsNone(seen[-1])
        self.assertEqual(
            [(owners.options.everybody, len(owners.options.sought)) for owners in seen[:-1]],
            [(False, 1), (False, 2), (False, 2), (False, 0), (True, 0)],
        )

    def test_rights(self) -> None:
        """Only the settings that need dropped privileges wait for a restart."""
        self.live = self.makeLive(frozenset({"NET_ADMIN"}))
        self.write("proxy: h:2\nexcludedProcesses: curl")
        answer = self.live.reload()
        self.assertEqual((answer["changed"], answer["restart"]), (["proxy"], ["excludedProcesses"]))
        self.write("proxy: 127.0.0.1:3\nlan: proxy")
        answer = self.live.reload()
        self.assertEqual((answer["changed"], answer["restart"]), (["lan"], ["proxy"]))
        self.assertIs(self.live.current.owners, None)

    def test_hops(self) -> None:
        """
        The routes learn where a proxy on this machine passes connections on to, also after a
        reload, but not of one that fails, and forget it where there is none.
        """
        self.root.refusal = ConfigError("No directory.")
        self.write("proxy: 127.0.0.1:3\nlogLevel: debug")
        self.assertRaises(ConfigError, self.live.reload)
        self.assertEqual(self.routes.hops, [])
        self.root.refusal = None
        self.write("proxy: 127.0.0.1:3")
        self.live.reload()
        self.assertEqual(self.routes.hops, [("172.17.0.2",)])
        self.write("proxy: 127.0.0.1:4")
        self.live.reload()
        self.assertEqual(self.routes.hops, [("172.17.0.2",)] * 2)
        flow = Flow(1, Protocol.TCP, Endpoint("172.17.0.2", 4000), Endpoint("1.1.1.1", 443))
        decision: Any = self.live.current.judge.judge(flow)
        self.assertEqual(decision.rule, "local-proxy")
        self.write("proxy: h:4")
        self.live.reload()
        self.assertEqual(self.routes.hops[-1], ())

    def test_bad(self) -> None:
        """A bad configuration changes nothing, and leaves nothing behind that it started."""
        before = self.inForce()
        for text, sentence in (
            ("proxy: h:2\nmtu: 1", "line 2: mtu must be"),
            ("proxy: https://h?ca=/nowhere.pem", "/nowhere.pem"),
        ):
            self.write(text)
            self.assertIn(sentence, str(self.assertRaises(ConfigError, self.live.reload)))
        self.root.refusal = ConfigError("No directory.")
        self.write("proxy: h:2\nexcludedProcesses: curl\nlogLevel: debug")
        self.assertRaises(ConfigError, self.live.reload)
        self.assertEqual(self.made[-1].state, "stopped")
        os.unlink(self.path)
        self.assertRaises(ConfigError, self.live.reload)
        self.assertEqual(self.inForce(), before)

    def failing(self, function: Callable[..., Any], call: int) -> Callable[..., Any]:
        """A function that fails at one of its calls, counted from 1."""
        calls: list[int] = []

        def wrapper(*arguments: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise ConfigError("It is no good.")
            return function(*arguments, **more)

        return wrapper

    def test_whole(self) -> None:
        """
        Whichever step fails, be it the check or the making of what is to be in force, all
        parts go on with the old configuration; then the same file is taken over whole.
        """
        new = "proxy: h:2\nexcludedProcesses: wget\nlogLevel: debug\ndns: 192.0.2.1"
        steps = [
            (name, call) for name in ("Upstreams", "ownersFor", "makeJudge") for call in (1, 2)
        ]
        for name, call in (*steps, ("owners start", 0), ("logs", 0)):
            self.write("proxy: h:1\nexcludedProcesses: curl")
            self.live.reload()
            before = self.inForce()
            self.assertEqual(before[2], "started")
            self.write(new)
            if name == "owners start":
                self.ownersRefusal = ConfigError("It is no good.")
            elif name == "logs":
                self.root.refusal = ConfigError("It is no good.")
            else:
                patched = self.patch(
                    currentModule, name, self.failing(getattr(currentModule, name), call)
                )
            self.assertEqual(
                str(self.assertRaises(ConfigError, self.live.reload)), "It is no good.", name
            )
            self.assertEqual(self.inForce(), before, name)
            self.assertNotIn("started", [each.state for each in self.made if not self.isLive(each)])
            self.ownersRefusal = self.root.refusal = None
            if name in ("Upstreams", "ownersFor", "makeJudge"):
                patched.restore()
            self.live.reload()
            current: Any = self.live.current
            self.assertEqual(current.settings.proxy[0].port, 2)
            self.assertEqual((current.owners.state, before[0].owners.state), ("started", "stopped"))
            self.assertEqual(list(self.root), [current.upstreams])
            self.assertIs(self.router.calls[-1][0], current.judge)
            configured = (
                current.settings,
                current.upstreams.byName,
                None,
                current.contexts,
                current.names,
            )
            self.assertEqual(self.gateway.calls[-1], configured)
            self.assertEqual(self.routes.calls[-1], (current.settings,))
            self.assertEqual(self.root.calls[-1], logOptions(current.settings))

    def test_errorLater(self) -> None:
        """
        An internal error in a part that follows the configuration is logged, and nothing
        of the old configuration goes on beside the new one.
        """
        self.write("proxy: h:1\nexcludedProcesses: curl")
        self.live.reload()
        for number, part in enumerate((self.router, self.gateway, self.routes), 2):
            before = self.live.current
            patched = self.patch(part, "configure", lambda *_, **named: 1 // 0)
            self.write(f"proxy: h:{number}\nexcludedProcesses: curl")
            self.live.reload()
            patched.restore()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1, number)
            self.assertEqual(list(self.root), [self.live.current.upstreams])
            self.assertIsNot(self.live.current.upstreams, before.upstreams)
            self.assertEqual(cast(Any, before.owners).state, "stopped")

    def isLive(self, owners: FakeOwners) -> bool:
        """Whether these are the owners in force."""
        return cast(Any, self.live.current.owners) is owners

    def test_flags(self) -> None:
        """The flags of the start still win."""
        self.write("proxy: h:1\nlogDir: /elsewhere")
        self.assertEqual(self.live.reload()["changed"], [])

    def test_directory(self) -> None:
        """Relative paths are relative to the directory of the start, be it there or not."""
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
