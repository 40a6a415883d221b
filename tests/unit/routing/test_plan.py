"""
Tests for L{nanotun.routing.plan}: what the kernel would do with its rules.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import CAPTURE_MARK, FAKE4, FAKE6, GATEWAY4, GATEWAY6, SOCKET_MARK
from nanotun.routing.plan import END, EXCEPTIONS_LIMIT, Change, captures, isOurs, plan
from nanotun.routing.values import (
    FIRST,
    LAST,
    TABLE,
    Host,
    Interface,
    Mark,
    Route,
    Rule,
    Sysctl,
    Wishes,
)

WISHES = Wishes("nano0")
HOST = Host(
    interfaces=(
        Interface("up0", ("192.168.1.0/24", "203.0.113.0/24", "2001:db8:1::/64"), ("192.168.1.1",)),
    ),
    sshPorts=(22, 2222),
    proxies=("9.9.9.9", "2001:db8:9::9", "127.0.0.1", "::1", "0.0.0.0"),
    behind=("172.17.0.2", "fd17::2", "127.0.0.1", "::1", "0.0.0.0", "::"),
)


def changes(wishes: Wishes = WISHES, host: Host = HOST) -> list[Change]:
    """The whole plan."""
    first, last = plan(wishes, host)
    return first + last


def routeOf(
    to: str,
    plans: list[Change] | None = None,
    device: bool = True,
    mark: int = 0,
    uid: int = 1000,
    transport: str = "tcp",
    sport: int = 40000,
    dport: int = 443,
    incoming: str = "lo",
    source: str = "",
) -> str:
    """
    Walk through the rules as the kernel does.

    @param device: whether the tunnel's device is there.
    @return: C{"tunnel"}, C{"main"} or C{"unreachable"}.
    """
    plans = changes() if plans is None else plans
    address = ip_address(to)
    routed = {each.family for each in plans if isinstance(each, Route)} if device else set()
    rules = sorted(
        (each for each in plans if isinstance(each, Rule) and each.family == address.version),
        key=lambda rule: rule.priority,
    )
    goto = 0
    for rule in rules:
        if rule.priority < goto:
            continue
        matches = (
            (not rule.to or address in ip_network(rule.to))
            and (not rule.source or (source and ip_address(source) in ip_network(rule.source)))
            and (not rule.mark or rule.mark == mark)
            and (rule.uids is None or rule.uids[0] <= uid <= rule.uids[1])
            and (not rule.incoming or rule.incoming == incoming)
            and (not rule.transport or rule.transport == transport)
            and (not rule.sourcePort or rule.sourcePort == sport)
            and (not rule.destinationPort or rule.destinationPort == dport)
        )
        if bool(matches) == rule.invert:
            continue
        if rule.action == "goto":
            # A goto whose target is missing is passed over.
            goto = rule.target if any(each.priority == rule.target for each in rules) else goto
        elif rule.action == "unreachable":
            return "unreachable"
        elif rule.action == "lookup" and address.version in routed:
            assert rule.target == TABLE
            return "tunnel"
    return "main"


class WayTests(SynchronousTestCase):
    """The routes of packets."""

    def test_everything(self) -> None:
        """Packets to the Internet take the tunnel, in both families."""
        for host in ("1.1.1.1", "223.255.255.254", "2606:4700::1111"):
            self.assertEqual(routeOf(host), "tunnel", host)

    def test_marked(self) -> None:
        """A marked packet never enters the tunnel, whichever rules are missing."""
        whole = changes()
        for number in range(len(whole)):
            left = whole[:number] + whole[number + 1 :]
            for host in ("1.1.1.1", "2606:4700::1111"):
                self.assertEqual(routeOf(host, left, mark=SOCKET_MARK), "main")

    def test_orderOfTheStart(self) -> None:
        """All exceptions are set before the rule that catches traffic."""
        whole = changes(WISHES._replace(uids=(7,), killSwitch=True))
        for number in range(len(whole)):
            begun = whole[:number]
            for host in ("1.1.1.1", "2606:4700::1111"):
                self.assertEqual(routeOf(host, begun, mark=SOCKET_MARK), "main")
                self.assertEqual(routeOf(host, begun, sport=22), "main")
                self.assertEqual(routeOf(host, begun, uid=7), "main")
            self.assertEqual(routeOf("192.168.1.7", begun), "main")
            self.assertEqual(routeOf("9.9.9.9", begun), "main")

    def test_behind(self) -> None:
        """
        Everything that a proxy behind this machine sends bypasses the tunnel, also with a kill
        switch, and nothing of its neighbours or of this machine itself does.
        """
        plans = changes(WISHES._replace(killSwitch=True))
        for to, proxy, others in (
            ("1.1.1.1", "172.17.0.2", ("172.17.0.3", "172.17.0.1", "127.0.0.1", "0.0.0.0", "")),
            ("2606:4700::1111", "fd17::2", ("fd17::3", "fd17::1", "::1", "::", "")),
        ):
            for port in (53, 443):
                self.assertEqual(routeOf(to, plans, source=proxy, dport=port), "main")
            # The answers, from another machine.
            lan = changes(WISHES._replace(lan="proxy", killSwitch=True))
            self.assertEqual(routeOf(proxy, lan, source=to, incoming="up0"), "main")
            for other in others:
                self.assertEqual(routeOf(to, plans, source=other), "tunnel", other)

    def test_ssh(self) -> None:
        """Answers of an SSH server bypass the tunnel."""
        for host in ("1.1.1.1", "2606:4700::1111"):
            for port in (22, 2222):
                self.assertEqual(routeOf(host, sport=port), "main")
            self.assertEqual(routeOf(host, sport=22, transport="udp"), "tunnel")
            self.assertEqual(routeOf(host, dport=22), "tunnel")

    def test_proxies(self) -> None:
        """Packets to the proxies never take the tunnel."""
        self.assertEqual(routeOf("9.9.9.9"), "main")
        self.assertEqual(routeOf("9.9.9.10"), "tunnel")
        self.assertEqual(routeOf("2001:db8:9::9"), "main")
        self.assertFalse([c for c in changes() if "127.0.0.1" in c.command("add")])

    def test_users(self) -> None:
        """Only an excluded user's packets bypass the tunnel."""
        plans = changes(WISHES._replace(uids=(0, 65534)))
        self.assertEqual(
            [routeOf("1.1.1.1", plans, uid=uid) for uid in (0, 1, 65534)],
            ["main", "tunnel", "main"],
        )

    def test_lease(self) -> None:
        """DHCP packets bypass the tunnel, so that leases are renewed."""
        self.assertEqual(routeOf("1.1.1.1", transport="udp", sport=68, dport=67), "main")
        self.assertEqual(routeOf("1.1.1.1", transport="udp", sport=68, dport=53), "tunnel")

    def test_lan(self) -> None:
        """With lan: direct, packets to local and connected networks bypass the tunnel."""
        proxied = changes(WISHES._replace(lan="proxy"))
        for host in (
            "192.168.1.7", "10.1.2.3", "172.31.0.1", "100.64.0.1", "169.254.1.1", "224.0.0.251",
            "255.255.255.255", "203.0.113.9", "fd12::1", "2001:db8:1::9", "ff02::fb",
        ):  # fmt: skip
            self.assertEqual(routeOf(host), "main", host)
            self.assertEqual(routeOf(host, proxied), "tunnel", host)
        for plans in (changes(), proxied):
            self.assertEqual(routeOf("fe80::1", plans), "main")

    def test_ownNetworks(self) -> None:
        """Packets to the gateway and to fake addresses take the tunnel."""
        for host in (GATEWAY4, GATEWAY6, FAKE4.split("/")[0], FAKE6.split("/")[0]):
            self.assertEqual(routeOf(host), "tunnel", host)

    def test_forwarded(self) -> None:
        """Packets from the tunnel do not take it again; packets from other interfaces do."""
        plans = changes(WISHES._replace(lan="proxy"))
        for host in ("192.168.1.7", "1.1.1.1", "fd12::1"):
            self.assertEqual(routeOf(host, plans, incoming="nano0"), "main")
            self.assertEqual(routeOf(host, plans, incoming="up0"), "tunnel")
        # It is nobody's, and no server's of this machine.
        plans = changes(WISHES._replace(uids=(0,)))
        self.assertEqual(routeOf("1.1.1.1", plans, uid=0), "main")
        self.assertEqual(routeOf("1.1.1.1", plans, uid=0, incoming="up0"), "tunnel")
        self.assertEqual(routeOf("1.1.1.1", plans, sport=22, incoming="up0"), "tunnel")

    def test_largeLink(self) -> None:
        """A network that is too large is not believed to be connected."""
        networks = ("0.0.0.0/1", "8.0.0.0/8", "9.0.0.0/15", "2000::/3", "2001:db8::/32")
        host = HOST._replace(interfaces=(Interface("up0", networks),))
        for to in ("1.1.1.1", "8.8.8.8", "9.1.1.1", "2001:db8::1"):
            self.assertEqual(routeOf(to, changes(host=host)), "tunnel", to)

    def test_killSwitch(self) -> None:
        """Without the device traffic takes its usual route, or with killSwitch none."""
        kept = changes(WISHES._replace(killSwitch=True))
        for to in ("1.1.1.1", "2606:4700::1111"):
            self.assertEqual(routeOf(to, device=False), "main")
            self.assertEqual(routeOf(to, kept, device=False), "unreachable")
            self.assertEqual(routeOf(to, kept), "tunnel")
            self.assertEqual(routeOf(to, kept, device=False, mark=SOCKET_MARK), "main")
            self.assertEqual(routeOf(to, kept, device=False, sport=22), "main")


