"""
What becomes of a flow that somebody describes: the daemon's answer to C{nanotun explain},
which is also given without a daemon, by the same code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from socket import if_nametoindex
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed

from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import whyNoDatagrams
from nanotun.daemon.described import (
    AnsweredHere,
    Described,
    DescribedNames,
    DescribedOwner,
    HeardScript,
    Question,
    described,
)
from nanotun.daemon.health import healthOf
from nanotun.daemon.reload import Live
from nanotun.errors import RunningError
from nanotun.flow import Decision, Endpoint, Protocol, Verdict
from nanotun.interfaces import IScript
from nanotun.linux.users import uidOf
from nanotun.owners.matching import Matcher
from nanotun.owners.options import soughtBy
from nanotun.owners.values import Excluded
from nanotun.policy.decisions import nameOf
from nanotun.policy.judge import Judge, perProgram, trace
from nanotun.policy.ruletable import AskedRule
from nanotun.policy.subject import NAME, named
from nanotun.routing.host import chosenUsers

#: What happens to a flow, by verdict.
MEANINGS = {
    Verdict.PROXY: "through {upstream}",
    Verdict.DIRECT: "past the proxy, from this machine itself",
    Verdict.SERVE: "answered by nanotun's DNS relay",
    Verdict.REJECT: "refused; the app hears so at once",
    Verdict.DROP: "dropped without a word",
}

#: How many of the selectors that matter to a flow are named.
SELECTORS_SHOWN = 8

#: The answer about a host name that the asker has to look up first.
LOOK_UP = {"lookUp": True}

#: The key of the answer about a host name that no flow can go to; its value is a sentence.
NO_FLOW = "noFlow"


def judged(
    settings: Settings,
    described: Described,
    judge: Judge,
    reports: Mapping[str, Mapping[str, Any]],
    script: IScript | None = None,
) -> Deferred[dict[str, Any]]:
    """
    Judge a flow.

    @param judge: that of the settings.
    @param reports: see L{healthOf}.
    @param script: the user's; it is asked as for any other flow.
    @return: the answer, under the names of C{nanotun explain --json}.
    """
    flow = described.flow
    sniffs = settings.sniff and flow.destination.port in settings.sniffPorts
    owners = DescribedOwner(described.owner)
    names = DescribedNames(described, judge.namesOf, alone=sniffs)
    heard = None if script is None else HeardScript(script)
    explaining = judge.withOwners(owners, heard, names.namesOf)

    def answer(decision: Decision) -> dict[str, Any]:
        asked = _Found(decision, trace(explaining, flow, decision), heard, names.names)
        notes = _notes(settings, described, asked, bool(owners.misses), sniffs)
        return {**_answer(settings, described, asked, reports), "notes": list(notes)}

    decision = explaining.judge(flow)
    if isinstance(decision, Deferred):
        return decision.addCallback(answer)
    return succeed(answer(decision))


class _Found(NamedTuple):
    """
    What was asked about a flow.

    @ivar steps: the user's rules.
    @ivar script: L{None} for none.
    @ivar names: what the destination may be called.
    """

    decision: Decision
    steps: list[AskedRule]
    script: HeardScript | None
    names: tuple[str, ...]

    @property
    def decisive(self) -> AskedRule | None:
        """The user's rule that has decided."""
        last = self.steps[-1] if self.steps else None
        holds = last is not None and last.value == 1 and last.rule == self.decision.rule
        return last if holds else None


