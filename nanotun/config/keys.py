"""
Every setting, once.

To add one, add a field to the class of its group below and run C{make texts}; L{entry}
says what follows from it.  The fields' order is that of the sample file and the help.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap

from nanotun.config import values
from nanotun.config.dnskeys import DNSSettings
from nanotun.config.entry import InRun, keysOf, setting
from nanotun.config.networks import Network, lanPorts, networks
from nanotun.config.selectors import Selector, selectors
from nanotun.flow import Protocol
from nanotun.interfaces import IScheme, ProxyURL
from nanotun.rundir import RUN_DIR
from nanotun.upstream.schemes.table import BUILT_IN

MTU_MIN = 1280  #: Bytes; RFC 8200, section 5: less cannot carry IPv6.
MTU_MAX = 65535  #: Bytes; what an IPv4 packet's length field can say.
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


#: For a setting of this machine's routes or processes, or of the daemon's files.
REFUSED = InRun(refused=True)


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """
    The proxies.

    @ivar proxy: at least one, in order of preference.
    @ivar proxyPasswordFile: a path, or the empty string for none.
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
password as %40, %3A, %2F, %3F or %23.  socks5:///run/proxy.sock is a unix socket.
{optionLines(PROXIES)}
""",
        example="socks5://127.0.0.1:1080",
        live=True,
        rights=True,
        repeats=True,
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
        values.Choice("failover", "round-robin", "least-latency"),
        "failover",
        "POLICY",
        "which of several proxies: `failover` (the first that works), `round-robin` or "
        "`least-latency`",
        doc="There may be several proxies, [socks5://a.example, socks5://b.example], of which "
        "each connection takes one that works: failover prefers them in this order, "
        "round-robin takes them in turn, least-latency takes the one that answers soonest.  "
        "A connection whose proxy fails is tried through another one; connections that are "
        "open stay.",
        live=True,
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


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """
    The TUN device and the packet engine.

    @ivar mtu: bytes.
    @ivar udpTimeout: seconds after which an idle association ends.
    """

    tunName: str = setting(
        values.tunName,
        "nano0",
        "NAME",
        "name of the TUN device",
        flag="tun",
        doc="The name of the TUN device: at most 15 characters.",
        run=REFUSED,
    )
    mtu: int = setting(
        values.number(MTU_MIN, MTU_MAX, "bytes"),
        1500,
        "BYTES",
        f"MTU of the TUN device, {MTU_MIN} to {MTU_MAX}",
        doc=f"The device's MTU in bytes, {MTU_MIN} to {MTU_MAX}.",
    )
    stackMode: str = setting(
        values.Choice("gvisor", "simple"),
        "gvisor",
        "MODE",
        "packet engine: `gvisor` (everything) or `simple` (less overhead)",
        flag="stack",
        doc="The packet engine: gvisor is the whole of gVisor's netstack, simple has less "
        "overhead.",
    )
    offload: str = setting(
        values.Choice("auto", "on", "off"),
        "auto",
        "MODE",
        "segmentation offload: `auto` (try it at start), `on` or `off`",
        doc="Segmentation offload, which makes the tunnel several times as fast: auto tests at "
        "the start whether this kernel gets it right; on and off do not test.",
    )
    udpTimeout: float = setting(
        # Shorter ends an app that is only thinking; RFC 4787, section 4.3, asks for two
        # minutes, and no NAT on the path keeps a mapping for longer than an hour.
        values.duration("1s", "1h", "1m or 2m30s"),
        "1m",
        "DURATION",
        "how long a UDP association lives without datagrams, 1s to 1h",
        doc="How long a UDP association lives without a datagram: 1s to 1h.  It is one outside "
        "address for one port of one app, and takes a connection to the proxy.",
    )


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """
    Destinations and processes that bypass the proxy, and ports for local networks only.

    @ivar excludedProcesses: the processes whose flows bypass the proxy.
    @ivar excludeRefresh: seconds between two scans of the processes.
    @ivar excludedIPs: the destinations that are reached without the proxy.
    @ivar lanOnlyPorts: the ports that are for local networks only, by protocol.
    """

    excludedProcesses: tuple[Selector, ...] = setting(
        selectors,
        "",
        "PROCESS",
        "processes that bypass the proxy: a name, a `/path`, `pid:N`, `uid:N` or name, "
        "`cgroup:/PATH` or `unit:NAME`; several with commas",
        flag="exclude",
        doc="Programs whose connections bypass the proxy, in a list or with commas: a name "
        "such as curl, a path such as /usr/bin/curl, pid:123, uid:1000 or uid:ann, "
        "cgroup:/system.slice/x.service or unit:x.service.",
        live=True,
        routed=True,
        rights=True,
        repeats=True,
        run=REFUSED,
    )
    excludeChildren: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "whether what an excluded process has started is excluded too",
        doc="Whether programs that such a program has started bypass the proxy too.",
        live=True,
        run=REFUSED,
    )
    excludeRefresh: float = setting(
        # More often is an endless scan on a machine of many processes.
        values.duration("1s", "1h", "15s or 1m"),
        "15s",
        "DURATION",
        "how often the table of excluded processes is rebuilt, 1s to 1h",
        doc="How often the table of these programs is rebuilt, 1s to 1h.  One that has "
        "started since is found all the same.",
        live=True,
        run=REFUSED,
    )
    excludedIPs: tuple[Network, ...] = setting(
        networks,
        "",
        "ADDRESS",
        "addresses and networks (CIDR) that bypass the proxy; several with commas",
        flag="exclude-ip",
        doc="Addresses and networks that bypass the proxy, such as [192.0.2.7, 2001:db8::/32].  "
        "DNS servers among them are asked directly by whoever asks them.",
        live=True,
        repeats=True,
        run=InRun(
            fixed="",
            guarded=True,
            metavar="NETWORK",
            help="addresses reached past the proxy [none]",
        ),
    )
    lan: str = setting(
        values.Choice("direct", "proxy"),
        "direct",
        "MODE",
        "local networks and reserved addresses: `direct` (past the proxy) or `proxy`",
        doc="Local networks and all other addresses that belong to nobody on the Internet: "
        "direct lets them bypass the proxy, proxy sends them there.",
        live=True,
        routed=True,
        run=InRun(
            fixed="proxy",
            guarded=True,
            metavar="direct",
            help="reach local networks past the proxy",
        ),
    )
    lanOnlyPorts: frozenset[tuple[Protocol, int]] = setting(
        lanPorts,
        "tcp:139,tcp:445,udp:137,udp:138,udp:445,udp:5353",
        "PORTS",
        "ports for local networks only (file shares, mDNS), refused elsewhere; `''` for none",
        doc="Ports that are for local networks only: private, link-local and connected ones.  "
        "They never reach the proxy, and to any other address they are refused.  [] makes them "
        "ports like any other.",
        live=True,
        run=InRun(
            fixed="",
            guarded=True,
            metavar="PORTS",
            help="ports, such as tcp:445, reached past the proxy in local networks and refused "
            "elsewhere [none]",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class RouteSettings:
    """What is changed about the machine."""

    autoDefaultRoute: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "send the whole machine's traffic and DNS through the tunnel",
        flag="auto-route",
        doc="Whether to send the whole machine's traffic and DNS through the tunnel.  "
        "Everything is taken back at the end; after a crash by the next start, or by "
        "'nanotun recover'.",
        off="change no route, whatever the configuration file says",
        run=REFUSED,
    )
    ipv6: str = setting(
        values.Choice("auto", "capture", "block"),
        "auto",
        "MODE",
        "IPv6 under autoDefaultRoute: `capture`, `block` (unreachable) or `auto` (capture where "
        "the machine has it)",
        doc="What becomes of IPv6 under autoDefaultRoute: capture sends it through the tunnel, "
        "block makes it unreachable, auto captures it where this machine has it.  It never "
        "goes around the tunnel.",
        run=REFUSED,
    )
    killSwitch: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "under autoDefaultRoute, whether traffic stays in when the daemon is gone",
        doc="Under autoDefaultRoute, whether traffic stays in when the daemon ends in any other "
        "way than by a stop: a crash, a lost device, a restart.  Only the local network and SSH "
        "get out then, until the next start or 'nanotun recover'; if lan is proxy, SSH only.",
        run=REFUSED,
    )


@dataclass(frozen=True, kw_only=True)
class DaemonSettings:
    """
    The daemon's files and logs.

    @ivar runDir: the directory of files that last as long as the daemon, or until a crash
        is cleaned up.
    @ivar logDir: a path, or the empty string for no log files.
    """

    runDir: str = setting(
        values.wholePath,
        RUN_DIR,
        "DIR",
        "directory of the control socket, the lock and the routes' journal",
        doc="The directory of files that last as long as the daemon: the control socket, the "
        "lock that keeps a second one out, and the journal of changed routes.",
        run=REFUSED,
    )
    logLevel: str = setting(
        values.Choice("debug", "info", "warn", "error"),
        "info",
        "LEVEL",
        "what to log: `debug`, `info`, `warn` or `error`",
        live=True,
        run=InRun(
            fixed="error",
            metavar="LEVEL",
            help="show log lines: debug, info or warn [errors only]",
        ),
    )
    logDir: str = setting(
        values.path("a directory's path, or '' for no log files"),
        "logs",
        "DIR",
        "directory of the log files; `''` for none",
        doc="The directory of the log files, nanotun-YYYY-MM-DD.log, of which three days are "
        "kept; '' for none.  A relative path begins in the directory that twistd is started "
        "in.",
        live=True,
        run=InRun(fixed="", metavar="DIR", help="write log lines to files there [none]"),
    )
    logFormat: str = setting(
        values.Choice("text", "json"),
        "text",
        "FORMAT",
        "log lines: `text`, or `json` (one object a line)",
        live=True,
    )


@dataclass(frozen=True, kw_only=True)
class Settings(
    ProxySettings, DeviceSettings, DNSSettings, RuleSettings, RouteSettings, DaemonSettings
):
    """The whole configuration, checked; the names are those of the file."""


#: The groups, in the order of the sample file.
GROUPS: tuple[type, ...] = Settings.__bases__

#: What the help calls each.
TITLES = ("proxy", "device", "DNS", "rules", "routes", "daemon")

#: Every setting by its name, in the order of the sample file.
KEYS = {key.name: key for group in GROUPS for key in keysOf(group)}
