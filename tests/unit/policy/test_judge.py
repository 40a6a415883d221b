"""Tests of L{nanotun.policy.judge}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.config.file import Given
from nanotun.config.settings import Settings, makeSettings
from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.interfaces import IJudge, IOwners
from nanotun.policy.judge import Carrier, Judge, rulesFor, runsLocally
from nanotun.policy.rules import LOCAL_PROXY, OUTCOMES, RULES
from nanotun.testing import FakeJudge, FakeOwners
from tests.contracts.policy import JudgeContract

ME, NEIGHBOUR = "198.18.0.2", "10.7.7.7"
PROXY = "socks5://proxy.example:1080"


def settings(**values: object) -> Settings:
    """Settings as from a file."""
    given = {"proxy": PROXY, **values}
    return makeSettings({key: Given(value, key) for key, value in given.items()}, {}, "file")


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


class JudgeCase(SynchronousTestCase):
    """A judge whose surroundings the test makes up."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.owners = FakeOwners()
        self.inside: set[str] = set()
        self.asked: list[str] = []
        self.judge = self.makeJudge()

    def makeJudge(self, **values: object) -> Judge:
        """A judge for some settings."""

        def leadsIn(host: str) -> bool:
            self.asked.append(host)
            return host in self.inside

        return Judge(
            settings(**values), self.owners, lambda host: host == ME, leadsIn, ownPid=lambda: 42
        )

    def decide(self, judge: Judge, destination: str, source: str = ME, port: int = 1) -> Decision:
        """The decision about C{"tcp 192.0.2.1:443"}."""
        protocol, _, place = destination.partition(" ")
        host, _, number = place.rpartition(":")
        ends = Endpoint(source, port), Endpoint(host, int(number))
        decision = judge.judge(Flow(1, Protocol[protocol.upper()], *ends))
        if isinstance(decision, Deferred):
            return self.successResultOf(decision)
        return decision

    def assertRule(self, decision: Decision, expected: str) -> None:
        """A decision is C{"VERDICT rule"}."""
        self.assertEqual(f"{decision.verdict.name} {decision.rule}", expected, decision.reason)
        self.assertIn(decision.rule, {**RULES, **OUTCOMES})
        if decision.rule in ("no-way", "loop"):
            self.assertRegex(decision.trouble, r"nano0.*autoDefaultRoute.*\.$")
        elif expected == "REJECT lan-only-port":
            self.assertRegex(decision.trouble, r"^(Flows to .*lanOnlyPorts: \[\].*\.)?$")
        else:
            self.assertEqual(decision.trouble, "")


class JudgeTests(JudgeContract, JudgeCase):
    """Rules, owners and routes together."""

    judge: Any

    def test_class(self) -> None:
        """It is a judge."""
        verifyClass(IJudge, Judge)

    def test_noProcessRules(self) -> None:
        """Without rules about processes it asks for no owner, nor for the route to a proxy."""
        self.assertRule(self.decide(self.judge, "tcp 1.1.1.1:443"), "PROXY proxy")
        self.assertEqual((self.owners.asked, self.asked), ([], []))

    def test_owner(self) -> None:
        """An excluded process goes direct; another one is proxied, and its decision names it."""
        judge = self.makeJudge(excludedProcesses="curl")
        curl = self.owners.known[5] = Owner(9, 0, "curl", excluded="curl")
        wget = self.owners.known[6] = Owner(10, 0, "wget")
        decision = self.decide(judge, "tcp 1.1.1.1:443", port=5)
        self.assertRule(decision, "DIRECT excluded-process")
        self.assertIs(decision.owner, curl)
        decision = self.decide(judge, "tcp 1.1.1.1:443", port=6)
        self.assertRule(decision, "PROXY proxy")
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
            (NEIGHBOUR, "PROXY proxy"),
        ):
            self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", source), expected)
            # The firewall has given it this machine's address.
            hidden = Flow(1, Protocol.TCP, Endpoint(source, 7), Endpoint("1.1.1.1", 443))
            originals[8] = hidden
            self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=8), expected)
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=9), "PROXY proxy")
        hops.add(NEIGHBOUR)
        decision = self.decide(judge, "tcp 1.1.1.1:443", NEIGHBOUR)
        self.assertRule(decision, "DIRECT local-proxy")
        self.assertEqual(decision.reason, f"{NEIGHBOUR} is the proxy's own address")

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
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443"), "PROXY proxy")
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
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=1), "PROXY proxy")
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443", port=2), "REJECT loop")


