"""
The command line of C{nanotun explain}: a flow, described in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from twisted.python import usage

from nanotun.addresses import KERNEL4, KERNEL6
from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.console.explain.owner import describedOwner
from nanotun.flow import Endpoint, Flow, Owner, Protocol

#: Stands for any remote proxy where no configuration is given.
SOME_PROXY = "socks5://proxy.invalid"

#: Source port of the described flow; no rule looks at it.
SOURCE_PORT = 40000


class Described(NamedTuple):
    """
    A flow described on the command line.

    @ivar owner: L{None} if its process was not described.
    @ivar localSource: the source address if the flow is this machine's own; empty with
        C{--from}.
    """

    flow: Flow
    owner: Owner | None
    localSource: str


class ExplainOptions(Options):
    """
    The daemon's options, and those that describe a flow.

    @ivar described: the flow, set by L{readAll}.
    @ivar assumed: whether no configuration was given, so the defaults are used.
    """

    synopsis = "Usage: nanotun explain [options] tcp|udp ADDRESS:PORT"

    longdesc = (
        "Says where a connection, or datagrams, would go, which rule decides that, and why; "
        "nothing is sent. Of the daemon's options those about rules are of interest here."
    )

    optParameters = [
        ["process", None, None, "name or /path of the process whose flow it is"],
        ["pid", None, None, "the process that has this number now"],
        ["uid", None, None, "the user whose flow it is, a name or a number"],
        ["cgroup", None, None, "path of the flow's cgroup, such as /system.slice/x.service"],
        ["from", None, None, "source address, for the flow of another machine"],
    ]

    optFlags = [["json", None, "print one JSON object"]]

    described: Described
    assumed = False

    _words: tuple[str, ...] = ()

    def parseArgs(self, *args: str) -> None:
        """The flow's protocol and destination."""
        if len(args) != 2:
            raise usage.UsageError("give a protocol and a destination, as in tcp 192.0.2.1:443")
        self._words = args

    def postOptions(self) -> None:
        """Does nothing: L{readAll} reads the settings and raises errors to its caller."""

    def readAll(self, uid: int, environment: Mapping[str, str]) -> None:
        """
        Read the settings and the flow's description.

        @raise ConfigError: the settings or the described process are wrong.
        @raise usage.UsageError: the description is wrong.
        """
        self.takeDefault()
        variable = environment.get(KEYS["proxy"].variable)
        if self["config"] is None and self["proxy"] is None and not variable:
            self["proxy"], self.assumed = SOME_PROXY, True
        self.readSettings(uid, environment)
        protocol, destination = _protocol(self._words[0]), _endpoint(self._words[1])
        source, local = self._source(destination)
        owner = self._owner()
        if owner is not None and not local:
            raise usage.UsageError("a flow of another machine (--from) has no process here")
        flow = Flow(1, protocol, Endpoint(source, SOURCE_PORT), destination)
        self.described = Described(flow, owner, source if local else "")

    def _source(self, destination: Endpoint) -> tuple[str, bool]:
        """The source address, and whether it is this machine's own."""
        given: str | None = self["from"]
        if given is None:
            own = KERNEL6 if ":" in destination.host else KERNEL4
            return str(ip_interface(own).ip), True
        try:
            source = ip_address(given)
        except ValueError:
            raise usage.UsageError(f"--from must be an IP address, not {given[:60]!a}") from None
        if source.version != ip_address(destination.host).version:
            raise usage.UsageError("--from and the destination must be of one IP version")
        return str(source), False

    def _owner(self) -> Owner | None:
        words = {name: self[name] for name in ("process", "pid", "uid", "cgroup")}
        if all(word is None for word in words.values()):
            return None
        return describedOwner(self.settings, **words)


def _protocol(word: str) -> Protocol:
    try:
        return Protocol[word.upper()]
    except KeyError:
        raise usage.UsageError(f"the protocol must be tcp or udp, not {word[:40]!a}") from None


def _endpoint(text: str) -> Endpoint:
    match = re.fullmatch(r"\[([^\]]+)\]:([0-9]{1,5})", text) or re.fullmatch(
        r"([^:\[\]]+):([0-9]{1,5})", text
    )
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise usage.UsageError(
            "the destination must be an address and a port, such as 192.0.2.1:443 or "
            f"'[2001:db8::1]:443', not {text[:60]!a}"
        )
    family = AF_INET6 if ":" in match[1] else AF_INET
    try:
        return Endpoint(inet_ntop(family, inet_pton(family, match[1])), int(match[2]))
    except (OSError, ValueError):
        raise usage.UsageError(
            f"{match[1][:60]!a} is not an IP address; rules go by addresses, so look a name up "
            "first, with 'getent ahosts NAME'"
        ) from None
