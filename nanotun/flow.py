"""
The frozen values that travel through nanotun.

Named tuples rather than dataclasses: one is made for every connection, and a
named tuple costs a third of a frozen dataclass.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Protocol(enum.IntEnum):
    """IP protocol numbers (IANA)."""

    TCP = 6
    UDP = 17


class Endpoint(NamedTuple):
    """
    One end of a flow.

    @ivar host: an IP address in its canonical text form, or a name if the
        upstream is to look it up.
    @ivar port: 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class LiteralEndpoint(Endpoint):
    """An endpoint that is dialled as it is written, whatever name apps got its address for."""

    __slots__ = ()


class KnownEndpoint(Endpoint):
    """
    An endpoint whose name is known: the one that the app has said of those that it may have got
    the address for.

    @ivar name: in lower case without a final dot.
    """

    name: str

    def __new__(cls, host: str, port: int, name: str) -> KnownEndpoint:
        """Make one."""
        self = super().__new__(cls, host, port)
        self.name = name
        return self


class Flow(NamedTuple):
    """
    A TCP connection or UDP conversation of an app.

    @ivar id: the engine's number for it, never reused within a run.
    @ivar source: the app's end.
    @ivar destination: the address and port that the app asked for.
    """

    id: int
    protocol: Protocol
    source: Endpoint
    destination: Endpoint


class Verdict(enum.Enum):
    """
    Where a flow goes: through the upstream, past it, or to our own services; or nowhere,
    and the app is told at once (REJECT) or not at all (DROP).
    """

    PROXY = "proxy"
    DIRECT = "direct"
    SERVE = "serve"
    REJECT = "reject"
    DROP = "drop"


class Decision(NamedTuple):
    """
    A verdict with its rule and reason.

    @ivar rule: the rule's short name, the same in logs, counters and C{explain}.
    @ivar reason: why, as the end of a sentence, from what the rule looked at.
    @ivar owner: the flow's process, if a rule needed it and it was found.
    @ivar trouble: one sentence for the log if the user has to do something, the
        same for all flows of one cause.
    @ivar upstream: under PROXY, the name of the upstream that the flow leaves by; empty
        for the one that the setting C{proxy} makes.
    @ivar values: what a script has given for the fields of the upstream's user name, as
        names and texts.
    @ivar name: the name that the flow was judged by; empty for none.
    """

    verdict: Verdict
    rule: str
    reason: str = ""
    owner: Owner | None = None
    trouble: str = ""
    upstream: str = ""
    values: tuple[tuple[str, str], ...] = ()
    name: str = ""


class Owner(NamedTuple):
    """
    The process that a flow belongs to.

    @ivar pid: 0 where only the socket's user or cgroup is known.
    @ivar uid: the socket's owner.
    @ivar name: the executable's name, or empty.
    @ivar path: the executable's absolute path, or empty.
    @ivar cgroup: path below the root of cgroup version 2, or empty.
    @ivar excluded: the selector of C{excludedProcesses} that it matches, as it is
        written, or empty.
    @ivar selected: the selectors of the user's rules that it matches, as they are written.
    @ivar whole: whether it is known that it matches no others.
    """

    pid: int
    uid: int
    name: str = ""
    path: str = ""
    cgroup: str = ""
    excluded: str = ""
    selected: frozenset[str] = frozenset()
    whole: bool = True


class Note(NamedTuple):
    """
    What is told of a flow that has been decided.  Many flows share one.

    @ivar rule: see L{Decision}, likewise C{name} and C{reason}.
    @ivar upstream: the name of the upstream that it leaves by, C{proxy} and C{direct} among
        them; empty for what is served.
    @ivar by: that upstream's URL, or those of a group, without passwords; empty for what is
        served.
    @ivar owner: the flow's process, if a rule needed it, or it was found since.
    """

    verdict: Verdict
    rule: str
    upstream: str
    by: str
    name: str = ""
    reason: str = ""
    owner: Owner | None = None


class Known(NamedTuple):
    """
    What is known of the names that an app may have got an address for.

    @ivar names: in lower case without a final dot, the one that was asked for last first.
    @ivar whole: whether there are no others.
    """

    names: tuple[str, ...] = ()
    whole: bool = True


class ScriptAnswer(NamedTuple):
    """
    What the user's script says of a flow.

    @ivar to: the name of an upstream, be it built in or from the settings; empty to let the
        rules decide.
    @ivar reason: why, as the end of a sentence; if the script failed, what failed.
    @ivar values: for the fields of the template in the upstream's URL.
    """

    to: str = ""
    reason: str = ""
    values: tuple[tuple[str, str], ...] = ()