class WayTests(JudgeCase):
    """Routes that lead into the device again."""

    def test_reserved(self) -> None:
        """A private network that is routed into the device by hand is proxied."""
        self.assertRule(self.decide(self.judge, "tcp 10.0.0.1:80"), "DIRECT reserved")
        self.inside = {"10.0.0.1"}
        decision = self.decide(self.judge, "tcp 10.0.0.1:80")
        self.assertRule(decision, "PROXY reserved-routed")
        self.assertIn("10.0.0.0/8 (private use, RFC 1918)", decision.reason)

    def test_reservedOfExcluded(self) -> None:
        """In such a network an excluded process is refused, and the daemon's flow is a loop."""
        judge = self.makeJudge(excludedProcesses="curl")
        self.owners.known[5] = Owner(9, 0, "curl", excluded="curl")
        self.owners.known[6] = Owner(42, 0)
        self.inside = {"10.0.0.1"}
        for port, expected in (
            (5, "REJECT no-way"),
            (6, "REJECT loop"),
            (7, "PROXY reserved-routed"),
        ):
            self.assertRule(self.decide(judge, "tcp 10.0.0.1:80", port=port), expected)

    def test_refused(self) -> None:
        """Other flows past the tunnel are refused; one log line has the cause and the cure."""
        judge = self.makeJudge(excludedProcesses="curl", excludedIPs="9.9.9.0/24")
        self.owners.known[5] = Owner(9, 0, "curl", excluded="curl")
        self.inside = {"9.9.9.9", "8.8.8.8", "10.9.9.9", "169.254.169.254"}
        for destination, port, told in (
            ("tcp 9.9.9.9:443", 1, "9.9.9.0/24 is one of excludedIPs"),
            ("tcp 10.9.9.9:445", 1, "TCP port 445 is one of lanOnlyPorts"),
            ("tcp 8.8.8.8:443", 5, "curl is excluded by curl"),
            ("tcp 169.254.169.254:80", 1, "link local"),
        ):
            decision = self.decide(judge, destination, port=port)
            self.assertRule(decision, "REJECT no-way")
            self.assertIn(told, decision.trouble)
            self.assertNotIn("pid", decision.trouble)
            self.assertIn("0x6e74", decision.trouble)

    def test_fakeAddress(self) -> None:
        """The route to a fake address makes no difference."""
        judge = self.makeJudge(dnsMode="fake-ip")
        self.inside = {"198.19.0.7"}
        self.assertRule(self.decide(judge, "tcp 198.19.0.7:445"), "REJECT lan-only-port")
        self.assertRule(self.decide(judge, "tcp 198.19.0.7:443"), "PROXY fake-ip")
        judge = self.makeJudge(dnsMode="fake-ip", proxy="direct://")
        self.assertRule(self.decide(judge, "tcp 198.19.0.7:443"), "PROXY fake-ip")

    def test_proxyRoutedHere(self) -> None:
        """Flows to a proxy whose route leads into the device are loops; other flows are not."""
        judge = self.makeJudge(proxy=["socks5://u:secret@[2001:DB8:0::1]:1080", "5.5.5.5:1080"])
        self.inside = {"2001:db8::1", "5.5.5.5"}
        for host in self.inside:
            decision = self.decide(judge, f"tcp {host}:1080")
            # One is of a reserved network, but cannot be proxied.
            self.assertRule(decision, "REJECT loop")
            self.assertNotIn("secret", decision.trouble)
        self.assertRule(self.decide(judge, "tcp 5.5.5.5:443"), "PROXY proxy")
        self.inside.clear()
        self.assertRule(self.decide(judge, "tcp 5.5.5.5:1080"), "PROXY proxy")

    def test_namedProxyRoutedHere(self) -> None:
        """The same holds for the address of a proxy whose URL has a name."""
        dialled = Endpoint("5.5.5.5", 1080)
        self.inside = {"5.5.5.5", "6.6.6.6"}
        judge = Judge(settings(), None, lambda host: True, self.inside.__contains__, dialled.__eq__)
        decision = self.decide(judge, "tcp 5.5.5.5:1080")
        self.assertRule(decision, "REJECT loop")
        self.assertIn("The route to the proxy at 5.5.5.5:1080 leads into", decision.trouble)
        self.assertRule(self.decide(judge, "tcp 6.6.6.6:1080"), "PROXY proxy")
        self.assertRule(self.decide(judge, "tcp 5.5.5.5:1081"), "PROXY proxy")

    def test_noProxy(self) -> None:
        """With C{direct://}, flows whose route leads into the device are refused."""
        judge = self.makeJudge(proxy="direct://")
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443"), "PROXY proxy")
        self.inside = {"1.1.1.1", "10.0.0.1"}
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443"), "REJECT no-way")
        self.assertRule(self.decide(judge, "tcp 10.0.0.1:443"), "REJECT no-way")

    def test_relaysServer(self) -> None:
        """A query to the relay's own server is refused if it is routed into the device."""
        judge = self.makeJudge(dns="9.9.9.9,8.8.8.8", dnsOverride=True)
        self.assertRule(self.decide(judge, "udp 9.9.9.9:53"), "SERVE dns-override")
        self.inside = {"9.9.9.9"}
        self.assertRule(self.decide(judge, "udp 9.9.9.9:53"), "REJECT loop")
        self.assertRule(self.decide(judge, "udp 8.8.8.8:53"), "SERVE dns-override")
        self.assertRule(self.decide(judge, "udp 7.7.7.7:53"), "SERVE dns-override")
        # Through a proxy the relay's query does not come back, but with direct:// it may.
        for proxy, rule in (("5.5.5.5:1080", "SERVE dns-override"), ("direct://", "REJECT loop")):
            judge = self.makeJudge(proxy=proxy, dns="9.9.9.9", dnsOverride=True, dnsVia="proxy")
            self.assertRule(self.decide(judge, "udp 9.9.9.9:53"), rule)


