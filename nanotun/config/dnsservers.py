"""
The DNS servers as the settings name them: the check of a list.

What follows from all settings together is in L{nanotun.config.askedservers}.
"""

from __future__ import annotations

import difflib
import re
from ipaddress import IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from nanotun.addresses import GATEWAY4, GATEWAY6, LINK_LOCAL6, isUnicast
from nanotun.config import values
from nanotun.config.domains import NAME_LIMIT, comparable
from nanotun.config.upstreamentries import PROXY
from nanotun.errors import ConfigError, EntryError
from nanotun.interfaces import DnsServer
from nanotun.interfaces.nameserver import ENCRYPTED, PORTS

SERVER_LIMIT = 8  #: Servers of one list; no query is sent to more before its app gives up.
ADDRESS_LIMIT = 8  #: Addresses of one server; no query waits until more have been tried.

_SUCH = (
    "such as 8.8.8.8, '[2001:db8::1]:53', tls://1.1.1.1, https://dns.example/dns-query or system"
)
_KEYS = ("server", "address", "via", "ca")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_PATH = re.compile(r"/[!-~]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,19}")
_LINK_LOCAL = ip_network(LINK_LOCAL6)
#: What others call a scheme.
_MEANT = {"dns": "udp", "dot": "tls", "tcp-tls": "tls", "doh": "https", "h2": "https"}
#: Where a server is asked over HTTPS if no path is given, as RFC 8484 has it in its examples.
_USUAL_PATH = "/dns-query"


def checked(value: object) -> tuple[DnsServer, ...]:
    """
    The check of DNS servers: a text with commas between them, a mapping, or a list of such.

    @return: each once.
    @raise ConfigError: with the end of a sentence.
    """
    given = value if isinstance(value, list) else [value]
    found: dict[DnsServer, None] = {}
    for number, each in enumerate(given):
        path = (number,) if given is value else ()
        if isinstance(each, dict):
            found[_writtenOut(each, path)] = None
            continue
        # The only entry of a list needs no number.
        path = path if len(given) > 1 else ()
        if not isinstance(each, str):
            raise EntryError(f"must be a DNS server, {_SUCH}, not {values.shown(each)}", *path)
        for text in each.split(","):
            try:
                found[server(text.strip())] = None
            except ConfigError as error:
                raise EntryError(str(error), *path) from None
    if not 1 <= len(found) <= SERVER_LIMIT:
        raise ConfigError(
            f"must be 1 to {SERVER_LIMIT} DNS servers, which are asked in this order, not "
            f"{len(found)}"
        )
    return tuple(found)


def _writtenOut(fields: dict[object, object], path: tuple[int, ...]) -> DnsServer:
    for key in fields:
        if key not in _KEYS:
            raise values.unknownKey(str(key), _KEYS, "a DNS server", *path)
    text = fields.get("server")
    if not isinstance(text, str):
        raise EntryError("must have a server, such as {server: 'tls://1.1.1.1'}", *path)
    key = "server"
    try:
        made = server(text.strip(), "address" in fields)
        if "address" in fields:
            key = "address"
            made = made._replace(addresses=_addresses(made, fields[key]))
        if "ca" in fields:
            key = "ca"
            made = made._replace(ca=_authority(made, fields[key]))
        if "via" in fields:
            key = "via"
            made = made._replace(via=via(fields[key]))
    except ConfigError as error:
        raise EntryError(str(error), *path, key) from None
    return made


def _addresses(made: DnsServer, value: object) -> tuple[str, ...]:
    if made.literal or made.scheme == "system":
        which = ", which is an address" if made.literal else ""
        raise ConfigError(f"has no meaning for {made}{which}; remove it")
    given = value if isinstance(value, list) else [value]
    if not 1 <= len(given) <= ADDRESS_LIMIT:
        raise ConfigError(f"must be 1 to {ADDRESS_LIMIT} IP addresses, not {len(given)}")
    found: dict[str, None] = {}
    for each in given:
        host = _literal(str(each))
        if not host:
            raise ConfigError(f"must be IP addresses, such as 192.0.2.53, not {values.shown(each)}")
        _checkHost(host)
        found[host] = None
    return tuple(found)


def _authority(made: DnsServer, value: object) -> str:
    if made.scheme not in ENCRYPTED:
        which = "" if made.scheme == "system" else ", which has no certificate"
        raise ConfigError(f"has no meaning for {made}{which}; remove it")
    if not isinstance(value, str) or "\0" in value or not value.startswith("/"):
        raise ConfigError(f"must be a file's path that begins with /, not {values.shown(value)}")
    return value


class Way(values.Choice):
    """
    The name of an upstream that queries may leave by.

    @ivar choices: those that are always there.
    """

    def __call__(self, value: object) -> str:
        """@raise ConfigError: it is no name, or nothing gets out there."""
        name = values.upstreamName(value)
        if name in ("reject", "drop"):
            raise ConfigError(f"must not be {name}, because nothing gets out that way")
        return name


#: The check of C{via} and C{dnsVia}.
via = Way("direct", PROXY)


