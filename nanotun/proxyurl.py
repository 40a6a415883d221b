"""
The proxy's URL: text from the user in, a checked value out.

What may stand in a URL depends on its scheme, so there is one table of
schemes.  A URL without a scheme is C{socks5}.  No text that leaves this module
holds a password, error texts included.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hyperlink import URL, DecodedURL, register_scheme

from nanotun.errors import ConfigError

DEFAULT_SCHEME = "socks5"

#: RFC 1929, section 2: one byte holds the length.
SOCKS5_CREDENTIAL_LIMIT = 255


class Scheme(NamedTuple):
    """
    What a scheme allows.

    @ivar defaultPort: TCP port, or L{None} where the scheme takes no address.
    @ivar credentialLimit: the most bytes that a user name or password may
        have; 0 where the scheme has no log-in.
    """

    defaultPort: int | None
    credentialLimit: int


SCHEMES = {
    "socks5": Scheme(1080, SOCKS5_CREDENTIAL_LIMIT),
    "direct": Scheme(None, 0),
}

# hyperlink has to be told which of the schemes it does not know take an address.
for _name, _scheme in SCHEMES.items():
    register_scheme(_name, uses_netloc=True, default_port=_scheme.defaultPort)


class ProxyURL(NamedTuple):
    """
    A proxy's URL, checked.  L{str} and L{repr} hide the password.

    @ivar host: a name or an IP address without brackets; empty for C{direct}.
    @ivar port: 1 to 65535; 0 for C{direct}.
    @ivar username: percent-decoded; L{None} if there is none.
    @ivar password: percent-decoded; L{None} if there is none.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        if not self.host:
            return f"{self.scheme}://"
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.username is None else self.username
        if self.password is not None:
            user += ":***"
        return f"{self.scheme}://{user}{'@' if user else ''}{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<ProxyURL {self}>"


def parseProxyURL(text: str) -> ProxyURL:
    """
    Check a proxy's URL.

    @param text: C{scheme://user:password@host:port} or a part of it.
    @raise ConfigError: with what is wrong as the end of a sentence that begins
        with the setting's name, such as C{"must name a host"}.
    """
    schemeName, separator, rest = text.partition("://")
    if not separator:
        schemeName, rest = DEFAULT_SCHEME, text
    schemeName = schemeName.lower()
    if not separator and text.lower() in SCHEMES:
        raise ConfigError(f"must be a whole URL, as in {text.lower()}://")
    if re.search(r"[\x00-\x20\x7f]", text):
        raise ConfigError("must have no spaces or control characters")
    scheme = SCHEMES.get(schemeName)
    if scheme is None:
        raise ConfigError(_unknownScheme(schemeName))
    try:
        url = URL.from_text(f"{schemeName}://{rest}")
        userinfo = DecodedURL(url).userinfo
        host = url.host if url.host.isascii() else url.to_uri().host
    except ValueError:
        # hyperlink's own text repeats the URL, and with it the password.
        raise ConfigError(
            f"must look like {schemeName}://user:password@host:port, with an IPv6 address in "
            "[brackets] and @ : / in a password written %40, %3A, %2F"
        ) from None
    if url.query or url.fragment or any(url.path):
        raise ConfigError(
            "must end after the port; a / ? or # in a password is written %2F, %3F or %23"
        )
    if scheme.defaultPort is None:
        if host or url.port or any(userinfo):
            raise ConfigError(f"must be just {schemeName}://, which takes no address")
        return ProxyURL(schemeName, "", 0)
    username, password = _credentials(userinfo, schemeName, scheme.credentialLimit)
    return ProxyURL(schemeName, _checkHost(host), _checkPort(url.port), username, password)


def _unknownScheme(name: str) -> str:
    known = ", ".join(f"{each}://" for each in SCHEMES)
    # Something that is not a scheme at all may well be part of a password.
    found = f", not {name}://" if re.fullmatch(r"[a-z][a-z0-9+.-]{0,15}", name) else ""
    return f"must begin with one of {known}{found}"


def _checkHost(host: str) -> str:
    if not host:
        raise ConfigError("must name a host, as in socks5://host:port")
    return host


def _checkPort(port: int | None) -> int:
    if port is None or not 1 <= port <= 65535:
        raise ConfigError("must have a port from 1 to 65535")
    return port


def _credentials(
    userinfo: tuple[str, ...], schemeName: str, limit: int
) -> tuple[str | None, str | None]:
    username: str | None = userinfo[0]
    password = userinfo[1] if len(userinfo) > 1 else None
    if not username and password is None:
        return None, None
    if not username:
        raise ConfigError("must have a user name before the password")
    if limit == 0:
        raise ConfigError(f"must have no user name, because {schemeName} has no log-in")
    for what, value in (("user name", username), ("password", password or "")):
        if len(value.encode("utf-8")) > limit:
            raise ConfigError(f"must have a {what} of at most {limit} bytes for {schemeName}")
    return username, password
