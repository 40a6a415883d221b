"""
What an entry in the table of schemes is made of; see L{nanotun.upstream.schemes}.

Every command that reads settings imports this, so it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zope.interface import implementer

from nanotun.errors import ConfigError
from nanotun.interfaces import (
    Authentication,
    IScheme,
    IUpstream,
    NeededFiles,
    Option,
    ProxyURL,
    UpstreamContext,
)


def _flag(name: str, text: str) -> str:
    if text != "1":
        raise ConfigError(f"must have {name}=1 or leave {name} out")
    return text


def _wholePath(name: str, text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ConfigError(f"must have a whole path in {name}, as in ?{name}=/etc/ssl/proxy.pem")
    return text


#: An option that is given as C{name=1} or left out.
FLAG = Option("1", _flag)

#: An option whose text is the whole path of a file that is read.
FILE = Option("FILE", _wholePath, isFile=True)


def _noCheck(url: ProxyURL) -> None:
    """Every URL whose parts are good is good."""


@implementer(IScheme)
class Scheme:
    """
    An entry with defaults for everything but its name and constructor.

    @param make: see L{IScheme.make}.  What takes long to import, it imports when it is
        called.
    @param takesNames: whether the protocol can carry a name in place of an address; as
        C{sendsNames} if it is L{None}.
    @param chains: whether the upstream opens its connections by C{context.via} where there
        is one.
    @param defaultPort: see L{IScheme}, as for every other parameter.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[ProxyURL, UpstreamContext], IUpstream],
        *,
        defaultPort: int | None = None,
        authentication: Authentication = Authentication.NONE,
        credentialLimit: int = 255,
        forbidden: str = "",
        options: Mapping[str, Option] | None = None,
        unixSocket: bool = False,
        sendsNames: bool = False,
        takesNames: bool | None = None,
        carriesDatagrams: bool = False,
        dialsDestination: bool = False,
        chains: bool = False,
        check: Callable[[ProxyURL], None] = _noCheck,
        notices: Callable[[ProxyURL], tuple[str, ...]] = lambda url: (),
    ) -> None:
        self.name = name
        self.defaultPort = defaultPort
        self.authentication = authentication
        self.credentialLimit = credentialLimit
        self.forbidden = forbidden
        self.options = options or {}
        self.unixSocket = unixSocket
        self.sendsNames = sendsNames
        self.takesNames = sendsNames if takesNames is None else takesNames
        self.carriesDatagrams = carriesDatagrams
        self.dialsDestination = dialsDestination
        self.chains = chains
        self._make = make
        self._check = check
        self._notices = notices

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def check(self, url: ProxyURL) -> None:
        """See L{IScheme.check}."""
        self._check(url)

    def files(self, url: ProxyURL) -> NeededFiles:
        """The files that options name, and the unix socket."""
        read = tuple(text for name, text in url.options if self.options[name].isFile)
        return NeededFiles(read, (url.socketPath,) if url.socketPath else ())

    def notices(self, url: ProxyURL) -> tuple[str, ...]:
        """See L{IScheme.notices}."""
        return self._notices(url)

    def make(self, url: ProxyURL, context: UpstreamContext) -> IUpstream:
        """See L{IScheme.make}."""
        return self._make(url, context)


def sendsNamesWith(scheme: IScheme, fakes: bool) -> bool:
    """
    Whether proxies are sent names, where they are known.

    @param fakes: whether names have fake addresses; then every proxy whose protocol takes
        names is sent them.
    """
    # Schemes of other packages may have been written without L{Scheme}.
    taken = getattr(scheme, "takesNames", scheme.sendsNames) if fakes else scheme.sendsNames
    return bool(taken)


def canChain(scheme: IScheme) -> bool:
    """Whether proxies of this scheme can be dialled through another upstream."""
    # Schemes of other packages may have been written before there were chains.
    return bool(getattr(scheme, "chains", False))
