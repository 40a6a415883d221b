"""
The checks of settings about destinations: networks, and ports.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

from nanotun.errors import ConfigError
from nanotun.flow import Protocol

Network = IPv4Network | IPv6Network

#: Networks of one setting.  Reading that many takes about a second, in which nothing else happens.
NETWORK_LIMIT = 100_000

PORT_LIMIT = 256  #: Ports; a user who needs more needs a firewall.


def _parts(value: object, rule: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(rule)
    parts = [part.strip() for text in texts for part in text.split(",")]
    return [part for part in parts if part]


_NETWORKS = "must be addresses or networks, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"


def networks(value: object) -> tuple[Network, ...]:
    """
    Addresses and networks: a text with commas between them, or a list of such texts.

    @return: each once; bits past the prefix are cut off.
    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    found: dict[Network, None] = {}
    for part in _parts(value, _NETWORKS):
        try:
            found[ip_network(part, strict=False)] = None
        except ValueError:
            raise ConfigError(f"{_NETWORKS}; not {part[:60]!a}") from None
    if len(found) > NETWORK_LIMIT:
        raise ConfigError(f"must be at most {NETWORK_LIMIT} networks, not {len(found)}")
    return tuple(found)


_PORTS = "must be ports with their protocol, such as tcp:445 or udp:5353"


def lanPorts(value: object) -> frozenset[tuple[Protocol, int]]:
    """
    Ports by protocol: a text with commas between them, or a list of such texts.

    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    found = set()
    for part in _parts(value, _PORTS):
        match = re.fullmatch(r"(tcp|udp):([0-9]{1,5})", part.lower())
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise ConfigError(f"{_PORTS}; not {part[:40]!a}")
        found.add((Protocol[match[1].upper()], int(match[2])))
    if len(found) > PORT_LIMIT:
        raise ConfigError(f"must be at most {PORT_LIMIT} ports, not {len(found)}")
    return frozenset(found)


_NUMBERS = "must be ports from 1 to 65535, such as 443"


def portNumbers(value: object) -> tuple[int, ...]:
    """
    Ports: a number, a text with commas between them, or a list of such.

    @return: each once.
    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    given = value if isinstance(value, list) else [value]
    found: dict[int, None] = {}
    for part in _parts([_text(each) for each in given], _NUMBERS):
        if not re.fullmatch("[0-9]{1,5}", part) or not 1 <= int(part) <= 65535:
            raise ConfigError(f"{_NUMBERS}; not {part[:40]!a}")
        found[int(part)] = None
    if len(found) > PORT_LIMIT:
        raise ConfigError(f"must be at most {PORT_LIMIT} ports, not {len(found)}")
    return tuple(found)


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
