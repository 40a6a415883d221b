"""
What is said about a capture.
"""

from __future__ import annotations

from collections.abc import Iterator

from nanotun.config.units import sizeText, timeText
from nanotun.console.capture.capture import Captured, Limits


def beginning(device: str, limits: Limits) -> str:
    """The sentence at the beginning."""
    count = f", {limits.packets} packets" if limits.packets else ""
    return (
        f"Capturing the packets of {device}; Ctrl-C ends it, or "
        f"{timeText(limits.seconds)}{count} or {sizeText(limits.size)}."
    )


def ending(captured: Captured, name: str, silent: bool) -> Iterator[str]:
    """
    The sentences at the end.

    @param name: the file's.
    @param silent: whether the daemon has ceased to answer.
    """
    yield captured.why
    if silent:
        yield "The daemon ceased to answer, so comments say less of the last flows."
    packets, flows = _counted(captured.packets, "packet"), _counted(captured.flows, "flow")
    yield f"{name}: {packets} of {flows}, {sizeText(captured.size)}."
    if captured.leftOut:
        yield f"The filters left out {_counted(captured.leftOut, 'packet')}."
    if captured.dropped:
        yield f"The kernel had no place for {_counted(captured.dropped, 'more packet')}."
    else:
        yield "The kernel dropped none."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
