"""Tests of L{nanotun.policy.standing}: which decisions stand."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.times import TimeSpan
from nanotun.flow import Decision, Endpoint, Flow, Known, Owner, Protocol, Verdict
from nanotun.policy.judge import Carrier, Judge
from nanotun.policy.lists import Lists
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.policy.standing import LIMIT
from nanotun.testing import FakeOwners, FakeScript
from tests.unit.policy.deciding import ME, flow
from tests.unit.policy.judging import settings

NEIGHBOUR, OTHER = "192.168.1.77", "192.168.1.78"
OFFICE = {"office": "socks5://office.example:1080"}
BEHIND = "socks5://10.0.0.5:1080"
CURL = Owner(77, 1000, "curl", selected=frozenset(("curl",)))


class StandsCase(SynchronousTestCase):
    """A judge whose surroundings the test makes up."""

    def setUp(self) -> None:
        """Nothing is known."""
        self.owners = FakeOwners()
        self.names: dict[str, Known] = {}
        #: Addresses to which the routes lead into the device.
        self.inside: set[str] = set()
        #: Addresses that another VPN has routed past itself, and whose flows those are.
        self.past: set[str] = set()
        self.carrier: Carrier | None = None
        self.original: Flow | None = None
        self.hops: frozenset[str] = frozenset()
        self.forwards = True
        #: Day and minute, and seconds until the next edge.
        self.now = 2, 12 * 60
        self.edge = 30.0
        self.spans: Collection[TimeSpan] = ()

    def makeJudge(
        self, *rules: dict[str, Any], script: Any = None, owners: bool = True, **values: Any
    ) -> Judge:
        """A judge for some rules and settings."""
        given = {"upstreams": OFFICE, "rules": list(rules), "countryFile": "/c.mmdb", **values}

        def untilEdge(spans: Collection[TimeSpan]) -> float:
            self.spans = spans
            return self.edge

        return Judge(
            settings(**given),
            self.owners if owners else None,
            (ME, "10.9.9.9").__contains__,
            self.inside.__contains__,
            ownPid=lambda: 42,
            isConnected=lambda host: False,
            passedOn=lambda: self.hops,
            carrier=lambda asked: self.carrier if asked.destination.host in self.past else None,
            originalOf=lambda asked: self.original,
            namesOf=lambda asked: self.names.get(asked.destination.host, Known()),
            script=script,
            lists=Lists(countryOf=lambda host: "DE" if host == "1.1.1.1" else ""),
            now=lambda: self.now,
            forwards=lambda: self.forwards,
            past=self.past.__contains__,
            untilEdge=untilEdge,
        )

    def stands(self, judge: Judge, destination: str, source: str = ME) -> float | None:
        """For how long the decision about C{"tcp 192.0.2.1:443"} stands."""
        asked = flow(destination, source)
        decision = judge.judge(asked)
        if isinstance(decision, Deferred):
            decision = self.successResultOf(decision)
        return judge.stands(asked, decision)

    def assertStands(self, judge: Judge, *destinations: str, source: str = ME) -> None:
        """Decisions stand for as long as any may."""
        for each in destinations:
            self.assertEqual(self.stands(judge, each, source), LIMIT, each)

    def assertNever(self, judge: Judge, *destinations: str, source: str = ME) -> None:
        """Decisions do not stand."""
        for each in destinations:
            self.assertIsNone(self.stands(judge, each, source), each)


class StandsTests(StandsCase):
    """Which decisions stand, and for how long."""

    def test_destination(self) -> None:
        """What is decided by the address, its country and the port stands, for all flows."""
        judge = self.makeJudge(
            {"to": "office", "networks": "9.9.9.0/24", "ports": "tcp:443"},
            {"to": "direct", "countries": "DE"},
            excludedIPs="8.8.8.0/24",
        )
        everywhere = ("tcp 9.9.9.9:443", "tcp 1.1.1.1:80", "tcp 8.8.8.8:443", "tcp 2.2.2.2:1")
        for source in (ME, NEIGHBOUR):
            self.assertStands(judge, *everywhere, "tcp 10.0.0.1:443", source=source)

    def test_halts(self) -> None:
        """Only flows that leave are meant."""
        judge = self.makeJudge({"to": "reject", "ports": 1}, {"to": "drop", "ports": 2})
        self.assertNever(judge, "tcp 1.1.1.1:1", "tcp 1.1.1.1:2", "tcp 198.18.0.1:53")

    def test_owner(self) -> None:
        """Nothing stands that a rule before may look at the process for."""
        rules = (
            {"to": "direct", "networks": "9.9.9.0/24"},
            {"to": "office", "processes": "curl", "ports": 22},
        )
        judge = self.makeJudge(*rules)
        self.assertStands(judge, "tcp 9.9.9.9:22", "tcp 1.1.1.1:443")
        self.assertNever(judge, "tcp 1.1.1.1:22")
        excluding = self.makeJudge(excludedProcesses="curl")
        for excluded in (excluding, self.makeJudge(proxy="socks5://localhost:1")):
            self.assertNever(excluded, "tcp 1.1.1.1:443", "tcp 10.0.0.1:443")
        # Where no process can be found, nobody looks.
        self.assertStands(self.makeJudge(*rules, owners=False), "tcp 1.1.1.1:22")

    def test_ownerWhatever(self) -> None:
        """A rule about processes counts even if it says what the next one says."""
        judge = self.makeJudge({"to": "proxy", "processes": "curl"})
        self.assertNever(judge, "tcp 1.1.1.1:443")

    def test_ownAddresses(self) -> None:
        """
        What stands for other machines holds for this one's other addresses, too, as the engine
        does not know those.
        """
        judge = self.makeJudge({"to": "office", "sources": "0.0.0.0/0", "ports": 443})
        self.assertStands(judge, "tcp 1.1.1.1:443", "tcp 1.1.1.1:443", source="10.9.9.9")
        self.assertNever(judge, "tcp 1.1.1.1:443", source=NEIGHBOUR)
        relays = self.makeJudge(dnsOverride=True)
        self.assertNever(relays, "udp 1.1.1.1:53", source=NEIGHBOUR)
        self.assertStands(relays, "udp 1.1.1.1:54", source=NEIGHBOUR)

    def test_sources(self) -> None:
        """A rule about other machines keeps only their decisions from standing."""
        judge = self.makeJudge({"to": "office", "sources": NEIGHBOUR, "ports": 443})
        self.assertStands(judge, "tcp 1.1.1.1:443")
        self.assertStands(judge, "tcp 1.1.1.1:80", source=NEIGHBOUR)
        self.assertNever(judge, "tcp 1.1.1.1:443", source=NEIGHBOUR)
        self.assertNever(judge, "tcp 1.1.1.1:443", source=OTHER)
        other = self.makeJudge({"to": "office", "not": {"sources": NEIGHBOUR}})
        self.assertNever(other, "tcp 1.1.1.1:443", source=OTHER)

    def test_script(self) -> None:
        """Nothing stands if a script could answer."""
        judge = self.makeJudge({"to": "direct"}, script=FakeScript(""))
        self.assertNever(judge, "tcp 1.1.1.1:443")
        self.assertNever(judge, "tcp 1.1.1.1:443", source=NEIGHBOUR)

    def test_names(self) -> None:
        """A real address may get another name at any time."""
        judge = self.makeJudge(
            {"to": "direct", "networks": "9.9.9.0/24"},
            {"to": "office", "domains": "a.example"},
            {"to": "proxy", "domains": "b.example"},
        )
        for known in (Known(), Known(("a.example",)), Known(("x.example",))):
            self.names = {"1.1.1.1": known, "9.9.9.9": known}
            self.assertNever(judge, "tcp 1.1.1.1:443")
            self.assertStands(judge, "tcp 9.9.9.9:443")

    def test_fakeNames(self) -> None:
        """A fake address has one name."""
        judge = self.makeJudge({"to": "office", "domains": "a.example"}, dnsMode="fake-ip")
        for host in ("198.19.0.7", "fdfe:dcba:9876:1::7"):
            destination = f"tcp [{host}]:443" if ":" in host else f"tcp {host}:443"
            self.assertNever(judge, destination)
            for name in ("a.example", "x.example"):
                self.names[host] = Known((name,))
                self.assertEqual(self.stands(judge, destination), LIMIT)

    def test_sniffed(self) -> None:
        """Where first bytes are read for a name, nothing stands."""
        rule = {"to": "office", "domains": "a.example"}
        first = {"to": "direct", "networks": "9.9.9.0/24"}
        judge = self.makeJudge(first, rule, sniff=True, sniffPorts=[443])
        self.assertNever(judge, "tcp 9.9.9.9:443")
        self.assertStands(judge, "tcp 9.9.9.9:80")
        self.assertStands(self.makeJudge(sniff=True), "tcp 9.9.9.9:443")

    def test_times(self) -> None:
        """With a rule about times, decisions stand until the next edge, if that is not close."""
        spans = {"times": "08:00-18:00"}
        for rule in ({"to": "office", **spans}, {"to": "office", "not": spans}):
            judge = self.makeJudge({**rule, "ports": 443})
            self.edge = 30.0
            for destination in ("tcp 1.1.1.1:443", "tcp 1.1.1.1:80"):
                self.assertEqual(self.stands(judge, destination), 30.0)
            self.assertEqual([(each.first, each.last) for each in self.spans], [(480, 1080)])
            self.edge = 300.0
            self.assertStands(judge, "tcp 1.1.1.1:443")
            self.edge = 0.5
            self.assertNever(judge, "tcp 1.1.1.1:443")

    def test_lanOnlyPorts(self) -> None:
        """What depends on the networks of the moment does not stand."""
        judge = self.makeJudge(lanOnlyPorts="tcp:445")
        self.assertNever(judge, "tcp 10.0.0.1:445", "tcp 1.1.1.1:445")

    def test_routes(self) -> None:
        """What the routes have made of a decision stands until they change."""
        judge = self.makeJudge()
        asked = flow("tcp 10.0.0.1:443")
        before = judge.judge(asked)
        assert isinstance(before, Decision)
        self.assertStands(judge, "tcp 10.0.0.1:443")
        self.inside.update(("10.0.0.1", "8.8.8.8"))
        for source in (ME, NEIGHBOUR):
            self.assertStands(judge, "tcp 10.0.0.1:443", source=source)
        self.assertIsNone(judge.stands(asked, before))
        excluding = self.makeJudge(excludedProcesses="curl")
        self.assertNever(excluding, "tcp 10.0.0.1:443")
        self.assertNever(self.makeJudge(excludedIPs="8.8.8.8"), "tcp 8.8.8.8:443")

    def test_carrier(self) -> None:
        """Where another VPN's own flows may be among them, nothing stands."""
        judge = self.makeJudge({"to": "direct", "ports": 80})
        self.past.add("1.1.1.1")
        self.assertNever(judge, "tcp 1.1.1.1:443")
        self.assertStands(judge, "tcp 1.1.1.1:80", "tcp 2.2.2.2:443")
        self.carrier = Carrier(CURL, "tunv")
        self.assertNever(judge, "tcp 1.1.1.1:443")

    def test_hidden(self) -> None:
        """
        Where a firewall may hide a proxy's own flows, nothing stands that they would be taken
        for; it cannot if nothing is forwarded.
        """
        judge = self.makeJudge({"to": "office", "ports": 80}, proxy=BEHIND, excludedIPs="8.8.8.8")
        self.assertNever(judge, "tcp 1.1.1.1:443", "tcp 1.1.1.1:80")
        self.assertStands(judge, "tcp 8.8.8.8:443", "tcp 10.0.0.1:443")
        # A name may come up that is in doubt, and then it is looked at more closely.
        named = self.makeJudge(
            {"to": "direct", "networks": "9.9.9.9"},
            {"to": "direct", "domains": "a.example", "ports": 80},
            proxy=BEHIND,
            excludedIPs="8.8.8.8",
        )
        self.assertNever(named, "tcp 8.8.8.8:443", "tcp 9.9.9.9:443")
        self.forwards = False
        self.assertStands(judge, "tcp 1.1.1.1:443", "tcp 1.1.1.1:80")
        self.assertStands(named, "tcp 8.8.8.8:443", "tcp 9.9.9.9:443")

    def test_behind(self) -> None:
        """A proxy's own flows may be among other machines'."""
        for proxy in (BEHIND, "socks5://9.9.9.9:1080"):
            judge = self.makeJudge(proxy=proxy)
            self.assertNever(judge, "tcp 1.1.1.1:443", "tcp 10.0.0.1:443", source=NEIGHBOUR)
        judge = self.makeJudge()
        self.assertStands(judge, "tcp 1.1.1.1:443", source=NEIGHBOUR)
        self.hops = frozenset((OTHER,))
        self.assertNever(judge, "tcp 1.1.1.1:443", source=NEIGHBOUR)
        self.hops = frozenset()
        # Where processes are looked for, a proxy's next hop may be found at any time.
        looks = self.makeJudge({"to": "direct", "ports": 443}, excludedProcesses="curl")
        self.assertNever(looks, "tcp 1.1.1.1:443", source=NEIGHBOUR)
        self.assertStands(looks, "tcp 1.1.1.1:443")

    def test_logins(self) -> None:
        """An upstream with a log-in for each program, or source, is asked each time."""
        for field in ("uid", "source"):
            judge = self.makeJudge(
                {"to": "office", "ports": 443},
                upstreams={"office": f"socks5://{{{field}}}:x@h:1"},
            )
            self.assertNever(judge, "tcp 1.1.1.1:443")

    def test_particular(self) -> None:
        """What was decided about one flow alone does not stand."""
        judge = self.makeJudge()
        asked = flow("tcp 1.1.1.1:443")
        decision = judge.judge(asked)
        assert isinstance(decision, Decision)
        self.assertEqual(judge.stands(asked, decision), LIMIT)
        for change in (
            {"owner": CURL},
            {"trouble": "Something is wrong."},
            {"values": (("a", "b"),)},
            {"rule": "#1"},
            {"upstream": "office"},
            {"verdict": Verdict.DIRECT},
        ):
            self.assertIsNone(judge.stands(asked, decision._replace(**change)), change)


