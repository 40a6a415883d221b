"""Tests of L{nanotun.daemon.tap}, L{nanotun.engine.plugin} and the plugin file."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService, IServiceMaker
from twisted.internet.task import Clock
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.options import Options
from nanotun.control.lock import InstanceLock
from nanotun.daemon import privileges
from nanotun.daemon.cellservice import makeCellService
from nanotun.daemon.checking import checkFiles
from nanotun.daemon.networkwatch import NetworkWatch
from nanotun.daemon.notify import Notifier
from nanotun.daemon.older import OlderConnections
from nanotun.daemon.privileges import Privileges, makePrivileges
from nanotun.daemon.reload import Live
from nanotun.daemon.service import NanotunService
from nanotun.daemon.signals import Signals
from nanotun.daemon.systemservers import SystemServers
from nanotun.daemon.tap import engineFactory, makeService, origins
from nanotun.errors import ConfigError, EngineError
from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.gateway.dns.message import readQuery
from nanotun.interfaces import DnsServer, IPacketEngine, IPacketEngineFactory
from nanotun.linux.resolvconf import RESOLV_CONF
from nanotun.metrics.server import MetricsServer
from nanotun.owners.recorder import Recorder
from nanotun.router.dialtimes import DialTimes
from nanotun.routing.routes import Routes
from nanotun.testing import MemoryTunOpener
from tests import ROOT
from tests.countryfile import countries
from tests.heavy import heavyAmong
from tests.unit.gateway.gateway_cases import ask


def python(code: str) -> str:
    """Run C{code} in a Python of its own and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


class PluginTests(SynchronousTestCase):
    """The plugins that Twisted finds."""

    def test_command(self) -> None:
        """twistd has one command called nanotun."""
        (maker,) = (p for p in getPlugins(IServiceMaker) if p.tapname == "nanotun")
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)

    def test_engines(self) -> None:
        """There is a plugin for each engine, and it makes an engine of its mode."""
        found = {factory.stackMode: factory for factory in getPlugins(IPacketEngineFactory)}
        self.assertEqual({"gvisor", "simple"} - set(found), set())
        for mode in ("gvisor", "simple"):
            verifyObject(IPacketEngineFactory, found[mode])
            verifyObject(IPlugin, found[mode])
            engine = found[mode].createEngine(object(), 60.0)
            verifyObject(IPacketEngine, engine)
            self.assertEqual(engine.stackMode, mode)
            self.assertIs(engineFactory(mode), found[mode])

    def test_noEngine(self) -> None:
        """A stack mode without a plugin is one sentence."""
        self.assertIn("no packet engine x", str(self.assertRaises(EngineError, engineFactory, "x")))

    def test_cheap(self) -> None:
        """The plugin file, which every twistd reads, imports nothing slow and no reactor."""
        loaded = python(
            "import sys, twisted.plugins.nanotun_plugin\n"
            "print(*(m for m in ('yaml', 'pyroute2', 'twisted.internet.reactor',"
            " 'nanotun.daemon.tap', 'nanotun.engine.abi') if m in sys.modules))"
        )
        self.assertEqual(loaded, "")


class ImportsTests(SynchronousTestCase):
    """What a daemon imports."""

    def test_plain(self) -> None:
        """
        A daemon with nothing but a SOCKS5 proxy is put together without what only others need;
        C{tests.e2e.test_daemon} starts one.
        """
        loaded = python(
            "import sys\n"
            "from nanotun.console.start import StartOptions\n"
            "from nanotun.daemon.tap import makeService\n"
            "options = StartOptions()\n"
            "options.parseOptions(['--proxy', 'socks5://192.0.2.1:1080', '--log-dir', ''])\n"
            "options.readSettings(0, {})\n"
            "options.parent = {}\n"
            "makeService(options)\n"
            "print(*sys.modules)"
        )
        self.assertIn("nanotun.daemon.tap", loaded.split())
        self.assertEqual(heavyAmong(loaded.split()), [])


