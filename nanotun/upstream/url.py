"""
The proxy's URL: text from the user in, a checked value out.

What may stand in a URL depends on its scheme, so there is one table of
schemes.  A URL without a scheme is C{socks5}.  No text that leaves this module
holds a password, error texts included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, NamedTuple
from urllib.parse import quote

from hyperlink import URL, DecodedURL, register_scheme

from nanotun.errors import ConfigError

DEFAULT_SCHEME = "socks5"

#: RFC 1929, section 2: one byte holds the length.
SOCKS5_CREDENTIAL_LIMIT = 255

#: Bytes; what servers take.  The memo sets no limit.
SOCKS4_USER_LIMIT = 255

#: Bytes.  RFC 7617 sets no limit; servers take 8 KiB for all of a request.
HTTP_CREDENTIAL_LIMIT = 2048

#: Bytes; unix(7), C{sun_path} less the closing zero.
SOCKET_PATH_LIMIT = 107

#: Bytes; RFC 1035, section 2.3.4, less what the wire form adds.
NAME_LIMIT = 253

#: RFC 1123, section 2.1, with the underscore that names of containers have.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")

#: What inet_aton(3) takes for an address, and getaddrinfo(3) with it.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")


class Scheme(NamedTuple):
    """
    What a scheme allows.

    @ivar defaultPort: TCP port, or L{None} where the scheme takes no address.
    @ivar credentialLimit: the most bytes that a user name or password may
        have; 0 where the scheme has no log-in.
    @ivar options: what may stand behind the C{?}, as in the error's text.
    @ivar password: whether there are passwords.
    @ivar unix: whether a path of a unix socket may stand for the host.
    @ivar forbidden: matches what a user name cannot hold.
    """

    defaultPort: int | None
    credentialLimit: int = 0
    options: tuple[str, ...] = ()
    password: bool = True
    unix: bool = True
    forbidden: str = "$^"


_SOCKS5 = Scheme(1080, SOCKS5_CREDENTIAL_LIMIT, ("pipeline=1",))
_SOCKS4 = Scheme(1080, SOCKS4_USER_LIMIT, password=False, forbidden="\0")
#: A colon ends the user name, and control characters are out (RFC 7617,
#: section 2).
_HTTP = Scheme(80, HTTP_CREDENTIAL_LIMIT, ("pipeline=1",), forbidden=r"[:\0-\x1f\x7f]")
_NO_PROXY = Scheme(None)

#: The default ports are the schemes' own (IANA), as browsers have it.
SCHEMES = {
    "socks5": _SOCKS5,
    "socks5h": _SOCKS5,
    "socks4": _SOCKS4,
    "socks4a": _SOCKS4,
    "http": _HTTP,
    "https": _HTTP._replace(defaultPort=443, options=("ca=FILE", "insecure=1"), unix=False),
    "direct": _NO_PROXY,
    "reject": _NO_PROXY,
}

# hyperlink has to be told which of the schemes it does not know take an address.
for _name, _scheme in SCHEMES.items():
    register_scheme(_name, uses_netloc=True, default_port=_scheme.defaultPort)


class ProxyURL(NamedTuple):
    """
    A proxy's URL, checked.  L{str} and L{repr} hide the password.

    @ivar host: a name without a dot at its end, an IP address without brackets, or
        the absolute path of a unix socket; empty where the scheme takes no address.
    @ivar port: 1 to 65535; 0 for a unix socket and where there is no host.
    @ivar username: percent-decoded; L{None} if there is none.
    @ivar password: percent-decoded; L{None} if there is none.
    @ivar ca: the path of a file with the certificates to trust; empty for the
        system's.
    @ivar insecure: whether any certificate will do.
    @ivar pipeline: whether all is sent at once, credentials too, before the
        proxy has said what it wants.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None
    ca: str = ""
    insecure: bool = False
    pipeline: bool = False

    def __str__(self) -> str:
        user = "" if self.username is None else quote(self.username, safe="")
        if self.password is not None:
            user += ":***"
        if user:
            user += "@"
        if self.host.startswith("/"):
            place = quote(self.host)
        elif self.host:
            place = f"[{self.host}]" if ":" in self.host else self.host
            place += f":{self.port}"
        else:
            place = ""
        options = []
        if self.ca:
            options.append(f"ca={quote(self.ca)}")
        if self.insecure:
            options.append("insecure=1")
        if self.pipeline:
            options.append("pipeline=1")
        query = f"?{'&'.join(options)}" if options else ""
        return f"{self.scheme}://{user}{place}{query}"

    def __repr__(self) -> str:
        return f"<ProxyURL {self}>"


