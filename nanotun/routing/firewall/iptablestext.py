"""
The rules for iptables-restore(8) with C{--noflush}, as text.

They are in chains of our own.  Each chain of the kernel has one rule that jumps to ours: the
first, and where the destination changes the last, because the first program to change a
connection's is the only one.  Our rules are recognized by the chains' names alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nanotun.addresses import CAPTURE_MARK, DNS_PORT, LINK_LOCAL6, LOCAL_NETWORKS, SOCKET_MARK
from nanotun.routing.firewall.rules import (
    CHAIN_PREFIX,
    FAMILIES,
    SERVER_PORTS,
    Family,
    FirewallRules,
    ofFamily,
    signature,
)

_MARK = f"{SOCKET_MARK:#x}"
_MARKED = f"-m mark --mark {_MARK}"
_FREE = "-m connmark --mark 0x0"
_OURS = f"-m connmark --mark {_MARK}"
_KEEP = f"-j CONNMARK --set-xmark {_MARK}/0xffffffff"
_SET = f"-j MARK --set-xmark {_MARK}/0xffffffff"

_CHOSEN = f"{CAPTURE_MARK:#x}"
_CHOOSE = f"-j MARK --set-xmark {_CHOSEN}/0xffffffff"
_KEEP_CHOSEN = f"-j CONNMARK --set-xmark {_CHOSEN}/0xffffffff"
_NOT_CHOSEN = f"-m mark ! --mark {_CHOSEN}"
#: A packet of one of this machine's programs; none of the kernel's own.
_SENT_HERE = "-m owner --uid-owner 0-4294967294"

#: Bytes; the kernel refuses longer paths (XT_CGROUP_PATH_LEN).
_PATH_LIMIT = 511


class Jump(NamedTuple):
    """
    A rule in a chain of the kernel that jumps to one of ours.

    @ivar last: whether it comes after other programs' rules, instead of before.
    """

    table: str
    hook: str
    chain: str
    last: bool = False

    @property
    def rule(self) -> str:
        """The rule without its first word, the command."""
        return f"{self.hook} -j {self.chain}"


JUMPS = (
    Jump("mangle", "PREROUTING", f"{CHAIN_PREFIX}ARRIVING"),
    Jump("mangle", "OUTPUT", f"{CHAIN_PREFIX}SENDING"),
    Jump("mangle", "POSTROUTING", f"{CHAIN_PREFIX}GUARD"),
    Jump("nat", "OUTPUT", f"{CHAIN_PREFIX}DNS_SENT", last=True),
    Jump("nat", "PREROUTING", f"{CHAIN_PREFIX}DNS_FORWARDED", last=True),
    Jump("nat", "POSTROUTING", f"{CHAIN_PREFIX}SOURCE"),
)
TABLES = ("mangle", "nat")
_UPLINK = f"{CHAIN_PREFIX}UPLINK"


def signatureOf(rules: FirewallRules) -> str:
    """The comment among these rules that tells them from others."""
    numbers = repr(rules.cgroups) + (repr(rules.onlyGroups) if rules.onlyGroups else "")
    text = numbers + "".join(
        line for family in FAMILIES for table in TABLES for line in _rules(table, rules, family)
    )
    return signature(rules.key, text)


def tablesOf(saved: str, prefix: str = CHAIN_PREFIX) -> dict[str, str]:
    """
    Our two tables in the format of C{iptables -S}, but with our chains only, from the output
    of C{iptables-save}, which takes one process for all tables.

    @param prefix: of our chains' names.
    """
    lines: dict[str, list[str]] = {table: [] for table in TABLES}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table in lines and line.startswith(f":{prefix}"):
            lines[table].append(f"-N {line[1:].split()[0]}")
        elif table in lines and line.startswith("-A "):
            lines[table].append(line)
    return {name: "\n".join(found) for name, found in lines.items()}


def loading(rules: FirewallRules, version: int, present: dict[str, str]) -> str:
    """
    The script that loads the rules and replaces all that is ours, one table at a time.

    @param version: 4 or 6.
    @param present: as from L{tablesOf}.
    """
    (family,) = (each for each in FAMILIES if each.version == version)
    lines: list[str] = []
    for table in TABLES:
        chains = [jump.chain for jump in JUMPS if jump.table == table]
        chains += [_UPLINK] if table == "mangle" else []
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains)]
        lines += withoutJumps(present[table])
        lines += _rules(table, rules, family, signatureOf(rules))
        lines += [
            f"{'-A' if jump.last else '-I'} {jump.rule}" for jump in JUMPS if jump.table == table
        ]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def removing(present: dict[str, str], prefix: str = CHAIN_PREFIX) -> str:
    """
    The script that removes all that is ours, and nothing else; empty if nothing is ours.

    @param present: as from L{tablesOf}.
    @param prefix: of our chains' names.
    """
    lines: list[str] = []
    for table in TABLES:
        chains = [
            line.split()[1]
            for line in present[table].splitlines()
            if line.startswith(f"-N {prefix}")
        ]
        undo = [*withoutJumps(present[table], prefix)]
        undo += [f"-F {chain}" for chain in chains]
        undo += [f"-X {chain}" for chain in chains]
        if undo:
            lines += [f"*{table}", *undo, "COMMIT"]
    return "".join(f"{line}\n" for line in lines)


def ours(present: str, prefix: str = CHAIN_PREFIX) -> list[str]:
    """The lines of a table that are ours."""
    return [line for line in present.splitlines() if prefix in line]


def complete(present: dict[str, str], rules: FirewallRules) -> bool:
    """Whether the jumps to our chains, and the signature of these rules, are in force."""
    lines = [line for table in TABLES for line in present[table].splitlines()]
    signed = any(signatureOf(rules) in line for line in lines)
    return signed and all(f"-A {jump.rule}" in lines for jump in JUMPS)


def withoutJumps(present: str, prefix: str = CHAIN_PREFIX) -> Iterator[str]:
    """The lines of a script that remove the jumps to our chains."""
    for line in present.splitlines():
        words = line.split()
        if words[:1] == ["-A"] and not words[1].startswith(prefix):
            if words[-2:-1] == ["-j"] and words[-1].startswith(prefix):
                yield f"-D{line[2:]}"


def _rules(table: str, rules: FirewallRules, family: Family, signed: str = "") -> Iterator[str]:
    if table == "mangle":
        yield from _added("ARRIVING", _arriving(rules, family))
        yield from _added("SENDING", _sending(rules, family))
        yield from _added("UPLINK", iter((f"{_FREE} {_KEEP}", _SET)))
        yield from _added("GUARD", _guarding(rules, family, signed))
    else:
        left = rules.networks
        yield from _added("DNS_SENT", _redirecting("-o lo", rules, family, left))
        here, left = "-m addrtype --dst-type LOCAL", (*left, *rules.behind)
        if not rules.only:
            yield from _added("DNS_FORWARDED", _redirecting(here, rules, family, left))
        yield from _added("SOURCE", _sources(rules.device, family))


def _added(chain: str, rules: Iterator[str]) -> Iterator[str]:
    return (f"-A {CHAIN_PREFIX}{chain} {rule}" for rule in rules)


def _dns(target: str) -> Iterator[str]:
    return (f"-p {protocol} --dport {DNS_PORT} {target}" for protocol in ("udp", "tcp"))


def _arriving(rules: FirewallRules, family: Family) -> Iterator[str]:
    # Answers that this machine only forwards, such as a container's.
    yield f"{_OURS} -m conntrack --ctdir REPLY {_SET}"
    if rules.only:
        # Of a flow that conntrack has forgotten; the kernel may answer that nobody listens.
        yield f"-i {rules.device} {_FREE} -m conntrack --ctdir ORIGINAL {_KEEP_CHOSEN}"
    yield "-i lo -j RETURN"
    yield f"-i {rules.device} -j RETURN"
    yield f"-d {family.link} -j DROP"
    # Linux lets IPv6 packets in that bear an address of this machine as their source, and
    # the engine would take them for this machine's own.
    yield f"-s {family.kernel} -j DROP"
    for proxy in ofFamily(rules.proxies, family):
        yield from _dns(f"-s {proxy} {_SET}")
    yield f"{_FREE} -m conntrack --ctdir ORIGINAL -m addrtype --dst-type LOCAL {_KEEP}"


def _ofOthers(rules: FirewallRules) -> Iterator[str]:
    """The lines that leave other VPNs' own packets alone."""
    return (f"{iptablesMark(mark, mask)} -j RETURN" for mark, mask in rules.marks)