class OnlyTests(SynchronousTestCase):
    """The tunnel for chosen programs alone."""

    def test_nobodyElse(self) -> None:
        """No rule takes a packet of anybody else, and none that is forwarded, device or not."""
        for wishes in (
            WISHES._replace(onlyUids=(7, 9)),
            WISHES._replace(onlyGroups=True),
            WISHES._replace(onlyUids=(0,), onlyGroups=True),
        ):
            plans = changes(wishes._replace(killSwitch=True, lan="proxy"))
            for to in ("1.1.1.1", "10.1.2.3", "2606:4700::1111", "fd12::1"):
                for device in (True, False):
                    for mark in (0, SOCKET_MARK, 0x5EED):
                        for uid in (0, 8, 1000):
                            self.assertEqual(routeOf(to, plans, device, mark, uid), "main")
                    for mark in (0, CAPTURE_MARK):
                        for uid in (0, 7):
                            forwarded = routeOf(to, plans, device, mark, uid, incoming="up0")
                            self.assertEqual(forwarded, "main")

    def test_chosen(self) -> None:
        """A chosen user's packets take the tunnel or, with killSwitch, none; so do marked ones."""
        for wishes in (WISHES, WISHES._replace(killSwitch=True)):
            plans = changes(wishes._replace(onlyUids=(7,), onlyGroups=True))
            without = "unreachable" if wishes.killSwitch else "main"
            for to in ("1.1.1.1", "2606:4700::1111"):
                for mark, uid in ((0, 7), (CAPTURE_MARK, 7), (CAPTURE_MARK, 8)):
                    self.assertEqual(routeOf(to, plans, True, mark, uid), "tunnel")
                    self.assertEqual(routeOf(to, plans, False, mark, uid), without)
                self.assertEqual(routeOf(to, plans, uid=7, sport=22), "main")
            self.assertEqual(routeOf("192.168.1.7", plans, uid=7), "main")
            self.assertEqual(routeOf("9.9.9.9", plans, uid=7), "main")

    def test_root(self) -> None:
        """
        Root's packets take the tunnel by their mark alone, so that nanotun's own never do,
        whichever rule is missing.
        """
        whole = changes(WISHES._replace(onlyUids=(0,)))
        self.assertEqual(routeOf("1.1.1.1", whole, mark=CAPTURE_MARK, uid=0), "tunnel")
        for number in range(len(whole)):
            left = whole[:number] + whole[number + 1 :]
            self.assertEqual(routeOf("1.1.1.1", left, mark=SOCKET_MARK, uid=0), "main")

    def test_excluded(self) -> None:
        """Who is excluded and chosen is excluded."""
        plans = changes(WISHES._replace(uids=(7,), onlyUids=(7,)))
        self.assertEqual(routeOf("1.1.1.1", plans, uid=7), "main")

    def test_blocked(self) -> None:
        """If IPv6 is blocked, it is for the chosen only."""
        plans = changes(WISHES._replace(ipv6="block", onlyUids=(7,)))
        self.assertEqual(routeOf("2606:4700::1111", plans, uid=7), "unreachable")
        self.assertEqual(routeOf("2606:4700::1111", plans, mark=CAPTURE_MARK), "unreachable")
        self.assertEqual(routeOf("2606:4700::1111", plans, uid=8), "main")
        self.assertEqual(routeOf("1.1.1.1", plans, uid=7), "tunnel")


