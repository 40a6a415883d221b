"""
The check of C{rules}: a list of mappings in, one L{FlowRule} for each out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Network, ip_network
from typing import Any, NamedTuple

from nanotun.config import values
from nanotun.config.domains import Pattern, listPath, pattern
from nanotun.config.networks import NETWORK_LIMIT, PORT_LIMIT, Network
from nanotun.config.selectors import SELECTOR_LIMIT, Selector, selectors
from nanotun.config.times import TimeSpan, checkTogether, timeSpan
from nanotun.errors import ConfigError, EntryError
from nanotun.flow import Protocol

RULE_LIMIT = 4096  #: Rules; each costs memory and the reader's patience.  Lists are for files.
DOMAIN_LIMIT = 4096  #: Names, each with its own place in memory; a list in a file has none.


class ListFile(NamedTuple):
    """
    A file of networks, one on each line.

    @ivar path: absolute.
    """

    path: str


class PortSpan(NamedTuple):
    """
    Ports in a row.

    @ivar protocol: L{None} for each.
    @ivar first: the lowest port.
    @ivar last: the highest one.
    """

    protocol: Protocol | None
    first: int
    last: int

    def includes(self, protocol: Protocol, port: int) -> bool:
        """Whether it has a port."""
        return self.protocol in (None, protocol) and self.first <= port <= self.last


class Conditions(NamedTuple):
    """
    What a rule asks for.  The values of one condition are alternatives, and one without values
    does not take part; C{domains}, C{networks} and C{countries} are one condition together.

    @ivar networks: the destination's address is in one of these.
    @ivar countries: codes of two capital letters.
    @ivar processes: whose flow it is.
    @ivar ports: the destination's.
    @ivar sources: the address of another machine whose flow it is.
    """

    domains: tuple[Pattern, ...] = ()
    networks: tuple[Network | ListFile, ...] = ()
    countries: tuple[str, ...] = ()
    processes: tuple[Selector, ...] = ()
    ports: tuple[PortSpan, ...] = ()
    sources: tuple[Network | ListFile, ...] = ()
    times: tuple[TimeSpan, ...] = ()


#: No condition at all: all flows meet it.
NONE = Conditions()


class FlowRule(NamedTuple):
    """
    One entry of C{rules}.

    @ivar to: the name of an upstream, or C{direct}, C{reject} or C{drop}.
    @ivar wants: all of these must hold.
    @ivar never: all of these together must not hold; L{NONE} says nothing.
    @ivar lan: whether it takes local and reserved destinations even if it names no destination.
    @ivar where: where it was written, such as C{"/etc/nanotun.yaml, line 14"}.
    """

    to: str
    wants: Conditions
    never: Conditions = NONE
    lan: bool = False
    where: str = ""


class _Kind(NamedTuple):
    """
    The values of a condition.

    @ivar parse: takes one value's text; raises L{ConfigError} with the end of a sentence, or
        C{ValueError} where that is C{"must be ..., not ..."}.
    @ivar one: what a value must be.
    @ivar several: the same for several.
    @ivar limit: how many there may be.
    @ivar whole: the beginnings of a text in a list that is one value, with all its commas.
    @ivar check: takes the texts that stand in one, and raises L{ConfigError} if it is not clear
        what they mean together.
    """

    parse: Callable[[str], Any]
    one: str
    several: str
    limit: int
    whole: tuple[str, ...] = ("file:",)
    check: Callable[[Sequence[str]], None] = lambda texts: None


def _network(text: str) -> Network | ListFile:
    if text.startswith("file:"):
        return ListFile(listPath(text))
    network = ip_network(text, strict=False)
    if isinstance(network, IPv4Network):
        return network
    if network.network_address.scope_id is not None:
        raise ConfigError(f": {text[:60]} is of one interface only; leave out what follows the %")
    mapped = network.network_address.ipv4_mapped
    if mapped is not None and network.prefixlen >= 96:
        meant = ip_network(f"{mapped}/{network.prefixlen - 96}")
        raise ConfigError(f": no flow has {text[:60]}, which is IPv4-mapped; write {meant}")
    return network


def _country(text: str) -> str:
    if not re.fullmatch("[A-Za-z]{2}", text):
        raise ValueError("not a country's code")
    return text.upper()


def _ports(text: str) -> PortSpan:
    match = re.fullmatch(r"(?:(tcp|udp):)?([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?", text.lower())
    if match is None:
        raise ValueError("not a port")
    first, last = int(match[2]), int(match[3] or match[2])
    if not (1 <= first <= 65535 and 1 <= last <= 65535):
        raise ValueError("not a port")
    if last < first:
        raise ConfigError(f": {first}-{last} ends before it begins; write {last}-{first}")
    return PortSpan(Protocol[match[1].upper()] if match[1] else None, first, last)


def _process(text: str) -> Selector:
    (found,) = selectors([text])
    return found


_NAMES = "corp.example, =www.corp.example, *.corp.example, ~^ads[0-9]+ or file:/PATH"
_NETWORKS = "192.0.2.7, 10.0.0.0/8, 2001:db8::/32 or file:/PATH"
_PORTS = "from 1 to 65535, such as 443, tcp:443 or udp:8000-8999"
_TIMES = '"Mo-Fr 08:00-18:00", "Sa-Su" or "22:00-06:00"'
_ADDRESSES = _Kind(
    _network,
    f"an address or a network, such as {_NETWORKS}",
    f"addresses or networks, such as {_NETWORKS}",
    NETWORK_LIMIT,
)

#: By the names of their conditions, in the order of L{Conditions}.
_KINDS = {
    "domains": _Kind(
        pattern,
        f"a name, such as {_NAMES}",
        f"names, such as {_NAMES}",
        DOMAIN_LIMIT,
        ("file:", "~"),
    ),
    "networks": _ADDRESSES,
    "countries": _Kind(
        _country,
        "a two-letter code, such as DE or AT",
        "two-letter codes, such as DE or AT",
        26 * 26,
    ),
    "processes": _Kind(
        _process,
        "a process, such as firefox, /usr/bin/curl, uid:ann or unit:backup.service",
        "processes, such as firefox, /usr/bin/curl, uid:ann or unit:backup.service",
        SELECTOR_LIMIT,
    ),
    "ports": _Kind(_ports, f"a port {_PORTS}", f"ports {_PORTS}", PORT_LIMIT),
    "sources": _ADDRESSES,
    "times": _Kind(
        timeSpan, f"a time, such as {_TIMES}", f"times, such as {_TIMES}", 256, check=checkTogether
    ),
}

_KEYS = ("to", *_KINDS, "not", "lan")
RULE_EXAMPLE = "{to: direct, domains: [corp.example]}"


def rules(value: object) -> tuple[FlowRule, ...]:
    """
    Rules: a list of mappings.

    @return: in their order, without C{where}.
    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    example = "{to: direct, domains: [corp.example]}"
    entries = ruleList(value, RULE_LIMIT, example, "names and networks")
    return tuple(_rule(each, number) for number, each in enumerate(entries))


