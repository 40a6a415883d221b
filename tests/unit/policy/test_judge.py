"""Tests of L{nanotun.policy.judge}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.interfaces import IJudge, IOwners
from nanotun.policy.judge import Carrier, Judge, needsOwner, rulesFor, runsLocally
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.testing import FakeJudge, FakeOwners
from tests.contracts.policy import JudgeContract
from tests.unit.policy.judging import ME, NEIGHBOUR, JudgeCase, settings


class FakeJudgeTests(JudgeContract, SynchronousTestCase):
    """The fake judge keeps the contract."""

    def setUp(self) -> None:
        """Make it."""
        self.judge = FakeJudge()


class FakeOwnersTests(SynchronousTestCase):
    """L{FakeOwners}."""

    def test_interface(self) -> None:
        """They provide the interface, and count the flows whose owner they do not know."""
        owners = FakeOwners()
        verifyObject(IOwners, owners)
        owner = owners.known[1] = Owner(2, 3)
        for port, expected in ((1, owner), (2, None)):
            flow = Flow(1, Protocol.TCP, Endpoint(ME, port), Endpoint("1.1.1.1", 1))
            self.assertIs(owners.ownerOf(flow), expected)
        self.assertEqual(owners.misses, 1)


class JudgeTests(JudgeContract, JudgeCase):
    """Rules, owners and routes together."""

    judge: Any

    def test_class(self) -> None:
        """It is a judge."""
        verifyClass(IJudge, Judge)

    def test_noProcessRules(self) -> None:
        """Without rules about processes it asks for no owner, nor for the route to a proxy."""
        self.assertRule(self.decide(self.judge, "tcp 1.1.1.1:443"), "PROXY default")
        self.assertEqual((self.owners.asked, self.asked), ([], []))

    def test_again(self) -> None:
        """
        What was decided about a destination holds for this machine only, and not where networks
        or routes have changed.
        """
        judge = self.makeJudge(lanOnlyPorts="tcp:445")
        connected: list[str] = []
        self.patch(judge.rules, "_isConnected", connected.__contains__)
        for _ in range(2):
            self.assertRule(self.decide(judge, "tcp 1.1.1.1:445"), "REJECT lan-only-port")
            self.assertRule(self.decide(judge, "tcp 10.0.0.1:443"), "DIRECT reserved")
            self.assertRule(self.decide(judge, f"tcp {ME}:443"), "DIRECT reserved")
            self.assertRule(self.decide(judge, f"tcp {ME}:443", NEIGHBOUR), "REJECT forwarded")
        connected.append("1.1.1.1")
        self.inside.add("10.0.0.1")
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:445"), "DIRECT lan-only-port")
        self.assertRule(self.decide(judge, "tcp 10.0.0.1:443"), "PROXY reserved-routed")

    def test_owner(self) -> None:
        """An excluded process goes direct; another one is proxied, and its decision names it."""
        judge = self.makeJudge(excludedProcesses="curl")
        curl = self.owners.known[5] = Owner(9, 0, "curl", excluded="curl")
        wget = self.owners.known[6] = Owner(10, 0, "wget")
        decision = self.decide(judge, "tcp 1.1.1.1:443", port=5)
        self.assertRule(decision, "DIRECT excluded-process")
        self.assertIs(decision.owner, curl)
        decision = self.decide(judge, "tcp 1.1.1.1:443", port=6)
        self.assertRule(decision, "PROXY default")
        self.assertIs(decision.owner, wget)

    def test_behind(self) -> None:
        """
        Flows from a proxy's literal address, and from where a proxy passes connections on to at
        the moment, go direct, also if the firewall hides where they come from.
        """
        hops: set[str] = set()
        originals: dict[int, Flow] = {}
        judge = Judge(
            settings(proxy="socks5://[fd17:0::2]:1080"),
            self.owners,
            lambda host: host == ME,
            lambda host: False,
            passedOn=lambda: frozenset(hops),
            relatives=lambda hosts: ("172.17.0.2",) if "fd17::2" in hosts else (),
            originalOf=lambda flow: originals.get(flow.source.port),
        )
        for source, expected in (
            ("fd17::2", "DIRECT local-proxy"),
            ("172.17.0.2", "DIRECT local-proxy"),
            (NEIGHBOUR, "PROXY default"),
        ):
            self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", source), expected)
            # The firewall has given it this machine's address.
            hidden = Flow(1, Protocol.TCP, Endpoint(source, 7), Endpoint("1.1.1.1", 443))
            originals[8] = hidden
            self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=8), expected)
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=9), "PROXY default")
        hops.add(NEIGHBOUR)
        decision = self.decide(judge, "tcp 1.1.1.1:443", NEIGHBOUR)
        self.assertRule(decision, "DIRECT local-proxy")
        self.assertEqual(decision.reason, f"{NEIGHBOUR} is the proxy's own address")

    def test_passes(self) -> None:
        """
        A flow of a proxy's own whose next packets go past the tunnel is left without an answer;
        an explanation changes no routes.
        """
        past: set[str] = set()
        asked: list[str] = []

        def letsPast(host: str) -> bool:
            asked.append(host)
            return host in past

        hidden = Flow(1, Protocol.TCP, Endpoint("172.17.0.2", 7), Endpoint("1.1.1.1", 443))
        judge = Judge(
            settings(proxy="socks5://[fd17:0::2]:1080", excludedProcesses="curl"),
            self.owners,
            lambda host: host == ME,
            lambda host: False,
            relatives=lambda hosts: ("172.17.0.2",),
            originalOf=lambda flow: hidden if flow.source.port == 8 else None,
            letsPast=letsPast,
        )
        ways = (("172.17.0.2", 7), (ME, 8))
        for source, port in ways:
            decision = self.decide(judge, "tcp 1.1.1.1:443", source, port)
            self.assertRule(decision, "DIRECT local-proxy")
        past.add("172.17.0.2")
        for source, port in ways:
            decision = self.decide(judge, "tcp 1.1.1.1:443", source, port)
            self.assertRule(decision, "DROP local-proxy")
        self.assertEqual(asked, ["172.17.0.2"] * 4)
        for source, port in ways:
            explained = self.decide(judge.withOwners(self.owners), "tcp 1.1.1.1:443", source, port)
            self.assertRule(explained, "DIRECT local-proxy")
        self.owners.known[9] = Owner(9, 0, "danted", excluded=LOCAL_PROXY)
        past.add(ME)
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=9), "DIRECT local-proxy")
        self.assertEqual(asked, ["172.17.0.2"] * 4)

    def test_lateOwner(self) -> None:
        """A flow whose owner is not known yet is decided once it is."""
        judge = self.makeJudge(excludedProcesses="curl")
        owner = self.owners.known[5] = Owner(9, 0, "curl", excluded="curl")
        late: Deferred[Owner | None] = Deferred()
        self.patch(self.owners, "ownerOf", lambda flow: late)
        ends = Endpoint(ME, 5), Endpoint("1.1.1.1", 443)
        decision = judge.judge(Flow(1, Protocol.TCP, *ends))
        assert isinstance(decision, Deferred)
        self.assertNoResult(decision)
        late.callback(owner)
        self.assertRule(self.successResultOf(decision), "DIRECT excluded-process")

    def test_unknownOwner(self) -> None:
        """A flow whose process is not found goes to the proxy."""
        judge = self.makeJudge(excludedProcesses="curl")
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443"), "PROXY default")
        self.assertEqual(len(self.owners.asked), 1)

    def test_askedOnlyIfItMatters(self) -> None:
        """It does not ask for the owner of another machine's flow, nor if it changes nothing."""
        judge = self.makeJudge(excludedProcesses="curl")
        for destination, source in (
            ("tcp 1.1.1.1:443", NEIGHBOUR),
            ("tcp 10.0.0.1:443", ME),
            ("udp 10.0.0.1:137", ME),
            ("udp 1.1.1.1:137", NEIGHBOUR),
            ("tcp 198.18.0.1:53", ME),
            ("tcp 127.0.0.1:53", ME),
        ):
            self.decide(judge, destination, source)
        self.assertEqual(self.owners.asked, [])
        self.decide(judge, "udp 1.1.1.1:443")
        self.assertEqual(len(self.owners.asked), 1)

    def test_localProxy(self) -> None:
        """The process of a proxy on this machine goes direct without being excluded."""
        judge = self.makeJudge(proxy="socks5://localhost:1080")
        self.owners.known[5] = Owner(9, 0, "danted", excluded=LOCAL_PROXY)
        decision = self.decide(judge, "tcp 1.1.1.1:443", port=5)
        self.assertRule(decision, "DIRECT local-proxy")

    def test_ownFlow(self) -> None:
        """The daemon's own flows are refused, and share one log line."""
        judge = self.makeJudge(excludedProcesses="curl")
        self.owners.known[5] = Owner(42, 0, "python3")
        lines = set()
        for host in ("1.1.1.1", "2.2.2.2"):
            decision = self.decide(judge, f"tcp {host}:443", port=5)
            self.assertRule(decision, "REJECT loop")
            lines.add(decision.trouble)
        self.assertEqual(len(lines), 1)

    def test_fork(self) -> None:
        """The daemon's own flow is a loop where the daemon forked after the judge was made."""
        pids = [1]
        isLocal: Callable[[str], bool] = ME.__eq__
        judge = Judge(
            settings(excludedProcesses="curl"),
            self.owners,
            isLocal,
            self.inside.__contains__,
            ownPid=lambda: pids[-1],
        )
        pids.append(2)
        self.owners.known = {1: Owner(1, 0), 2: Owner(2, 0)}
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=1), "PROXY default")
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=2), "REJECT loop")


