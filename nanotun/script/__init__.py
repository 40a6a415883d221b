"""
What a script for nanotun works with: docs/script.md is the description.

    from nanotun.script import Flow

    def flow(flow: Flow) -> str | None:
        return "reject" if flow.port == 25 else None

Nothing here touches the machine, so scripts can be tested like any other module: make a
L{Flow} and call the function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["Answer", "End", "Flow", "Process", "Query", "QueryAnswer", "Through"]


class Process(NamedTuple):
    """
    The process that a flow belongs to, as far as it is known.

    @ivar pid: 0 if only the user and the control group are known.
    @ivar uid: the user who made the socket.
    @ivar user: the user's name, or the number as text if the machine has none for it.
    @ivar name: the executable's name, such as C{curl}; empty if it is not known.
    @ivar path: the executable's absolute path; empty if it is not known.
    @ivar cgroup: the path of the control group, such as C{/system.slice/cron.service};
        empty if it is not known.
    """

    pid: int = 0
    uid: int = -1
    user: str = ""
    name: str = ""
    path: str = ""
    cgroup: str = ""

    @property
    def unit(self) -> str:
        """The systemd unit, such as C{cron.service}; empty if it is in none."""
        for part in reversed(self.cgroup.split("/")):
            if part.endswith((".service", ".scope", ".slice")):
                return part
        return ""


class NotLookedUp(Exception):
    """
    C{flow.process} was read, but the script does not declare that it needs it.

    It is no L{AttributeError}: C{getattr} with a default and C{match} take that for an answer,
    and an allow-list would let a flow pass of which nothing is known.
    """


class _Missing:
    """Stands for a process that nobody has looked up."""


#: For L{Flow}'s C{process}: it was not looked up.
NOT_LOOKED_UP = _Missing()


class Flow:
    """
    A TCP connection that a program asks for, or UDP datagrams between two endpoints.

    @ivar protocol: C{"tcp"} or C{"udp"}.
    @ivar domain: the name that the program looked up or asked for, in lower case and
        without a dot at the end; L{None} if it is not known.
    @ivar address: the destination's IP address; L{None} if only the name is known.
    @ivar port: the destination's.
    @ivar source: the IP address that it comes from.
    @ivar sourcePort: likewise.
    @ivar local: whether it is this machine's own; another machine's has no process here.
    @ivar id: the flow's number, the same in C{ended}; 0 if C{nanotun explain} asks.
    """

    __slots__ = (
        "_process",
        "address",
        "domain",
        "id",
        "local",
        "port",
        "protocol",
        "source",
        "sourcePort",
    )

    def __init__(
        self,
        domain: str | None = None,
        port: int = 443,
        *,
        protocol: str = "tcp",
        address: str | None = None,
        process: Process | _Missing | None = None,
        source: str = "198.18.0.2",
        sourcePort: int = 40000,
        local: bool = True,
        id: int = 0,
    ) -> None:
        self.domain = domain
        self.port = port
        self.protocol = protocol
        self.address = address
        self._process = process
        self.source = source
        self.sourcePort = sourcePort
        self.local = local
        self.id = id

    @property
    def process(self) -> Process | None:
        """
        The process; L{None} if it could not be found, or if the flow is another machine's.

        @raise NotLookedUp: the script says C{needsProcess = False}, or does not mention
            C{process} itself.
        """
        process = self._process
        if isinstance(process, _Missing):
            raise NotLookedUp(
                "flow.process was not looked up; write needsProcess = True at the top of the script"
            )
        return process

    @property
    def host(self) -> str:
        """The domain, or else the address: never empty."""
        return self.domain or self.address or ""

    def isBelow(self, *domains: str) -> bool:
        """Whether the flow's domain is one of these, or below one of them."""
        name = self.domain
        return name is not None and any(
            name == each or name.endswith("." + each) for each in domains
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol} {host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Flow {self.id}: {self}>"


class Through:
    """
    An answer with values for the template in the user name of the upstream's URL: with
    C{tor: socks5://{session}:x@127.0.0.1:9050}, C{Through("tor", session="bank")} logs in as
    C{bank}.
    """

    __slots__ = ("upstream", "values")

    def __init__(self, upstream: str, **values: str) -> None:
        self.upstream = upstream
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Through) and (self.upstream, self.values) == (
            other.upstream,
            other.values,
        )

    def __hash__(self) -> int:
        return hash((self.upstream, *sorted(self.values.items())))

    def __repr__(self) -> str:
        values = "".join(f", {name}={value!r}" for name, value in self.values.items())
        return f"Through({self.upstream!r}{values})"


class End(NamedTuple):
    """
    How a flow ended.

    @ivar upstream: where it went: a name of C{upstreams}, C{"proxy"} or C{"direct"}.
    @ivar rule: which rule decided, such as C{"script"}.
    @ivar bytesUp: payload bytes from the program.
    @ivar bytesDown: payload bytes to the program.
    @ivar duration: seconds since the connection was there.
    @ivar reason: C{"closed"} if both sides ended it; else such as C{"reset"}, C{"timed out"}.
    """

    upstream: str
    rule: str
    bytesUp: int
    bytesDown: int
    duration: float
    reason: str


class Query(NamedTuple):
    """
    A DNS query to nanotun's relay.

    @ivar name: in lower case, without a dot at the end.
    @ivar type: such as C{"A"}, C{"AAAA"}, C{"HTTPS"}; C{"TYPE4711"} for one without a name;
        C{"CLASS3 TXT"} for another class than the Internet's.
    @ivar source: the IP address that asks.
    @ivar protocol: C{"udp"} or C{"tcp"}.
    """

    name: str
    type: str = "A"
    source: str = "198.18.0.2"
    protocol: str = "udp"


#: What C{flow} may return: an upstream's name, C{"direct"}, C{"reject"} or C{"drop"}, or
#: L{None} to let the rules decide.
Answer: TypeAlias = "str | Through | None"

#: What C{query} may return: L{None} to go on; C{"refuse"}; addresses; or another server,
#: as a URL, such as C{"udp://10.0.0.53"}.
QueryAnswer: TypeAlias = "str | Sequence[str] | None"