def iptablesMark(mark: int, mask: int) -> str:
    """
    The match of a packet's mark.

    @param mask: the bits that count; 0 for all.
    """
    return f"-m mark --mark {mark:#x}/{mask:#x}" if mask else f"-m mark --mark {mark:#x}"


def _sending(rules: FirewallRules, family: Family) -> Iterator[str]:
    yield f"{_MARKED} -j RETURN"
    yield from _ofOthers(rules)
    yield f"{_OURS} {_SET}"
    yield f"{_OURS} -j RETURN"
    known = f"-p tcp --sport {SERVER_PORTS[0]}:{SERVER_PORTS[1]} --tcp-flags FIN,SYN,RST NONE"
    yield f"! -s {family.kernel} {known} -m conntrack --ctstate NEW -g {_UPLINK}"
    for uid in rules.uids:
        yield f"-m owner --uid-owner {uid} -g {_UPLINK}"
    for group in rules.cgroups:
        if len(group.path.encode()) <= _PATH_LIMIT:
            yield f"-m cgroup --path {_quoted(group.path)} -g {_UPLINK}"
    yield from _choosing(rules)
    if family.version == 6:
        yield from _dns(f"! -o lo -d {LINK_LOCAL6} -j DROP")
    # Another program may redirect it from the loopback to its server, say in a container.
    yield from _dns(f"-o lo {_SET}")