class SettingsTests(SynchronousTestCase):
    """From settings to rules."""

    def test_runsLocally(self) -> None:
        """A proxy behind the loopback, an own address or a unix socket is on this machine."""
        for proxy, local in (
            ("socks5://127.0.0.1", True),
            ("socks5://[::1]:9", True),
            ("socks5://LocalHost:9", True),
            ("socks5:///run/proxy", True),
            ("socks5://a.localhost:9", True),
            ("socks5://alocalhost:9", False),
            ("socks5://10.0.0.5", True),
            ("socks5://10.0.0.6", False),
            ("socks5://proxy.example", False),
            (["10.0.0.6:1", "10.0.0.5:1"], True),
            ("direct://", False),
        ):
            own = ("127.0.0.1", "::1", "10.0.0.5")
            found = runsLocally(settings(proxy=proxy), lambda host, own=own: host in own)  # type: ignore[misc]
            self.assertEqual(found, local, proxy)

    def test_rules(self) -> None:
        """Each setting changes its rule."""
        flow = Flow(1, Protocol.UDP, Endpoint(ME, 1), Endpoint("198.19.0.1", 53))
        for given, address, expected in (
            ({}, Endpoint("1.1.1.1", 445), "REJECT"),
            ({}, Endpoint("10.1.1.1", 445), "DIRECT"),
            ({"lanOnlyPorts": ""}, Endpoint("1.1.1.1", 445), "PROXY"),
            ({"dnsOverride": True}, Endpoint("1.1.1.1", 53), "SERVE"),
            ({"dnsMode": "fake-ip"}, Endpoint("198.19.0.1", 1), "PROXY"),
            ({}, Endpoint("198.19.0.1", 1), "DIRECT"),
            ({"lan": "proxy"}, Endpoint("198.19.0.1", 1), "PROXY"),
            ({"excludedIPs": "1.0.0.0/8"}, Endpoint("1.1.1.1", 1), "DIRECT"),
        ):
            rules = rulesFor(settings(**given), False, isLocal=ME.__eq__)
            subject = rules.subject(flow._replace(destination=address))
            decision, _ = rules.evaluate(subject)
            self.assertEqual(decision.verdict, Verdict[expected], given)
        link = Endpoint("169.254.169.254", 80)
        for inCell, verdict in ((False, Verdict.DIRECT), (True, Verdict.REJECT)):
            judge = Judge(settings(), None, lambda host: True, lambda host: False, inCell=inCell)
            decided = judge.judge(flow._replace(destination=link))
            assert isinstance(decided, Decision)
            self.assertEqual(decided.verdict, verdict)

    def test_needsOwner(self) -> None:
        """Owners are found where a setting is about processes, or a proxy runs here."""
        byProcess = {"to": "direct", "processes": "x"}
        for given, localProxy, everybody, expected in (
            ({}, False, False, False),
            ({}, True, False, True),
            ({}, False, True, True),
            ({"excludedProcesses": "x"}, False, False, True),
            ({"rules": [byProcess]}, False, False, True),
            ({"rules": [{"to": "direct", "not": {"processes": "x"}}]}, False, False, True),
            ({"rules": [{"to": "direct", "domains": "x"}]}, False, False, False),
            ({"proxy": "socks5://{user}:x@h:1"}, False, False, True),
            ({"upstreams": {"tor": "socks5://{process}:x@h:1"}}, False, False, True),
            ({"upstreams": {"tor": "socks5://{source}:x@h:1"}}, False, False, False),
        ):
            self.assertIs(needsOwner(settings(**given), localProxy, everybody), expected, given)


