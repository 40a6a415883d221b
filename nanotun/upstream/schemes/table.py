"""
Which schemes there are: nanotun's own, and those that other packages register as
Twisted plugins.

Plugins are looked for only where a scheme is asked for that is not nanotun's own: the
search takes longer than everything else that reads the settings.  A plugin cannot
replace a scheme of nanotun's own, and one that is broken does not stop the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nanotun.errors import ConfigError
from nanotun.interfaces import IScheme, ProxyURL
from nanotun.upstream.schemes.direct import DIRECT
from nanotun.upstream.schemes.http import HTTP
from nanotun.upstream.schemes.https import HTTPS
from nanotun.upstream.schemes.reject import REJECT
from nanotun.upstream.schemes.socks4 import SOCKS4, SOCKS4A
from nanotun.upstream.schemes.socks5 import SOCKS5, SOCKS5H
from nanotun.upstream.url import SCHEME_NAME, parseURL, splitScheme

#: nanotun's own, in the order in which errors list them.
BUILT_IN: tuple[IScheme, ...] = (
    SOCKS5,
    SOCKS5H,
    SOCKS4,
    SOCKS4A,
    HTTP,
    HTTPS,
    DIRECT,
    REJECT,
)


class SchemeTable:
    """
    Schemes by name.

    @param builtIn: those for which no plugin is looked for.
    """

    def __init__(self, builtIn: Iterable[IScheme]) -> None:
        self._builtIn = {scheme.name: scheme for scheme in builtIn}
        self._plugins: dict[str, IScheme] = {}
        self._troubles: tuple[str, ...] = ()

    def find(self, name: str) -> IScheme:
        """
        Find a scheme.

        @param name: in lower case.
        @raise ConfigError: there is none of this name; with the end of a sentence,
            which also says what is wrong with plugins.
        """
        found = self._builtIn.get(name) or self._plugins.get(name)
        if found is None and re.fullmatch(SCHEME_NAME, name):
            found = self._findPlugin(name)
        if found is None:
            raise ConfigError(self._unknown(name))
        return found

    def parse(self, text: str) -> ProxyURL:
        """
        Check a proxy's URL.

        @param text: C{scheme://user:password@host:port?option} or a part of it, or
            C{scheme:///path} for a unix socket.
        @raise ConfigError: with what is wrong as the end of a sentence that begins
            with the setting's name, such as C{"must name a host"}.
        """
        if text.lower() in self._builtIn:
            raise ConfigError(f"must be a whole URL, as in {text.lower()}://")
        name, rest = splitScheme(text)
        return parseURL(self.find(name), rest)

    def _findPlugin(self, name: str) -> IScheme | None:
        """Search anew: a package may have been installed since the last search."""
        from nanotun.upstream.plugin import findSchemes, warnOf

        self._plugins, self._troubles = findSchemes(self._builtIn)
        found = self._plugins.get(name)
        if found is not None:
            warnOf(self._troubles)
        return found

    def _unknown(self, name: str) -> str:
        known = ", ".join(f"{each}://" for each in (*self._builtIn, *self._plugins))
        # Something that is not a scheme at all may well be part of a password.
        found = f", not {name}://" if re.fullmatch(SCHEME_NAME, name) else ""
        return "; ".join((f"must begin with one of {known}{found}", *self._troubles))


#: The schemes of this process.
SCHEMES = SchemeTable(BUILT_IN)

#: See L{SchemeTable.parse}.
parseProxyURL = SCHEMES.parse