class LanOnlyTests(JudgeCase):
    """Ports that are for local networks only."""

    def test_toldOnce(self) -> None:
        """The log line names port and cure, once for each port, and again after a reload."""
        for judge in (self.judge, self.makeJudge()):
            for destination in ("tcp 1.1.1.1:445", "udp 1.1.1.1:445"):
                decision = self.decide(judge, destination)
                self.assertRule(decision, "REJECT lan-only-port")
                port = f"{destination[:3].upper()} port 445"
                self.assertIn(port, decision.trouble)
                self.assertIn("lanOnlyPorts: []", decision.trouble)
            for host in ("1.1.1.1", "2.2.2.2"):
                decision = self.decide(judge, f"tcp {host}:445")
                self.assertRule(decision, "REJECT lan-only-port")
                self.assertEqual(decision.trouble, "")

    def test_explained(self) -> None:
        """An explanation always has the sentence, and takes it from no flow."""
        for judge, expected in (
            (self.judge.withOwners(self.owners), "lanOnlyPorts: []"),
            (self.judge, "lanOnlyPorts: []"),
            (self.judge.withOwners(self.owners), "lanOnlyPorts: []"),
        ):
            self.assertIn(expected, self.decide(judge, "tcp 1.1.1.1:445").trouble)
        self.assertEqual(self.decide(self.judge, "tcp 1.1.1.1:445").trouble, "")

    def test_connected(self) -> None:
        """A public address of a connected network is dialled, if there is a way to it."""
        judge = Judge(
            settings(),
            None,
            ME.__eq__,
            self.inside.__contains__,
            isConnected=lambda host: host == "1.1.1.1",
        )
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:445"), "DIRECT lan-only-port")
        self.assertRule(self.decide(judge, "tcp 2.2.2.2:445"), "REJECT lan-only-port")
        self.inside.add("1.1.1.1")
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:445"), "REJECT no-way")

    def test_excluded(self) -> None:
        """An excluded process goes direct to such a port, also if its owner takes a while."""
        judge = self.makeJudge(excludedProcesses="curl")
        curl = self.owners.known[5] = Owner(9, 0, "curl", excluded="curl")
        decision = self.decide(judge, "tcp 1.1.1.1:445", port=5)
        self.assertRule(decision, "DIRECT excluded-process")
        late: Deferred[Owner | None] = Deferred()
        self.patch(self.owners, "ownerOf", lambda flow: late)
        waiting = judge.judge(Flow(1, Protocol.TCP, Endpoint(ME, 5), Endpoint("1.1.1.1", 445)))
        assert isinstance(waiting, Deferred)
        self.assertNoResult(waiting)
        late.callback(curl)
        self.assertRule(self.successResultOf(waiting), "DIRECT excluded-process")

    def test_unknownOwner(self) -> None:
        """A flow to such a port whose process is not found is refused, not proxied."""
        judge = self.makeJudge(excludedProcesses="curl")
        decision = self.decide(judge, "tcp 1.1.1.1:445")
        self.assertRule(decision, "REJECT lan-only-port")
        self.assertNotEqual(decision.trouble, "")
        self.assertEqual(len(self.owners.asked), 1)


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
            rules = rulesFor(settings(**given), False)
            decision = rules.decide(flow._replace(destination=address), lambda host: host == ME)
            self.assertEqual(decision.verdict, Verdict[expected], given)
        link = Endpoint("169.254.169.254", 80)
        for inCell, verdict in ((False, Verdict.DIRECT), (True, Verdict.REJECT)):
            judge = Judge(settings(), None, lambda host: True, lambda host: False, inCell=inCell)
            decided = judge.judge(flow._replace(destination=link))
            assert isinstance(decided, Decision)
            self.assertEqual(decided.verdict, verdict)
        self.assertTrue(rulesFor(settings(excludedProcesses="x"), False).needsOwner)
        self.assertTrue(rulesFor(settings(), True).needsOwner)
        self.assertFalse(rulesFor(settings(), False).needsOwner)


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
        self.assertRule(self.decide(self.judge, "udp 45.45.45.2:1194", port=5), "PROXY proxy")

    def test_otherwise(self) -> None:
        """
        Nothing else that a rule decides is changed, and nobody is asked about it; nor about
        other machines' flows.
        """
        judge = self.withVpn(excludedIPs="45.45.45.0/24", dnsMode="fake-ip")
        for destination, expected in (
            ("udp 45.45.45.2:1194", "DIRECT excluded-ip"),
            ("udp 10.1.1.1:1194", "DIRECT reserved"),
            ("udp 198.19.0.7:1194", "PROXY fake-ip"),
            ("udp 127.0.0.1:1194", "REJECT host-only"),
        ):
            self.assertRule(self.decide(judge, destination, port=1194), expected)
        decision = self.decide(self.judge, "udp 45.45.45.2:1194", "192.168.1.7", 1194)
        self.assertRule(decision, "PROXY proxy")
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
        self.assertRule(self.decide(other, "udp 45.45.45.2:1194", port=1194), "PROXY proxy")