class VpnTests(JudgeCase):
    """Another VPN's own flows."""

    def setUp(self) -> None:
        """A VPN sends from port 1194."""
        super().setUp()
        self.openvpn = Owner(123, 0, "openvpn")
        self.flows: list[Flow] = []
        self.judge = self.withVpn()

    def withVpn(self, **values: object) -> Judge:
        """A judge that knows the VPN."""
        judge = self.makeJudge(**values)
        judge.carrier = self.carrier
        return judge

    def carrier(self, flow: Flow) -> Carrier | None:
        """The VPN's process, for its flow."""
        self.flows.append(flow)
        return Carrier(self.openvpn, "tunv") if flow.source.port == 1194 else None

    def test_own(self) -> None:
        """A VPN's own packets go direct; another program's to the same server do not."""
        decision = self.decide(self.judge, "udp 45.45.45.2:1194", port=1194)
        self.assertRule(decision, "DIRECT vpn")
        self.assertEqual(
            decision.reason,
            "openvpn (pid 123) carries the VPN tunv, which routes 45.45.45.2 past itself",
        )
        self.assertIs(decision.owner, self.openvpn)
        self.assertRule(self.decide(self.judge, "udp 45.45.45.2:1194", port=5), "PROXY default")

    def test_otherwise(self) -> None:
        """
        Nothing else that a rule decides is changed, and nobody is asked about it; nor about
        other machines' flows.
        """
        judge = self.withVpn(excludedIPs="45.45.45.0/24", dnsMode="fake-ip")
        for destination, expected in (
            ("udp 45.45.45.2:1194", "DIRECT excluded-ip"),
            ("udp 10.1.1.1:1194", "DIRECT reserved"),
            ("udp 198.19.0.7:1194", "PROXY default"),
            ("udp 127.0.0.1:1194", "REJECT host-only"),
        ):
            self.assertRule(self.decide(judge, destination, port=1194), expected)
        decision = self.decide(self.judge, "udp 45.45.45.2:1194", "192.168.1.7", 1194)
        self.assertRule(decision, "PROXY default")
        self.assertEqual(self.flows, [])

    def test_late(self) -> None:
        """A flow waits until it is known whose it is, also after its owner."""
        judge = self.withVpn(excludedProcesses="curl")
        owner: Deferred[Owner | None] = Deferred()
        carrier: Deferred[Carrier | None] = Deferred()
        self.patch(self.owners, "ownerOf", lambda flow: owner)
        judge.carrier = lambda flow: carrier
        asked = Flow(1, Protocol.UDP, Endpoint(ME, 1194), Endpoint("45.45.45.2", 1194))
        decision = judge.judge(asked)
        assert isinstance(decision, Deferred)
        owner.callback(Owner(123, 0, "openvpn"))
        self.assertNoResult(decision)
        carrier.callback(Carrier(self.openvpn, "tunv"))
        self.assertRule(self.successResultOf(decision), "DIRECT vpn")

    def test_explained(self) -> None:
        """An explanation asks for nobody's sockets."""
        other = self.judge.withOwners(FakeOwners())
        self.assertRule(self.decide(other, "udp 45.45.45.2:1194", port=1194), "PROXY default")