class MakeServiceTests(SynchronousTestCase):
    """L{makeService}."""

    def options(self, proxy: str = "direct://", *more: str) -> Options:
        """Parsed options."""
        options = Options()
        options.parseOptions(["--proxy", proxy, "--log-dir", "", *more])
        cast(Any, options).parent = {}
        return options

    def test_service(self) -> None:
        """It makes a service that is not running and contains the tunnel."""
        root = makeService(self.options())
        verifyObject(IService, root)
        tunnel, ways = cast(Any, root)
        self.assertIsInstance(tunnel, NanotunService)
        self.assertFalse(tunnel.running)
        (services,) = ways
        self.assertEqual(list(services), [])

    def test_order(self) -> None:
        """
        Signals are handled and privileges dropped before anything else starts, then the
        lock is taken, and systemd is notified last.
        """
        parts = self.tunnel(self.options()).parts
        first = [type(part) for part in parts.before[:3]]
        self.assertEqual(first, [Signals, Privileges, InstanceLock])
        self.assertIsInstance(parts.after[-1], Notifier)

    def test_metrics(self) -> None:
        """With the setting there are metrics, and dials are counted; otherwise neither."""
        parts = self.tunnel(self.options("direct://", "--metrics", "127.0.0.1:9198")).parts
        self.assertIsInstance(parts.after[-2], MetricsServer)
        self.assertIsInstance(parts.router.dialling.times, DialTimes)
        parts = self.tunnel(self.options()).parts
        self.assertNotIn(MetricsServer, [type(part) for part in parts.after])
        self.assertIs(parts.router.dialling.times, None)

    def test_older(self) -> None:
        """Connections are kept just before the routes are set, and once more just after."""
        options = self.options("direct://", "--auto-route", "--exclude", "curl")
        kept: list[str] = []
        older = [p for p in self.tunnel(options).parts.after if isinstance(p, OlderConnections)]
        for part in older:
            owners = part._live.current.owners
            assert owners is not None
            self.patch(owners.established, "keep", lambda: kept.append("kept"))
            part.start()
            part.stop()
        self.assertEqual(kept, ["kept"] * 2)
        kinds = [type(part) for part in self.tunnel(options).parts.after]
        first = kinds.index(OlderConnections)
        self.assertEqual(kinds[first : first + 3], [OlderConnections, Routes, OlderConnections])
        # Without owners there is nothing to keep.
        for each in self.tunnel(self.options()).parts.after:
            if isinstance(each, OlderConnections):
                each.start()

    def test_watch(self) -> None:
        """
        All that depends on the network hears when it has moved, the routes last; and the loss of
        the device is the service's.
        """
        for arguments in ((), ("--auto-route",)):
            tunnel = self.tunnel(self.options("direct://", *arguments))
            (live,) = (part for part in tunnel.parts.before if isinstance(part, Live))
            (system,) = (part for part in tunnel.parts.before if isinstance(part, SystemServers))
            (watch,) = (part for part in tunnel.parts.after if isinstance(part, NetworkWatch))
            routes = [part for part in tunnel.parts.after if isinstance(part, Routes)]
            followers = [cast(Any, tunnel.parts.gateway), system, live, *routes]
            self.assertEqual(watch._followers, tuple(each.networkMoved for each in followers))
            self.assertEqual(cast(Any, watch._device)._lost, tunnel._loss.report)

    def test_system(self) -> None:
        """The gateway asks this machine's own servers as soon as they are known."""
        root = self.mktemp()
        os.makedirs(f"{root}/etc")
        Path(root + RESOLV_CONF).write_text("nameserver 192.0.2.7")
        for service in (
            makeService(self.options("direct://", "--dns", "system")),
            makeCellService(self.options("direct://", "--dns", "system"), MemoryTunOpener(), print),
        ):
            parts = next(s for s in cast(Any, service) if type(s) is NanotunService).parts
            (system,) = (part for part in parts.before if isinstance(part, SystemServers))
            servers = cast(Any, parts.gateway)._nameServers
            queries = servers.of((DnsServer("system"),))
            self.assertEqual(queries.order(readQuery(ask())), ())
            system._root = root
            system.start()
            (server,) = queries.order(readQuery(ask()))
            self.assertEqual(server.host, "192.0.2.7")
            system.stop()

    def tunnel(self, options: Options) -> NanotunService:
        """The service that contains the tunnel."""
        return next(s for s in cast(Any, makeService(options)) if type(s) is NanotunService)

    def test_record(self) -> None:
        """
        The record of sockets begins before privileges are dropped, which it needs, and only
        if a rule is about processes, or may be after a reload.
        """
        for arguments, expected in (
            (("192.0.2.1:1080",), []),
            (("192.0.2.1:1080", "--exclude", "curl"), [Signals, Recorder, Privileges]),
            (("127.0.0.1:1080",), [Signals, Recorder, Privileges]),
            (("192.0.2.1:1080", "--flow-log", "/f.db"), [Signals, Recorder, Privileges]),
            (("192.0.2.1:1080", "--auto-route"), [Signals, Recorder, Privileges]),
        ):
            tunnel = next(iter(cast(Any, makeService(self.options(*arguments)))))
            first = [type(part) for part in tunnel.parts.before[:3]]
            self.assertEqual(first if Recorder in first else [], expected, arguments)

    def test_privileges(self) -> None:
        """The capabilities that are kept depend on the settings and on the files' owners."""
        self.patch(privileges, "hasForeign", lambda read, written: "/nobody's" in written)
        self.assertEqual(
            makePrivileges(self.options().settings, {}, "", False, False)._names, {"NET_ADMIN"}
        )
        settings = self.options("direct://", "--auto-route").settings
        twistd = {"pidfile": "/nobody's/twistd.pid"}
        self.assertEqual(
            makePrivileges(settings, twistd, "", True, False)._names,
            {"NET_ADMIN", "NET_RAW", "SYS_PTRACE", "DAC_READ_SEARCH", "DAC_OVERRIDE"},
        )

    def test_group(self) -> None:
        """Several proxies are a service, which is started after the tunnel."""
        tunnel, ways = cast(Any, makeService(self.options("h:1,direct://")))
        group, _ = ways
        self.assertIsInstance(tunnel, NanotunService)
        self.assertEqual(group.describe(), "failover of socks5://h:1, direct://")
        self.assertFalse(group.running)

    def test_pools(self) -> None:
        """Each proxy has a pool, which is started after the tunnel too."""
        options = self.options("h:1,http://h:2,direct://", "--upstream-pool", "2")
        tunnel, ways = cast(Any, makeService(options))
        group, pools = ways
        self.assertIsInstance(tunnel, NanotunService)
        self.assertEqual(len(list(pools)), 2)
        self.assertFalse(pools.running or group.running)

    def test_noDatagrams(self) -> None:
        """A notice says so if no proxy can carry UDP."""
        for proxy, told in (
            ("http://h", True),
            ("socks4://h,reject://", True),
            ("h", False),
            ("http://h,h", False),
            ("direct://", False),
        ):
            tunnel = next(iter(cast(Any, makeService(self.options(proxy)))))
            self.assertEqual("carries no UDP" in "".join(tunnel.notices), told, proxy)

    def test_insecure(self) -> None:
        """A notice names each proxy whose certificate is not checked."""
        proxies = "https://a,https://u:secret@b?insecure=1,https://c?insecure=1"
        tunnel = next(iter(cast(Any, makeService(self.options(proxies)))))
        told = [notice for notice in tunnel.notices if "certificate" in notice]
        self.assertEqual(len(told), 2)
        self.assertIn("https://u:***@b", told[0])
        self.assertNotIn("secret", told[0])

    def test_noCertificates(self) -> None:
        """A missing file of certificates, of a proxy or a DNS server, ends it with one sentence."""
        options = self.options("https://h?ca=/nowhere/ca.pem")
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertIn("/nowhere/ca.pem", str(error.code))
        options = self.options("h")
        server = DnsServer("tls", "192.0.2.1", 853, ca="/nowhere/ca.pem")
        options.settings = replace(options.settings, dns=(server,))
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertIn("check ca of the DNS server tls://192.0.2.1:853", str(error.code))

    def test_upstreams(self) -> None:
        """Upstreams by name are made as well, and so are files that they name checked."""
        options = self.options("h", "--upstream", "office=http://a")
        _, (*groups, _) = cast(Any, makeService(options))
        self.assertEqual([each.describe() for each in groups], ["socks5://h:1080", "http://a:80"])
        options = self.options("h", "--upstream", "office=https://h?ca=/nowhere/ca.pem")
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertIn("/nowhere/ca.pem", str(error.code))
        error = self.assertRaises(ConfigError, checkFiles, options.settings, Clock())
        self.assertIn("/nowhere/ca.pem", str(error))

    def test_unsafe(self) -> None:
        """A check warns of a proxy whose certificate nobody checks, once for each."""
        options = self.options("h", "--upstream", "a=https://h?insecure=1")
        options.readSettings(0, {})
        (notice,) = checkFiles(options.settings, Clock()).notices
        self.assertIn("Nobody checks the certificate of the proxy https://h:443", notice)

    def test_owners(self) -> None:
        """There are owners only if a rule is about the processes of flows."""
        for arguments, expected in (
            (("192.0.2.1:1080",), False),
            (("192.0.2.1:1080", "--exclude", "curl"), True),
            (("127.0.0.1:1080",), True),
            (("socks5:///run/proxy.sock",), True),
        ):
            tunnel = next(iter(cast(Any, makeService(self.options(*arguments)))))
            (live,) = (part for part in tunnel.parts.before if isinstance(part, Live))
            self.assertEqual(live.current.owners is not None, expected, arguments)

    def test_noUser(self) -> None:
        """An unknown user ends it with one sentence."""
        options = self.options("h", "--exclude", "uid:no-such-user")
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertIn("no user no-such-user", str(error.code))

    def test_noChosenUser(self) -> None:
        """A check finds an unknown user of onlyProcesses, without whom no start succeeds."""
        options = self.options("h", "--auto-route", "--only", "uid:no-such-user")
        options.readSettings(0, {})
        error = self.assertRaises(ConfigError, checkFiles, options.settings, Clock())
        self.assertIn("onlyProcesses names uid:no-such-user", str(error))

    def test_lists(self) -> None:
        """What rules take from files is read before the fork, and told of at the start."""
        networks = Path(self.mktemp()).resolve()
        networks.write_text("192.0.2.0/24\nx y\n")
        options = self.options("h", "--rule", f"{{to: reject, networks: 'file:{networks}'}}")
        tunnel = self.tunnel(options)
        (live,) = (part for part in tunnel.parts.before if isinstance(part, Live))
        flow = Flow(1, Protocol.TCP, Endpoint("127.0.0.1", 4000), Endpoint("192.0.2.7", 443))
        decision: Any = live.current.judge.judge(flow)
        self.assertEqual(decision.rule, "#1")
        self.assertIn(str(networks), live.current.lists.networks)
        self.assertIn(f"{networks}, line 2 is left out", "".join(tunnel.notices))
        networks.unlink()
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertIn(f"The list file {networks} cannot be read", str(error.code))

    def test_opensNothing(self) -> None:
        """Before the fork nothing native is loaded, no thread runs and nothing is open."""
        country = Path(self.mktemp()).resolve()
        country.write_bytes(countries({"192.0.2.0/24": "DE"}))
        for arguments in (
            ["h", "--country-file", str(country)],
            ["h,direct://", "--exclude", "curl"],
            ["direct://", "--stack", "simple"],
            ["http://127.0.0.1:1", "--upstream-pool", "2", "--dns-mode", "fake-ip"],
            ["h", "--auto-route", "--kill-switch", "true", "--log-dir", "logs"],
        ):
            output = python(
                "import os, threading\n"
                "from twisted.internet import reactor\n"
                "def fds(): return sorted(os.listdir('/proc/self/fd'))\n"
                "before = fds()\n"
                "from nanotun.daemon.tap import Options, makeService\n"
                f"o = Options(); o.parseOptions(['--proxy', *{arguments!r}])\n"
                "o.parent = {}\n"
                "makeService(o)\n"
                "print('libnetstack' in open('/proc/self/maps').read(), threading.active_count(),"
                " fds() == before)"
            )
            self.assertEqual(output, "False 1 True", arguments)