def _answer(
    settings: Settings,
    described: Described,
    asked: _Found,
    reports: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The answer without its notes."""
    flow, owner = described.flow, described.owner
    decision, decisive = asked.decision, asked.decisive
    upstream = nameOf(decision)
    owned = decision._replace(owner=owner or decision.owner)
    destination = Endpoint(described.name or flow.destination.host, flow.destination.port)
    heard = None if asked.script is None else asked.script.answer
    return {
        "protocol": flow.protocol.name.lower(),
        "destination": str(destination),
        "name": decision.name or described.known,
        "source": "" if described.localSource else flow.source.host,
        "process": "" if owner is None else named(owner),
        "verdict": decision.verdict.value,
        "meaning": MEANINGS[decision.verdict].format(
            upstream="the proxy" if upstream == PROXY else upstream
        ),
        "upstream": upstream,
        "rule": decision.rule,
        "where": "" if decisive is None else decisive.where,
        "reason": decision.reason if decisive is None else decisive.why,
        "trouble": decision.trouble,
        "script": None if heard is None else {"to": heard.to or None, "reason": heard.reason},
        "steps": [_stepOf(step, upstream) for step in asked.steps],
        "health": healthOf(settings, owned, flow, described.localSource.__eq__, reports),
    }


def _stepOf(step: AskedRule, upstream: str) -> dict[str, Any]:
    """
    What one rule says.

    @param upstream: where the flow goes.
    """
    value = "yes" if step.value == 1 else "no" if step.value == 0 else "unknown"
    # Then nobody has looked for what is not known.
    anyway = (
        ", and the flow goes there anyway" if value == "unknown" and step.to == upstream else ""
    )
    return {
        "rule": step.rule,
        "where": step.where,
        "to": step.to,
        "value": value,
        "why": f"{step.why}{anyway}",
    }


def _notes(
    settings: Settings, described: Described, asked: _Found, missed: bool, sniffs: bool
) -> Iterator[str]:
    """
    Sentences about what may change the answer.

    @param missed: whether the process was looked for and was not described.
    @param sniffs: whether the flow's name can be read from its first bytes.
    """
    decision = asked.decision
    past = _pastTheDevice(settings, described)
    if past:
        yield past
    if missed:
        yield (
            f"Processes matter here ({_whose(settings, asked)}): say whose flow it is with "
            "--process, --pid, --uid or --cgroup."
        )
    heard = _heard(asked)
    if _namesMatter(asked, heard):
        yield _aboutName(asked.names, sniffs, heard)
    why = ""
    if described.flow.protocol is Protocol.UDP:
        why = whyNoDatagrams(settings, nameOf(decision))
    if why:
        yield f"UDP does not pass there: {why}; the app hears so at once."
    if decision.verdict is Verdict.DIRECT and not _exists(settings.tunName):
        yield (
            f"There is no {settings.tunName} now; once there is, nanotun also checks whether the "
            "direct route leads back into it."
        )
    if described.answered:
        yield described.answered
    elif described.name:
        yield (
            "The relay gives the name an address of its own, so rules about addresses do not "
            "apply; an upstream that takes names gets the name."
        )


def _pastTheDevice(settings: Settings, described: Described) -> str:
    """
    Why the flow may never enter the device, and so meet nothing of all this: a sentence, or
    empty.
    """
    chosen = settings.onlyProcesses
    if not (settings.autoDefaultRoute and chosen):
        return ""
    if not described.localSource:
        return (
            "With onlyProcesses, what other machines send does not enter the tunnel: it leaves "
            "past nanotun."
        )
    owner = described.owner
    if owner is not None:
        # A matcher's sentence about an unknown user would name another setting.
        chosenUsers(chosen)
        matcher = Matcher(chosen, False, uidOf, os.path.realpath)
        if matcher.socketText(owner.uid, owner.cgroup):
            return ""
        if owner.cgroup or not matcher.byCgroups:
            return (
                "onlyProcesses does not name this program, so its flows do not enter the tunnel: "
                "they leave past nanotun."
            )
    return (
        f"Only flows of {_some(map(str, chosen))} enter the tunnel (onlyProcesses); those of other "
        "programs leave past nanotun."
    )


def _some(texts: Iterable[str]) -> str:
    """The first of some texts, for a sentence."""
    found = list(dict.fromkeys(texts))
    if len(found) > SELECTORS_SHOWN:
        found[SELECTORS_SHOWN:] = ["and others"]
    return ", ".join(found)


def _whose(settings: Settings, asked: _Found) -> str:
    """What makes processes matter, for a sentence."""
    decision, script = asked.decision, asked.script
    # The user's rules and the script come before excludedProcesses.
    early = asked.decisive is not None or decision.rule == "script"
    doubted = {step.rule for step in asked.steps if step.value < 0}
    about = (
        rule.wants.processes or rule.never.processes
        for number, rule in enumerate(settings.rules, 1)
        if f"#{number}" in doubted
    )
    found = []
    if not early or any(about):
        selectors = (*settings.excludedProcesses, *soughtBy(settings))
        found = [_some(map(str, selectors))] if selectors else []
    if script is not None and script.needsProcess:
        found.append("the script")
    if not found:
        by = nameOf(decision) in perProgram(settings)
        found = ["a user name for the proxy" if by else "the proxy on this machine"]
    return ", ".join(found)


def _heard(asked: _Found) -> bool:
    """Whether the script has answered."""
    return asked.script is not None and asked.script.answer is not None


def _namesMatter(asked: _Found, heard: bool) -> bool:
    """
    Whether another name than none could send the flow elsewhere.

    @param heard: whether the script has answered.
    """
    if asked.decision.name:
        return False
    upstream = nameOf(asked.decision)
    doubts = (step for step in asked.steps if step.value < 0 and -step.value & NAME)
    return heard or any(step.to != upstream for step in doubts)


def _aboutName(names: tuple[str, ...], sniffs: bool, heard: bool) -> str:
    """
    A sentence about the name that is not known.

    @param names: what the destination may be called.
    @param heard: whether the script has answered, which says nothing of other names.
    """
    if len(names) > 1:
        listed = ", ".join(names)
        if sniffs:
            return (
                f"The address stands for several names ({listed}); nanotun reads the one that "
                "the flow asks for: say it with --name."
            )
        who = "the script may" if heard else "the rules"
        return (
            f"The address stands for several names ({listed}), which {who} treat differently, "
            "so none of them counts."
        )
    if sniffs:
        return (
            "Names matter here, and nanotun reads the one that the flow asks for: say it with "
            "--name, as in --name www.example.org."
        )
    return "A name could change this: say it with --name, as in --name www.example.org."


def _exists(device: str) -> bool:
    try:
        if_nametoindex(device)
    except OSError:
        return False
    return True


def explainHandler(
    live: Live, config: str
) -> Callable[[Mapping[str, Any]], dict[str, Any] | Deferred[dict[str, Any]]]:
    """
    The handler of C{nanotun explain}, which answers by what is in force and changes nothing,
    unless the user's script does.

    @param config: the configuration file's absolute path, or the empty string.
    """

    def handler(arguments: Mapping[str, Any]) -> dict[str, Any] | Deferred[dict[str, Any]]:
        current = live.current

        def scanned(pid: int) -> Excluded | None:
            return None if current.owners is None else current.owners.table.excluded.get(pid)

        try:
            question = Question(**arguments)
            flow = described(question, current.settings, current.names, scanned)
        except AnsweredHere as error:
            # An error would mean that the daemon cannot be asked.
            return {NO_FLOW: str(error)}
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise RunningError("This is no question about a flow.") from None
        if flow is None:
            return LOOK_UP
        by = {"by": "daemon", "pid": os.getpid(), "config": config or None}
        answer = judged(
            current.settings, flow, current.judge, current.upstreams.reports(), current.script
        )
        return answer.addCallback(lambda found: {**found, **by})

    return handler
