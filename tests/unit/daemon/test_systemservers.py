"""Tests of L{nanotun.daemon.systemservers}."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.config.keys import KEYS
from nanotun.config.selectors import Selector, SelectorKind
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.daemon.circles import Circles
from nanotun.daemon.localresolvers import RESOLVED
from nanotun.daemon.systemservers import (
    LOOK_PAUSE,
    MANAGER_CONF,
    RESOLVED_CONF,
    Resolvers,
    SystemServers,
    choose,
    isUsable,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import DnsServer, IPart
from nanotun.linux.resolvconf import RESOLV_CONF
from nanotun.linux.resolvedlinks import LinkServers

ROUTER, VPN, GLOBAL = "192.168.1.1", "10.8.0.1", "9.9.9.9"
STUB = "127.0.0.53"


def isLocal(host: str) -> bool:
    """Loopback addresses, and one of an interface."""
    return host.startswith("127.") or host in ("::1", "192.168.1.7")


def settings(**values: str) -> Settings:
    """The settings of a daemon."""
    given = {"proxy": "socks5://192.0.2.1:1080", "autoDefaultRoute": "true", **values}
    flags = {name: flagValue(KEYS[name], each) for name, each in given.items()}
    return makeSettings({}, flags, "")


def servers(*hosts: str, domains: tuple[str, ...] = ()) -> tuple[DnsServer, ...]:
    """Plain servers."""
    return tuple(DnsServer("udp", host, 53, domains=domains) for host in hosts)


def link(
    name: str, *hosts: str, domains: tuple[str, ...] = (), isDefault: bool = True
) -> LinkServers:
    """The servers of an interface."""
    endpoints = tuple(Endpoint(host, 53) for host in hosts)
    return LinkServers(0, name, endpoints, domains, isDefault)


class ChooseTests(SynchronousTestCase):
    """L{choose}."""

    def chosen(self, machine: Resolvers) -> tuple[DnsServer, ...]:
        """The first that there are."""
        return next(filter(None, choose(machine, isLocal, "nanotun0")), ())

    def test_rules(self) -> None:
        """Others' addresses count first, then who answers on this machine, then that one itself."""
        links = (link("eth0", ROUTER),)
        for machine, expected in (
            # What programs ask directly.
            (Resolvers((ROUTER, GLOBAL), links, (VPN,)), servers(ROUTER, GLOBAL)),
            (Resolvers(("127.0.0.1", ROUTER)), servers(ROUTER)),
            (Resolvers((STUB, GLOBAL), links), servers(GLOBAL)),
            # systemd-resolved.
            (Resolvers((STUB,), links, (VPN,)), servers(ROUTER)),
            (Resolvers(("127.0.0.54",), links), servers(ROUTER)),
            (Resolvers((), links, (VPN,)), servers(ROUTER)),
            (Resolvers((STUB,), (), (VPN,)), servers(VPN)),
            (Resolvers((STUB,), ()), ()),
            # It does not run, or is not asked.
            (Resolvers((STUB,), None, (VPN,)), servers(VPN)),
            (Resolvers((STUB,), None), servers(STUB)),
            (Resolvers(("127.0.0.1",), links), servers("127.0.0.1")),
            # NetworkManager's dnsmasq.
            (Resolvers(("127.0.0.1",), None, (VPN,)), servers(VPN)),
            (Resolvers((), None, (VPN,)), servers(VPN)),
            # Another server of this machine's.
            (Resolvers(("127.0.0.1", "::1")), servers("127.0.0.1", "::1")),
            (Resolvers(("192.168.1.7",)), servers("192.168.1.7")),
            (Resolvers(), ()),
        ):
            self.assertEqual(self.chosen(machine), expected, machine)

    def ofLinks(self, *links: LinkServers) -> tuple[DnsServer, ...]:
        """What becomes of the servers of interfaces."""
        return self.chosen(Resolvers((), links))

    def test_oneLink(self) -> None:
        """The only interface is asked for every name, whatever its domains are."""
        home = link("eth0", ROUTER, domains=("lan",))
        self.assertEqual(self.ofLinks(home), servers(ROUTER))

    def test_split(self) -> None:
        """One that is no default is asked for its own domains only."""
        home = link("eth0", ROUTER)
        vpn = link("tun7", VPN, domains=("corp.example", "8.10.in-addr.arpa"), isDefault=False)
        ofVpn = servers(VPN, domains=("corp.example", "8.10.in-addr.arpa"))
        self.assertEqual(self.ofLinks(home, vpn), servers(ROUTER) + ofVpn)
        self.assertEqual(self.ofLinks(vpn), ofVpn)
        none = link("tun7", VPN, isDefault=False)
        self.assertEqual(self.ofLinks(home, none), servers(ROUTER))

    def test_both(self) -> None:
        """Of several that are a default, each is asked for its own domains instead of others."""
        home = link("eth0", ROUTER, domains=("lan",))
        other = link("wlan0", "192.168.2.1")
        wanted = servers(ROUTER, domains=("lan",)) + servers(ROUTER, "192.168.2.1")
        self.assertEqual(self.ofLinks(home, other), wanted)

    def test_takesAll(self) -> None:
        """One that takes all names leaves the others their own domains."""
        home = link("eth0", ROUTER, domains=("lan",))
        other = link("wlan0", "192.168.2.1")
        vpn = link("tun7", VPN, domains=("",))
        ofHome = servers(ROUTER, domains=("lan",))
        self.assertEqual(self.ofLinks(home, other, vpn), ofHome + servers(VPN))

    def test_nanotuns(self) -> None:
        """Our own interface is left out, and the one of another nanotun, with what they take."""
        home = link("eth0", ROUTER)
        ours = link("nanotun0", GLOBAL, domains=("",))
        another = link("tun3", "198.18.0.1", "fdfe:dcba:9876::1", domains=("",))
        self.assertEqual(self.ofLinks(home, ours, another), servers(ROUTER))

    def test_ports(self) -> None:
        """A server keeps its port, and a link-local one its link."""
        given = LinkServers(2, "eth0", (Endpoint("192.0.2.5", 5353), Endpoint("fe80::1%eth0", 53)))
        wanted = (DnsServer("udp", "192.0.2.5", 5353), DnsServer("udp", "fe80::1%eth0", 53))
        self.assertEqual(self.ofLinks(given), wanted)

    def test_usable(self) -> None:
        """Neither nanotun's own addresses can be asked, nor a link-local one of any link."""
        for host in (
            "198.18.0.1",
            "198.18.0.2",
            "198.19.7.7",
            "fdfe:dcba:9876::1",
            "fdfe:dcba:9876::2",
            "fdfe:dcba:9876:1::7",
            "fe80::1",
        ):
            self.assertFalse(isUsable(host), host)
        for host in (ROUTER, "169.254.1.1", "fe80::1%eth0", "fd00::53", "127.0.0.1"):
            self.assertTrue(isUsable(host), host)


