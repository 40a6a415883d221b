"""
The switch table as text: the firewall rules that stop what the routing rules of
C{killSwitch} would stop, if those are gone.

They are made of the very routing rules that let something past, and so let through the
same.  What the kernel sends without asking the routing rules passes as well: broadcasts
and multicast, with IGMP and MLD, and neighbour discovery.

Forwarded packets pass two of the kernel's hooks, because only at the first of them every
kernel still knows by which interface they have arrived.  The lines for what this machine
itself sends are at the second, which forwarded packets do not reach without having been
let past at the first.  What passes because of its source is marked at the first, because
another program's NAT may have replaced the source at the second.

With C{onlyProcesses} none of this is about what is forwarded, or what programs send that are not
chosen.  A chosen user is known by its number; a control group, which no line can match at the
second hook, by the mark of its packets, or of its connections.

Everything else is dropped, not rejected: while the daemon runs, its routing rules are back
in an instant, and a segment that was dropped is sent again, whereas a connection that was
reset is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanotun.addresses import CAPTURE_MARK, SOCKET_MARK
from nanotun.routing.firewall.iptablestext import iptablesMark
from nanotun.routing.firewall.nfttext import nftMark
from nanotun.routing.firewall.rules import signature
from nanotun.routing.plan import LOCAL
from nanotun.routing.values import Earlier, Rule

#: The name of the table in nft, and the prefix of the chains in iptables.
SWITCH = "nanotun-switch"
PREFIX = "NANOSWITCH_"

#: The chains of iptables, by the kernel's chain that jumps there.
JUMPS = {"FORWARD": f"{PREFIX}FORWARDED", "POSTROUTING": f"{PREFIX}LEAVING"}
_CHOSEN_CHAIN = f"{PREFIX}CHOSEN"

#: After other programs' filters, which may have reasons of their own to stop a packet.
_PRIORITY = 10

_MARK = f"{SOCKET_MARK:#x}"
_CHOSEN = f"{CAPTURE_MARK:#x}"

#: Router and neighbour solicitations, their advertisements, and redirects (RFC 4861).
#: They come from the link only, and stay there.
_DISCOVERY = range(133, 138)
_ON_LINK = 255


def nftText(
    rules: Sequence[Rule],
    earlier: Sequence[Earlier],
    device: str,
    name: str = SWITCH,
    only: Sequence[int] | None = None,
) -> str:
    """
    The script that creates the table; none of this name may exist.

    @param rules: all routing rules of the plan.
    @param earlier: what other programs' rules let past before.
    @param device: the tunnel's.
    @param only: the chosen users; L{None} if the table is for all that this machine sends.
    @raise ValueError: a rule is of a kind that this module does not know.
    """
    body = "\n".join(_nftBody(rules, earlier, device, "", only))
    body = "\n".join(_nftBody(rules, earlier, device, signature("", body), only))
    return f"table inet {name} {{\n{body}\n}}\n"


def iptablesLines(
    rules: Sequence[Rule],
    earlier: Sequence[Earlier],
    device: str,
    version: int,
    only: Sequence[int] | None = None,
) -> list[str]:
    """
    The lines for iptables-restore(8) that fill the chains, in the table C{mangle}.

    @param version: of IP: 4 or 6.
    @param only: see L{nftText}.
    @raise ValueError: see L{nftText}.
    """
    lines = list(_iptablesBody(rules, earlier, device, version, "", only))
    signed = signature("", "\n".join(lines))
    return list(_iptablesBody(rules, earlier, device, version, signed, only))


def _nftBody(
    rules: Sequence[Rule],
    earlier: Sequence[Earlier],
    device: str,
    signed: str,
    only: Sequence[int] | None,
) -> Iterator[str]:
    hook = "type filter hook {} priority {}; policy accept"
    yield "\tchain forwarded {"
    yield f"\t\t{hook.format('forward', _PRIORITY)}"
    if only is None:
        yield f'\t\tiifname "{device}" meta mark set {_MARK}'
        for rule in _past(rules):
            if rule.source:
                yield f"\t\t{_word(rule.family)} saddr {rule.source} meta mark set {_MARK}"
        yield "\t\tjump both"
    yield "\t}"
    yield "\tchain leaving {"
    yield f"\t\t{hook.format('postrouting', _PRIORITY)}"
    if only is not None:
        yield f"\t\tmeta mark {_CHOSEN} goto chosen"
        yield f"\t\tct mark {_CHOSEN} goto chosen"
        if only:
            yield f"\t\tmeta skuid {{ {', '.join(map(str, only))} }} goto chosen"
        yield "\t}"
        yield "\tchain chosen {"
    yield "\t\tfib daddr type { broadcast, multicast } accept"
    kinds = f"{_DISCOVERY[0]}-{_DISCOVERY[-1]}"
    yield f"\t\ticmpv6 type {kinds} ip6 hoplimit {_ON_LINK} accept"
    for rule in _past(rules):
        if rule.incoming == LOCAL:
            yield f"\t\tmeta nfproto ipv{rule.family} {' '.join(_nftMatches(rule))} accept"
    yield "\t\tjump both\n\t}"
    yield "\tchain both {"
    yield f'\t\toifname {{ "lo", "{device}" }} accept comment "{signed}"'
    yield f"\t\tmeta mark {_MARK} accept"
    for rule in _past(rules):
        if rule.to:
            yield f"\t\t{_word(rule.family)} daddr {rule.to} accept"
    for each in earlier:
        yield f"\t\tmeta nfproto ipv{each.family} {' '.join(_nftEarlier(each))} accept"
    yield "\t\tcounter drop\n\t}"


def _nftMatches(rule: Rule) -> Iterator[str]:
    if rule.mark:
        yield nftMark(rule.mark, rule.mask)
    if rule.sourcePort:
        yield f"{rule.transport} sport {rule.sourcePort}"
    if rule.destinationPort:
        yield f"{rule.transport} dport {rule.destinationPort}"
    if rule.uids is not None:
        first, last = rule.uids
        yield f"meta skuid {first}" if first == last else f"meta skuid {first}-{last}"


def _nftEarlier(earlier: Earlier) -> Iterator[str]:
    if earlier.mark:
        yield f"meta mark and {earlier.mask:#x} == {earlier.mark:#x}"
    if earlier.to:
        yield f"{_word(earlier.family)} daddr {earlier.to}"
    if earlier.device:
        yield f'oifname "{earlier.device}"'


def _iptablesBody(
    rules: Sequence[Rule],
    earlier: Sequence[Earlier],
    device: str,
    version: int,
    signed: str,
    only: Sequence[int] | None,
) -> Iterator[str]:
    forwarded, leaving = (f"-A {chain}" for chain in JUMPS.values())
    ends = [forwarded, leaving]
    if only is None:
        yield f"{forwarded} -i {device} -j MARK --set-xmark {_MARK}/0xffffffff"
        for rule in _past(rules):
            if rule.source and rule.family == version:
                yield f"{forwarded} -s {rule.source} -j MARK --set-xmark {_MARK}/0xffffffff"
    else:
        yield f"{leaving} -m mark --mark {_CHOSEN} -g {_CHOSEN_CHAIN}"
        yield f"{leaving} -m connmark --mark {_CHOSEN} -g {_CHOSEN_CHAIN}"
        for uid in only:
            yield f"{leaving} -m owner --uid-owner {uid} -g {_CHOSEN_CHAIN}"
        leaving = f"-A {_CHOSEN_CHAIN}"
        ends = [leaving]
    kinds = ("BROADCAST", "MULTICAST") if version == 4 else ("MULTICAST",)
    for kind in kinds:
        yield f"{leaving} -m addrtype --dst-type {kind} -j RETURN"
    if version == 6:
        for number in _DISCOVERY:
            yield (
                f"{leaving} -p ipv6-icmp -m icmp6 --icmpv6-type {number} -m hl --hl-eq {_ON_LINK} "
                "-j RETURN"
            )
    for rule in _past(rules):
        if rule.incoming == LOCAL and rule.family == version:
            yield f"{leaving} {' '.join(_iptablesMatches(rule))} -j RETURN"
    for chain in ends:
        yield f"{chain} -o lo -j RETURN"
        yield f"{chain} -o {device} -m comment --comment {signed} -j RETURN"
        yield f"{chain} -m mark --mark {_MARK} -j RETURN"
        for rule in _past(rules):
            if rule.to and rule.family == version:
                yield f"{chain} -d {rule.to} -j RETURN"
        for each in earlier:
            if each.family == version:
                yield f"{chain} {' '.join(_iptablesEarlier(each))} -j RETURN"
        yield f"{chain} -j DROP"


def _iptablesMatches(rule: Rule) -> Iterator[str]:
    if rule.mark:
        yield iptablesMark(rule.mark, rule.mask)
    if rule.transport:
        yield f"-p {rule.transport} -m {rule.transport}"
    if rule.sourcePort:
        yield f"--sport {rule.sourcePort}"
    if rule.destinationPort:
        yield f"--dport {rule.destinationPort}"
    if rule.uids is not None:
        yield f"-m owner --uid-owner {rule.uids[0]}-{rule.uids[1]}"


def _iptablesEarlier(earlier: Earlier) -> Iterator[str]:
    if earlier.mark:
        yield f"-m mark --mark {earlier.mark:#x}/{earlier.mask:#x}"
    if earlier.to:
        yield f"-d {earlier.to}"
    if earlier.device:
        yield f"-o {earlier.device}"


def _past(rules: Sequence[Rule]) -> Iterator[Rule]:
    """
    The rules that let something past and need a line.  Marked packets, and those from the
    tunnel, have theirs already.

    @raise ValueError: such a rule has conditions that no line could express.
    """
    for rule in rules:
        if rule.action != "goto":
            continue
        asked = rule._replace(family=0, priority=0, action="", target=0)
        plain = Rule(0, 0, "")
        if asked == plain._replace(mark=SOCKET_MARK):
            continue
        if asked == plain._replace(mark=asked.mark, mask=asked.mask, incoming=LOCAL) and asked.mark:
            yield rule
            continue
        local = asked.incoming == LOCAL and not (
            asked.mark or asked.invert or asked.to or asked.source
        )
        ports = bool(asked.sourcePort or asked.destinationPort)
        if local and (asked.uids is not None or ports) and ports == bool(asked.transport):
            yield rule
        elif asked == plain._replace(to=asked.to) and asked.to:
            yield rule
        elif asked == plain._replace(source=asked.source) and asked.source:
            yield rule
        elif asked != plain._replace(incoming=asked.incoming) or not asked.incoming or local:
            raise ValueError(f"the switch table has no line for '{rule.command('add')}'")


def _word(family: int) -> str:
    return "ip" if family == 4 else "ip6"