#: What random configurations and flows are made of.
HOSTS = ("1.1.1.1", "9.9.9.9", "8.8.8.8", "10.0.0.1", "169.254.7.7", "198.19.0.7", "2606:4700::1")
PORTS = (22, 53, 80, 443, 445)
NAMES = ("a.example", "www.a.example", "b.example")
SOURCES = (ME, "10.9.9.9", NEIGHBOUR, OTHER, "10.0.0.5")
CONDITIONS: dict[str, tuple[Any, ...]] = {
    "domains": ("a.example", "b.example", "=www.a.example"),
    "networks": ("9.9.9.0/24", "10.0.0.0/8", "1.0.0.0/8"),
    "countries": ("DE", "FR"),
    "processes": ("curl", "wget"),
    "ports": (443, "tcp:80", "1-100"),
    "sources": (NEIGHBOUR, "192.168.0.0/16", "10.0.0.0/8"),
    "times": ("08:00-18:00", "Sa-Su", "22:00-06:00"),
}
VALUES: dict[str, tuple[Any, ...]] = {
    "dnsMode": ("normal", "normal", "fake-ip"),
    "proxy": ("socks5://h:1", "socks5://h:1", BEHIND, "socks5://localhost:1", "direct://"),
    "default": ("proxy", "proxy", "direct", "office"),
    "sniff": (True, False),
    "lan": ("direct", "proxy"),
    "excludedProcesses": ("", "", "wget"),
    "excludedIPs": ("", "8.8.8.0/24"),
    "lanOnlyPorts": ("", "tcp:445"),
}


