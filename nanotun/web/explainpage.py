"""
The page that says what becomes of a flow that somebody describes.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nanotun.web.html import Child, Html, join, tag
from nanotun.web.parts import badge, cell, heading, secret, section, table

#: What a rule says of a flow: the badge's text and class.
VALUES = {"yes": ("holds", "good"), "no": ("no", "plain"), "unknown": ("not known", "warn")}

#: The fields of the form, which are those of a question; see L{nanotun.web.api.Api.explain}.
FIELDS = ("destination", "protocol", "process", "name", "source")

#: What is shown of an answer besides its verdict, and under which name.
FACTS = (
    ("Upstream", "upstream"),
    ("Rule", "rule"),
    ("Where", "where"),
    ("Reason", "reason"),
    ("Name", "name"),
    ("Program", "process"),
    ("From", "source"),
    ("Trouble", "trouble"),
)


def explainPage(
    asked: Mapping[str, str], answer: Mapping[str, Any] | None, error: str, csrf: str
) -> Html:
    """
    The form, and the answer below it.

    @param asked: what the form says, some of L{FIELDS}.
    @param answer: that of C{nanotun explain --json}; L{None} if there is none.
    @param error: why there is none, a sentence, or empty.
    """
    return join(
        heading("Explain"),
        tag("p", "What would become of a flow, and which rule decides.", class_="about"),
        tag(
            "form",
            secret(csrf),
            _field("Destination", "destination", asked, "www.example.org:443", required=True),
            tag("p", tag("label", "Protocol", for_="protocol"), _protocols(asked)),
            _field("Program", "process", asked, "its name or path"),
            _field("Name of an address", "name", asked, "if it is known"),
            _field("From another machine", "source", asked, "its address"),
            tag("p", tag("button", "Explain")),
            action="/explain",
            method="post",
            class_="fields",
        ),
        tag("p", error, class_="error", role="alert") if error else None,
        None if answer is None else _answers(answer),
    )


def _protocols(asked: Mapping[str, str]) -> Html:
    chosen = asked.get("protocol")
    options = (
        tag("option", each.upper(), value=each, selected=each == chosen) for each in ("tcp", "udp")
    )
    return tag("select", options, id="protocol", name="protocol")


def _field(
    label: str, name: str, asked: Mapping[str, str], placeholder: str, required: bool = False
) -> Html:
    return tag(
        "p",
        tag("label", label, for_=name),
        tag(
            "input",
            id=name,
            name=name,
            value=asked.get(name, ""),
            placeholder=placeholder,
            required=required,
            autocomplete="off",
            spellcheck="false",
        ),
    )


def _answers(answer: Mapping[str, Any]) -> Html:
    """An answer, or one for each group of a name's addresses that are alike."""
    title = f"{answer['protocol'].upper()} to {answer['destination']}"
    each = answer.get("answers") or [answer]
    return join(tag("h2", title), map(_answer, each))


def _answer(answer: Mapping[str, Any]) -> Html:
    steps = answer["steps"]
    addresses = ", ".join(answer.get("addresses", ()))
    return section(
        "",
        tag("p", f"At {addresses}", class_="about") if addresses else None,
        tag("p", tag("b", answer["verdict"]), f": {answer['meaning']}", class_="answer"),
        tag("dl", _facts(answer), class_="facts"),
        (tag("p", note, class_="note") for note in answer["notes"]),
        table(["Rule", "Where", "To", "Holds", "Why"], map(_step, steps), "") if steps else None,
    )


def _facts(answer: Mapping[str, Any]) -> Iterator[Child]:
    for name, key in FACTS:
        if answer.get(key):
            yield tag("div", tag("dt", name), tag("dd", answer[key]))


def _step(step: Mapping[str, Any]) -> Html:
    return tag(
        "tr",
        cell("Rule", step["rule"]),
        cell("Where", step["where"]),
        cell("To", step["to"]),
        cell("Holds", badge(*VALUES.get(step["value"], (step["value"], "plain")))),
        cell("Why", step["why"], kind="wide"),
    )
