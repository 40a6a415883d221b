"""
C{nanotun explain}: which rule decides about a flow, and why, by the code that decides
about real ones.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from socket import if_nametoindex
from typing import Any

from twisted.python import usage
from zope.interface import implementer

from nanotun.console.explain.options import Described, ExplainOptions
from nanotun.console.statustext import printable
from nanotun.errors import ConfigError
from nanotun.flow import Decision, Flow, Owner, Verdict
from nanotun.interfaces import IOwners
from nanotun.linux.locality import Locality
from nanotun.linux.markedroute import MarkedRoute
from nanotun.policy.judge import Judge
from nanotun.policy.rules import named

#: What becomes of a flow, by verdict.
MEANINGS = {
    Verdict.PROXY: "through the proxy",
    Verdict.DIRECT: "past the proxy, from this machine itself",
    Verdict.SERVE: "answered by nanotun's DNS relay",
    Verdict.REJECT: "refused; the app hears so at once",
    Verdict.DROP: "dropped without a word",
}


@implementer(IOwners)
class DescribedOwner:
    """
    Says that all flows are the described process's.

    @ivar misses: see L{IOwners}; each is a question that had no answer.
    """

    def __init__(self, owner: Owner | None) -> None:
        self.misses = 0
        self._owner = owner

    def ownerOf(self, flow: Flow) -> Owner | None:
        """See L{IOwners.ownerOf}."""
        if self._owner is None:
            self.misses += 1
        return self._owner


def explain(options: ExplainOptions) -> dict[str, Any]:
    """
    Have the described flow judged.

    @return: what is shown; the names are those of C{--json}.
    """
    settings, described = options.settings, options.described
    locality = Locality(time.monotonic)

    def isLocal(host: str) -> bool:
        return host == described.localSource or locality.isLocal(host)

    ways = MarkedRoute(settings.tunName, time.monotonic)
    owners = DescribedOwner(described.owner)
    judge = Judge(settings, owners, isLocal, ways.leadsIn)
    try:
        decision = judge.judge(described.flow)
    finally:
        ways.stop()
    return {
        **_asked(described),
        "verdict": decision.verdict.value,
        "meaning": MEANINGS[decision.verdict],
        "rule": decision.rule,
        "reason": decision.reason,
        "trouble": decision.trouble,
        "notes": list(_notes(options, decision, bool(owners.misses))),
    }


def _asked(described: Described) -> dict[str, Any]:
    flow, owner = described.flow, described.owner
    return {
        "protocol": flow.protocol.name.lower(),
        "destination": str(flow.destination),
        "source": "" if described.localSource else flow.source.host,
        "process": "" if owner is None else named(owner),
    }


def _notes(options: ExplainOptions, decision: Decision, missed: bool) -> list[str]:
    """What else there is to know."""
    settings = options.settings
    notes = []
    if missed:
        excluded = ", ".join(map(str, settings.excludedProcesses)) or "the proxy on this machine"
        notes.append(
            f"Processes matter here ({excluded}): say whose flow it is with --process, --pid, "
            "--uid or --cgroup."
        )
    if decision.verdict is Verdict.DIRECT and not _exists(settings.tunName):
        notes.append(
            f"There is no {settings.tunName} now; once there is, it is looked at whether the way "
            "out leads into it again."
        )
    if options.assumed:
        notes.append("No configuration was given (--config): this is by the defaults.")
    return notes


def _exists(device: str) -> bool:
    try:
        if_nametoindex(device)
    except OSError:
        return False
    return True


def text(found: dict[str, Any]) -> str:
    """The answer for people."""
    who = f" of {found['process']}" if found["process"] else ""
    where = f" from {found['source']}" if found["source"] else ""
    lines = [
        f"{found['protocol']} {found['destination']}{who}{where}",
        f"  {found['verdict'].upper():<8} {found['meaning']}",
        f"  rule     {found['rule']}",
        f"  because  {found['reason']}",
    ]
    if found["trouble"]:
        lines.append(f"  log      {found['trouble']}")
    lines += [f"  note     {note}" for note in found["notes"]]
    # A process's name is its own choice.
    return "\n".join(map(printable, lines))


def main(arguments: Sequence[str]) -> int:
    """
    Explain one flow.

    @param arguments: those behind C{explain}.
    @return: the exit status; 2 for a wrong command line or configuration.
    """
    options = ExplainOptions()
    try:
        options.parseOptions(list(arguments))
        options.readAll(os.geteuid(), os.environ)
        found = explain(options)
    except usage.UsageError as error:
        sentence = f"{str(error).rstrip('.')}; see 'nanotun explain --help'."
    except ConfigError as error:
        sentence = str(error)
    else:
        print(json.dumps(found) if options["json"] else text(found))
        return 0
    print(f"nanotun explain: {sentence}", file=sys.stderr)
    return 2
