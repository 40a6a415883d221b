"""
Every setting, once.

To add one, add a field to the class of its group below and run C{make texts}; L{entry}
says what follows from it.  The fields' order is that of the sample file and the help.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanotun.config import values
from nanotun.config.dnskeys import DNSSettings
from nanotun.config.entry import REFUSED, InRun, keysOf, setting
from nanotun.config.observedkeys import ObservedSettings
from nanotun.config.proxykeys import ProxySettings
from nanotun.config.rulekeys import RuleSettings
from nanotun.config.scriptkeys import ScriptSettings
from nanotun.config.selectors import Selector, kernelSelectors
from nanotun.rundir import RUN_DIR

MTU_MIN = 1280  #: Bytes; RFC 8200, section 5: less cannot carry IPv6.
MTU_MAX = 65535  #: Bytes; what an IPv4 packet's length field can say.


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
        "TCP for this machine's flows: `gvisor` (all of it) or `simple` (a third less CPU)",
        flag="stack",
        doc="The packet engine: gvisor serves all flows by gVisor's netstack; simple serves those "
        "of this machine by a small TCP of nanotun's, which takes a third less CPU.",
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
    resolvConf: str = setting(
        values.Choice("auto", "off"),
        "auto",
        "MODE",
        "/etc/resolv.conf of a container under autoDefaultRoute: `auto` (names only the relay) or "
        "`off`",
        doc="What becomes of /etc/resolv.conf in a container under autoDefaultRoute: auto has it "
        "name the relay alone, and puts it back at the end; off leaves it as it is.  Elsewhere "
        "it is always left alone, and the firewall redirects queries.",
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
    ProxySettings,
    DeviceSettings,
    DNSSettings,
    RuleSettings,
    ScriptSettings,
    RouteSettings,
    DaemonSettings,
    ObservedSettings,
):
    """The whole configuration, checked; the names are those of the file."""


#: The groups, in the order of the sample file.
GROUPS: tuple[type, ...] = Settings.__bases__

#: What the help calls each; some share a line, or it would not fit a screen.
TITLES = ("proxy", "device", "DNS", "rules", "rules", "rules", "general", "general")

#: Every setting by its name, in the order of the sample file.
KEYS = {key.name: key for group in GROUPS for key in keysOf(group)}