class PlaceTests(SynchronousTestCase):
    """Rules that begin before those of another program."""

    def test_moved(self) -> None:
        """Rules that begin elsewhere do the same: nothing but their priorities has changed."""
        wishes = WISHES._replace(killSwitch=True, uids=(7,))
        usual, moved = changes(wishes), changes(wishes, HOST._replace(first=7200))
        for to in ("1.1.1.1", "9.9.9.9", "192.168.1.7", "2606:4700::1111", "fe80::1"):
            for device in (True, False):
                for mark in (0, SOCKET_MARK):
                    self.assertEqual(
                        routeOf(to, moved, device, mark), routeOf(to, usual, device, mark)
                    )
        rules = [each for each in moved if isinstance(each, Rule)]
        self.assertTrue(all(7200 <= each.priority <= 7299 for each in rules))
        self.assertTrue(all(each.target == 7299 for each in rules if each.action == "goto"))
        self.assertEqual(
            [each for each in moved if not isinstance(each, Rule)],
            [each for each in usual if not isinstance(each, Rule)],
        )

    def test_marks(self) -> None:
        """Packets with another VPN's mark pass, in its family, if this machine sends them."""
        host = HOST._replace(marks=(Mark(4, 0xCA6C), Mark(6, 0x80000, 0xFF0000)))
        for plans in (changes(host=host), changes(WISHES._replace(ipv6="block"), host)):
            self.assertEqual(routeOf("1.1.1.1", plans, mark=0xCA6C), "main")
            self.assertEqual(routeOf("1.1.1.1", plans, mark=0xCA6C, incoming="up0"), "tunnel")
            self.assertEqual(routeOf("1.1.1.1", plans, mark=0xCA6D), "tunnel")
            self.assertEqual(routeOf("2606:4700::1111", plans, mark=0x80000), "main")
            self.assertNotEqual(routeOf("2606:4700::1111", plans, mark=0xCA6C), "main")
        self.assertIn(
            "ip -6 rule add pref 7403 iif lo fwmark 0x80000/0xff0000 goto 7499 protocol 110",
            [each.command("add") for each in changes(host=host)],
        )

    def test_before(self) -> None:
        """What wg-quick's rules would send into its table takes the tunnel."""
        theirs = Rule(4, 7399, "unreachable", mark=0xCA6C, invert=True)
        self.assertEqual(routeOf("1.1.1.1", [*changes(), theirs]), "unreachable")
        moved = changes(host=HOST._replace(first=7200))
        self.assertEqual(routeOf("1.1.1.1", [*moved, theirs]), "tunnel")


