"""
Every setting, once.

To add one, add a field to the class of its group below and run C{make texts}; L{entry}
says what follows from it.  The fields' order is that of the sample file and the help.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanotun.config import values
from nanotun.config.dnskeys import DNSSettings
from nanotun.config.entry import InRun, keysOf, setting
from nanotun.config.networks import Network, lanPorts, networks
from nanotun.config.proxykeys import ProxySettings
from nanotun.config.selectors import Selector, kernelSelectors, selectors
from nanotun.flow import Protocol
from nanotun.rundir import RUN_DIR

MTU_MIN = 1280  #: Bytes; RFC 8200, section 5: less cannot carry IPv6.
MTU_MAX = 65535  #: Bytes; what an IPv4 packet's length field can say.

#: For a setting of this machine's routes or processes, or of the daemon's files.
REFUSED = InRun(refused=True)


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
    """
    What is changed about the machine.

    @ivar onlyProcesses: the users, control groups and units whose traffic alone enters the
        tunnel; empty for all.
    """

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
    onlyProcesses: tuple[Selector, ...] = setting(
        kernelSelectors,
        "",
        "PROCESS",
        "under autoDefaultRoute, the only programs whose traffic enters the tunnel: `uid:N` or "
        "name, `cgroup:/PATH` or `unit:NAME`; several with commas",
        flag="only",
        doc="Under autoDefaultRoute, the only programs whose traffic enters the tunnel; "
        "everything else is left as it would be without nanotun.  The kernel tells them apart, "
        "so they are users, control groups and units: [uid:ann, unit:app.service].  For "
        "programs by name, set default: direct and write rules.",
        repeats=True,
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
    The daemon's files, logs and reloads.

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
    reloadFlows: str = setting(
        values.Choice("keep", "judge"),
        "keep",
        "MODE",
        "open connections at a reload: `keep` them all, or `judge` them again and end those that "
        "would go elsewhere",
        doc="What a reload does with open connections: keep leaves them alone; judge applies the "
        "new rules to them and ends those that would go elsewhere now.  With judge, nanotun "
        "remembers every open connection.",
        live=True,
        run=REFUSED,
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