def _rule(value: object, number: int) -> FlowRule:
    if not isinstance(value, dict):
        raise EntryError(f"must be a mapping, such as {RULE_EXAMPLE}, not {called(value)}", number)
    for key in value:
        if key not in _KEYS:
            raise _unknown(key, _KEYS, number)
    to = value.get("to")
    if to in (None, ""):
        raise EntryError(
            "does not say where connections go; add to: and the name of an upstream, direct, "
            "reject or drop",
            number,
        )
    if not isinstance(to, str):
        raise EntryError(
            f"must be the name of an upstream, direct, reject or drop, not {called(to)}",
            number,
            "to",
        )
    never = value.get("not", {})
    if not isinstance(never, dict):
        raise EntryError(
            f'must be a mapping of conditions, such as {{ports: ["udp:443"]}}, not {called(never)}',
            number,
            "not",
        )
    for key in never:
        if key in ("to", "lan", "not"):
            raise EntryError(
                f": {key} does not belong here; not takes conditions only", number, "not"
            )
        if key not in _KINDS:
            raise _unknown(key, tuple(_KINDS), number, "not")
    if "not" in value and not never:
        raise EntryError("must not be empty; leave it out if nothing is excepted", number, "not")
    return FlowRule(
        to, _conditions(value, number), _conditions(never, number, "not"), _lan(value, number)
    )