class FamilyTests(SynchronousTestCase):
    """Capturing and blocking IPv6."""

    def test_table(self) -> None:
        """The setting ipv6 and the machine decide whether IPv6 is captured."""
        bare = HOST._replace(usesIPv6=False)
        deaf = HOST._replace(tunnelHasIPv6=False)
        for mode, host, expected in (
            ("auto", HOST, True),
            ("auto", bare, False),
            ("auto", deaf, False),
            ("capture", bare, True),
            ("block", HOST, False),
        ):
            wishes = WISHES._replace(ipv6=mode)
            self.assertEqual(captures(6, wishes, host), expected, mode)
            self.assertTrue(captures(4, wishes, host))

    def test_blocked(self) -> None:
        """If IPv6 is blocked, only the link and the LAN are reachable."""
        plans = changes(WISHES._replace(ipv6="block"))
        self.assertEqual(routeOf("2606:4700::1111", plans), "unreachable")
        self.assertEqual(routeOf("2606:4700::1111", plans, mark=SOCKET_MARK), "main")
        self.assertEqual(routeOf("2606:4700::1111", plans, sport=22), "main")
        self.assertEqual(routeOf("fe80::1", plans), "main")
        self.assertEqual(routeOf("fd12::1", plans), "main")
        self.assertEqual(routeOf("1.1.1.1", plans), "tunnel")

    def test_none(self) -> None:
        """On a kernel without IPv6 the plan has no IPv6."""
        plans = changes(host=HOST._replace(hasIPv6=False))
        self.assertEqual({c.family for c in plans if not isinstance(c, Sysctl)}, {4})


