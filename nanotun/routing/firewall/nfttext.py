"""
The nft table (nft(8)), as text.

One table of the family C{inet} contains everything.  Its chain of the type C{route} changes
the mark of outgoing packets, so that the kernel routes them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nanotun.addresses import CAPTURE_MARK, DNS_PORT, LINK_LOCAL6, LOCAL_NETWORKS, SOCKET_MARK
from nanotun.routing.firewall.rules import (
    FAMILIES,
    SERVER_PORTS,
    TABLE,
    FirewallRules,
    ofFamily,
    signature,
)

OWNER = "flags owner"  #: As nft lists it, too.

_MARK = f"{SOCKET_MARK:#x}"
_CHOSEN = f"{CAPTURE_MARK:#x}"
_PORT = f"meta l4proto {{ tcp, udp }} th dport {DNS_PORT}"
#: TCP, and datagrams that begin like a query with one question (RFC 1035, section 4.1.1): QR
#: and the opcode are 0, QDCOUNT is 1.  Nothing else is any business of the relay's.
_DNS = (f"tcp dport {DNS_PORT}", f"udp dport {DNS_PORT} @th,80,5 0 @th,96,16 1")
#: A packet of one of this machine's sockets; a forwarded one has no user.
_SENT_HERE = "meta skuid 0-4294967295"

#: Priorities: after connection tracking (-200), which the first two need, and before other
#: programs' chains of the same kind; but after those that change destinations (-100), since
#: the first to change a connection's is the only one.
_MANGLE = -151
_DNAT = -99
_SNAT = 99


def tableText(rules: FirewallRules, owner: bool, name: str = TABLE) -> str:
    """
    The script that creates the table; none of this name may exist.

    @param owner: whether it is removed with the process that loads it (Linux 5.12).
    """
    lines = "\n".join(_indented(_body(rules, owner)))
    return f"table inet {name} {{\n{lines}\n}}\n"


def deletion(name: str = TABLE) -> str:
    """
    The script that removes the table of this name.  Followed by L{tableText} it replaces the
    table in one transaction.  (The usual C{add table} first is refused for a table that has an
    owner.)
    """
    return f"delete table inet {name}\n"


def oneLine(script: str) -> str:
    """A script as one line, which C{nft -i} runs as one transaction."""
    return "; ".join(line.strip() for line in script.splitlines() if line.strip())


def signatureOf(rules: FirewallRules) -> str:
    """The comment in the table that tells these rules from others."""
    return signature(rules.key, "\n".join(_body(rules, False, "")) + _numbers(rules))


def _numbers(rules: FirewallRules) -> str:
    """The groups' numbers: one that was made anew has the path of the one before."""
    return repr(rules.cgroups) + (repr(rules.onlyGroups) if rules.onlyGroups else "")


def _indented(lines: Iterator[str]) -> Iterator[str]:
    depth = 1
    for line in lines:
        depth -= line == "}"
        yield "\t" * depth + line
        depth += line.endswith("{")


def _body(rules: FirewallRules, owner: bool, signed: str | None = None) -> Iterator[str]:
    if owner:
        yield OWNER
    signed = signatureOf(rules) if signed is None else signed
    elsewhere = f'!= {{ "lo", "{rules.device}" }}'
    for name, hook, lines in (
        ("arriving", f"filter hook prerouting priority {_MANGLE}", _arriving(rules, elsewhere)),
        ("sending", f"route hook output priority {_MANGLE}", _sending(rules)),
        ("uplink", "", (f"ct mark 0 ct mark set {_MARK}", f"meta mark set {_MARK} accept")),
        ("dns-sent", f"nat hook output priority {_DNAT}", _redirecting(rules, 'oifname "lo"')),
        ("dns-forwarded", f"nat hook prerouting priority {_DNAT}", _forwarding(rules)),
        (
            "source",
            f"nat hook postrouting priority {_SNAT}",
            _sources(rules.device, elsewhere),
        ),
        ("forwarded-on", "", (f"{_SENT_HERE} return", "accept")),
        ("guard", "filter hook postrouting priority 0", _guarding(rules, signed)),
    ):
        yield from _chain(name, hook, lines)


