"""
The text of a proxy's URL: from the user's text to a checked value.

What may stand in a URL depends on its scheme, whose entry says so.  No text that
leaves this module holds a password, error texts included.

A user name may be a template, with fields in braces that stand for something of the flow
that it is sent for.  A password never is one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_pton
from urllib.parse import unquote

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

#: What a user name may stand for without a script.
FIELDS = ("user", "uid", "process", "source")

#: In place of a field's value that is not known.
UNKNOWN = "unknown"

#: Characters of one value.  Names of users and processes are shorter; a script's may be
#: anything.
VALUE_LIMIT = 64

_FIELD = re.compile(r"\{([a-z][a-z0-9]{0,31})\}")

#: What no value holds when it is sent.
_UNUSUAL = re.compile(r"[^A-Za-z0-9._@+-]")

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
    # A password may hold anything, and ends with the last @ at the latest.
    misplaced = set(_FIELD.findall(rest.rpartition("@")[2])) & set(FIELDS)
    if misplaced:
        raise ConfigError(f"must have {{{min(misplaced)}}} in the user name only")
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
    template = _templateIn(url.userinfo.partition(":")[0])
    parsed = ProxyURL(scheme, place, port, username, password, _options(query, scheme), template)
    scheme.check(parsed)
    return parsed


def fieldsOf(url: ProxyURL) -> frozenset[str]:
    """The fields of a URL's user name."""
    return frozenset(_FIELD.findall(url.template))


def whyUnfilled(url: ProxyURL) -> str:
    """
    What is wrong with a URL if no script fills its fields.

    @return: the end of a sentence that begins with the setting's name; empty if nothing is
        wrong.
    """
    for field in _FIELD.findall(url.template):
        if field not in FIELDS:
            if _nearField(field):
                return _wrongField(f"{{{field}}}", field)
            return (
                f"has {{{field}}} in the user name, which only a script can fill; set script, or "
                f"write {_LISTED}"
            )
    return ""


def expanded(url: ProxyURL, values: Mapping[str, str]) -> ProxyURL:
    """
    Fill the fields of a URL's user name.

    @param values: what is known, by field.
    @return: the URL itself if it has no fields.
    """
    if not url.template:
        return url
    parts = _FIELD.split(url.template)
    text = unquote(parts[0])
    for at in range(1, len(parts), 2):
        value, literal = values.get(parts[at]) or UNKNOWN, unquote(parts[at + 1])
        # A value must not end where another one seems to: a-b and c, or a and b-c.
        last = at + 2 == len(parts)
        text += plain(value, not last and (not literal or bool(set(literal) & set(value))))
        text += literal
    limit = url.scheme.credentialLimit
    name = text.encode()
    if len(name) > limit:
        text = (name[: max(0, limit - 9)].decode(errors="ignore") + _mark(text))[-limit:]
    return url._replace(username=text)


def plain(value: str, marked: bool = False) -> str:
    """
    A value as every log-in can carry it.  No two values become the same text but by design.

    @param marked: whether the text has to end with a mark although the value needs none.
    """
    text = _UNUSUAL.sub("_", value)[:VALUE_LIMIT]
    if marked or text != value:
        mark = _mark(value)
        text = text[: VALUE_LIMIT - len(mark)] + mark
    return text


def _mark(text: str) -> str:
    """The end of a text that has been changed, from what it was."""
    from hashlib import sha256

    return f"~{sha256(text.encode(errors='surrogateescape')).hexdigest()[:8]}"


#: As errors list the fields.
_LISTED = "{user}, {uid}, {process} or {source}"


def _templateIn(name: str) -> str:
    """
    A user name that is still percent-encoded, if it has fields; else nothing.

    @raise ConfigError: a brace belongs to no field; see L{parseURL}.
    """
    for literal in _FIELD.split(name)[::2]:
        wrong = re.search(r"\{(\w*)\}?|\}", literal)
        if wrong is not None:
            raise ConfigError(_wrongField(wrong[0], wrong[1] or ""))
    return name if _FIELD.search(name) else ""


def _wrongField(shown: str, field: str) -> str:
    near = _nearField(field)
    hint = f" (did you mean {{{near}}}?)" if near else ""
    return (
        f"must have {_LISTED} in the user name, not {shown[:40]}{hint}; a brace that is meant is "
        "written %7B"
    )


def _nearField(field: str) -> str:
    return "".join(difflib.get_close_matches(field.lower(), FIELDS, 1))


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
