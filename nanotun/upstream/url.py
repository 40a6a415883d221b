"""
The text of a proxy's URL: from the user's text to a checked value.

What may stand in a URL depends on its scheme, whose entry says so.  No text that
leaves this module holds a password, error texts included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_pton

from hyperlink import URL, DecodedURL, register_scheme

from nanotun.errors import ConfigError
from nanotun.interfaces import Authentication, IScheme, ProxyURL

#: The scheme of a URL without one.
DEFAULT_SCHEME = "socks5"

#: What a scheme is called, in lower case (RFC 3986, section 3.1).  What is longer may
#: well be part of a password.
SCHEME_NAME = r"[a-z][a-z0-9+.-]{0,15}"

#: The password for URLs with a user name only, where no file has it.
PASSWORD_VARIABLE = "NANOTUN_PROXY_PASSWORD"

#: Bytes; unix(7), C{sun_path} less the closing zero.
SOCKET_PATH_LIMIT = 107

#: Bytes; RFC 1035, section 2.3.4, less what the wire form adds.
NAME_LIMIT = 253

#: RFC 1123, section 2.1, with the underscore that names of containers have.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")

#: What inet_aton(3) takes for an address, and getaddrinfo(3) with it.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")

_UNSEEN = re.compile(r"[\x00-\x20\x7f]")


def splitScheme(text: str) -> tuple[str, str]:
    """
    Take a URL apart at its C{://}.

    @return: the scheme's name in lower case, L{DEFAULT_SCHEME} where there is none,
        and what follows.
    @raise ConfigError: see L{parseURL}.
    """
    if _UNSEEN.search(text):
        raise ConfigError("must have no spaces or control characters")
    name, separator, rest = text.partition("://")
    return (name.lower(), rest) if separator else (DEFAULT_SCHEME, text)


def parseURL(scheme: IScheme, rest: str) -> ProxyURL:
    """
    Check what follows the scheme of a proxy's URL.

    @param rest: C{user:password@host:port?option} or a part of it, or C{/path} for a
        unix socket; without spaces and control characters.
    @raise ConfigError: with what is wrong as the end of a sentence that begins
        with the setting's name, such as C{"must name a host"}.
    """
    # hyperlink has to be told which of the schemes it does not know take an address.
    register_scheme(scheme.name, uses_netloc=True, default_port=scheme.defaultPort)
    try:
        url = URL.from_text(f"{scheme.name}://{rest}")
        decoded = DecodedURL(url)
        userinfo, path, query = decoded.userinfo, "/".join(decoded.path), decoded.query
        host = url.host if url.host.isascii() else url.to_uri().host
    except ValueError:
        # hyperlink's own text repeats the URL, and with it the password.
        raise ConfigError(
            f"must look like {scheme.name}://user:password@host:port, with an IPv6 address in "
            "[brackets] and @ : / ? # in a password written %40, %3A, %2F, %3F, %23"
        ) from None
    if scheme.defaultPort is None:
        if host or url.port or path or query or url.fragment or any(userinfo):
            raise ConfigError(f"must be just {scheme.name}://, which takes no address")
        return ProxyURL(scheme)
    if url.fragment or (path and host) or any(name not in scheme.options for name, _ in query):
        raise ConfigError(_badEnd(scheme))
    if path and scheme.unixSocket:
        place, port = _checkPath(path), 0
    else:
        place, port = _checkHost(host, scheme), _checkPort(url.port)
    username, password = _credentials(userinfo, scheme)
    parsed = ProxyURL(scheme, place, port, username, password, _options(query, scheme))
    scheme.check(parsed)
    return parsed


def wantsPassword(url: ProxyURL) -> bool:
    """Whether a URL has a user name, and its password has to be found elsewhere."""
    takesPassword = url.scheme.authentication is Authentication.PASSWORD
    return url.username is not None and url.password is None and takesPassword


def withPassword(url: ProxyURL, password: str) -> ProxyURL:
    """
    Give a URL the password that it leaves out.

    @param url: has a user name and no password.
    @raise ConfigError: as from L{parseURL}; about the password.
    """
    _checkCredentials(url.username or "", password, url.scheme)
    return url._replace(password=password)


def addPassword(url: ProxyURL, text: str, where: str) -> ProxyURL:
    """
    Give a URL a password that was read from a file or the environment.

    @param url: L{wantsPassword} is true of it.
    @param text: the password, perhaps with the line end that editors put behind it.
    @param where: what holds it; the beginning of an error's sentence.
    @raise ConfigError: with one whole sentence for the user.
    """
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or "\n" in password:
        raise ConfigError(f"{where} must hold the password and nothing else, on one line.")
    try:
        return withPassword(url, password)
    except ConfigError as error:
        raise ConfigError(f"{where} {error}.") from None


def _badEnd(scheme: IScheme) -> str:
    # What was found there is not repeated: it may well be part of a password.
    known = " and ".join(f"?{name}={option.metavar}" for name, option in scheme.options.items())
    rest = f", after which only {known} may follow" if known else ""
    return f"must end after the port{rest}; a / ? or # in a password is written %2F, %3F or %23"


def _checkHost(host: str, scheme: IScheme) -> str:
    if not host:
        raise ConfigError(f"must name a host, as in {scheme.name}://host:port")
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


def _options(
    query: Iterable[tuple[str, str | None]], scheme: IScheme
) -> tuple[tuple[str, str], ...]:
    found = {name: scheme.options[name].check(name, text or "") for name, text in query}
    return tuple(sorted(found.items()))


def _credentials(userinfo: tuple[str, ...], scheme: IScheme) -> tuple[str | None, str | None]:
    username = userinfo[0]
    password = userinfo[1] if len(userinfo) > 1 else None
    if not username and password is None:
        return None, None
    if not username:
        raise ConfigError("must have a user name before the password")
    _checkCredentials(username, password, scheme)
    return username, password


def _checkCredentials(username: str, password: str | None, scheme: IScheme) -> None:
    if scheme.authentication is Authentication.NONE:
        raise ConfigError(f"must have no user name, because {scheme.name} has no log-in")
    if password is not None and scheme.authentication is not Authentication.PASSWORD:
        raise ConfigError(f"must have no password, because {scheme.name} has user names only")
    if scheme.forbidden and re.search(scheme.forbidden, username):
        raise ConfigError(f"must have a user name without what {scheme.name} cannot carry in it")
    limit = scheme.credentialLimit
    for what, value in (("user name", username), ("password", password or "")):
        if len(value.encode("utf-8")) > limit:
            raise ConfigError(f"must have a {what} of at most {limit} bytes for {scheme.name}")
