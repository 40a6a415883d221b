"""
A stand-in for systemd-resolved on a bus of its own: it receives, checks and reports what
org.freedesktop.resolve1(5) is told about the interfaces' servers, and says it as properties
when it is asked.  It looks up nothing.

Run by Debian's own Python, which has jeepney::

    DBUS_SYSTEM_BUS_ADDRESS=... /usr/bin/python3 tests/e2e/lab/resolved.py

After each call it prints what it was told as one line of JSON: the links by number.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

PYTHON = "/usr/bin/python3"

NAME = "org.freedesktop.resolve1"
MANAGER = f"{NAME}.Manager"
LINK = f"{NAME}.Link"

#: Signatures of the methods' arguments, as in systemd.
SIGNATURES = {
    "SetLinkDNS": "ia(iay)",
    "SetLinkDomains": "ia(sb)",
    "SetLinkDefaultRoute": "ib",
    "SetLinkDNSOverTLS": "is",
    "RevertLink": "i",
}


def wrong(method: str, values: list[Any]) -> str:
    """What is wrong with a call's arguments, or nothing."""
    index, *rest = values
    if index not in (number for number, _ in socket.if_nameindex()):
        return f"Link {index} not known"
    if method == "SetLinkDNS":
        for family, address in rest[0]:
            if {2: 4, 10: 16}.get(family) != len(address):
                return "Invalid address size"
    if method == "SetLinkDNSOverTLS" and rest[0] not in ("no", "opportunistic", "yes", ""):
        return "Invalid DNSOverTLS setting"
    return ""


def plain(value: Any) -> Any:
    """Convert a value to what JSON can represent."""
    if isinstance(value, bytes):
        return list(value)
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


class Resolved:
    """
    The service.

    @param connection: to the bus, authenticated.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._links: dict[int, dict[str, Any]] = {}

    def serve(self) -> None:
        """Answer until the bus ends."""
        import jeepney  # type: ignore[import-not-found]

        request = jeepney.DBusAddress(
            "/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus"
        )
        call = jeepney.new_method_call(request, "RequestName", "su", (NAME, 4))
        if self._connection.send_and_get_reply(call).body != (1,):
            raise SystemExit(f"somebody has the name {NAME} already")
        self._tell()
        while True:
            message = self._connection.receive()
            if message.header.message_type is jeepney.MessageType.method_call:
                self._answer(message)

    def _answer(self, message: Any) -> None:
        import jeepney

        fields = message.header.fields
        method = fields[jeepney.HeaderFields.member]
        interface = fields.get(jeepney.HeaderFields.interface)
        signature = fields.get(jeepney.HeaderFields.signature, "")
        values = list(message.body)
        if interface == "org.freedesktop.DBus.Properties" and method == "Get":
            reply = self._property(message, fields[jeepney.HeaderFields.path], *values)
        elif interface != MANAGER or SIGNATURES.get(method) != signature:
            reply = self._error(message, "UnknownMethod", f"Unknown method {method}")
        elif wrong(method, values):
            reply = self._error(message, "InvalidArgs", wrong(method, values))
        else:
            self._set(method, *values)
            reply = jeepney.new_method_return(message)
        self._connection.send(reply)

    def _set(self, method: str, index: int, *values: Any) -> None:
        if method == "RevertLink":
            self._links.pop(index, None)
        else:
            self._links.setdefault(index, {})[method] = values[0]
        self._tell()

    def _property(self, message: Any, path: str, interface: str, name: str) -> Any:
        import jeepney

        found = self._ofManager(name) if interface == MANAGER else None
        # The first digit is escaped: _33 is 3, _312 is 12.
        escaped = path.rpartition("/_")[2]
        if interface == LINK and escaped.isalnum():
            found = self._ofLink(int(chr(int(escaped[:2], 16)) + escaped[2:]), name)
        if found is None:
            return self._error(message, "UnknownObject", f"Unknown object {path}")
        return jeepney.new_method_return(message, "v", (found,))

    def _ofLink(self, index: int, name: str) -> tuple[str, Any] | None:
        """A property of a link, with its type."""
        link = self._links.get(index, {})
        if name == "DNS":
            return "a(iay)", link.get("SetLinkDNS", [])
        if name == "DefaultRoute":
            return "b", link.get("SetLinkDefaultRoute", True)
        return None

    def _ofManager(self, name: str) -> tuple[str, Any] | None:
        """A property that has the values of all links, with its type."""
        servers = [
            (index, family, address)
            for index, link in self._links.items()
            for family, address in link.get("SetLinkDNS", [])
        ]
        if name == "DNS":
            return "a(iiay)", servers
        if name == "DNSEx":
            return "a(iiayqs)", [(*server, 0, "") for server in servers]
        if name == "Domains":
            return "a(isb)", [
                (index, domain, routed)
                for index, link in self._links.items()
                for domain, routed in link.get("SetLinkDomains", [])
            ]
        return None

    def _error(self, message: Any, name: str, text: str) -> Any:
        import jeepney

        return jeepney.new_error(message, f"org.freedesktop.DBus.Error.{name}", "s", (text,))

    def _tell(self) -> None:
        told = {
            str(index): {name: plain(value) for name, value in link.items()}
            for index, link in self._links.items()
        }
        print(json.dumps(told), flush=True)


def main() -> None:
    """Serve on the bus that the environment names."""
    from jeepney.io.blocking import open_dbus_connection  # type: ignore[import-not-found]

    Resolved(open_dbus_connection(bus=os.environ["DBUS_SYSTEM_BUS_ADDRESS"])).serve()


if __name__ == "__main__":
    main()
