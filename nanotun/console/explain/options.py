"""
The command line of C{nanotun explain}: a flow, described in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from twisted.python import usage

from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.console.explain.owner import describedProcess
from nanotun.daemon.described import Question, fieldsOf, isAddress

#: Stands for any remote proxy where no configuration is given.
SOME_PROXY = "socks5://proxy.invalid"

#: A label of a host name, of those that a fake address may be given for (RFC 1123, section
#: 2.1, and the underscores of services).
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"

#: Characters of a host name (RFC 1035, section 2.3.4).
_NAME_LIMIT = 253


class ExplainOptions(Options):
    """
    The daemon's options, and those that describe a flow.

    @ivar question: the flow, set by L{readFlow}.
    @ivar assumed: whether no configuration was given, so the defaults are used.
    """

    synopsis = "Usage: nanotun explain [options] tcp|udp HOST:PORT"

    longdesc = (
        "Says where a connection, or datagrams, would go, which rule decides that, and why. The "
        "running daemon answers; without one, or with options of the daemon, the settings do. No "
        "connection is made; a host name is looked up as programs of this machine do, and the "
        "user's script is asked."
    )

    optParameters = [
        ["process", None, None, "name or /path of the process whose flow it is"],
        ["pid", None, None, "the process that has this number now"],
        ["uid", None, None, "the user whose flow it is, a name or a number"],
        ["cgroup", None, None, "path of the flow's cgroup, such as /system.slice/x.service"],
        ["name", None, None, "host name that is known of an address, for rules about names"],
        ["from", None, None, "source address, for the flow of another machine"],
    ]

    optFlags = [["json", None, "print one JSON object"]]

    question: Question
    assumed = False

    _words: tuple[str, ...] = ()

    def parseArgs(self, *args: str) -> None:
        """The flow's protocol and destination."""
        if len(args) != 2:
            raise usage.UsageError("give a protocol and a destination, as in tcp example.org:443")
        self._words = args

    def postOptions(self) -> None:
        """Does nothing: L{readAll} reads the settings and raises errors to its caller."""

    @property
    def givesSettings(self) -> bool:
        """Whether any setting is given but the place where the daemon is."""
        flags = [key.flag for key in KEYS.values() if key.name != "runDir"]
        return any(self[flag] is not None for flag in ("config", *flags))

    def readFlow(self) -> None:
        """
        Read the flow's description.

        @raise ConfigError: the described process is not there.
        @raise usage.UsageError: the description is wrong.
        """
        protocol = _protocol(self._words[0])
        host, port = _destination(self._words[1])
        source = self._source(host)
        words = {name: self[name] for name in ("process", "pid", "uid", "cgroup")}
        process = None
        if any(word is not None for word in words.values()):
            process = fieldsOf(describedProcess(**words))
            if source:
                raise usage.UsageError("a flow of another machine (--from) has no process here")
        self.question = Question(protocol, host, port, source, process, self._name(host))

    def readAll(self, uid: int, environment: Mapping[str, str]) -> None:
        """
        Read the settings; the defaults, if nothing says where the proxy is.

        @raise ConfigError: they are wrong.
        """
        self.takeDefault()
        variable = environment.get(KEYS["proxy"].variable)
        if self["config"] is None and self["proxy"] is None and not variable:
            self["proxy"], self.assumed = SOME_PROXY, True
        self.readSettings(uid, environment)

    def _name(self, destination: str) -> str:
        """The name that is known of a destination whose address is given; empty for none."""
        given: str | None = self["name"]
        if given is None:
            return ""
        if not isAddress(destination):
            raise usage.UsageError("--name says what an address is called, so give an address")
        if not _isName(given):
            raise usage.UsageError(
                f"--name must be a host name, such as www.example.org, not {given[:60]!a}"
            )
        return given

    def _source(self, destination: str) -> str:
        """The source address of another machine; empty for this one's own."""
        given: str | None = self["from"]
        if given is None:
            return ""
        try:
            source = ip_address(given)
        except ValueError:
            raise usage.UsageError(f"--from must be an IP address, not {given[:60]!a}") from None
        if isAddress(destination) and source.version != ip_address(destination).version:
            raise usage.UsageError("--from and the destination must be of one IP version")
        return str(source)


def _protocol(word: str) -> str:
    if word.lower() not in ("tcp", "udp"):
        raise usage.UsageError(f"the protocol must be tcp or udp, not {word[:40]!a}")
    return word.lower()


def _destination(text: str) -> tuple[str, int]:
    """An address in its canonical form, or a host name, and the port."""
    match = re.fullmatch(r"\[([^\]]+)\]:([0-9]{1,5})", text) or re.fullmatch(
        r"([^:\[\]]+):([0-9]{1,5})", text
    )
    if match is not None and 1 <= int(match[2]) <= 65535:
        host, port = match[1], int(match[2])
        if isAddress(host):
            family = AF_INET6 if ":" in host else AF_INET
            return inet_ntop(family, inet_pton(family, host)), port
        if _isName(host) and not text.startswith("["):
            return host, port
    raise usage.UsageError(
        "the destination must be an address or a host name, and a port, such as 192.0.2.1:443, "
        f"example.org:443 or '[2001:db8::1]:443', not {text[:60]!a}"
    )


def _isName(host: str) -> bool:
    name = host.removesuffix(".")
    last = name.rpartition(".")[2]
    return (
        len(name) <= _NAME_LIMIT
        and not last.isdigit()
        and re.fullmatch(rf"({_LABEL}\.)*{_LABEL}", name) is not None
    )
