"""
Every setting, once: its name in the file, its flag, its range, its default and its
help.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nanotun.config import values as checks
from nanotun.config.networks import lanPorts, networks
from nanotun.config.selectors import selectors
from nanotun.errors import ConfigError
from nanotun.upstream.url import ProxyURL, parseProxyURL

MTU_MIN = 1280  #: Bytes; RFC 8200, section 5: less cannot carry IPv6.
MTU_MAX = 65535  #: Bytes; what an IPv4 packet's length field can say.
PROXY_LIMIT = 16  #: Proxies; each is checked, and no flow tries more than two.
POOL_LIMIT = 64  #: Connections; a browser opens no more at a time.
DNS_CACHE_LIMIT = 1_000_000  #: Answers; more than any number of apps asks for.


def _proxies(value: object) -> tuple[ProxyURL, ...]:
    texts = value if isinstance(value, list) else [value]
    if not 1 <= len(texts) <= PROXY_LIMIT or not all(isinstance(each, str) for each in texts):
        raise ConfigError(
            f"must be a URL, such as socks5://host:port, or a list of 1 to {PROXY_LIMIT} of them"
        )
    urls = []
    for number, text in enumerate(texts, 1):
        try:
            urls.append(parseProxyURL(text))
        except ConfigError as error:
            if len(texts) == 1:
                raise
            raise ConfigError(
                f"{error} (in URL {number} of {len(texts)}; a comma in one is written %2C)"
            ) from None
    return tuple(dict.fromkeys(urls))


class Key(NamedTuple):
    """
    One setting.

    @ivar check: takes the value and returns what L{Settings} holds; raises
        L{ConfigError} with the end of a sentence, C{"must be ..."}.
    @ivar default: as it would stand in the file; L{None} if it must be given.
    @ivar metavar: what the help calls the value.
    """

    name: str
    flag: str
    check: Callable[[object], Any]
    default: str | int | None
    metavar: str
    help: str


KEYS = {
    key.name: key
    for key in (
        Key(
            "proxy",
            "proxy",
            _proxies,
            None,
            "socks5://host:port",
            "socks5, socks5h, socks4, socks4a, http or https ://[user:password@]host[:port]; "
            "direct:// for no proxy, reject:// for no connections; more behind commas",
        ),
        Key(
            "proxyPasswordFile",
            "proxy-password-file",
            checks.path("a file's path, or '' for none"),
            "",
            "FILE",
            "file with the proxy's password, for a proxy with a user name only",
        ),
        Key(
            "proxyPolicy",
            "proxy-policy",
            checks.Choice("failover", "round-robin", "least-latency"),
            "failover",
            "POLICY",
            "which of several proxies: failover (the first that works), round-robin or "
            "least-latency",
        ),
        Key(
            "proxyCheckInterval",
            "proxy-check-interval",
            # Less is a load on the proxy; more finds out from a user's flow first.
            checks.duration("1s", "1h", "30s or 5m"),
            "30s",
            "DURATION",
            "how often an idle one of several proxies is checked, 1s to 1h",
        ),
        Key(
            "upstreamPool",
            "upstream-pool",
            checks.number(0, POOL_LIMIT, "connections"),
            0,
            "CONNECTIONS",
            f"connections to the proxy to keep ready for flows to come, 0 to {POOL_LIMIT}",
        ),
        Key("tunName", "tun", checks.tunName, "nano0", "NAME", "name of the TUN device"),
        Key(
            "mtu",
            "mtu",
            checks.number(MTU_MIN, MTU_MAX, "bytes"),
            1500,
            "BYTES",
            f"MTU of the TUN device, {MTU_MIN} to {MTU_MAX}",
        ),
        Key(
            "stackMode",
            "stack",
            checks.Choice("gvisor", "simple"),
            "gvisor",
            "MODE",
            "packet engine: gvisor (everything) or simple (less overhead)",
        ),
        Key(
            "offload",
            "offload",
            checks.Choice("auto", "on", "off"),
            "auto",
            "MODE",
            "segmentation offload: auto (try it at start), on or off",
        ),
        Key(
            "connectTimeout",
            "connect-timeout",
            # Less fails on proxies that are merely far away; no app waits longer.
            checks.duration("100ms", "5m", "10s or 1m30s"),
            "10s",
            "DURATION",
            "how long a connection may take to open, 100ms to 5m",
        ),
        Key(
            "udpTimeout",
            "udp-timeout",
            # Less ends what is only thinking; RFC 4787, section 4.3, asks for two
            # minutes, and an hour is more than any NAT on the way grants.
            checks.duration("1s", "1h", "1m or 2m30s"),
            "1m",
            "DURATION",
            "how long a UDP association lives without datagrams, 1s to 1h",
        ),
        Key(
            "dns",
            "dns",
            checks.dnsServers,
            "8.8.8.8",
            "ADDRESS",
            "DNS server for the gateway's relay, with a port or without; more behind commas",
        ),
        Key(
            "dnsOverride",
            "dns-override",
            checks.boolean,
            "false",
            "BOOL",
            "true: the relay answers DNS queries to any server",
        ),
        Key(
            "dnsCache",
            "dns-cache",
            checks.boolean,
            "true",
            "BOOL",
            "whether the relay remembers answers, true or false",
        ),
        Key(
            "dnsCacheSize",
            "dns-cache-size",
            checks.number(1, DNS_CACHE_LIMIT, "answers"),
            4096,
            "ANSWERS",
            f"how many answers the relay remembers, 1 to {DNS_CACHE_LIMIT}",
        ),
        Key(
            "dnsMode",
            "dns-mode",
            checks.Choice("normal", "fake-ip"),
            "normal",
            "MODE",
            "DNS answers of the relay: normal, or fake-ip (addresses that stand for names)",
        ),
        Key(
            "dnsStateFile",
            "dns-state-file",
            checks.path("a file's path, or '' for none"),
            "/var/lib/nanotun/fakeip.json",
            "FILE",
            "where fake-ip keeps its names across restarts; '' for nowhere",
        ),
        Key(
            "fakeIpExclude",
            "fake-ip-exclude",
            checks.domains,
            "",
            "DOMAIN",
            "names that fake-ip leaves alone, with all below; more behind commas",
        ),
        Key(
            "excludedProcesses",
            "exclude",
            selectors,
            "",
            "PROCESS",
            "processes that go past the proxy: a name, a /path, pid:N, uid:N or name, "
            "cgroup:/PATH or unit:NAME; more behind commas",
        ),
        Key(
            "excludeChildren",
            "exclude-children",
            checks.boolean,
            "false",
            "BOOL",
            "whether what an excluded process has started is excluded too, true or false",
        ),
        Key(
            "excludeRefresh",
            "exclude-refresh",
            # Less is a scan without end on a machine of many processes.
            checks.duration("1s", "1h", "15s or 1m"),
            "15s",
            "DURATION",
            "how often the table of excluded processes is made anew, 1s to 1h",
        ),
        Key(
            "excludedIPs",
            "exclude-ip",
            networks,
            "",
            "ADDRESS",
            "addresses and networks (CIDR) that go past the proxy; more behind commas",
        ),
        Key(
            "lan",
            "lan",
            checks.Choice("direct", "proxy"),
            "direct",
            "WAY",
            "local networks and reserved addresses: direct (past the proxy) or proxy",
        ),
        Key(
            "lanOnlyPorts",
            "lan-only-ports",
            lanPorts,
            "tcp:139,tcp:445,udp:137,udp:138,udp:445,udp:5353",
            "PORTS",
            "ports that never reach the proxy; '' for none",
        ),
        Key(
            "autoDefaultRoute",
            "auto-route",
            checks.boolean,
            "false",
            "BOOL",
            "send the whole machine's traffic and DNS through the tunnel",
        ),
        Key(
            "ipv6",
            "ipv6",
            checks.Choice("auto", "capture", "block"),
            "auto",
            "MODE",
            "IPv6 under autoDefaultRoute: capture, block (unreachable) or auto",
        ),
        Key(
            "killSwitch",
            "kill-switch",
            checks.boolean,
            "false",
            "BOOL",
            "whether traffic stays in when the daemon is gone, true or false",
        ),
        Key(
            "runDir",
            "run-dir",
            checks.wholePath,
            "/run/nanotun",
            "DIR",
            "directory of the control socket, the lock and the routes' journal",
        ),
        Key(
            "logLevel",
            "log-level",
            checks.Choice("debug", "info", "warn", "error"),
            "info",
            "LEVEL",
            "what to log: debug, info, warn or error",
        ),
        Key(
            "logDir",
            "log-dir",
            checks.path("a directory's path, or '' for no log files"),
            "logs",
            "DIR",
            "directory of the log files; '' for none",
        ),
        Key(
            "logFormat",
            "log-format",
            checks.Choice("text", "json"),
            "text",
            "FORMAT",
            "log lines: text, or json (one object a line)",
        ),
    )
}
