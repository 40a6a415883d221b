"""Tests of L{nanotun.policy.routecheck}, by the judge that asks it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nanotun.flow import Endpoint, Flow, Owner, Protocol
from nanotun.policy.judge import Judge
from tests.unit.policy.judging import ME, JudgeCase, settings


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
        self.assertRule(self.decide(judge, "tcp 198.19.0.7:443"), "PROXY default")
        judge = self.makeJudge(dnsMode="fake-ip", proxy="direct://")
        self.assertRule(self.decide(judge, "tcp 198.19.0.7:443"), "PROXY default")

    def test_proxyRoutedHere(self) -> None:
        """Flows to a proxy whose route leads into the device are loops; other flows are not."""
        judge = self.makeJudge(proxy=["socks5://u:secret@[2001:DB8:0::1]:1080", "5.5.5.5:1080"])
        self.inside = {"2001:db8::1", "5.5.5.5"}
        for host in self.inside:
            decision = self.decide(judge, f"tcp {host}:1080")
            # One is of a reserved network, but cannot be proxied.
            self.assertRule(decision, "REJECT loop")
            self.assertNotIn("secret", decision.trouble)
        self.assertRule(self.decide(judge, "tcp 5.5.5.5:443"), "PROXY default")
        self.inside.clear()
        self.assertRule(self.decide(judge, "tcp 5.5.5.5:1080"), "PROXY default")

    def test_namedProxyRoutedHere(self) -> None:
        """The same holds for the address of a proxy whose URL has a name."""
        dialled = Endpoint("5.5.5.5", 1080)
        self.inside = {"5.5.5.5", "6.6.6.6"}
        judge = Judge(settings(), None, lambda host: True, self.inside.__contains__, dialled.__eq__)
        decision = self.decide(judge, "tcp 5.5.5.5:1080")
        self.assertRule(decision, "REJECT loop")
        self.assertIn("The route to the proxy at 5.5.5.5:1080 leads into", decision.trouble)
        self.assertRule(self.decide(judge, "tcp 6.6.6.6:1080"), "PROXY default")
        self.assertRule(self.decide(judge, "tcp 5.5.5.5:1081"), "PROXY default")

    def test_noProxy(self) -> None:
        """With C{direct://}, flows whose route leads into the device are refused."""
        judge = self.makeJudge(proxy="direct://")
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443"), "PROXY default")
        self.inside = {"1.1.1.1", "10.0.0.1"}
        self.assertRule(self.decide(judge, "tcp 1.1.1.1:443"), "REJECT no-way")
        self.assertRule(self.decide(judge, "tcp 10.0.0.1:443"), "REJECT no-way")

    def test_otherUpstreams(self) -> None:
        """The first proxy of each upstream is one, and what is no proxy comes back by itself."""
        office = {"proxy": "socks5://8.8.8.8:1", "via": "hop"}
        judge = self.makeJudge(
            upstreams={"office": office, "hop": "socks5://6.6.6.6:1", "bare": "direct://"},
            rules=[
                {"to": "bare", "networks": "9.9.9.0/24"},
                {"to": "direct", "networks": "10.7.0.0/16"},
            ],
        )
        self.inside = {"6.6.6.6", "8.8.8.8", "9.9.9.9", "10.7.0.1", "10.8.0.1"}
        for destination, expected, cause in (
            ("tcp 6.6.6.6:1", "REJECT loop", "the route to the proxy socks5://6.6.6.6:1 leads"),
            ("tcp 8.8.8.8:1", "PROXY default", ""),
            ("tcp 9.9.9.9:443", "REJECT no-way", "bare is no proxy, and the route"),
            ("tcp 10.7.0.1:443", "REJECT no-way", "rule 2 (rules) says so, and the route"),
            ("tcp 10.8.0.1:443", "PROXY reserved-routed", "10.0.0.0/8"),
        ):
            decision = self.decide(judge, destination)
            self.assertRule(decision, expected)
            self.assertIn(cause, decision.reason)

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
        upstreams = {"a": "5.5.5.5:1080"}
        judge = self.makeJudge(dns="9.9.9.9", dnsOverride=True, dnsVia="a", upstreams=upstreams)
        self.assertRule(self.decide(judge, "udp 9.9.9.9:53"), "SERVE dns-override")


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
