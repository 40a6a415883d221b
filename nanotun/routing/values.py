"""
Values: what can be changed, what the settings ask for, and the state of the machine.
"""

from __future__ import annotations

from typing import NamedTuple

#: The number of the routing table that leads into the tunnel: "nt", like the mark.
TABLE = 0x6E74

#: rtm_protocol and FRA_PROTOCOL of all our routes and rules, which tells them from equal
#: ones of other programs.  "n" in ASCII; iproute2's C{rt_protos} gives it to nobody.
PROTOCOL = 110

#: An address on the Internet, of each family.  The kernel is asked for the route to it;
#: nothing is sent there.
SOMEWHERE4 = "8.8.8.8"
SOMEWHERE6 = "2001:4860:4860::8888"

#: The first and the last priority of our rules.  They come after those of Tailscale (5210
#: to 5270) and before those of wg-quick and NetworkManager (from 30000), whose routes do
#: not lead around the tunnel.
FIRST = 7400
LAST = 7499

#: The lowest priority at which our rules begin if other programs' are just before them.
FLOOR = 5400


class Rule(NamedTuple):
    """
    One policy rule (ip-rule(8)).  A packet has to match all conditions.

    @ivar family: 4 or 6.
    @ivar priority: rules with a lower one come first.
    @ivar action: C{"lookup"}, C{"goto"}, C{"nop"} or C{"unreachable"}.
    @ivar target: the table's number, or the priority to continue at.
    @ivar mark: the fwmark; 0 for any.
    @ivar invert: C{not}: whether exactly the packets that do not match are meant.
    @ivar to: destination with prefix length; empty for any.
    @ivar transport: C{"tcp"}, C{"udp"}, or empty for any.
    @ivar sourcePort: 0 for any.
    @ivar destinationPort: 0 for any.
    @ivar uids: the first and the last user; L{None} for all.
    @ivar incoming: the interface by which a packet arrived; C{"lo"} for packets that this
        machine sends; empty for any.
    @ivar source: source with prefix length; empty for any.
    @ivar mask: the bits of the fwmark that count; 0 for all.
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
    source: str = ""
    mask: int = 0

    def command(self, verb: str) -> str:
        """
        The command that sets or removes it.

        @param verb: C{"add"} or C{"del"}.
        """
        words = [f"ip -{self.family} rule {verb} pref {self.priority}"]
        words += ["not"] if self.invert else []
        words += [f"to {self.to}"] if self.to else []
        words += [f"from {self.source}"] if self.source else []
        words += [f"iif {self.incoming}"] if self.incoming else []
        mask = f"/{self.mask:#x}" if self.mask else ""
        words += [f"fwmark {self.mark:#x}{mask}"] if self.mark else []
        words += [f"uidrange {self.uids[0]}-{self.uids[1]}"] if self.uids is not None else []
        words += [f"ipproto {self.transport}"] if self.transport else []
        words += [f"sport {self.sourcePort}"] if self.sourcePort else []
        words += [f"dport {self.destinationPort}"] if self.destinationPort else []
        words += [f"{self.action} {self.target}" if self.target else self.action]
        return " ".join([*words, f"protocol {PROTOCOL}"])


class Earlier(NamedTuple):
    """
    What a rule of another program, with a lower priority than ours, lets past: its
    packets never get to our rules.  A packet has to match all conditions.

    @ivar family: 4 or 6.
    @ivar mark: its fwmark; 0 for any.
    @ivar mask: the bits of the fwmark that count.
    @ivar to: destination with prefix length; empty for any.
    @ivar device: by which it leaves; empty for any.
    """

    family: int
    priority: int
    mark: int = 0
    mask: int = 0
    to: str = ""
    device: str = ""


class Mark(NamedTuple):
    """
    The fwmark of another VPN's own packets: those that do not go into its tunnel.

    @ivar family: 4 or 6.
    @ivar mask: the bits that count; 0 for all.
    """

    family: int
    mark: int
    mask: int = 0


class Others(NamedTuple):
    """
    What the rules of other programs mean for ours.

    @ivar earlier: what they let past before ours are asked.
    @ivar unclear: the priorities of those of which that cannot be told.
    @ivar first: where our rules have to begin; L{FIRST} unless others are in the way.
    @ivar marks: of VPNs that take all traffic without their mark.
    @ivar ahead: the priorities of the rules by which they take it, if those stay before ours.
    """

    earlier: tuple[Earlier, ...] = ()
    unclear: tuple[int, ...] = ()
    first: int = FIRST
    marks: tuple[Mark, ...] = ()
    ahead: tuple[int, ...] = ()


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

    @ivar name: with slashes, because names of interfaces may have dots.
    @ivar before: the value to restore.
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

    @ivar networks: the connected networks: those of its addresses, without link-local ones.
    @ivar gateways: of an uplink: its gateways' addresses, or C{"0.0.0.0"} and C{"::"}
        where there is no gateway.  Empty if it is no uplink.
    @ivar rpFilter: its C{net.ipv4.conf} value, before we changed it.
    @ivar answers: whether answers to another VPN's own packets arrive there.
    """

    name: str
    networks: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    rpFilter: int = 0
    answers: bool = False


