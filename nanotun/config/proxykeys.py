"""
The settings of proxies; a part of L{nanotun.config.keys}.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap

from nanotun.config import upstreamentries as named
from nanotun.config import values
from nanotun.config.entry import InRun, setting
from nanotun.interfaces import IScheme, ProxyURL, UpstreamSettings
from nanotun.upstream.schemes.table import BUILT_IN

POOL_LIMIT = 64  #: Connections; a browser opens no more at a time.
DOC_WIDTH = 76  #: Characters; the sample file puts a comment's two before each line.

#: nanotun's own schemes of proxies.
PROXIES = tuple(scheme for scheme in BUILT_IN if scheme.defaultPort is not None)

#: The same for help, with the form of a URL.
SCHEMES = (
    f"{', '.join(f'`{scheme.name}`' for scheme in PROXIES[:-1])} or `{PROXIES[-1].name}` "
    "`://[user:password@]host[:port]`"
)


def optionLines(schemes: Iterable[IScheme]) -> str:
    """
    The options of URLs, each once with the first scheme that has it, for the sample file.

    @return: lines that are not broken again, because they begin with spaces.
    """
    found: dict[str, tuple[str, str]] = {}
    for scheme in schemes:
        for name, option in scheme.options.items():
            text = option.example or option.metavar
            found.setdefault(name, (f"{scheme.name}://host?{name}={text}", option.help))
    column = 5 + max((len(url) for url, _ in found.values()), default=0)
    lines: list[str] = []
    for url, help in found.values():
        first, *more = wrap(help, max(DOC_WIDTH - column, 20)) or [""]
        lines.append(f"{f'  {url}':{column}}{first}".rstrip())
        lines += (f"{'':{column}}{line}" for line in more)
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """
    The proxies.

    @ivar proxy: at least one, in order of preference.
    @ivar proxyPasswordFile: a path, or the empty string for none.
    @ivar proxyVia: the upstream through which it is dialled, or the empty string for none.
    @ivar upstreams: the upstreams besides; see L{nanotun.config.upstreamentries}.
    @ivar proxyCheckInterval: seconds between two checks of an idle proxy.
    @ivar upstreamPool: the number of connections kept ready.
    @ivar connectTimeout: seconds for connect, handshake and reply together.
    """

    proxy: tuple[ProxyURL, ...] = setting(
        values.proxies,
        None,
        "socks5://host:port",
        f"{SCHEMES}; `direct://` for no proxy, `reject://` for no connections; several with commas",
        doc=f"""
Where all connections go: SCHEME://[user:password@]host[:port], where the scheme, with its
port, is {", ".join(f"{each.name} ({each.defaultPort})" for each in PROXIES[:-1])} or
{PROXIES[-1].name} ({PROXIES[-1].defaultPort}); or direct:// to let them out as they are,
or reject:// to have none.  An IPv6 address is written in brackets, and @ : / ? or # in a
password as %40, %3A, %2F, %3F or %23.  socks5:///run/proxy.sock is a unix socket.  Rules know
all this as the upstream proxy.
{optionLines(PROXIES)}
""",
        example="socks5://127.0.0.1:1080",
        live=True,
        rights=True,
        repeats=True,
        secret=True,
        run=InRun(
            metavar="URL",
            help=f"the proxy: {SCHEMES.replace('`', '')}; without it, the variable ALL_PROXY",
        ),
    )
    proxyPasswordFile: str = setting(
        values.path("a file's path, or '' for none"),
        "",
        "FILE",
        "file with the proxy's password, for a proxy with a user name only",
        doc="A file with the proxy's password, for a proxy with a user name and no password "
        "above.  Without such a file, the environment variable NANOTUN_PROXY_PASSWORD.",
        live=True,
    )
    proxyPolicy: str = setting(
        named.policy,
        "failover",
        "POLICY",
        "which of several proxies: `failover` (the first that works), `round-robin` or "
        "`least-latency`",
        doc="There may be several proxies, [socks5://a.example, socks5://b.example], of which "
        "each connection takes one that works: failover prefers them in this order, "
        "round-robin takes them in turn, least-latency takes the one that answers soonest.  "
        "A connection whose proxy fails is tried through another one; connections that are "
        "open stay.  Upstreams that name no policy use this one, too.",
        live=True,
    )
    proxyVia: str = setting(
        named.via,
        "",
        "NAME",
        "upstream through which the proxy itself is reached",
        doc="The name of an upstream through which the proxy itself is dialled: a chain of "
        "proxies.  Such a chain carries TCP only.",
        live=True,
        rights=True,
    )
    upstreams: tuple[UpstreamSettings, ...] = setting(
        named.checked,
        "",
        "NAME=URL",
        "more ways out, by name, for rules to send connections to: `NAME=URL`",
        flag="upstream",
        doc="""
More ways out, by name, for rules to send connections to.  proxy above is one as well; direct
(past every proxy), reject and drop are built in.  A name has lower-case letters, digits and
dashes.
  upstreams:
    office: socks5://ann@gate.example
    abroad: [socks5://a.example, http://b.example]
    deep: {proxy: https://ann@c.example, via: office, passwordFile: /etc/deep}
via names the upstream through which its proxies are dialled, and policy chooses between
several, as proxyPolicy does.  In a user name, {user}, {uid}, {process} and {source}
stand for the flow's own: each program then has connections of its own.
""",
        live=True,
        rights=True,
        repeats=True,
        secret=True,
    )
    proxyCheckInterval: float = setting(
        # More often is a load on the proxy; more rarely, a user's flow finds out first.
        values.duration("1s", "1h", "30s or 5m"),
        "30s",
        "DURATION",
        "how often an idle proxy is checked, 1s to 1h",
        doc="How often a proxy that no connection uses is checked: 1s to 1h.  One that is down "
        "is checked more often.",
        live=True,
    )
    upstreamPool: int = setting(
        values.number(0, POOL_LIMIT, "connections"),
        0,
        "CONNECTIONS",
        f"connections to the proxy to keep ready for flows to come, 0 to {POOL_LIMIT}",
        doc="How many connections to the proxy to keep ready, greeted and logged in, for flows "
        f"to come: 0 to {POOL_LIMIT}.  Each flow then costs one round trip to the proxy, not "
        "three or four.  Eight serve one user well.",
        live=True,
    )
    connectTimeout: float = setting(
        # Shorter fails on proxies that are merely far away; no app waits longer.
        values.duration("100ms", "5m", "10s or 1m30s"),
        "10s",
        "DURATION",
        "how long a connection may take to open, all steps together, 100ms to 5m",
        live=True,
    )
