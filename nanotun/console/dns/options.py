"""
The command line of C{nanotun dns}.
"""

from __future__ import annotations

from ipaddress import ip_address

from twisted.python import usage

from nanotun.addresses import isAddress
from nanotun.console.command import AskOptions
from nanotun.daemon.dnsquery import askedName
from nanotun.gateway.dns.types import typeNumber

#: What programs ask for that want to connect to a name.
USUAL = ("A", "AAAA")


class DnsOptions(AskOptions):
    """
    The name and the type.

    @ivar name: what is asked about.
    @ivar types: the types of records, each asked for by itself.
    """

    synopsis = "Usage: nanotun dns [--json] [options] NAME [TYPE]"

    longdesc = (
        "Looks a name up as programs do, by the relay of the daemon that runs, and says which "
        "server, rule or other step gave the answer. TYPE is a record type such as A, AAAA, MX or "
        "HTTPS, or its number; without one, A and AAAA are asked for, and PTR of an address. "
        "Status 1: no answer, 3: no daemon runs."
    )

    optFlags = [["json", "j", "a JSON object for each type; docs/command.md has its fields"]]

    name = ""
    types: tuple[str, ...] = USUAL

    def parseArgs(self, *args: str) -> None:
        """Take the name and the type."""
        if not 1 <= len(args) <= 2:
            raise usage.UsageError("give a name and, if you like, a type, as in example.org MX")
        self.name = args[0]
        if isAddress(self.name):
            # A zone names a link of this machine, and is no part of the address.
            self.name = ip_address(self.name.partition("%")[0]).reverse_pointer
            self.types = ("PTR",)
        if askedName(self.name) is None:
            raise usage.UsageError(f"{self.name[:60]!a} is no name that can be looked up")
        for text in args[1:]:
            if typeNumber(text) is None:
                raise usage.UsageError(
                    f"there is no record type {text[:40]!a}; give one such as AAAA, or its number"
                )
            self.types = (text,)
