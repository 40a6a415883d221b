"""
Schemes of proxy URLs, and the values that they work with.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from twisted.application.service import IServiceCollection

    from nanotun.flow import Endpoint
    from nanotun.interfaces.tls import ITls
    from nanotun.interfaces.upstream import IUpstream


class Authentication(enum.Enum):
    """What a scheme's URL may say about the user."""

    NONE = "none"
    USER = "user name"
    PASSWORD = "user name and password"


class Option(NamedTuple):
    """
    What may follow the C{?} of a URL, as C{name=text}.

    @ivar metavar: what errors show in place of the text, such as C{"FILE"}.
    @ivar check: takes the option's name and its text, percent-decoded and empty where
        there is none, and returns the text to keep; raises
        L{nanotun.errors.ConfigError} with the end of a sentence that begins with the
        setting's name: C{"must ..."}.
    @ivar isFile: whether the text is the path of a file that is read.
    @ivar help: what it does, for the sample configuration; empty to say nothing.
    @ivar example: a text for the sample configuration; empty for the C{metavar}.
    """

    metavar: str
    check: Callable[[str, str], str]
    isFile: bool = False
    help: str = ""
    example: str = ""


class NeededFiles(NamedTuple):
    """
    The files that a URL needs while the daemon runs, by path.

    @ivar read: files that are read.
    @ivar written: files that are written, unix sockets included: connect(2) needs the
        right to write.
    """

    read: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


class ProxyURL(NamedTuple):
    """
    A proxy's URL, checked.  L{str} and L{repr} hide the password.

    @ivar host: a name without a dot at its end, an IP address without brackets, or
        the absolute path of a unix socket; empty where the scheme takes no address.
    @ivar port: 1 to 65535; 0 for a unix socket and where there is no host.
    @ivar username: percent-decoded; L{None} if there is none.
    @ivar password: percent-decoded; L{None} if there is none.
    @ivar options: names and texts of the options given, in the order of their names.
        They are no secrets: logs show them.
    @ivar template: the user name as it is written, if it has fields to be filled for each
        program; shown in place of the name, so that logs have one text for all programs.
        See L{nanotun.upstream.url.expanded}.
    """

    scheme: IScheme
    host: str = ""
    port: int = 0
    username: str | None = None
    password: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    template: str = ""

    @property
    def socketPath(self) -> str:
        """The path of the unix socket; empty if the proxy is not behind one."""
        return self.host if self.host.startswith("/") else ""

    @property
    def credentials(self) -> tuple[bytes, bytes] | None:
        """User name and password in UTF-8, the password perhaps empty; L{None} for no user."""
        if self.username is None:
            return None
        return self.username.encode(), (self.password or "").encode()

    def option(self, name: str) -> str:
        """The text of an option; empty if it was not given."""
        return dict(self.options).get(name, "")

    def __str__(self) -> str:
        user = self.template or quote(self.username or "", safe="")
        if self.password is not None:
            user += ":***"
        if user:
            user += "@"
        if self.socketPath:
            place = quote(self.host)
        elif self.host:
            place = f"[{self.host}]" if ":" in self.host else self.host
            place += f":{self.port}"
        else:
            place = ""
        query = "&".join(f"{name}={quote(text)}" for name, text in self.options)
        return f"{self.scheme.name}://{user}{place}{'?' if query else ''}{query}"

    def __repr__(self) -> str:
        return f"<ProxyURL {self}>"


class UpstreamSettings(NamedTuple):
    """
    What the settings say about one upstream.

    @ivar name: what rules and scripts call it.
    @ivar proxy: at least one; several are a group.
    @ivar policy: which of several; empty for that of the setting C{proxyPolicy}.
    @ivar via: the name of the upstream through which its proxies are dialled; empty for none.
    @ivar passwordFile: a path, or the empty string for none.
    """

    name: str
    proxy: tuple[ProxyURL, ...]
    policy: str = ""
    via: str = ""
    passwordFile: str = ""


