"""
The answer of C{nanotun explain}.  The daemon's own L{Judge} decides about the described
flow, so the answer cannot differ from what happens to a real one.
"""

from __future__ import annotations

import time
from socket import if_nametoindex
from typing import Any

from zope.interface import implementer

from nanotun.config.options import DEFAULT_FILE
from nanotun.console.explain.options import Described, ExplainOptions
from nanotun.console.statustext import printable
from nanotun.flow import Decision, Flow, Owner, Verdict
from nanotun.interfaces import IOwners
from nanotun.linux.connected import ConnectedNetworks
from nanotun.linux.locality import Locality
from nanotun.linux.markedroute import MarkedRoute
from nanotun.policy.judge import Judge
from nanotun.policy.rules import named

#: What happens to a flow, by verdict.
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
    Reports the described process as the owner of every flow.

    @ivar misses: see L{IOwners}; counts the questions about an owner that was not described.
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
    Judge the described flow.

    @return: the answer, under the names of C{--json}.
    """
    settings, described = options.settings, options.described
    locality = Locality(time.monotonic)

    def isLocal(host: str) -> bool:
        return host == described.localSource or locality.isLocal(host)

    marked = MarkedRoute(settings.tunName, time.monotonic)
    owners = DescribedOwner(described.owner)
    connected = ConnectedNetworks(settings.tunName, time.monotonic)
    judge = Judge(settings, owners, isLocal, marked.leadsIn, isConnected=connected.holds)
    try:
        decision = judge.judge(described.flow)
    finally:
        marked.stop()
    # The owner is known at once, so the decision is, too.
    assert isinstance(decision, Decision)
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
    """Sentences about what may change the answer."""
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
            f"There is no {settings.tunName} now; once there is, nanotun also checks whether the "
            "direct route leads back into it."
        )
    if options.source:
        notes.append(options.source)
    if options.assumed:
        notes.append(
            f"No configuration was given, and there is no {DEFAULT_FILE}: this is by the defaults."
        )
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
    # A process chooses its own name, so it may contain control characters.
    return "\n".join(map(printable, lines))