class ShapeTests(SynchronousTestCase):
    """The plan's contents."""

    def test_range(self) -> None:
        """All rules have our priorities, and the last one is the target of the others."""
        rules = [each for each in changes() if isinstance(each, Rule)]
        self.assertTrue(all(FIRST <= rule.priority <= LAST for rule in rules))
        self.assertTrue(all(r.target == END for r in rules if r.action == "goto"))
        self.assertEqual(len(set(rules)), len(rules))

    def test_reversePaths(self) -> None:
        """Strict reverse path filters are made loose, and no others are changed."""
        for everywhere, uplink, tunnel, expected in (
            (0, 0, 0, []),
            (1, 0, 0, ["up0", "under0", "nano0"]),
            (0, 1, 0, ["up0", "under0"]),
            (0, 0, 1, ["nano0"]),
            (2, 1, 1, []),
            (1, 2, 2, []),
        ):
            interfaces = (
                Interface("up0", (), ("192.168.1.1",), uplink),
                Interface("lan0", (), (), 1),
                Interface("under0", (), (), uplink, answers=True),
            )
            host = Host(interfaces, rpFilterAll=everywhere, rpFilterTunnel=tunnel)
            found = [each for each in changes(host=host) if isinstance(each, Sysctl)]
            self.assertEqual([each.name.split("/")[3] for each in found], expected)
            for each in found:
                self.assertEqual(each.value, "2")
                # Otherwise no crash could be recovered from.
                self.assertTrue(isOurs(each))

    def test_limits(self) -> None:
        """The number of rules is bounded, whatever the number of ports, proxies and networks."""
        host = Host(
            (Interface("up0", tuple(f"9.0.{n}.0/24" for n in range(200))),),
            sshPorts=tuple(range(1, 1000)),
            proxies=tuple(f"9.9.9.{n}" for n in range(200)),
            behind=tuple(f"9.9.9.{n}" for n in range(200)),
        )
        self.assertLess(len(changes(host=host)), 2 * (4 * EXCEPTIONS_LIMIT + 30))


class CommandTests(SynchronousTestCase):
    """Values as commands."""

    def test_commands(self) -> None:
        """Commands are what a user would type."""
        rule = Rule(
            6,
            7430,
            "goto",
            7499,
            mark=1,
            invert=True,
            to="fd00::/8",
            transport="udp",
            sourcePort=5,
            destinationPort=6,
            uids=(7, 8),
            source="fd17::2/128",
        )
        self.assertEqual(
            rule.command("add"),
            "ip -6 rule add pref 7430 not to fd00::/8 from fd17::2/128 fwmark 0x1 uidrange 7-8 "
            "ipproto udp sport 5 dport 6 goto 7499 protocol 110",
        )
        self.assertEqual(
            Rule(4, 7499, "nop").command("del"), "ip -4 rule del pref 7499 nop protocol 110"
        )
        self.assertEqual(
            Route(4, "nano0").command("del"),
            "ip -4 route del default dev nano0 table 28276 protocol 110",
        )
        setting = Sysctl("net/ipv4/conf/up0.7/rp_filter", "2", "1")
        self.assertEqual(setting.command("add"), "sysctl -w net/ipv4/conf/up0.7/rp_filter=2")
        self.assertEqual(setting.command("del"), "sysctl -w net/ipv4/conf/up0.7/rp_filter=1")