def _lan(value: dict[Any, object], number: int) -> bool:
    try:
        return values.boolean(value.get("lan", False))
    except ConfigError as error:
        raise EntryError(str(error), number, "lan") from None


def _unknown(key: object, known: Collection[str], *path: str | int) -> EntryError:
    # A text that does not look like a key may be anything.
    if not isinstance(key, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_-]{0,39}", key):
        return EntryError(f"has what is no condition; there are {values.listed(known)}", *path)
    near = difflib.get_close_matches(key.lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {values.listed(known)}"
    return EntryError(f": there is no such condition; {hint}", *path, key)


def ruleList(value: object, limit: int, example: str, files: str) -> list[object]:
    """
    The entries of a list of rules; none if it is empty.

    @param example: one rule, for the error.
    @param files: what should be in files if there are more than C{limit}.
    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    if value == "":
        return []
    if not isinstance(value, list):
        raise ConfigError(f"must be a list of rules, such as - {example}, not {called(value)}")
    if len(value) > limit:
        raise ConfigError(
            f"must be at most {limit} rules, not {len(value)}; put {files} into files"
        )
    return value


def called(value: object) -> str:
    """What a value is that should have been another kind of value."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return "a text" if isinstance(value, str) else str(value)


def _conditions(given: dict[Any, object], *path: str | int) -> Conditions:
    return Conditions(
        **{
            name: conditionValues(name, given[name], *path, name)
            for name in _KINDS
            if name in given
        }
    )


def conditionValues(
    name: str,
    value: object,
    *path: str | int,
    empty: str = "leave it out if any will do",
    parse: Callable[[str], Any] | None = None,
) -> tuple[Any, ...]:
    """
    The values of one condition: a text with commas between them, or a list of such texts.  In
    a list, an expression and a path keep their commas.

    @param name: the condition's, a field of L{Conditions}.
    @param path: leads to the value, for errors.
    @param empty: what to do if there is none, for errors.
    @param parse: reads one text, in place of what reads those of rules.
    @return: each once.
    @raise EntryError: with the end of a sentence.
    """
    kind = _KINDS[name]
    parse = parse or kind.parse
    if isinstance(value, list):
        given = [(each, (*path, number)) for number, each in enumerate(value)]
        rule, whole = f"must be {kind.one}", kind.whole
    else:
        given = [(value, path)]
        rule, whole = f"must be {kind.several}", ()
    found: dict[object, None] = {}
    for each, place in given:
        texts = _texts(each, rule, whole, place)
        try:
            kind.check(texts)
        except ConfigError as error:
            raise EntryError(str(error), *place) from None
        for text in texts:
            try:
                found[parse(text)] = None
            except ConfigError as error:
                raise EntryError(str(error), *place) from None
            except ValueError:
                raise EntryError(f"{rule}, not {text[:40]!a}", *place) from None
    if not found:
        raise EntryError(f"must not be empty; {empty}", *path)
    if len(found) > kind.limit:
        raise EntryError(f"must have at most {kind.limit} values, not {len(found)}", *path)
    return tuple(found)


def _texts(
    value: object, rule: str, whole: tuple[str, ...], place: tuple[str | int, ...]
) -> list[str]:
    """
    The texts in one text.

    @param whole: the beginnings of one that is not taken apart.
    """
    if value is None:
        return []
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # A port is written as a number.
    if not isinstance(value, str):
        raise EntryError(f"{rule}, not {called(value)}", *place)
    text = value.strip()
    parts = [text] if text.startswith(whole) else [part.strip() for part in text.split(",")]
    return [part for part in parts if part]