class ScriptReply(NamedTuple):
    """
    What the user's script answers to a DNS query.  At most one is set; with none, the query
    goes on as without a script.

    @ivar addresses: in their canonical text form; none of them means a name without any.
    @ivar server: the URL of the server to ask.
    """

    refused: bool = False
    addresses: tuple[str, ...] | None = None
    server: str = ""


class Refusal(enum.IntEnum):
    """What the app sees of a flow that it cannot have (netstack.h, NS_REFUSE_...)."""

    RESET = 1
    HOST_UNREACHABLE = 2
    NET_UNREACHABLE = 3
    PROHIBITED = 4
    PORT_UNREACHABLE = 5


class AbsoluteForm(NamedTuple):
    """
    How an app's requests are sent to an HTTP proxy which has not been asked for a
    destination (RFC 9112, section 3.2.2).

    @ivar authority: a host without a port, for requests that name none or the address
        that the app connected to.
    @ivar authorization: the value of C{Proxy-Authorization}; empty for none.  A secret.
    """

    authority: str
    authorization: bytes

    def __repr__(self) -> str:
        return f"<AbsoluteForm {self.authority}>"


class NotHttp(enum.IntEnum):
    """
    Why a flow whose requests are sent to an HTTP proxy was reset (netstack.h,
    NS_HTTP_...).
    """

    NOT_HTTP = 1
    UPGRADE = 2
    PROXY_REQUEST = 3
    OTHER_HOST = 4
    LOGIN = 5
    TOO_LONG = 6


class CrowdKind(enum.IntEnum):
    """Who had too many flows that are not established (netstack.h, NS_CROWD_...)."""

    PROGRAM = 1
    SOURCE = 2
    MACHINE = 3
    OTHERS = 4
    HALF_OPEN = 5


class Crowd(NamedTuple):
    """
    Flows had to make way for others.

    @ivar host: the address of the last one.
    @ivar uid: whose programs they are, or -1.
    @ivar limit: how many of that kind there may be, or 0 if there is no place left at all.
    @ivar times: how many made way since the last report.
    """

    kind: CrowdKind
    host: str
    uid: int
    limit: int
    times: int


class FlowState(enum.IntEnum):
    """
    How far a flow is (netstack.h, NS_FLOW_...).

    WAITING: for its decision, or for a leg that the router opens.  DIALLING: the engine opens
    its leg.  OPEN: it is joined, though its app may still have to complete the handshake; or its
    datagrams are attached.  HALF_CLOSED: one direction has ended.
    """

    WAITING = 1
    DIALLING = 2
    OPEN = 3
    HALF_CLOSED = 4


class ListedFlow(NamedTuple):
    """
    A flow as it is now.

    @ivar age: seconds since the app asked for it.
    @ivar idle: seconds since its last byte; if there was none, since it was established or asked
        for.
    @ivar note: the number that came with its decision; 0 for none yet.
    @ivar bytesUp: payload bytes from the app.
    @ivar bytesDown: payload bytes to the app.
    """

    flow: Flow
    state: FlowState
    age: float
    idle: float
    note: int
    bytesUp: int
    bytesDown: int


class FlowEnd(NamedTuple):
    """
    How a joined flow ended, or one of datagrams that was attached.

    @ivar error: 0, or the errno that ended it.  It is 0 as well for datagrams that did not come
        any more.
    @ivar bytesUp: payload bytes from the app.
    @ivar bytesDown: payload bytes to the app.
    @ivar note: the number that came with its decision; 0 for none.
    @ivar seconds: since the app asked for it; of datagrams, until the last one.
    @ivar standing: whether it was one of a standing decision, so that nothing was told of it
        before.
    """

    flow: Flow
    error: int
    bytesUp: int
    bytesDown: int
    note: int = 0
    seconds: float = 0.0
    standing: bool = False


class Datagram(NamedTuple):
    """
    One datagram between an app and one of our services.

    @ivar source: its sender, or what the app is to see as its sender.
    @ivar payload: 0 to 65,507 bytes.
    """

    source: Endpoint
    destination: Endpoint
    payload: bytes


class Stats(NamedTuple):
    """
    The engine's counters since its start, and gauges.  C{struct ns_stats} of netstack.h
    explains each.
    """

    flows: int
    pending: int
    half_open: int
    flows_total: int
    refused: int
    bytes_up: int
    bytes_down: int
    packets_in: int
    packets_out: int
    drop_pending_limit: int
    drop_source_limit: int
    drop_flow_limit: int
    drop_half_open: int
    drop_malformed: int
    drop_gateway: int
    drop_write: int
    stack_dropped: int
    retransmits: int
    checksum_errors: int
    goroutines: int
    heap_bytes: int
    associations: int
    datagram_flows: int
    associations_total: int
    associations_evicted: int
    datagrams_up: int
    datagrams_down: int
    drop_undecided: int
    drop_send: int
    drop_reply: int
    drop_service: int
