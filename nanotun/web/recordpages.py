"""
The pages about what has been written down: DNS queries, the log and the configuration.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nanotun.web.html import Html, join, tag
from nanotun.web.parts import (
    badge,
    cell,
    heading,
    number,
    numberHead,
    orNothing,
    secret,
    section,
    table,
)
from nanotun.web.text import clockOffset, clockText, millisText

#: The answers to DNS queries that are no trouble.
GOOD_ANSWERS = ("NOERROR",)

#: Characters of a setting's value; a list may have a hundred thousand entries.
VALUE_LIMIT = 2000


def dnsPage(dns: Mapping[str, Any]) -> Html:
    """
    The page about DNS.

    @param dns: C{queries}; see L{nanotun.web.api.Api.dns}.
    """
    columns = ["Time", "Name", "Type", "Answer", "From", numberHead("Took")]
    nothing = "No query has come since somebody looks here."
    return join(
        heading("DNS"),
        tag(
            "p",
            "The last queries, the newest first. They are written down only while somebody looks.",
            class_="about",
        ),
        section("", table(columns, map(_queryRow, dns["queries"]), nothing), live="queries"),
    )


def _queryRow(query: Mapping[str, Any]) -> Html:
    status = query["status"]
    answer = badge(status, "good" if status in GOOD_ANSWERS else "warn") if status else None
    source = query["server"] or query["stage"]
    return tag(
        "tr",
        cell("Time", clockText(query["time"])),
        cell("Name", query["name"], kind="wide"),
        cell("Type", query["type"]),
        cell("Answer", orNothing(answer)),
        cell("From", orNothing(source), title=query["stage"] or ""),
        number("Took", millisText(query["seconds"])),
    )


def logPage(log: Mapping[str, Any]) -> Html:
    """
    The page with the end of the log.

    @param log: C{lines}; see L{nanotun.web.api.Api.log}.
    """
    lines = log["lines"]
    offset = clockOffset(lines[-1]["time"] if lines else 0)
    return join(
        heading("Log"),
        tag("p", "The newest lines are at the end.", class_="about"),
        tag("ol", map(_line, lines), id="lines", class_="log", data_offset=offset),
    )


def _line(line: Mapping[str, Any]) -> Html:
    """A line of the log.  C{page.js} makes the same."""
    return tag(
        "li",
        tag("time", clockText(line["time"])),
        " ",
        tag("b", line["level"]),
        f" {line['text']}",
        class_=line["level"],
        data_number=line["number"],
        title=line["namespace"],
    )


def configPage(config: Mapping[str, Any], csrf: str) -> Html:
    """
    The page with the settings in force.

    @param config: C{settings} and C{file}; see L{nanotun.web.api.Api.config}.
    """
    reload = tag(
        "form",
        secret(csrf),
        tag("button", "Reload", title="Read the configuration again, as nanotun reload does"),
        action="/reload",
        method="post",
    )
    file = config["file"]
    columns = ["Setting", "Value", "Written in", "Takes effect"]
    about = ("Read from ", tag("code", file)) if file else "There is no configuration file."
    rows = (_settingRow(each, f"{file}, ") for each in config["settings"])
    return join(
        heading("Configuration", tag("p", about), reload),
        section("", table(columns, rows, "There are no settings."), live="settings"),
    )


def _settingRow(setting: Mapping[str, Any], begin: str) -> Html:
    """
    One setting.

    @param begin: of the places in the configuration file, which is named above.
    """
    value, where = setting["value"], setting["where"].removeprefix(begin)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > VALUE_LIMIT:
        text = f"{text[:VALUE_LIMIT]}…"
    return tag(
        "tr",
        cell("Setting", tag("code", setting["name"])),
        cell("Value", tag("code", text), kind="wide"),
        cell("Written in", where or tag("small", "default")),
        cell(
            "Takes effect",
            "at a reload" if setting["live"] else "at the next start",
            (" ", badge("waits for it", "warn")) if setting["waits"] else None,
        ),
        data_key=setting["name"],
        class_="written" if where else None,
    )