def _chain(name: str, hook: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    if hook:
        yield f"type {hook}; policy accept"
    yield from lines
    yield "}"


def _arriving(rules: FirewallRules, elsewhere: str) -> Iterator[str]:
    for family in FAMILIES:
        yield f"iifname {elsewhere} {family.word} daddr {family.link} drop"
        # Linux lets IPv6 packets in that bear an address of this machine as their source, and
        # the engine would take them for this machine's own.
        yield f"iifname {elsewhere} {family.word} saddr {family.kernel} drop"
    for family in FAMILIES:
        proxies = ", ".join(ofFamily(rules.proxies, family))
        if proxies:
            yield (
                f"iifname {elsewhere} {family.word} saddr {{ {proxies} }} {_PORT} "
                f"meta mark set {_MARK}"
            )
    asked = "ct direction original ct mark 0 fib daddr type local"
    yield f"iifname {elsewhere} {asked} ct mark set {_MARK}"
    # Answers that this machine only forwards, such as a container's.
    yield f"ct mark {_MARK} ct direction reply meta mark set {_MARK}"
    if rules.only:
        # Of a flow that conntrack has forgotten; the kernel may answer that nobody listens.
        yield f'iifname "{rules.device}" ct direction original ct mark 0 ct mark set {_CHOSEN}'


def _ofOthers(rules: FirewallRules) -> tuple[str, ...]:
    """The lines that leave other VPNs' own packets alone."""
    return tuple(f"{nftMark(mark, mask)} accept" for mark, mask in rules.marks)


def nftMark(mark: int, mask: int) -> str:
    """
    The match of a packet's mark.

    @param mask: the bits that count; 0 for all.
    """
    return f"meta mark and {mask:#x} == {mark:#x}" if mask else f"meta mark {mark:#x}"


def _sending(rules: FirewallRules) -> Iterator[str]:
    yield f"meta mark {_MARK} accept"
    yield from _ofOthers(rules)
    yield f"ct mark {_MARK} meta mark set {_MARK} accept"
    known = f"tcp sport {SERVER_PORTS[0]}-{SERVER_PORTS[1]} tcp flags & (fin|syn|rst) == 0"
    for family in FAMILIES:
        yield f"{family.word} saddr != {family.kernel} {known} ct state new goto uplink"
    if rules.uids:
        yield f"meta skuid {{ {', '.join(map(str, rules.uids))} }} goto uplink"
    for group in rules.cgroups:
        if group.tool:
            yield f'socket cgroupv2 level {group.level} "{group.tool}" goto uplink'
    yield from _choosing(rules)
    yield f'oifname != "lo" ip6 daddr {LINK_LOCAL6} {_PORT} drop'
    # Another program may redirect it from the loopback to its server, say in a container.
    yield f'oifname "lo" {_PORT} meta mark set {_MARK}'


def _choosing(rules: FirewallRules) -> Iterator[str]:
    """The lines that mark what chosen programs send, and let everything else pass."""
    if not rules.only:
        return
    if rules.onlyUids:
        yield f"meta skuid {{ {', '.join(map(str, rules.onlyUids))} }} meta mark set {_CHOSEN}"
    for group in rules.onlyGroups:
        if group.tool:
            yield f'socket cgroupv2 level {group.level} "{group.tool}" meta mark set {_CHOSEN}'
    yield f"meta mark != {_CHOSEN} {_SENT_HERE} accept"
    # The kernel's own packets, and those of a program that has ended, have no user.
    yield f"ct mark {_CHOSEN} meta mark set {_CHOSEN}"
    yield from _unlessChosen(rules)
    yield f"ct mark 0 ct mark set {_CHOSEN}"


def _forwarding(rules: FirewallRules) -> Iterator[str]:
    if not rules.only:
        yield from _redirecting(rules, "fib daddr type local", *_toNeighbours(rules))


def _unlessChosen(rules: FirewallRules) -> Iterator[str]:
    """The line that leaves alone what all but the chosen programs send."""
    if rules.only:
        yield f"meta mark != {_CHOSEN} accept"


def _redirecting(rules: FirewallRules, ourselves: str, *others: str) -> Iterator[str]:
    yield f"meta mark {_MARK} accept"
    yield from _unlessChosen(rules)
    yield from _ofOthers(rules)
    yield f"{ourselves} accept"
    for family in FAMILIES:
        yield f"{family.word} daddr {family.own} accept"
    yield from _toExcluded(rules)
    for each in others:
        yield f"{each} accept"
    for family in FAMILIES:
        for match in _DNS:
            target = f"dnat {family.word} to {family.gateway}"
            yield f"meta nfproto ipv{family.version} {match} {target}"


def _toExcluded(rules: FirewallRules) -> Iterator[str]:
    for family in FAMILIES:
        networks = ofFamily(rules.networks, family)
        if networks:
            yield f"{family.word} daddr {{ {', '.join(networks)} }} accept"


def _toNeighbours(rules: FirewallRules) -> Iterator[str]:
    """The match of packets whose route leads neither into the tunnel nor to an uplink."""
    if rules.uplinks:
        names = _quoted(rules.device, *rules.uplinks)
        yield f"fib daddr . mark oif exists fib daddr . mark oifname != {names}"


def _guarding(rules: FirewallRules, signed: str) -> Iterator[str]:
    yield f'oifname {_quoted("lo", rules.device)} accept comment "{signed}"'
    yield f"meta mark {_MARK} accept"
    yield from _ofOthers(rules)
    # Before all exceptions: when the device is gone, the gateway is elsewhere.
    for family in FAMILIES:
        for match in _DNS:
            yield f"{family.word} daddr {family.own} {match} counter drop"
    yield from _unlessChosen(rules)
    yield from _toExcluded(rules)
    for family in FAMILIES:
        networks = ", ".join(LOCAL_NETWORKS[family.version])
        yield f"ct status dnat {family.word} daddr {{ {networks} }} accept"
    if rules.uplinks:
        yield f"oifname != {_quoted(*rules.uplinks)} jump forwarded-on"
    for match in _DNS:
        yield f"{match} counter drop"


def _sources(device: str, elsewhere: str) -> Iterator[str]:
    for family in FAMILIES:
        # The relay answers only this machine, and never link-local addresses.
        yield (
            f'oifname "{device}" ct status dnat {family.word} daddr {family.gateway} {_PORT} '
            f"snat {family.word} to {family.kernel}"
        )
        yield (
            f"oifname {elsewhere} meta mark {_MARK} {family.word} saddr {family.kernel} masquerade"
        )
    for family in FAMILIES:
        # Its destination was changed after the route into the tunnel had been chosen.
        changed = f"ct status dnat {family.word} saddr {family.kernel}"
        yield f"oifname {elsewhere} {changed} masquerade"


def _quoted(*names: str) -> str:
    quoted = (f'"{name}"' for name in names)
    return f"{{ {', '.join(quoted)} }}"
