"""
The proxy's password from somewhere else than its URL.

Of several, the one that is closest to the URL counts: the URL's own, then
C{proxyPasswordFile}, then the environment.
"""

from __future__ import annotations

from nanotun.errors import ConfigError
from nanotun.upstream.url import SCHEMES, ProxyURL, withPassword

PASSWORD_VARIABLE = "NANOTUN_PROXY_PASSWORD"


def wantsPassword(url: ProxyURL) -> bool:
    """Whether the URL has a user name that a password is still to be found for."""
    return url.username is not None and url.password is None and SCHEMES[url.scheme].password


def addPassword(url: ProxyURL, text: str, where: str) -> ProxyURL:
    """
    Give the URL its password.

    @param url: L{wantsPassword} one.
    @param text: the password, perhaps with the line end that editors put
        behind it.
    @param where: what holds it; the beginning of an error's sentence.
    @raise ConfigError: with one sentence for the user.
    """
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or "\n" in password:
        raise ConfigError(f"{where} must hold the password and nothing else, on one line.")
    try:
        return withPassword(url, password)
    except ConfigError as error:
        raise ConfigError(f"{where} {error}.") from None
