"""
The services on the virtual gateway's addresses: the DNS relay, by UDP and TCP, and any
datagram service that listens at L{nanotun.gateway.datagrams.DatagramServices}.
"""

from nanotun.gateway.dns.counters import GatewayStats
from nanotun.gateway.gateway import Gateway, NameOptions, makeGateway

__all__ = ["Gateway", "GatewayStats", "NameOptions", "makeGateway"]
