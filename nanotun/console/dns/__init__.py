"""
C{nanotun dns}: look a name up by the relay that runs, and see who gives the answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from nanotun.console import FAILED, GOOD
from nanotun.console.command import run
from nanotun.console.dns.options import DnsOptions
from nanotun.console.dns.text import answerLines
from nanotun.control.client import Client

#: Seconds for each answer: servers have 4.5, and as many again if a larger one is fetched by TCP.
#: The rest is for the user's script.
ANSWER_TIME = 20.0

#: Statuses that say what there is to know of a name.
ANSWERS = ("NOERROR", "NXDOMAIN")


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = DnsOptions()

    def work() -> int:
        status = GOOD
        with Client(options.runDir(), ANSWER_TIME) as client:
            for kind in options.types:
                report = client.ask("dns", {"name": options.name, "type": kind})
                isJson = options["json"]
                print(json.dumps(report) if isJson else "\n".join(answerLines(report)), flush=True)
                if report["status"] not in ANSWERS:
                    status = FAILED
        return status

    return run("dns", options, arguments, work)
