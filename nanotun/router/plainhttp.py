"""
Flows to a proxy that takes plain http as requests only: L{nanotun.interfaces.PlainHttp}.

The engine translates what the app sends, because no byte of a flow passes through Python.
Here is what it needs to know, and the log lines about flows that it could not translate.
"""

from __future__ import annotations

from nanotun.flow import AbsoluteForm, Flow, NotHttp
from nanotun.interfaces import Connection, IFlowRequest, INames, PlainHttp
from nanotun.log.trouble import TroubleLog

_ALLOW = "allow CONNECT to port 80 in the proxy's configuration."

#: The second half of the sentence about a flow that was reset.
REASONS: dict[int, str] = {
    NotHttp.NOT_HTTP: f"sent something else; {_ALLOW}",
    NotHttp.UPGRADE: (
        f"asked to change to another protocol, as WebSocket does; use port 443, or {_ALLOW}"
    ),
    NotHttp.PROXY_REQUEST: f"uses that address as a proxy of its own; {_ALLOW}",
    NotHttp.OTHER_HOST: (
        "asked there for another port or address (Host); ask for the one that it connects to, "
        f"or {_ALLOW}"
    ),
    NotHttp.TOO_LONG: f"sent a request with more than 64 KiB of header fields; {_ALLOW}",
}


class PlainHttpFlows:
    """
    The open flows whose requests the engine translates.

    @ivar flows: what each was joined with, by the flow's id.
    @param trouble: for the lines about those that were reset.
    """

    def __init__(self, names: INames, trouble: TroubleLog) -> None:
        self.flows: dict[int, PlainHttp] = {}
        self._names = names
        self._trouble = trouble

    def join(self, request: IFlowRequest, connection: Connection, note: int) -> bool:
        """Join a flow to any leg; see L{IFlowRequest.join}."""
        http = connection.http
        if http is None:
            return request.join(connection.fd, connection.leftover, note=note)
        flow = request.flow
        form = AbsoluteForm(self._authority(flow.destination.host), http.authorization)
        joined = request.join(connection.fd, connection.leftover, form, note)
        if joined:
            self.flows[flow.id] = http
        return joined

    def ended(self, flowID: int) -> None:
        """A flow has ended, perhaps one of these."""
        self.flows.pop(flowID, None)

    def refused(self, flow: Flow, reason: int, destination: str) -> None:
        """
        The engine has reset a flow.

        @param reason: a value of L{NotHttp}.
        @param destination: the flow's, for the line.
        """
        http = self.flows[flow.id]
        said = f"The connection to {destination} was reset: the proxy {http.proxy} "
        if reason == NotHttp.LOGIN:
            http.refused()
            said += "wants a log-in for plain http (status 407), and "
            if http.authorization:
                said += (
                    "did not accept the one that it asked for with CONNECT; check the user and "
                    "password in the proxy's URL."
                )
            else:
                said += "has not asked for one before; try again, now that it has."
        else:
            said += (
                "forbids CONNECT to port 80, so only plain http passes there, and the app "
                + REASONS[reason]
            )
        self._trouble.report(said)

    def _authority(self, host: str) -> str:
        """
        What to ask the proxy for where a request names no host.  The name of an address
        that is not fake is a guess, and would replace the Host that the app has written.
        """
        name = self._names.nameOf(host) if self._names.isFake(host) else None
        if name is not None:
            return name
        return f"[{host}]" if ":" in host else host