class Host(NamedTuple):
    """
    The state of the machine that the plan depends on.

    @ivar interfaces: all but the loopback and the tunnel.
    @ivar hasIPv6: whether the kernel speaks IPv6.
    @ivar usesIPv6: whether an interface has an IPv6 network or gateway.
    @ivar tunnelHasIPv6: whether the device has an IPv6 address.
    @ivar rpFilterAll: C{net.ipv4.conf.all.rp_filter}.
    @ivar rpFilterTunnel: the same value of the device.
    @ivar sshPorts: the ports where SSH is served.
    @ivar proxies: the proxies' addresses.
    @ivar earlier: what other programs' rules let past before ours; only read with a kill
        switch.
    @ivar unclear: priorities of such rules of which that cannot be told.
    @ivar behind: the addresses of proxies, and of the next hops of those on this machine,
        that are not its own: whatever they send by way of this machine is a proxy's.
    @ivar uplinks: the names of the interfaces that lead to the Internet, but not the
        tunnel's.
    @ivar first: see L{Others}.
    @ivar marks: see L{Others}.
    @ivar ahead: see L{Others}.
    """

    interfaces: tuple[Interface, ...] = ()
    hasIPv6: bool = True
    usesIPv6: bool = True
    tunnelHasIPv6: bool = True
    rpFilterAll: int = 0
    rpFilterTunnel: int = 0
    sshPorts: tuple[int, ...] = ()
    proxies: tuple[str, ...] = ()
    earlier: tuple[Earlier, ...] = ()
    unclear: tuple[int, ...] = ()
    behind: tuple[str, ...] = ()
    uplinks: tuple[str, ...] = ()
    first: int = FIRST
    marks: tuple[Mark, ...] = ()
    ahead: tuple[int, ...] = ()


class Wishes(NamedTuple):
    """
    What the settings ask for.

    @ivar device: the TUN device's name.
    @ivar lan: C{"direct"} or C{"proxy"}.
    @ivar ipv6: C{"auto"}, C{"capture"} or C{"block"}.
    @ivar uids: users whose packets bypass the tunnel.
    @ivar onlyUids: the chosen users.
    @ivar onlyGroups: whether control groups are chosen as well.
    """

    device: str
    lan: str = "direct"
    ipv6: str = "auto"
    killSwitch: bool = False
    uids: tuple[int, ...] = ()
    onlyUids: tuple[int, ...] = ()
    onlyGroups: bool = False

    @property
    def only(self) -> bool:
        """Whether only the packets of chosen programs take the tunnel."""
        return self.onlyGroups or bool(self.onlyUids)