class Via(NamedTuple):
    """
    The upstream through which proxies are dialled.

    @ivar name: as the settings name it.
    @ivar mayBeDirect: whether it is a group with C{direct://}, which dials them with this
        machine's own sockets.
    """

    name: str
    upstream: IUpstream
    mayBeDirect: bool = False


class UpstreamContext(NamedTuple):
    """
    What the upstreams of one configuration are made with.

    @ivar timeout: seconds for one connection, all steps together.
    @ivar openStream: makes a marked, non-blocking TCP or unix socket; takes
        C{AF_INET}, C{AF_INET6} or C{AF_UNIX}, and raises
        L{nanotun.errors.UpstreamError}.
    @ivar openDatagram: the same for UDP; takes C{AF_INET} or C{AF_INET6}.
    @ivar leadsIn: whether a marked packet to a literal address would come back into
        the device, so that nothing may be sent there.
    @ivar poolSize: how many connections to each proxy are kept ready.
    @ivar services: the parent of services that keep them; L{None} where nothing is
        ever started.
    @ivar servers: where a trial of a proxy's UDP relay may send a DNS query.
    @ivar via: through which the proxies are dialled; L{None} if by this machine's sockets.
    @ivar addresses: finds what is known of a host's addresses, common to all upstreams;
        takes the host and the port.  L{None} for nothing in common.
    @ivar mark: of the sockets that C{openStream} makes, so that the engine may make them too;
        L{None} if it may not.
    @ivar changed: to be called when a dial plan that was given out as standing may no longer
        hold.
    @ivar settle: to be called before a fault of a proxy counts: it has the successes told that
        came before.  Those of standing decisions are told seconds later otherwise.
    @ivar shared: what is worth making once for all upstreams that can use it, by what it is
        made of.  L{None} for nothing in common.
    @ivar tls: speaks TLS with proxies; L{None} where nothing is ever dialled.
    """

    reactor: Any
    timeout: float
    openStream: Callable[[int], socket.socket]
    openDatagram: Callable[[int], socket.socket]
    leadsIn: Callable[[str], bool] = lambda host: False
    poolSize: int = 0
    services: IServiceCollection | None = None
    servers: Sequence[Endpoint] = ()
    via: Via | None = None
    addresses: Callable[[str, int], Any] | None = None
    shared: dict[Any, Any] | None = None
    mark: int | None = None
    changed: Callable[[], None] = lambda: None
    settle: Callable[[], None] = lambda: None
    tls: ITls | None = None


class IScheme(Interface):
    """
    A scheme of proxy URLs: what its URLs may hold, and the upstream that one stands
    for.  L{nanotun.upstream.scheme.Scheme} provides it with defaults for everything
    but the name and the constructor.
    """

    name = Attribute("In lower case, without C{://}.")
    defaultPort = Attribute("The TCP port of a URL without one; L{None} if URLs take no address.")
    authentication = Attribute("An L{Authentication}.")
    credentialLimit = Attribute("Bytes that a user name or a password may have, in UTF-8.")
    forbidden = Attribute("A regular expression for what no user name holds; empty for none.")
    options = Attribute("Name to L{Option}.")
    unixSocket = Attribute("Whether the path of a unix socket may stand in place of the host.")
    sendsNames = Attribute("Whether the proxy is sent names, for it to look up.")
    carriesDatagrams = Attribute("Whether proxies of this scheme can carry UDP.")
    dialsDestination = Attribute("Whether flows leave by sockets to the destination itself.")

    def check(url: ProxyURL) -> None:
        """
        Check what no part of a URL shows by itself.

        @param url: all parts of it are good.
        @raise nanotun.errors.ConfigError: with the end of a sentence, as for
            L{Option.check}.
        """

    def files(url: ProxyURL) -> NeededFiles:
        """The files that a URL needs."""

    def notices(url: ProxyURL) -> tuple[str, ...]:
        """Sentences that a user of this URL should read when the daemon starts."""

    def make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
        """
        Make the upstream that a URL stands for.  Opens and starts nothing.

        @return: provides L{nanotun.interfaces.IHealthCheck} too.
        @raise nanotun.errors.ConfigError: a file that the URL names is no good; with a
            whole sentence.
        """