def _choosing(rules: FirewallRules) -> Iterator[str]:
    """The lines that mark what chosen programs send, and let everything else pass."""
    if not rules.only:
        return
    for uid in rules.onlyUids:
        yield f"-m owner --uid-owner {uid} {_CHOOSE}"
    for group in rules.onlyGroups:
        yield f"-m cgroup --path {_quoted(group.path)} {_CHOOSE}"
    yield f"{_NOT_CHOSEN} {_SENT_HERE} -j RETURN"
    # The kernel's own packets, and those of a program that has ended, have no user.
    yield f"-m connmark --mark {_CHOSEN} {_CHOOSE}"
    yield from _unlessChosen(rules)
    yield f"{_FREE} {_KEEP_CHOSEN}"


def _unlessChosen(rules: FirewallRules) -> Iterator[str]:
    """The line that leaves alone what all but the chosen programs send."""
    if rules.only:
        yield f"{_NOT_CHOSEN} -j RETURN"


def _guarding(rules: FirewallRules, family: Family, signed: str) -> Iterator[str]:
    yield f"{_MARKED} -j RETURN"
    yield from _ofOthers(rules)
    yield "-o lo -j RETURN"
    yield f"-o {rules.device} -m comment --comment {signed} -j RETURN"
    # Before all exceptions: when the device is gone, the gateway is elsewhere.
    yield from _dns(f"-d {family.own} -j DROP")
    yield from _unlessChosen(rules)
    for network in ofFamily(rules.networks, family):
        yield f"-d {network} -j RETURN"
    for network in LOCAL_NETWORKS[family.version]:
        yield f"-d {network} -m conntrack --ctstate DNAT -j RETURN"
    behind = ofFamily(rules.behind, family)
    if behind:
        # A network behind may also be an uplink's, or be gone.
        for name in rules.uplinks:
            yield from _dns(f"-o {name} -j DROP")
    # A forwarded packet has no socket.
    for network in behind:
        yield f"-d {network} -m owner ! --socket-exists -j RETURN"
    yield from _dns("-j DROP")


def _redirecting(
    ourselves: str, rules: FirewallRules, family: Family, left: Iterable[str]
) -> Iterator[str]:
    yield f"{_MARKED} -j RETURN"
    yield from _unlessChosen(rules)
    yield from _ofOthers(rules)
    yield f"{ourselves} -j RETURN"
    yield f"-d {family.own} -j RETURN"
    for network in ofFamily(left, family):
        yield f"-d {network} -j RETURN"
    yield from _dns(f"-j DNAT --to-destination {family.gateway}")


def _sources(device: str, family: Family) -> Iterator[str]:
    # The relay answers only this machine, and never link-local addresses.
    yield from _dns(
        f"-o {device} -m conntrack --ctstate DNAT -d {family.gateway} "
        f"-j SNAT --to-source {family.kernel}"
    )
    yield "-o lo -j RETURN"
    yield f"-o {device} -j RETURN"
    yield f"{_MARKED} -s {family.kernel} -j MASQUERADE"
    # Its destination was changed after the route into the tunnel had been chosen.
    yield f"-s {family.kernel} -m conntrack --ctstate DNAT -j MASQUERADE"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