class OriginTests(SynchronousTestCase):
    """L{origins}."""

    def origins(self, **settings: Any) -> list[str]:
        """The sentences about a daemon in the current directory."""
        options = Options()
        options["proxy"] = "h"
        options.update(settings)
        options.readSettings(os.geteuid(), {})
        return list(origins(options))

    def test_logs(self) -> None:
        """A directory of logs that will be made here is named, with its owner; no other is."""
        place = os.path.realpath(self.mktemp())
        os.makedirs(place)
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(place)
        self.patch(os, "geteuid", lambda: 0)
        (said,) = self.origins()
        self.assertEqual(
            said,
            f"Log files are written to {place}/logs, a new directory that belongs to root; logDir "
            "or --log-dir names another, and '' none.",
        )
        self.assertIn(f"{place}/x/y, a new", self.origins(**{"log-dir": "x/y"})[0])
        self.assertEqual(self.origins(**{"log-dir": ""}), [])
        self.assertEqual(self.origins(**{"log-dir": "/nowhere/logs"}), [])
        self.patch(os, "geteuid", lambda: 1000)
        self.assertIn("a new directory; logDir", self.origins()[0])
        os.mkdir("logs")
        self.assertEqual(self.origins(), [])

    def test_file(self) -> None:
        """The default configuration file is named."""
        self.patch(Options, "defaultFile", self.mktemp())
        Path(Options.defaultFile).touch(0o600)
        Path(Options.defaultFile).write_text("proxy: h\nlogDir: ''\n")
        self.assertIn("because neither --config nor", self.origins(proxy=None)[0])


class ExitTests(SynchronousTestCase):
    """L{nanotun.daemon.tap.exitWith}."""

    def test_status(self) -> None:
        """The process ends with the requested status, after everything else."""
        code = (
            "import atexit\n"
            "from twisted.internet import reactor\n"
            "from nanotun.daemon.tap import exitWith\n"
            "reactor.addSystemEventTrigger('after', 'shutdown', print, 'shut down')\n"
            "reactor.callWhenRunning(exitWith, reactor, 3)\n"
            "reactor.run()\n"
            "print('after the reactor')\n"
        )
        error = self.assertRaises(subprocess.CalledProcessError, python, code)
        self.assertEqual(error.returncode, 3)
        self.assertEqual(error.stdout, "shut down\nafter the reactor\n")
