"""
What can be changed, and what the machine looks like, as values.
"""

from __future__ import annotations

from typing import NamedTuple

#: The table that leads into the tunnel: "nt", as the mark.
TABLE = 0x6E74

#: rtm_protocol and FRA_PROTOCOL of all that is ours, by which it is told from the
#: same route or rule of somebody else.  "n" in ASCII; nobody has it in
#: iproute2's C{rt_protos}.
PROTOCOL = 110

#: The rules' priorities are ours from the first to the last.  They are behind those
#: of Tailscale (5210 to 5270) and before those that wg-quick and NetworkManager
#: take (from 30000), whose routes do not lead around the tunnel.
FIRST = 7400
LAST = 7499


class Rule(NamedTuple):
    """
    One policy rule (ip-rule(8)).  All that is given must match.

    @ivar family: 4 or 6.
    @ivar priority: the lower, the earlier.
    @ivar action: C{"lookup"}, C{"goto"}, C{"nop"} or C{"unreachable"}.
    @ivar target: the table's number, or the priority to go on at.
    @ivar mark: fwmark, whole, or 0.
    @ivar invert: C{not}: whether all match but what is given.
    @ivar incoming: the interface that a packet came in by; what this machine itself
        sends has none.
    @ivar to: destination with prefix length, or empty.
    @ivar transport: C{"tcp"}, C{"udp"} or empty.
    @ivar sourcePort: and C{destinationPort}: 0 for any.
    @ivar uids: the first and the last user, or L{None} for all.
    """

    family: int
    priority: int
    action: str
    target: int = 0
    mark: int = 0
    invert: bool = False
    to: str = ""
    transport: str = ""
    sourcePort: int = 0
    destinationPort: int = 0
    uids: tuple[int, int] | None = None
    incoming: str = ""

    def command(self, verb: str) -> str:
        """
        As one could type it.

        @param verb: C{"add"} or C{"del"}.
        """
        words = [f"ip -{self.family} rule {verb} pref {self.priority}"]
        words += ["not"] if self.invert else []
        words += [f"to {self.to}"] if self.to else []
        words += [f"iif {self.incoming}"] if self.incoming else []
        words += [f"fwmark {self.mark:#x}"] if self.mark else []
        words += [f"uidrange {self.uids[0]}-{self.uids[1]}"] if self.uids is not None else []
        words += [f"ipproto {self.transport}"] if self.transport else []
        words += [f"sport {self.sourcePort}"] if self.sourcePort else []
        words += [f"dport {self.destinationPort}"] if self.destinationPort else []
        words += [f"{self.action} {self.target}" if self.target else self.action]
        return " ".join([*words, f"protocol {PROTOCOL}"])


class Route(NamedTuple):
    """
    A default route through a device, in our own table.

    @ivar family: 4 or 6.
    """

    family: int
    device: str

    def command(self, verb: str) -> str:
        """See L{Rule.command}."""
        return (
            f"ip -{self.family} route {verb} default dev {self.device} "
            f"table {TABLE} protocol {PROTOCOL}"
        )


class Sysctl(NamedTuple):
    """
    A value below C{/proc/sys}.

    @ivar name: with slashes, as names of interfaces have dots.
    @ivar before: what it is put back to.
    """

    name: str
    value: str
    before: str

    def command(self, verb: str) -> str:
        """See L{Rule.command}."""
        return f"sysctl -w {self.name}={self.value if verb == 'add' else self.before}"


class Interface(NamedTuple):
    """
    A network interface.

    @ivar networks: what is connected to it: its addresses' networks, without the
        link-local ones.
    @ivar gateways: of an uplink: its gateways' addresses, or C{"0.0.0.0"} and C{"::"}
        where there is no gateway.  Empty if it is no uplink.
    @ivar rpFilter: what net.ipv4.conf says of it, before we changed it.
    """

    name: str
    networks: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    rpFilter: int = 0


class Host(NamedTuple):
    """
    What the plan depends on.

    @ivar interfaces: all but the loopback and the tunnel.
    @ivar hasIPv6: whether the kernel speaks IPv6.
    @ivar usesIPv6: whether the machine has an address or a default route of it
        that leads anywhere.
    @ivar tunnelHasIPv6: whether the device may have such routes.
    @ivar rpFilterAll: net.ipv4.conf.all.rp_filter.
    @ivar rpFilterTunnel: as it is for the device.
    @ivar sshPorts: where SSH is served.
    @ivar proxies: addresses of the proxies.
    """

    interfaces: tuple[Interface, ...] = ()
    hasIPv6: bool = True
    usesIPv6: bool = True
    tunnelHasIPv6: bool = True
    rpFilterAll: int = 0
    rpFilterTunnel: int = 0
    sshPorts: tuple[int, ...] = ()
    proxies: tuple[str, ...] = ()


class Wishes(NamedTuple):
    """
    What the settings say.

    @ivar device: the TUN device's name.
    @ivar lan: C{"direct"} or C{"proxy"}.
    @ivar ipv6: C{"auto"}, C{"capture"} or C{"block"}.
    @ivar uids: users whose processes go past the tunnel.
    """

    device: str
    lan: str = "direct"
    ipv6: str = "auto"
    killSwitch: bool = False
    uids: tuple[int, ...] = ()
