"""
The check of C{dnsRules}: a list of mappings in, one L{DnsRule} for each out.
"""

from __future__ import annotations

import difflib
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, NamedTuple

from nanotun.config import dnsservers, values
from nanotun.config.domains import Pattern, pattern
from nanotun.config.flowrules import called, conditionValues, ruleList
from nanotun.errors import ConfigError, EntryError
from nanotun.interfaces import DnsServer

DNS_RULE_LIMIT = 1024  #: Rules; each costs memory and the reader's patience.  Lists are for files.
ADDRESS_LIMIT = 16  #: Addresses of one answer; more do not fit into a datagram.


class DnsAnswer(NamedTuple):
    """
    What the relay answers about a name by itself, without asking anybody.

    @ivar refused: whether it refuses to answer (RFC 1035, section 4.1.1, REFUSED).
    @ivar addresses: literal ones in their canonical form, each for queries of its family; if
        there are none, the name exists and has no data.
    """

    refused: bool = False
    addresses: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.refused:
            return "refuse"
        return ", ".join(self.addresses) or "nodata"


class DnsRule(NamedTuple):
    """
    One entry of C{dnsRules}: who answers for some names.

    @ivar domains: the names.
    @ivar servers: asked for these instead of those of C{dns}, in this order.
    @ivar answer: given at once; L{None} for none.
    @ivar fake: whether the names get fake addresses under fake-ip without being asked for first,
        so whether they exist or not.
    @ivar where: where it was written, such as C{"/etc/nanotun.yaml, line 14"}.
    """

    domains: tuple[Pattern, ...]
    servers: tuple[DnsServer, ...] = ()
    answer: DnsAnswer | None = None
    fake: bool = False
    where: str = ""


_KEYS = ("domains", "servers", "answer")
DNS_RULE_EXAMPLE = "{domains: [corp.example], servers: [10.0.0.53]}"

#: The answers that have a word of their own.
_WORDS = {"refuse": DnsAnswer(refused=True), "nodata": DnsAnswer()}
#: What to do with an address among the names: a DNS rule has no networks.
_ZONE = "write the zone of their names, such as 10.in-addr.arpa"
_FAKE, _PASS = "fake", "pass"


def dnsRules(value: object) -> tuple[DnsRule, ...]:
    """
    The check of C{dnsRules}: a list of mappings.

    @return: in their order, without C{where}.
    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    example = "{domains: [corp.example], servers: [10.0.0.53]}"
    entries = ruleList(value, DNS_RULE_LIMIT, example, "names")
    return tuple(_rule(each, number) for number, each in enumerate(entries))


def _rule(value: object, number: int) -> DnsRule:
    if not isinstance(value, dict):
        raise EntryError(
            f"must be a mapping, such as {DNS_RULE_EXAMPLE}, not {called(value)}", number
        )
    for key in value:
        if key not in _KEYS:
            raise values.unknownKey(str(key), _KEYS, "a DNS rule", number)
    if value.get("domains") in (None, "", []):
        raise EntryError("does not say which names it is about; add domains:", number)
    domains = conditionValues(
        "domains",
        value["domains"],
        number,
        "domains",
        empty="write '*' for all names",
        parse=partial(pattern, addresses=_ZONE),
    )
    if "servers" in value and "answer" in value:
        raise EntryError(
            "has both servers and an answer, and only one of them can count; remove the other",
            number,
        )
    if "servers" in value:
        return DnsRule(domains, servers=_servers(value["servers"], number))
    if "answer" not in value:
        raise EntryError("does not say who answers; add servers: or answer:", number)
    given = value["answer"]
    if given == _FAKE:
        return DnsRule(domains, fake=True)
    try:
        return DnsRule(domains, answer=_answer(given, _FAKE))
    except ConfigError as error:
        raise EntryError(str(error), number, "answer") from None


def _servers(value: Any, number: int) -> tuple[DnsServer, ...]:
    try:
        return dnsservers.checked(value)
    except EntryError as error:
        raise EntryError(str(error), number, "servers", *error.path) from None
    except ConfigError as error:
        raise EntryError(str(error), number, "servers") from None


def rejectedAnswer(value: object) -> DnsAnswer | None:
    """
    The check of C{dnsRejected}.

    @return: L{None} where such names are looked up like others.
    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    return None if value == _PASS else _answer(value, _PASS)


def _answer(value: object, other: str) -> DnsAnswer:
    """
    An answer: a word, or addresses.

    @param other: a word that stands for no such answer and is good all the same, for the error.
    """
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise _wrong(value, other)
    found: dict[str, None] = {}
    for text in texts:
        for part in text.split(",") if isinstance(text, str) else [text]:
            try:
                found[_canonical(part.strip())] = None
            except (OSError, ValueError, AttributeError):
                raise _wrong(part, other) from None
    if len(found) > ADDRESS_LIMIT:
        raise ConfigError(
            f"must be at most {ADDRESS_LIMIT} addresses, which is what fits into an answer, not "
            f"{len(found)}"
        )
    addresses = tuple(found)
    # Whoever blocks a name this way blocks it for both families.
    return DnsAnswer(addresses=("0.0.0.0", "::") if addresses == ("0.0.0.0",) else addresses)


def _wrong(value: object, other: str) -> ConfigError:
    words = [other, *_WORDS] if other == _PASS else [*_WORDS, other]
    if value in words:
        return ConfigError(f"must be {value} alone, or addresses alone")
    if value == []:  # A list is fine; it is what this one lacks that is not.
        return ConfigError(f"must be {', '.join(words)} or addresses such as 0.0.0.0, not empty")
    near = difflib.get_close_matches(str(value).lower(), words, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return ConfigError(
        f"must be {', '.join(words)} or addresses such as 0.0.0.0, not {values.shown(value)}{hint}"
    )


def _canonical(text: str) -> str:
    family = AF_INET6 if ":" in text else AF_INET
    return inet_ntop(family, inet_pton(family, text))