def parseProxyURL(text: str) -> ProxyURL:
    """
    Check a proxy's URL.

    @param text: C{scheme://user:password@host:port?option} or a part of it, or
        C{scheme:///path} for a unix socket.
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
        decoded = DecodedURL(url)
        userinfo, path, query = decoded.userinfo, "/".join(decoded.path), decoded.query
        host = url.host if url.host.isascii() else url.to_uri().host
    except ValueError:
        # hyperlink's own text repeats the URL, and with it the password.
        raise ConfigError(
            f"must look like {schemeName}://user:password@host:port, with an IPv6 address in "
            "[brackets] and @ : / ? # in a password written %40, %3A, %2F, %3F, %23"
        ) from None
    if scheme.defaultPort is None:
        if host or url.port or path or query or url.fragment or any(userinfo):
            raise ConfigError(f"must be just {schemeName}://, which takes no address")
        return ProxyURL(schemeName, "", 0)
    known = [option.partition("=")[0] for option in scheme.options]
    if url.fragment or (path and host) or any(name not in known for name, _ in query):
        raise ConfigError(_badEnd(scheme))
    if path and scheme.unix:
        place, port = _checkPath(path), 0
    else:
        place, port = _checkHost(host, schemeName), _checkPort(url.port)
    username, password = _credentials(userinfo, schemeName, scheme)
    return ProxyURL(schemeName, place, port, username, password)._replace(**_options(query))


def withPassword(url: ProxyURL, password: str) -> ProxyURL:
    """
    Give a URL the password that it leaves out.

    @param url: has a user name and no password.
    @raise ConfigError: as from L{parseProxyURL}; of the password.
    """
    _checkCredentials(url.username or "", password, url.scheme, SCHEMES[url.scheme])
    return url._replace(password=password)


def _unknownScheme(name: str) -> str:
    known = ", ".join(f"{each}://" for each in SCHEMES)
    # Something that is not a scheme at all may well be part of a password.
    found = f", not {name}://" if re.fullmatch(r"[a-z][a-z0-9+.-]{0,15}", name) else ""
    return f"must begin with one of {known}{found}"


def _badEnd(scheme: Scheme) -> str:
    # What was found there is not repeated, for the same reason.
    options = " and ".join(f"?{option}" for option in scheme.options)
    behind = f", behind which may stand {options} only" if options else ""
    return f"must end after the port{behind}; a / ? or # in a password is written %2F, %3F or %23"


def _checkHost(host: str, schemeName: str) -> str:
    if not host:
        raise ConfigError(f"must name a host, as in {schemeName}://host:port")
    try:
        inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except OSError:
        pass
    else:
        return host
    # TLS knows hosts without the dot that ends a whole name.
    name = host.removesuffix(".")
    if len(name) > NAME_LIMIT or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
        raise ConfigError(
            "must have a host's name, such as proxy.example, or its whole IP address before the "
            "port; several proxies are a list"
        )
    return name


def _checkPort(port: int | None) -> int:
    if port is None or not 1 <= port <= 65535:
        raise ConfigError("must have a port from 1 to 65535")
    return port


def _checkPath(path: str) -> str:
    path = f"/{path}"
    if "\0" in path or len(path.encode("utf-8")) > SOCKET_PATH_LIMIT:
        raise ConfigError(f"must have a socket's path of at most {SOCKET_PATH_LIMIT} bytes")
    return path


def _options(query: Iterable[tuple[str, str | None]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in query:
        if name == "ca":
            if value is None or not value.startswith("/") or "\0" in value:
                raise ConfigError("must have a whole path in ca, as in ?ca=/etc/ssl/proxy.pem")
            found[name] = value
        elif value != "1":
            raise ConfigError(f"must have {name}=1 or leave {name} out")
        else:
            found[name] = True
    if len(found) > 1:
        raise ConfigError("must have either ca, which has the certificate checked, or insecure")
    return found


def _credentials(
    userinfo: tuple[str, ...], schemeName: str, scheme: Scheme
) -> tuple[str | None, str | None]:
    username = userinfo[0]
    password = userinfo[1] if len(userinfo) > 1 else None
    if not username and password is None:
        return None, None
    if not username:
        raise ConfigError("must have a user name before the password")
    _checkCredentials(username, password, schemeName, scheme)
    return username, password


def _checkCredentials(username: str, password: str | None, schemeName: str, scheme: Scheme) -> None:
    if password is not None and not scheme.password:
        raise ConfigError(f"must have no password, because {schemeName} has user names only")
    if re.search(scheme.forbidden, username):
        raise ConfigError(f"must have a user name without what {schemeName} cannot carry in it")
    limit = scheme.credentialLimit
    for what, value in (("user name", username), ("password", password or "")):
        if len(value.encode("utf-8")) > limit:
            raise ConfigError(f"must have a {what} of at most {limit} bytes for {schemeName}")