class FakeCircles(Circles):
    """Finds what the test says."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def among(self, local: Any, settings: Settings) -> set[Endpoint]:
        return {each for each in local if each.host in self.found}


class SystemServersTests(SynchronousTestCase):
    """L{SystemServers}."""

    def setUp(self) -> None:
        """A machine with a router, and a daemon that asks its servers."""
        self.root = os.path.realpath(self.mktemp())
        self.clock = Clock()
        self.circles = FakeCircles()
        self.changes: list[tuple[DnsServer, ...]] = []
        self.threads: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.commands: list[Sequence[str]] = []
        self.bus: str | None = None
        self.lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            self.lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.put(RESOLV_CONF, ROUTER)
        self.settings = self.using("system")
        self.system = SystemServers(
            self.settings,
            self.circles,
            self.clock,
            self.inThread,
            lambda: self.changes.append(self.system()),
            self.run_,
            isLocal,
            lambda index: {2: "eth0", 3: "tun7"}[index],
            self.root,
        )

    def using(self, scheme: str) -> Settings:
        """Settings with such a server."""
        return replace(settings(), dns=(DnsServer(scheme, "192.0.2.1", 53),))

    def put(self, path: str, *hosts: str, anew: bool = True) -> None:
        """Write a file of the machine, by default as another one under the same name."""
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        where = f"{path}.new" if anew else path
        with open(where, "w") as file:
            file.write("".join(f"nameserver {host}\n" for host in hosts))
        os.rename(where, path)

    def inThread(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Note what is to be called."""
        self.threads.append((function, Deferred()))
        return self.threads[-1][1]

    def ends(self) -> None:
        """Let the first thread end."""
        function, found = self.threads.pop(0)
        found.callback(function())

    def run_(self, arguments: Sequence[str]) -> str | None:
        """Stand in for busctl."""
        self.commands.append(arguments)
        return self.bus if arguments[-1] == "DNSEx" else None

    def resolved(self, *packed: str) -> None:
        """systemd-resolved has these servers for interface 2."""
        values = ",".join(f'[2,2,[{each}],0,""]' for each in packed)
        self.bus = f'{{"type":"v","data":[{{"type":"a(iiayqs)","data":[{values}]}}]}}'

    def after(self, seconds: float = LOOK_PAUSE) -> tuple[DnsServer, ...]:
        """The servers some time later."""
        self.clock.advance(seconds)
        return self.system()

    def test_part(self) -> None:
        """It is a part, and reads nothing before its start."""
        verifyObject(IPart, self.system)
        self.assertEqual(self.after(), ())
        self.assertEqual(self.changes, [])
        self.system.start()
        self.assertEqual(self.system(), servers(ROUTER))
        self.assertEqual(self.changes, [servers(ROUTER)])

    def test_unused(self) -> None:
        """Where no list has system, nothing is read until somebody asks all the same."""
        self.system.follow(lambda: self.using("udp"))
        self.system.start()
        self.system.networkMoved()
        self.assertEqual((self.changes, self.threads), ([], []))
        self.assertEqual(self.system(), servers(ROUTER))

    def test_followed(self) -> None:
        """A file is followed if it is replaced, written to, linked to, or gone."""
        self.system.start()
        self.put(RESOLV_CONF, "192.168.1.2")
        self.assertEqual(self.after(), servers("192.168.1.2"))
        self.put(RESOLV_CONF, "192.168.1.30", anew=False)
        self.assertEqual(self.after(), servers("192.168.1.30"))
        self.put("/etc/other", GLOBAL)
        os.remove(self.root + RESOLV_CONF)
        os.symlink(f"{self.root}/etc/other", self.root + RESOLV_CONF)
        self.assertEqual(self.after(), servers(GLOBAL))
        os.remove(self.root + RESOLV_CONF)
        self.assertEqual(self.after(), ())
        self.put(MANAGER_CONF, VPN)
        self.assertEqual(self.after(), servers(VPN))
        self.assertEqual(len(self.changes), 6)

    def test_unasked(self) -> None:
        """A change is noticed though nobody asks, because the answers come from the cache."""
        self.system.start()
        self.put(RESOLV_CONF, GLOBAL)
        self.clock.advance(LOOK_PAUSE)
        self.assertEqual(len(self.changes), 2)
        self.system.stop()
        self.put(RESOLV_CONF, ROUTER)
        self.clock.advance(LOOK_PAUSE)
        self.assertEqual((len(self.changes), self.clock.getDelayedCalls()), (2, []))

    def test_late(self) -> None:
        """A look that came late does not cost the next one."""
        self.system.start()
        self.clock.advance(LOOK_PAUSE + 0.02)
        self.put(RESOLV_CONF, VPN)
        self.clock.advance(LOOK_PAUSE - 0.02)
        self.assertEqual(len(self.changes), 2)

    def test_oncePerSecond(self) -> None:
        """However often somebody asks, the files are looked at once a second."""
        self.system.start()
        self.put(RESOLV_CONF, GLOBAL)
        self.assertEqual(self.after(LOOK_PAUSE - 0.1), servers(ROUTER))
        self.assertEqual(self.after(0.1), servers(GLOBAL))

    def test_said(self) -> None:
        """A change is one line in the log, and the first reading is none."""
        self.system.start()
        self.assertEqual(self.lines, [])
        self.put(RESOLV_CONF, ROUTER, GLOBAL)
        self.after()
        self.after()
        wanted = "The DNS servers of this machine are 192.168.1.1:53 and 9.9.9.9:53 now."
        self.assertEqual(self.lines, [wanted])
        os.utime(self.root + RESOLV_CONF, (1, 1))
        self.after()
        self.assertEqual((len(self.lines), len(self.changes)), (1, 2))

    def test_resolved(self) -> None:
        """systemd-resolved is asked in a thread, and until it answers its file counts."""
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED)
        self.put(RESOLVED_CONF, GLOBAL)
        self.resolved("192,168,1,1", "198,18,0,1")
        self.system.start()
        self.assertEqual(self.system(), servers(GLOBAL))
        self.assertEqual((len(self.threads), self.commands), (1, []))
        self.ends()
        self.assertEqual(self.system(), servers(ROUTER))
        self.assertEqual(self.changes, [servers(GLOBAL), servers(ROUTER)])

    def test_resolvedAgain(self) -> None:
        """What changes while it is asked makes it be asked once more, and not before."""
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED)
        self.resolved("192,168,1,1")
        self.system.start()
        for _ in range(3):
            self.system.networkMoved()
        self.assertEqual(len(self.threads), 1)
        self.ends()
        self.assertEqual(len(self.threads), 1)
        self.resolved("10,8,0,1")
        self.ends()
        self.assertEqual((self.system(), self.threads), (servers(VPN), []))

    def test_resolvedSilent(self) -> None:
        """If it does not answer, or busctl is missing, its file counts."""
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED)
        self.put(RESOLVED_CONF, GLOBAL)
        self.system.start()
        self.ends()
        self.assertEqual((self.system(), self.lines), (servers(GLOBAL), []))

    def test_resolvedSilentOfLinks(self) -> None:
        """If its file has several servers, a warning says once that nobody knows which of them is
        for which names."""
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED)
        self.put(RESOLVED_CONF, GLOBAL, VPN)
        self.system.start()
        self.assertEqual((self.system(), self.lines), (servers(GLOBAL, VPN), []))
        for _ in range(2):
            self.ends()
            self.system.networkMoved()
        (line,) = self.lines
        self.assertIn("dns: system asks the servers of all interfaces for every name", line)
        self.resolved("10,8,0,1")
        self.ends()
        self.put(RESOLV_CONF, ROUTER, GLOBAL)
        self.after()
        self.assertEqual([each for each in self.lines if "all interfaces" in each], [line])

    def test_resolvedFails(self) -> None:
        """A bug in asking it is logged, and its file counts."""
        self.put(RESOLVED)
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED_CONF, GLOBAL)
        self.system.start()
        self.threads.pop()[1].errback(ZeroDivisionError())
        self.assertEqual(self.system(), servers(GLOBAL))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_resolvedUnasked(self) -> None:
        """It is not asked where programs ask another server."""
        self.put(RESOLVED)
        self.system.start()
        self.assertEqual(self.threads, [])
        self.put(RESOLV_CONF, STUB)
        self.after()
        self.ends()
        os.remove(self.root + RESOLVED)
        self.put(MANAGER_CONF, VPN)
        self.assertEqual(self.after(), servers(VPN))
        self.assertEqual(self.threads, [])

    def test_networkMoved(self) -> None:
        """In another network it is asked again, though no file has changed, and at once."""
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED)
        self.resolved("192,168,1,1")
        self.system.start()
        self.ends()
        self.assertEqual(self.after(60), servers(ROUTER))
        self.resolved("10,8,0,1")
        self.system.networkMoved()
        self.assertEqual(self.system(), servers(ROUTER))
        self.ends()
        self.assertEqual(self.system(), servers(VPN))

    def test_stopped(self) -> None:
        """Once it has stopped, nothing is read, and what a thread finds changes nothing."""
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED)
        self.resolved("192,168,1,1")
        self.system.start()
        self.system.stop()
        self.ends()
        self.system.networkMoved()
        self.assertEqual((self.after(), self.threads, self.changes), ((), [], []))

    def test_hosts(self) -> None:
        """Their addresses are told if system is used, but for those of a link."""
        self.assertEqual(self.system.hosts(), ())
        self.put(RESOLV_CONF, ROUTER, "fe80::1%eth0", GLOBAL)
        self.system.start()
        self.assertEqual(self.system.hosts(), (ROUTER, GLOBAL))
        self.system.follow(lambda: self.using("udp"))
        self.assertEqual(self.system.hosts(), ())

    def test_circle(self) -> None:
        """A server that would ask the relay is left out, with one warning."""
        self.put(RESOLV_CONF, "127.0.0.1", "::1")
        self.circles.found = {"127.0.0.1"}
        self.system.start()
        self.assertEqual(self.system(), servers("::1"))
        self.system.networkMoved()
        (line,) = self.lines
        self.assertIn("dns: system leaves out 127.0.0.1, because that server's own", line)

    def test_circles(self) -> None:
        """Several such servers are named together."""
        self.put(RESOLV_CONF, "127.0.0.1", "::1")
        self.circles.found = {"127.0.0.1", "::1"}
        self.system.start()
        (line,) = self.lines
        self.assertIn("leaves out 127.0.0.1 and ::1, because their own queries come back", line)

    def test_reload(self) -> None:
        """Once a reload excludes that server's queries from the tunnel, it is asked."""
        self.put(RESOLV_CONF, "127.0.0.1")
        self.circles.found = {"127.0.0.1"}
        self.system.start()
        self.circles.found = set()
        self.assertEqual(self.after(), ())
        other = replace(self.settings, excludedProcesses=(Selector(SelectorKind.UID, "53"),))
        self.system.follow(lambda: other)
        self.assertEqual(self.after(), servers("127.0.0.1"))

    def test_nothing(self) -> None:
        """Where no server is left there is one warning with the reason, each time anew."""
        for hosts, reason in (
            (("198.18.0.1", "fdfe:dcba:9876::1"), "/etc/resolv.conf has only nanotun's own"),
            ((), "/etc/resolv.conf names none"),
        ):
            self.put(RESOLV_CONF, *hosts)
            self.system.start()
            self.system.networkMoved()
            self.system.stop()
            self.system.start()
            line = self.lines.pop()
            self.assertIn(f"dns: system stands for no server, because {reason}", line)
            self.assertEqual(self.lines, [])
            self.put(RESOLV_CONF, ROUTER)
            self.after()
            self.assertEqual(
                self.lines.pop(), "The DNS servers of this machine are 192.168.1.1:53 now."
            )
            self.put(RESOLV_CONF, *hosts)
            self.after()
            self.assertEqual(self.lines.pop(), line)
            self.system.stop()

    def test_nothingResolved(self) -> None:
        """If systemd-resolved is asked and has no server, the warning says that."""
        self.put(RESOLV_CONF, STUB)
        self.put(RESOLVED)
        self.system.start()
        self.ends()
        (line,) = self.lines
        self.assertIn("because /etc/resolv.conf leads to systemd-resolved, which has none;", line)

    def test_notYet(self) -> None:
        """There is no warning before systemd-resolved has answered."""
        self.put(RESOLV_CONF, "198.18.0.1")
        self.put(RESOLVED)
        self.resolved("192,168,1,1")
        self.system.start()
        self.ends()
        self.assertEqual((self.lines, self.system()), ([], servers(ROUTER)))
