"""
The settings of what decides where flows go; a part of L{nanotun.config.keys}.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanotun.config import values
from nanotun.config.entry import REFUSED, InRun, setting
from nanotun.config.flowrules import FlowRule, rules
from nanotun.config.networks import Network, lanPorts, networks, portNumbers
from nanotun.config.selectors import Selector, selectors
from nanotun.flow import Protocol

#: Kept as they are in the sample file, because they begin with spaces.
_SAMPLE = """
  rules:
    - {to: direct, domains: [corp.example, "=intranet.example"]}
    - {to: reject, domains: "file:/etc/nanotun/blocked.txt"}
"""


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """
    Rules of the user's own, destinations and processes that bypass the proxy, and ports for
    local networks only.

    @ivar excludedProcesses: the processes whose flows bypass the proxy.
    @ivar excludeRefresh: seconds between two scans of the processes.
    @ivar excludedIPs: the destinations that are reached without the proxy.
    @ivar lanOnlyPorts: the ports that are for local networks only, by protocol.
    @ivar rules: in their order.
    @ivar default: one of L{nanotun.config.upstreams.upstreamNames}.
    @ivar countryFile: a path, or the empty string for none.
    @ivar sniffPorts: the TCP and UDP ports that C{sniff} is about.
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
    rules: tuple[FlowRule, ...] = setting(
        rules,
        "",
        "RULE",
        "where connections go, by domain, network, country, process, port, source and time; the "
        "first rule that matches decides; `--rule` takes one as YAML",
        flag="rule",
        doc="Where connections go.  The first rule whose conditions all hold decides; what no "
        f"rule is about goes where default says.  docs/rules.md has every condition.{_SAMPLE}",
        live=True,
        rights=True,
        repeats=True,
        structured=True,
        run=InRun(
            metavar="RULE",
            help="where connections go, such as '{to: reject, domains: [ads.example]}'",
        ),
    )
    default: str = setting(
        values.upstreamName,
        "proxy",
        "NAME",
        "where connections go that no rule is about: an upstream, `direct`, `reject` or `drop`",
        doc="Where connections go that no rule, and nothing else in this file, is about: proxy, "
        "another upstream, direct, reject or drop.",
        live=True,
        run=InRun(
            fixed="proxy",
            guarded=True,
            metavar="NAME",
            help="where connections go that no rule is about [proxy]",
        ),
    )
    countryFile: str = setting(
        values.path("a file's path, or '' for none"),
        "",
        "FILE",
        "MaxMind DB that says which country an address is in, for rules with `countries`",
        doc="A file in MaxMind's format that says which country an address is in, such as "
        "/var/lib/GeoIP/GeoLite2-Country.mmdb, for rules with countries.",
        live=True,
        rights=True,
    )
    sniff: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "read the name from TLS, HTTP and QUIC where a rule or script needs it and none is known",
        doc="Whether to read the name that a connection asks for from its first bytes (TLS, "
        "HTTP, QUIC), where a rule or script is about names and none is known.  A program then "
        "sees its connection open before the destination has answered.",
        live=True,
    )
    sniffPorts: tuple[int, ...] = setting(
        portNumbers,
        "80,443",
        "PORTS",
        "ports whose first bytes may be read with sniff",
        doc="The ports on which sniff reads names.",
        live=True,
        repeats=True,
    )
