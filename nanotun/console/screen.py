"""
The help of a word on one screen: a few options explained, the others named by subject.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence

from nanotun.config.entry import keysOf
from nanotun.config.keys import GROUPS, TITLES

WIDTH = 80

#: Columns of an explained option, and of a subject, with the space before them.
OPTION, SUBJECT = 22, 11


def bySubject(
    left: Collection[str], own: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """
    The options of the settings, by the title of their group.

    @param left: those to leave out.
    @param own: more options, by title.
    """
    found: dict[str, list[str]] = {}
    for group, title in zip(GROUPS, TITLES, strict=True):
        names = [key.flag for key in keysOf(group) if key.flag not in left]
        found[title] = [*found.get(title, []), *names]
    for title, more in (own or {}).items():
        found[title] = [*found.get(title, []), *more]
    return found


def screen(
    word: str,
    head: str,
    explained: Mapping[str, str],
    named: Mapping[str, Sequence[str]],
    tail: str = "",
) -> str:
    """
    Put the help together, as it follows the synopsis.

    @param head: sentences below the synopsis; may be empty.
    @param explained: what each option does, on one line.
    @param named: the other options, without dashes, by subject.
    @param tail: sentences at the end; may be empty.
    """
    lines = [""]
    if head:
        lines += [*textwrap.wrap(head, WIDTH), ""]
    lines += [f"  {option:{OPTION - 2}}{text}" for option, text in explained.items()]
    lines += ["", f"The other options, by subject ('nanotun {word} --help all' explains them):"]
    for title, names in named.items():
        if not names:
            continue
        texts = textwrap.wrap(
            " ".join(f"--{name}" for name in names), WIDTH - SUBJECT, break_on_hyphens=False
        )
        for text in texts:
            lines.append(f"  {title:{SUBJECT - 2}}{text}")
            title = ""
    # Without a blank line before it, for a screen of 24 lines.
    lines.append("A switch is --x, --no-x or --x=true|false.")
    if tail:
        lines += textwrap.wrap(tail, WIDTH)
    return "\n".join(lines)