class AnyFlowTests(StandsCase):
    """Whatever the rules are, a standing decision is the one that the judge would make."""

    def someRule(self, chance: random.Random) -> dict[str, Any]:
        """Any rule."""
        kinds = chance.sample(sorted(CONDITIONS), chance.choice((1, 1, 2)))
        rule: dict[str, Any] = {kind: chance.choice(CONDITIONS[kind]) for kind in kinds}
        if chance.random() < 0.2:
            kind = chance.choice(sorted(CONDITIONS))
            rule["not"] = {kind: chance.choice(CONDITIONS[kind])}
        return {"to": chance.choice(("proxy", "direct", "reject", "office")), **rule}

    def someJudge(self, chance: random.Random) -> Judge:
        """Any configuration, with surroundings that stay."""
        self.inside = set(chance.sample(HOSTS, chance.choice((0, 0, 1))))
        self.past = set(chance.sample(HOSTS, chance.choice((0, 0, 1))))
        self.hops = frozenset((OTHER,)) if chance.random() < 0.1 else frozenset()
        self.forwards = chance.random() < 0.5
        self.now = chance.randrange(7), chance.randrange(24 * 60)
        # The name of a fake address stays.
        self.names = {"198.19.0.7": Known((chance.choice(NAMES),))}
        script = FakeScript("direct") if chance.random() < 0.1 else None
        values = {key: chance.choice(each) for key, each in VALUES.items()}
        rules = [self.someRule(chance) for _ in range(chance.randrange(5))]
        return self.makeJudge(*rules, script=script, owners=chance.random() < 0.8, **values)

    def decide(
        self, judge: Judge, chance: random.Random, destination: Endpoint, source: str
    ) -> Any:
        """The decision about another flow there, of which anything may be known."""
        port = chance.randrange(1, 65536)
        asked = Flow(port, Protocol.TCP, Endpoint(source, port), destination)
        name = chance.choice(("curl", "wget", "own"))
        excluded = chance.choice(("", "", "wget", LOCAL_PROXY))
        pid = 42 if name == "own" else 7
        owner = Owner(pid, 1, name, excluded=excluded, selected=frozenset((name,)))
        self.owners.known = {port: owner} if chance.random() < 0.8 else {}
        self.original = None
        if source == ME and self.forwards and chance.random() < 0.5:
            self.original = asked._replace(source=Endpoint(chance.choice(SOURCES[2:]), port))
        self.carrier = Carrier(CURL, "tunv") if chance.random() < 0.5 else None
        if destination.host != "198.19.0.7":
            known = chance.sample(NAMES, chance.randrange(3))
            self.names[destination.host] = Known(tuple(known), chance.random() < 0.8)
        sniffed = chance.choice(("", *NAMES))
        decision = judge.judge(asked, lambda: succeed(sniffed))
        if isinstance(decision, Deferred):
            decision = self.successResultOf(decision)
        return asked, decision

    def test_anyFlow(self) -> None:
        """
        If a decision stands, any other flow of its side to the destination is decided equally,
        whatever its port, owner, names and origin are.
        """
        chance = random.Random(17)
        stood = 0
        for _ in range(1500):
            judge = self.someJudge(chance)
            destination = Endpoint(chance.choice(HOSTS), chance.choice(PORTS))
            source = chance.choice(SOURCES)
            # What the engine takes for this machine's.
            side = (ME,) if source in (ME, "10.9.9.9") else SOURCES[1:]
            asked, decision = self.decide(judge, chance, destination, source)
            if judge.stands(asked, decision) is None:
                continue
            stood += 1
            for _ in range(8):
                _, other = self.decide(judge, chance, destination, chance.choice(side))
                for field in ("verdict", "rule", "upstream", "values", "trouble"):
                    self.assertEqual(getattr(decision, field), getattr(other, field))
        # It says so often enough to mean something.
        self.assertGreater(stood, 150)
