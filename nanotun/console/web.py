"""
C{nanotun web}: the link to the page in a browser, with the token that it needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import quote

from nanotun.config.values import serving
from nanotun.console import GOOD
from nanotun.console.command import AskOptions, run
from nanotun.control.client import Client
from nanotun.errors import RunningError
from nanotun.flow import Endpoint
from nanotun.linux.tokens import tokenOf
from nanotun.rundir import WEB_TOKEN

#: The port of a browser's machine that is forwarded to a unix socket; any other will do.
PORT = 8198


class WebOptions(AskOptions):
    """The command line."""

    synopsis = "Usage: nanotun web [options]"
    longdesc = (
        "Prints the link to the page in a browser (the setting web). Whoever has it can see and "
        "close flows. Status 3: none runs."
    )
    optFlags = [["token", None, "print the token alone, for programs that use the API"]]


def linkTo(where: Endpoint | str, token: str) -> str:
    """
    The link.

    @param where: the setting C{web}; not empty.
    """
    place = f"localhost:{PORT}"
    if not isinstance(where, str):
        address = ip_address(where.host)
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        place = str(Endpoint(here.get(str(address), str(address)), where.port))
    return f"http://{place}/?token={quote(token, safe='')}"


def tokenIn(runDir: str) -> str:
    """
    The token of a daemon that runs.

    @raise NanotunError: there is none, or it is not good; with one sentence.
    """
    path = os.path.join(runDir, WEB_TOKEN)
    if not os.path.exists(path):
        raise RunningError(f"There is no {path}: the page is not served; see the daemon's log.")
    try:
        return tokenOf(runDir, WEB_TOKEN)
    except OSError as error:
        raise RunningError(f"{path} cannot be read ({error.strerror}); try it as root.") from None


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = WebOptions()

    def work() -> int:
        runDir = options.runDir()
        with Client(runDir) as client:
            where = serving(client.ask("web")["at"] or "")
        if not where:
            raise RunningError(
                "The daemon serves no page: set web: 127.0.0.1:8198, and start it anew."
            )
        token = tokenIn(runDir)
        if options["token"]:
            print(token)
            return GOOD
        if isinstance(where, str):
            print(
                "The page is at a unix socket. From another machine, forward a port to it first: "
                f"ssh -L {PORT}:{where} root@THIS-MACHINE",
                file=sys.stderr,
            )
        print(linkTo(where, token))
        return GOOD

    return run("web", options, arguments, work)
