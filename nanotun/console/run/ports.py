"""
The ports that C{nanotun run} opens between COMMAND's network and this machine's: C{--publish} and
C{--host-port}.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from nanotun.addresses import isAddress
from nanotun.cell.passages import LOOPBACKS, Port
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint

PUBLISH = "--publish"
HOST_PORT = "--host-port"

#: [address:][port:]port[/tcp], with an IPv6 address in brackets.
_PUBLISHED = re.compile(
    r"(?:(?P<host>\d+\.[\d.]+|\[[^]]*\]):)?(?:(?P<entry>\d{1,5}):)?(?P<exit>\d{1,5})(?:/tcp)?",
    re.ASCII,
)
_HOST_PORT = re.compile(r"(?:(?P<entry>\d{1,5}):)?(?P<exit>\d{1,5})(?:/tcp)?", re.ASCII)


def published(text: str) -> Port:
    """
    A port that COMMAND listens on, and where it is reached from outside.

    @param text: C{3000}, C{8080:3000}, C{192.0.2.1:8080:3000} or C{192.0.2.1:3000}.
    @raise ConfigError: it is something else.
    """
    found = _PUBLISHED.fullmatch(text)
    host = (found["host"] or "").strip("[]") if found else ""
    if found is None or (found["host"] and not isAddress(host)):
        raise _wrong(PUBLISH, text, "[ADDRESS:][PORT:]PORT, as 3000 or 127.0.0.1:8080:3000")
    hosts = (str(ip_address(host)),) if host else LOOPBACKS
    return _port(PUBLISH, text, hosts, found, True)


def hostPort(text: str) -> Port:
    """
    A port of this machine's loopback, and where COMMAND reaches it.

    @param text: C{5432} or C{5432:15432}, of which the first is COMMAND's.
    @raise ConfigError: it is something else.
    """
    found = _HOST_PORT.fullmatch(text)
    if found is None:
        raise _wrong(HOST_PORT, text, "[PORT:]PORT, as 5432 or 5432:15432")
    return _port(HOST_PORT, text, LOOPBACKS, found, False)


def _port(
    flag: str, text: str, hosts: tuple[str, ...], found: re.Match[str], isInward: bool
) -> Port:
    exit = int(found["exit"])
    entry = int(found["entry"] or exit)
    if not (0 < entry < 65536 and 0 < exit < 65536):
        raise _wrong(flag, text, "a port from 1 to 65535")
    return Port(f"{flag} {text}", hosts, entry, exit, isInward)


def _wrong(flag: str, text: str, right: str) -> ConfigError:
    if text.endswith("/udp"):
        return ConfigError(f"{flag} is for TCP only, and {text[:64]!a} is not; leave it out.")
    return ConfigError(f"{flag} must be {right}, not {text[:64]!a}.")


def checkApart(wanted: Iterable[Port]) -> None:
    """
    See that no address is listened at twice, and that no port leads to another one's entry: that
    would be no listener of COMMAND's, and a circle could hold itself open.

    @raise ConfigError: one is, or does.
    """
    wanted = tuple(wanted)
    for number, port in enumerate(wanted):
        for other in wanted[:number]:
            if _overlap(port, other):
                raise ConfigError(
                    f"{port.option} and {other.option} are about the same port "
                    f"{port.entry}; leave one out."
                )
    taken = {port.entry: port for port in wanted if not port.isInward}
    for port in wanted:
        if port.isInward and port.exit in taken:
            raise ConfigError(
                f"{port.option} leads to port {port.exit} of COMMAND's network, which "
                f"{taken[port.exit].option} takes; choose another one there, as in {HOST_PORT} "
                f"PORT:{taken[port.exit].exit}."
            )


def _overlap(one: Port, other: Port) -> bool:
    """Whether both listen at the same address."""
    if (one.entry, one.isInward) != (other.entry, other.isInward):
        return False
    return any(
        host == another or _holds(host, another) or _holds(another, host)
        for host in one.hosts
        for another in other.hosts
    )


def _holds(every: str, host: str) -> bool:
    """Whether an address stands for every one, as another is; :: is for both families."""
    return every == "::" or (every == "0.0.0.0" and ":" not in host)


def openedBy(wanted: Iterable[Port]) -> Iterator[str]:
    """What ports open, in words for L{nanotun.console.run.openings}."""
    for port in wanted:
        if port.isInward:
            places = " and ".join(str(Endpoint(host, port.entry)) for host in port.hosts)
            yield f"connections to {places} ({port.option})"
        else:
            yield f"port {port.exit} of this machine ({port.option})"
