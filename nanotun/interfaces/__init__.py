"""
The interfaces between the parts of nanotun.  An interface that only one part uses is in
that part.

All methods are called on the reactor's thread.
"""

from __future__ import annotations

from nanotun.interfaces.device import ITunDevice, ITunOpener
from nanotun.interfaces.dialplan import (
    Course,
    DialEnd,
    DialEndKind,
    DialPlan,
    IDialOutcomes,
    IPlanned,
    Step,
    Tail,
)
from nanotun.interfaces.ending import End
from nanotun.interfaces.engine import (
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IGateway,
    IPacketEngine,
    IPacketEngineFactory,
)
from nanotun.interfaces.names import INames
from nanotun.interfaces.nameserver import DnsServer
from nanotun.interfaces.observing import IEndObserver
from nanotun.interfaces.part import IPart
from nanotun.interfaces.policy import IJudge, IOwners, Sniff
from nanotun.interfaces.scheme import (
    Authentication,
    IScheme,
    NeededFiles,
    Option,
    ProxyURL,
    UpstreamContext,
    UpstreamSettings,
    Via,
)
from nanotun.interfaces.script import IScript
from nanotun.interfaces.tls import ITls
from nanotun.interfaces.upstream import (
    Connection,
    DatagramLeg,
    IAssociateHandshake,
    IHandshake,
    IHealthCheck,
    ILegControl,
    INamedDatagrams,
    IUpstream,
    IUpstreams,
    LegKind,
    PlainHttp,
    unwrapDatagram,
    wrapDatagram,
)

__all__ = [
    "Authentication",
    "Connection",
    "Course",
    "DatagramLeg",
    "DialEnd",
    "DialEndKind",
    "DialPlan",
    "DnsServer",
    "End",
    "IAssociateHandshake",
    "IDatagramFlowRequest",
    "IDialOutcomes",
    "IEndObserver",
    "IFlowHandler",
    "IFlowRequest",
    "IGateway",
    "IHandshake",
    "IHealthCheck",
    "IJudge",
    "ILegControl",
    "INamedDatagrams",
    "INames",
    "IOwners",
    "IPacketEngine",
    "IPacketEngineFactory",
    "IPart",
    "IPlanned",
    "IScheme",
    "IScript",
    "ITls",
    "ITunDevice",
    "ITunOpener",
    "IUpstream",
    "IUpstreams",
    "LegKind",
    "NeededFiles",
    "Option",
    "PlainHttp",
    "ProxyURL",
    "Sniff",
    "Step",
    "Tail",
    "UpstreamContext",
    "UpstreamSettings",
    "Via",
    "unwrapDatagram",
    "wrapDatagram",
]
