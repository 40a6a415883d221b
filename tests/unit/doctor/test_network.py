"""Tests of L{nanotun.doctor.network} and L{nanotun.linux.network}."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from nanotun.doctor.finding import Level
from nanotun.doctor.machine import Holder
from nanotun.doctor.network import (
    AddressCheck,
    Ipv6Check,
    MtuCheck,
    ReversePathCheck,
    VpnCheck,
)
from nanotun.linux.network import TUNNELS, MachineNetwork, readNetwork
from tests.unit.doctor.doctor_cases import HOME, CheckCase, address, link, route, settings


def also(*parts: object) -> MachineNetwork:
    """L{HOME} with additions."""
    grown = HOME
    for part in parts:
        field = {"Link": "links", "Address": "addresses", "KernelRoute": "routes"}[
            type(part).__name__
        ]
        grown = grown._replace(**{field: (*getattr(grown, field), part)})
    return grown


class AddressTests(CheckCase):
    """L{AddressCheck}."""

    def check(
        self, survey: MachineNetwork, running: bool = False, *holders: Holder, root: bool = True
    ) -> AddressCheck:
        """Of a machine."""
        return AddressCheck(
            lambda: survey,
            settings(),
            lambda: running,
            lambda device: list(holders) if device == "nano0" else [],
            root,
        )

    def test_free(self) -> None:
        """A machine without an overlap is fine, even with a route for 0.0.0.0/1."""
        self.assertFinds(self.check(HOME), Level.OK, "nano0")
        self.assertFinds(self.check(also(route("128.0.0.0/1", "eth0"))), Level.OK)

    def test_name(self) -> None:
        """A device with our name is a failure, unless a running nanotun made it."""
        taken = also(link(3, "nano0", "tun"), address("nano0", "198.18.0.2", 30))
        self.assertFinds(
            self.check(taken),
            Level.FAIL,
            "nano0 exists already, of the kind tun; nobody uses it.",
            "remove it: 'ip link delete nano0'",
        )
        self.assertFinds(self.check(taken, running=True), Level.OK)

    def assertKept(self, check: AddressCheck, *words: str) -> None:
        """The device is a failure, and nobody is told to delete it."""
        self.assertFinds(check, Level.FAIL, "nano0 exists already", *words)
        self.assertNotIn("delete", self.findings(check)[0].cure)

    def test_live(self) -> None:
        """The device of a live daemon is not to be deleted; the cure ends that daemon."""
        for carrier in (True, False):
            taken = also(link(3, "nano0", "tun", carrier=carrier))
            self.assertKept(
                self.check(taken, False, Holder(4711, "nanotun", "/srv/x")),
                "process 4711 (nanotun) uses it",
                "'nanotun stop --run-dir /srv/x'",
            )
            self.assertKept(
                self.check(taken, False, Holder(9, "openvpn", "")),
                "process 9 (openvpn) uses it",
                "end that process",
            )

    def test_unseen(self) -> None:
        """A device whose holder cannot be seen is not to be deleted."""
        taken = also(link(3, "nano0", "tun", carrier=True))
        self.assertKept(self.check(taken), "cannot be seen from here")
        taken = also(link(3, "nano0", "tun"))
        self.assertKept(self.check(taken, root=False), "cannot be seen from here")

    def test_otherKind(self) -> None:
        """A device of another kind was made on purpose, so it is not to be deleted."""
        self.assertKept(self.check(also(link(3, "nano0", "bridge"))), "of the kind bridge.")

    def test_addresses(self) -> None:
        """Each address or route that overlaps ours is a failure."""
        for part, network in (
            (address("tun5", "198.18.0.1", 16), "198.18.0.0/16 on tun5"),
            (address("tun5", "fdfe:dcba:9876::1", 126), "fdfe:dcba:9876::/126 on tun5"),
            (route("198.18.0.0/15", "tun5"), "198.18.0.0/15 on tun5"),
        ):
            self.assertFinds(self.check(also(part)), Level.FAIL, network, "sing-box")

    def test_once(self) -> None:
        """An address and its route make one finding."""
        both = also(address("t", "198.18.0.1", 16), route("198.18.0.0/16", "t"))
        self.assertFinds(self.check(both), Level.FAIL)


class VpnTests(CheckCase):
    """L{VpnCheck}."""

    def check(
        self,
        survey: MachineNetwork,
        *flags: str,
        holders: Sequence[Holder] = (),
        marks: Sequence[int] = (),
    ) -> VpnCheck:
        """Of a machine."""
        return VpnCheck(lambda: survey, settings(*flags), lambda name: list(holders), lambda: marks)

    def test_kinds(self) -> None:
        """Any kind of tunnel with a default route or a half of one, in any table, is a warning."""
        for kind in TUNNELS:
            for network in ("0.0.0.0/0", "128.0.0.0/1", "::/0", "8000::/1"):
                other = also(link(3, "wg0", kind), route(network, "wg0", 51820))
                self.assertFinds(
                    self.check(other), Level.WARN, network, f"wg0 ({kind})", "table 51820"
                )

    def test_treated(self) -> None:
        """
        With autoDefaultRoute, a VPN whose packets can be told from others is no trouble; for any
        other the line to write is the cure.
        """
        tunv = also(link(3, "tunv", "tun"), route("0.0.0.0/1", "tunv"))
        routed = tunv._replace(routes=(*tunv.routes, route("45.45.45.2/32", "eth0")))
        openvpn = (Holder(123, "openvpn", ""),)
        auto = "--auto-route"
        told = "(tun, of openvpn, process 123)"
        past = "its packets past nanotun"
        for check in (
            self.check(routed, auto, holders=openvpn),
            self.check(tunv, auto, "--exclude", "openvpn", holders=openvpn),
        ):
            self.assertFinds(check, Level.INFO, told, past)
        self.assertFinds(self.check(tunv, auto, marks=(0xCA6C,)), Level.INFO, "(tun)", past)
        line = "write 'excludedProcesses: [openvpn]' into"
        self.assertFinds(self.check(tunv, auto, holders=openvpn), Level.WARN, told, line)
        self.assertFinds(
            self.check(routed, auto),
            Level.WARN,
            "its program into excludedProcesses, or its server",
        )
        self.assertFinds(self.check(routed, holders=openvpn), Level.WARN, told, "as well; end that")

    def test_pppoe(self) -> None:
        """A tunnel that is the uplink itself is fine; a VPN over it is found."""
        ppp = HOME._replace(
            links=(*HOME.links, link(3, "ppp0", "ppp")), routes=(route("0.0.0.0/0", "ppp0"),)
        )
        self.assertFinds(self.check(ppp), Level.OK, "No other VPN")
        both = ppp._replace(
            links=(*ppp.links, link(4, "tunv", "tun")),
            routes=(*ppp.routes, route("0.0.0.0/1", "tunv"), route("45.45.45.2/32", "ppp0")),
        )
        openvpn = (Holder(123, "openvpn", ""),)
        check = self.check(both, "--auto-route", holders=openvpn)
        self.assertFinds(check, Level.INFO, "0.0.0.0/1 leads into tunv")

    def test_harmless(self) -> None:
        """A tunnel to one network, hardware with the default route, and our device are fine."""
        self.assertFinds(
            self.check(
                also(
                    link(3, "wg0", "wireguard"),
                    route("10.9.0.0/16", "wg0"),
                    link(4, "nano0", "tun"),
                    route("0.0.0.0/0", "nano0", 28276),
                    route("0.0.0.0/0", ""),
                )
            ),
            Level.OK,
        )


class Ipv6Tests(CheckCase):
    """L{Ipv6Check}."""

    def test_levels(self) -> None:
        """IPv6 may be off, on without a default route, or on with one."""
        lonely = HOME._replace(routes=HOME.routes[:2])
        self.assertFinds(Ipv6Check(lambda: HOME, self.machine), Level.INFO, "disabled")
        self.write("proc/sys/net/ipv6/conf/default/disable_ipv6", "0\n")
        self.assertFinds(Ipv6Check(lambda: HOME, self.machine), Level.OK)
        self.assertFinds(Ipv6Check(lambda: lonely, self.machine), Level.INFO, "no default route")
        self.write("proc/sys/net/ipv6/conf/default/disable_ipv6", "1\n")
        self.assertFinds(Ipv6Check(lambda: HOME, self.machine), Level.INFO, "disabled")


class MtuTests(CheckCase):
    """L{MtuCheck}."""

    def test_levels(self) -> None:
        """A missing uplink, a too narrow one and a wide one are told apart."""
        self.assertFinds(MtuCheck(lambda: HOME, settings()), Level.OK, "eth0 carries 1500")
        check = MtuCheck(lambda: HOME, settings("--mtu", "9000"))
        self.assertFinds(check, Level.INFO, "mtu is 9000", "set mtu to 1500")
        narrow = HOME._replace(links=(HOME.links[0], link(2, "eth0", mtu=1000)))
        self.assertFinds(MtuCheck(lambda: narrow, settings()), Level.INFO, "set mtu to 1280")
        nowhere = HOME._replace(routes=())
        self.assertFinds(MtuCheck(lambda: nowhere, settings()), Level.WARN, "no default route")


class ReversePathTests(CheckCase):
    """L{ReversePathCheck}."""

    def set(self, name: str, value: int) -> None:
        """Set a kernel setting."""
        self.write(f"proc/sys/net/ipv4/conf/{name}", f"{value}\n")

    def test_levels(self) -> None:
        """Strict on the uplink or for all is a warning; loose, or with src_valid_mark, is not."""
        check = ReversePathCheck(lambda: HOME, self.machine)
        self.assertFinds(check, Level.OK)
        self.set("eth0/rp_filter", 1)
        self.assertFinds(check, Level.WARN, "strict on eth0", "src_valid_mark=1")
        self.set("all/rp_filter", 2)
        self.assertFinds(check, Level.OK)
        self.set("eth0/rp_filter", 0)
        self.set("all/rp_filter", 1)
        self.assertFinds(check, Level.WARN)
        self.set("all/src_valid_mark", 1)
        self.assertFinds(check, Level.OK)


class MachineNetworkTests(CheckCase):
    """L{readNetwork}, of this machine."""

    def test_real(self) -> None:
        """The survey has the kernel's interfaces and the loopback's address."""
        survey = readNetwork()
        self.assertEqual(
            {each.name for each in survey.links}, {name for _, name in socket.if_nameindex()}
        )
        self.assertIn(("lo", "127.0.0.1"), [each[:2] for each in survey.addresses])
        self.assertIsNone(survey.link("no-such-link"))
        for each in survey.routes:
            self.assertIn(each.network.version, (4, 6))
