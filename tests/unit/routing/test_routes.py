"""
Tests for L{nanotun.routing.routes}.
"""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from nanotun.config.file import Given
from nanotun.config.settings import Settings, makeSettings
from nanotun.errors import RoutingError
from nanotun.interfaces import End, IPart
from nanotun.routing.follower import CHECK, SETTLE
from nanotun.routing.make import closedSentence
from nanotun.routing.routes import REFRESH
from nanotun.routing.values import FIRST, Earlier, Interface, Others
from tests.unit.routing.routing_cases import TUNNEL, UPLINK, RoutesCase


def settings(*proxies: str, **values: object) -> Settings:
    """Settings with these proxies and values."""
    given = {"proxy": list(proxies), **values}
    return makeSettings({name: Given(each, "file") for name, each in given.items()}, {}, "file")


class RoutesTests(RoutesCase):
    """Tests for L{Routes}."""

    def proxies(self) -> list[str]:
        """The addresses that have a rule."""
        return [rule.to for rule in self.kernel.rules() if rule.priority == 7420]

    def blocked(self) -> list[int]:
        """The families in which everything is unreachable."""
        return [rule.family for rule in self.kernel.rules() if rule.action == "unreachable"]

    def assertClean(self) -> None:
        """Nothing is left anywhere."""
        self.assertEqual(self.kernel.rules() + self.kernel.routes(), [])
        self.assertEqual(self.there, [])
        self.assertEqual(self.written(), [])
        self.assertFalse(self.monitor.listening)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wholeLife(self) -> None:
        """A start sets everything, and a stop undoes everything."""
        routes = self.routes()
        verifyObject(IPart, routes)
        routes.start()
        self.assertTrue(self.monitor.listening)
        self.assertEqual(len(self.kernel.routes()), 2)
        self.assertEqual(self.proxies(), ["9.9.9.9/32"])
        self.assertEqual(self.there, ["firewall"])
        routes.stop()
        self.assertClean()
        self.assertTrue(self.kernel.closed)

    def test_watch(self) -> None:
        """A control group that is made while the rules are loaded is heard of, too."""
        routes = self.routes()
        routes.start()
        self.assertEqual(self.watch.saw, [0])
        self.there.clear()
        self.watch.made()
        self.assertEqual(self.there, ["firewall"])
        routes.stop()
        self.assertEqual(self.watch.saw, [0, "stop"])

    def test_firewallBeforeTraffic(self) -> None:
        """The firewall is in force as long as the rule that catches traffic."""
        routes = self.routes()
        caught: list[bool] = []
        change = self.fake("firewall")

        def note() -> None:
            caught.append(any(rule.invert for rule in self.kernel.rules()))

        change.apply = note  # type: ignore[method-assign]
        change.undo = note  # type: ignore[method-assign]
        routes._reconciler._firewall = lambda killSwitch, host: [change]
        routes.start()
        routes.stop()
        self.assertEqual(caught, [False, False])

    def test_failures(self) -> None:
        """If any change fails, the start fails and nothing is left."""
        routes = self.routes()
        routes.start()
        commands = [line for line in self.kernel.log if " add " in line]
        routes.stop()
        self.assertGreater(len(commands), 20)
        for command in commands:
            self.kernel.fails = {command: 1}
            self.assertRaises(RoutingError, self.routes().start)
            self.assertClean()
        self.kernel.fails = {}
        self.fails.add("do firewall")
        self.assertRaises(RoutingError, self.routes().start)
        self.assertClean()

    def test_oldKernel(self) -> None:
        """A kernel that changes a rule when it is added is an error."""
        self.kernel.ignores = True
        error = self.assertRaises(RoutingError, self.routes(killSwitch=True).start)
        self.assertIn("4.17", str(error))
        self.assertClean()

    def test_noIPv6(self) -> None:
        """ipv6: capture on a device without IPv6 is an error that says what to do."""
        self.kernel.devices["nano0"] = TUNNEL._replace(networks=("198.18.0.0/30",))
        error = self.assertRaises(RoutingError, self.routes(ipv6="capture").start)
        self.assertIn("disable_ipv6", str(error))
        self.assertClean()
        self.routes(ipv6="auto").start()
        self.assertEqual(self.blocked(), [6])

    def test_another(self) -> None:
        """While another daemon's routes are set, the start fails and leaves them alone."""
        self.routes().start()
        before = self.kernel.rules(), self.kernel.routes(), list(self.there)
        self.runDir = self.directory / "another"
        self.kernel.devices["nano1"] = TUNNEL._replace(name="nano1")
        another = self.routes(device="nano1")
        error = self.assertRaises(RoutingError, another.start)
        self.assertIn("into its device nano0", str(error))
        self.assertTrue(self.kernel.closed)
        self.assertEqual((self.kernel.rules(), self.kernel.routes(), self.there), before)
        self.assertEqual(self.written(), [])

    def test_losesIPv6(self) -> None:
        """If the device loses its IPv6 address, no IPv6 leaks, and IPv4 is still followed."""
        routes = self.routes(ipv6="capture")
        routes.start()
        self.kernel.devices["nano0"] = TUNNEL._replace(networks=("198.18.0.0/30",))
        self.kernel.flush()
        self.clock.advance(CHECK)
        self.assertEqual(self.blocked(), [6])
        caught = [rule.family for rule in self.kernel.rules() if rule.priority == 7450]
        self.assertEqual(caught, [4])
        self.assertIn("lost its IPv6", routes.report()["trouble"])
        self.kernel.devices["nano0"] = TUNNEL
        self.clock.advance(CHECK)
        self.assertEqual(self.blocked(), [])
        self.assertEqual(routes.report()["trouble"], "")
        routes.stop()
        self.assertClean()

    def test_crash(self) -> None:
        """After a crash the next start takes over what was left, and its stop undoes it."""
        self.routes().start()
        self.clock.calls.clear()
        self.kernel.removeDevice("nano0")
        self.kernel.devices["nano0"] = TUNNEL
        self.addresses = ["9.9.9.8"]
        routes = self.routes()
        routes.start()
        self.assertEqual(self.proxies(), ["9.9.9.8/32"])
        self.assertEqual(self.there, ["firewall"])
        routes.stop()
        self.assertClean()

    def test_lostJournal(self) -> None:
        """What a crash left is recognized without a journal, and undone by the stop."""
        for killSwitch in (False, True):
            self.routes(killSwitch=killSwitch).start()
            self.clock.calls.clear()
            self.kernel.removeDevice("nano0")
            self.kernel.devices["nano0"] = TUNNEL
            self.there.clear()
            self.journal().remove()
            # A start that fails leaves a kill switch in force.
            self.fails.add("do firewall")
            self.assertRaises(RoutingError, self.routes().start)
            self.assertEqual(bool(self.blocked()), killSwitch)
            self.fails.clear()
            routes = self.routes()
            routes.start()
            self.assertEqual(self.blocked(), [])
            routes.stop()
            self.assertClean()

    def test_failureAfterCrash(self) -> None:
        """A start that fails after a crash undoes everything, unless a kill switch is in force."""
        self.extra, self.fails = ["other"], {"do other"}
        self.assertRaises(RoutingError, self.routes(killSwitch=True).start)
        self.assertClean()
        self.extra = ["firewall"]
        for killSwitch in (False, True):
            self.clock.calls.clear()
            self.routes(killSwitch=killSwitch).start()
            self.fails.add("do other")
            self.extra = ["other"]
            with capturedLogs() as events:
                self.assertRaises(RoutingError, self.routes(killSwitch=killSwitch).start)
            self.assertEqual(bool(self.blocked()), killSwitch)
            # Whoever is cut off has to hear how to get out.
            self.assertEqual("It stays closed." in map(formatEvent, events), killSwitch)
            self.extra, self.fails = ["firewall"], set()

    def test_ends(self) -> None:
        """
        A kill switch opens if somebody wants the daemon to end, and stays closed otherwise;
        one that was open before a failed start is open after it.
        """
        closed = {End.STOP: (), End.RESTART: (0, 1), End.FAILED: (0, 1), End.NOT_STARTED: (1,)}
        for end in End:
            for wasClosed in (0, 1):
                for killSwitch in (False, True):
                    if wasClosed:
                        self.routes(killSwitch=True).start()
                        self.clock.calls.clear()
                    self.end = end
                    routes = self.routes(killSwitch=killSwitch)
                    routes.start()
                    routes.stop()
                    stays = killSwitch and wasClosed in closed[end]
                    self.assertEqual(self.blocked() == [4, 6], stays, (end, wasClosed, killSwitch))
                    self.assertEqual(bool(self.written()), stays)
                    self.assertFalse(self.monitor.listening)
                    self.assertTrue(self.kernel.closed)
                    # A daemon that takes over what stayed can still open it.
                    self.end = End.STOP
                    routes = self.routes(killSwitch=True)
                    routes.start()
                    routes.stop()
                    self.assertClean()

    def test_closedSentence(self) -> None:
        """It says what still gets out, and the command that opens the kill switch, as typed."""
        for lan, out in (
            ("direct", "only the local network and SSH get"),
            ("proxy", "only SSH gets"),
        ):
            said = closedSentence(lan, "/run/nanotun")
            self.assertIn(out, said)
            self.assertIn("'nanotun recover'", said)
        self.assertIn("nanotun recover --run-dir '/a b'", closedSentence("direct", "/a b"))

    def test_switch(self) -> None:
        """
        The switch table comes with the kill switch only, after all other changes, and follows
        what other programs' rules let past; what cannot be told of those is said once.
        """
        self.kernel.foreign = Others((Earlier(4, 5210, 1, 1),), (100,))
        routes = self.routes()
        routes.start()
        self.assertEqual(self.there, ["firewall"])
        routes.stop()
        routes = self.routes(killSwitch=True)
        with capturedLogs() as events:
            routes.start()
            rules = len(self.kernel.rules())
            self.assertEqual(self.there, ["firewall", f"switch {rules} 1"])
            self.assertEqual(self.written()[-1], f"do switch {rules} 1")
            self.kernel.foreign = Others((), (100,))
            self.clock.advance(CHECK)
            self.assertEqual(self.there, ["firewall", f"switch {rules} 0"])
        routes.stop()
        self.assertClean()
        said = [line for line in map(formatEvent, events) if "rule 100 of another" in line]
        self.assertEqual(len(said), 1)

    def test_moves(self) -> None:
        """
        The rules move before those of another program, and back when these are gone; at every
        moment one of the two sets is whole.  It is said once, and nothing was taken away.
        """
        routes = self.routes(killSwitch=True)
        routes.start()
        whole = len(self.kernel.rules())
        with capturedLogs() as events:
            for first in (7200, 7000, FIRST):
                done = len(self.kernel.log)
                self.kernel.foreign = Others(first=first)
                self.monitor.changed()
                self.clock.advance(SETTLE)
                self.assertEqual(
                    {each.priority // 100 * 100 for each in self.kernel.rules()}, {first}
                )
                self.assertEqual(len(self.kernel.rules()), whole)
                verbs = [each.split()[3] for each in self.kernel.log[done:]]
                self.assertEqual(verbs, ["add"] * whole + ["del"] * whole)
        routes.stop()
        self.assertClean()
        said = list(map(str, map(formatEvent, events)))
        self.assertEqual(
            [line[-13:] for line in said if "Another" in line], ["from 7200 on.", "from 7000 on."]
        )
        self.assertFalse([line for line in said if "taken away" in line])

    def test_switchUnconfirmed(self) -> None:
        """There is no switch table before the confirmation."""
        routes = self.routes(confirm=30, killSwitch=True)
        routes.start()
        self.assertEqual(self.there, ["firewall"])
        routes.confirm()
        self.clock.advance(SETTLE)
        self.assertEqual(len(self.there), 2)
        routes.stop()
        self.assertClean()

    def test_unconfirmedEnds(self) -> None:
        """Without a confirmation there is no kill switch to keep, however the daemon ends."""
        self.end = End.FAILED
        routes = self.routes(confirm=30, killSwitch=True)
        routes.start()
        routes.stop()
        self.assertClean()

    def test_flushed(self) -> None:
        """What somebody takes away is made again, after a message or at the next check."""
        routes = self.routes()
        routes.start()
        before = set(self.kernel.rules())
        self.kernel.flush()
        self.monitor.changed()
        self.assertEqual(self.kernel.rules(), [])
        self.clock.advance(SETTLE)
        self.assertEqual(set(self.kernel.rules()), before)
        self.kernel.flush()
        self.clock.advance(CHECK)
        self.assertEqual(set(self.kernel.rules()), before)
        self.assertEqual(self.networks, 0)
        routes.stop()
        self.assertClean()

    def test_networkChanges(self) -> None:
        """In another network the rules are updated, and L{networkChanged} is called."""
        routes = self.routes()
        routes.start()
        self.kernel.devices["up0"] = UPLINK._replace(gateways=("192.168.1.254",))
        self.kernel.devices["up1"] = Interface("up1", ("203.0.113.0/24",))
        self.addresses = ["9.9.9.7"]
        self.monitor.changed()
        self.clock.advance(SETTLE)
        self.assertEqual(self.networks, 1)
        self.assertIn("203.0.113.0/24", [rule.to for rule in self.kernel.rules()])
        # The proxy was looked up anew.
        self.clock.advance(SETTLE)
        self.assertEqual(self.proxies(), ["9.9.9.7/32"])
        del self.kernel.devices["up1"]
        self.clock.advance(CHECK)
        self.assertNotIn("203.0.113.0/24", [rule.to for rule in self.kernel.rules()])
        routes.stop()

    def test_containers(self) -> None:
        """Links that come and go without an effect on the plan are no change of the network."""
        routes = self.routes(killSwitch=True)
        routes.start()
        self.addresses = ["9.9.9.7"]
        for count in range(3):
            veth = Interface(f"veth{count}", (f"172.{count + 17}.0.0/16",))
            self.kernel.devices[veth.name] = veth
            self.monitor.changed()
            self.clock.advance(SETTLE)
        self.assertEqual((self.networks, self.proxies()), (0, ["9.9.9.9/32"]))
        for leading in (("up0",), ()):
            self.kernel.leading = leading
            self.clock.advance(CHECK)
        self.assertEqual(self.networks, 2)
        routes.stop()

    def test_proxyMoves(self) -> None:
        """A proxy's name and SSH's ports are refreshed periodically; old ports are kept."""
        routes = self.routes()
        routes.start()
        self.addresses, self.ports = ["9.9.9.6", "2001:db8::6"], (2222,)
        self.clock.advance(REFRESH)
        self.clock.advance(SETTLE)
        self.assertEqual(self.proxies(), ["9.9.9.6/32", "2001:db8::6/128"])
        self.assertEqual(
            {rule.sourcePort for rule in self.kernel.rules() if rule.priority == 7410}, {22, 2222}
        )
        self.addresses = []
        self.clock.advance(REFRESH)
        self.clock.advance(SETTLE)
        self.assertEqual(self.proxies(), ["9.9.9.6/32", "2001:db8::6/128"])
        routes.stop()

    def test_nameUnknownAtFirst(self) -> None:
        """A name that cannot be looked up at the start is looked up again right after it."""
        self.addresses = []
        routes = self.routes()
        lookUp = routes._exceptions._lookUp

        def late(name: str) -> object:
            self.addresses = ["9.9.9.5"]
            return lookUp(name)

        routes._exceptions._lookUp = late  # type: ignore[assignment]
        routes.start()
        self.clock.advance(SETTLE)
        self.assertEqual(self.proxies(), ["9.9.9.5/32"])
        routes.stop()

    def test_networkMoved(self) -> None:
        """In another network the proxies are looked up at once; not after the stop."""
        routes = self.routes()
        routes.start()
        self.addresses = ["9.9.9.6"]
        routes.networkMoved()
        self.clock.advance(SETTLE)
        self.assertEqual(self.proxies(), ["9.9.9.6/32"])
        routes.stop()
        self.addresses = ["9.9.9.7"]
        routes.networkMoved()
        self.clock.advance(SETTLE)
        self.assertClean()

    def test_cannotFollow(self) -> None:
        """A change that cannot be made is tried again, with one line in the log."""
        routes = self.routes()
        routes.start()
        self.kernel.flush()
        catch = next(line for line in self.kernel.log if "7450" in line)
        self.kernel.fails[catch] = 1
        for _ in range(5):
            self.clock.advance(CHECK)
        self.kernel.fails.clear()
        self.clock.advance(CHECK)
        self.assertTrue(any(rule.invert for rule in self.kernel.rules()))
        routes.stop()
        self.assertClean()

    def test_undoFails(self) -> None:
        """A change that cannot be undone stays in the journal for recover."""
        routes = self.routes()
        routes.start()
        self.fails.add("undo firewall")
        routes.stop()
        self.assertEqual(self.written(), ["do firewall"])


class ProxiesTests(RoutesCase):
    """Other proxies, after a reload."""

    def proxies(self) -> list[str]:
        """The addresses that have a rule."""
        return [rule.to for rule in self.kernel.rules() if rule.priority == 7420]

    def test_configure(self) -> None:
        """The rules follow other proxies, be they names or addresses."""
        routes = self.routes()
        routes.start()
        self.assertEqual(self.proxies(), ["9.9.9.9/32"])
        self.addresses = ["9.9.9.8"]
        routes.configure(settings("http://other.example", "192.0.2.7:1"))
        self.clock.advance(SETTLE)
        self.assertEqual(sorted(self.proxies()), ["192.0.2.7/32", "9.9.9.8/32"])
        routes.stop()

    def behind(self) -> list[str]:
        """The addresses whose packets bypass the tunnel."""
        return [rule.source for rule in self.kernel.rules() if rule.priority == 7421]

    def test_hops(self) -> None:
        """The rules follow where a proxy on this machine passes connections on to."""
        routes = self.routes()
        routes.passBack({"172.17.0.2"})
        routes.start()
        self.assertEqual(self.behind(), ["172.17.0.2/32", "9.9.9.9/32"])
        routes.passBack({"172.17.0.3"})
        self.clock.advance(SETTLE)
        self.assertEqual(sorted(self.behind()), ["172.17.0.3/32", "9.9.9.9/32"])
        routes.passBack(())
        self.clock.advance(SETTLE)
        self.assertEqual(self.behind(), ["9.9.9.9/32"])
        routes.stop()
        self.assertEqual(self.behind(), [])

    def test_configureAgain(self) -> None:
        """Proxies at the same hosts are no reason to look anything up, or to change a rule."""
        routes = self.routes()
        routes.start()
        self.clock.advance(SETTLE)
        self.addresses = ["9.9.9.8"]
        for proxy in ("http://proxy.example", "socks5://Proxy.Example.:7"):
            routes.configure(settings(proxy))
        self.clock.advance(SETTLE)
        self.assertEqual(self.proxies(), ["9.9.9.9/32"])
        routes.stop()

    def test_excluded(self) -> None:
        """Other networks of excludedIPs are told to the firewall, whose rules follow at once."""
        routes = self.routes()
        routes.start()
        self.clock.advance(SETTLE)
        self.extra = ["other firewall"]
        routes.configure(settings("http://proxy.example", excludedIPs="192.0.2.0/24"))
        self.clock.advance(SETTLE)
        self.assertEqual([str(each) for each in self.excluded], ["192.0.2.0/24"])
        self.assertEqual(self.there, ["other firewall"])
        routes.stop()