def server(text: str, addressed: bool = False) -> DnsServer:
    """
    Parse one server, as it is written without more.

    @param addressed: whether its addresses are given beside it.
    @raise ConfigError: with the end of a sentence, which shows no password.
    """
    if text == "system":
        return DnsServer("system")
    if text.startswith("{"):
        raise ConfigError(
            "must be a text without braces; a server that is written out, as in {server: ..., "
            "address: ...}, goes into the configuration file, without quotes around it"
        )
    if "@" in text:
        # Wherever it is: what is before it may be a password.
        raise ConfigError(
            "must have no user name or password, because nanotun never logs in to a DNS server"
        )
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        scheme, rest = "udp", text
    elif scheme.lower() not in PORTS:
        shown = f"{scheme}://" if _SCHEME.fullmatch(scheme) else values.shown(scheme)
        meant = _MEANT.get(scheme.lower())
        hint = f" (did you mean {meant}://?)" if meant else ""
        raise ConfigError(f"must begin with udp://, tcp://, tls:// or https://, not {shown}{hint}")
    scheme = scheme.lower()
    rest, sharp, name = rest.partition("#")
    if sharp and scheme not in ENCRYPTED:
        raise ConfigError(
            "must not end in #NAME, because only tls:// and https:// have a certificate"
        )
    place, slash, path = rest.partition("/")
    if scheme == "udp" and ":" in _literal(place):
        place = f"[{place}]"  # As it has always been possible to write.
    match = _AUTHORITY.fullmatch(place)
    if slashes and path and scheme != "https":
        raise ConfigError(
            f"must have no path, because only https:// has one, not {values.shown(text)}"
        )
    if match is None or (slash and not slashes):
        raise _unknown(text)
    host = _host(text, match[1], scheme == "udp", bool(slashes), addressed)
    port = PORTS[scheme] if match[2] is None else int(match[2])
    if not 1 <= port <= 65535:
        raise ConfigError(f"must have a port from 1 to 65535, which {text} does not")
    certified = ""
    if sharp:
        certified = _literal(name) or _name(name)
        if not certified:
            raise ConfigError(f"must have a host name behind #, not {values.shown(name)}")
    return DnsServer(
        scheme,
        host,
        port,
        _pathOf(text, path) if scheme == "https" else "",
        "" if certified == host else certified,
    )


def _host(text: str, given: str, plain: bool, slashes: bool, addressed: bool) -> str:
    """
    The host of a server, as C{DnsServer} has it.

    @param text: the whole text, for errors.
    @param plain: whether the server has no use for its name.
    @param slashes: whether the text has a scheme.
    """
    host = _literal(given.strip("[]"))
    if host:
        _checkHost(host)
        return host
    name = _name(given)
    if not name or not (slashes or addressed):
        raise _unknown(text)
    if plain and not addressed:
        raise ConfigError(
            "must be an address after udp://, or be given one, as in address: 192.0.2.53"
        )
    return name


def _pathOf(text: str, path: str) -> str:
    found = "/" + path.removesuffix("{?dns}")
    if not _PATH.fullmatch(found):
        raise _unknown(text)
    return _USUAL_PATH if found == "/" else found


def _checkHost(host: str) -> None:
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None:
        raise ConfigError(
            f"must not wrap an IPv4 address in IPv6; write {mapped} instead of {host}"
        )
    if host in (GATEWAY4, GATEWAY6):
        raise ConfigError(f"must not name nanotun's own gateway {host}, which would ask itself")
    if not isUnicast(host):
        raise ConfigError(f"must be a DNS server, {_SUCH}, and none has the address {host}")
    if address in _LINK_LOCAL:
        raise ConfigError(
            f"must have an address that says where it is, and {host} may be on any interface; give "
            "another address of that server, or write system, which knows the interface"
        )


def _unknown(text: str) -> ConfigError:
    hint = ""
    name = _name(text.partition(":")[0])
    scheme, _, place = text.partition("://")
    if difflib.get_close_matches(text.lower(), ["system"], 1):
        hint = "; did you mean system?"
    elif text in ("direct", PROXY):
        hint = f"; if that is the way to ask servers, write dnsVia: {text}"
    elif ":" in _literal(place.partition("/")[0]):
        hint = f"; an IPv6 address has brackets around it, as in {scheme}://[2001:db8::1]"
    elif name and text.count(":") < 2 and "/" not in text:
        hint = f"; a server with a name is written tls://{name} or https://{name}{_USUAL_PATH}"
    return ConfigError(f"must be a DNS server, {_SUCH}, not {values.shown(text)}{hint}")


def _literal(text: str) -> str:
    """An address in its canonical form; empty if the text is none."""
    try:
        family = AF_INET6 if ":" in text else AF_INET
        return inet_ntop(family, inet_pton(family, text))
    except (OSError, ValueError):
        return ""


def _name(text: str) -> str:
    """A host name as it is compared; empty if the text is none."""
    try:
        name = comparable(text)
    except ValueError:
        return ""
    # What ends in a number is a wrong address.
    if not _NAME.fullmatch(name) or len(name) > NAME_LIMIT or name.rpartition(".")[2].isdigit():
        return ""
    return name
