"""
Decisions by the name of an upstream: those of rules, of the default and of a script.
"""

from __future__ import annotations

from nanotun.flow import Decision, Owner, Verdict

#: The names that are built in.  The upstream that the setting C{proxy} makes is the one that
#: counts where a decision names none.
_BUILT_IN = {
    "proxy": Verdict.PROXY,
    "direct": Verdict.DIRECT,
    "reject": Verdict.REJECT,
    "drop": Verdict.DROP,
}


def decisionTo(
    to: str,
    rule: str,
    reason: str,
    owner: Owner | None = None,
    values: tuple[tuple[str, str], ...] = (),
) -> Decision:
    """
    Decide that a flow goes to an upstream.

    @param to: the upstream's name, one of L{nanotun.config.upstreams.upstreamNames}.
    @param rule: as for L{Decision}, like the rest.
    """
    verdict = _BUILT_IN.get(to)
    if verdict is not None:
        return Decision(verdict, rule, reason, owner, values=values)
    return Decision(Verdict.PROXY, rule, reason, owner, upstream=to, values=values)


def nameOf(decision: Decision) -> str:
    """The name of the upstream that a decision leads to; empty for what is served."""
    if decision.verdict is Verdict.SERVE:
        return ""
    return decision.upstream or decision.verdict.value


def leadsOut(decision: Decision) -> bool:
    """Whether a flow is carried by an upstream, through a proxy or not."""
    return decision.verdict in (Verdict.PROXY, Verdict.DIRECT)
