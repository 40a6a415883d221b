"""
Writes what etc/nanotun.yaml, README.md and docs/command.md say about the settings:

    python tools/documents.py

The sample file is made whole; in the two others only the table between the marks is.
All of it comes from L{nanotun.config.keys}.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nanotun.config.entry import Key, keysOf  # noqa: E402
from nanotun.config.keys import GROUPS, KEYS  # noqa: E402
from nanotun.config.secretfiles import fileSentence  # noqa: E402
from nanotun.interfaces import IScheme  # noqa: E402
from nanotun.upstream.scheme import sendsNamesWith  # noqa: E402
from nanotun.upstream.schemes.table import BUILT_IN  # noqa: E402

#: The mark before a table, with the source of the table.
BEGIN = "<!-- Made by tools/documents.py from {source}. -->"
END = "<!-- The end of what is made. -->"

SETTINGS = "nanotun/config/keys.py"
SCHEMES = "nanotun/upstream/schemes/"

#: Characters of a comment's line in the sample file, without the C{"# "}.
LINE = 80

#: Characters of a default that the README shows; a longer one is cut off at a comma.
DEFAULT = 30

SAMPLE_HEAD = """\
# nanotun's configuration.
#
#   twistd nanotun --config /etc/nanotun.yaml
#
# Every setting but proxy has a default, which is the one shown behind a '#'.
# An environment variable wins over this file, and a flag over both: for mtu
# they are NANOTUN_MTU and --mtu.  'twistd nanotun --help' lists the flags; each
# variable is NANOTUN_ and the name of the setting in capitals.  Nobody but root
# may be able to write this file, and if it holds a password, nobody else should
# be able to read it: chmod 600.
"""


def _comment(text: str) -> str:
    """C{text} as comment lines; its lines that begin with a space are kept."""
    lines: list[str] = []
    for kept, group in _runs(text.strip("\n").split("\n")):
        lines += group if kept else _wrapped(" ".join(group))
    return "".join(f"# {line}\n" for line in lines)


def _wrapped(text: str) -> list[str]:
    """A list in brackets, such as C{[a, b]}, is not broken."""
    whole = re.sub(r"\[.*?\](?=[\s,.]|$)", lambda match: match[0].replace(" ", "\0"), text)
    wrapped = textwrap.wrap(whole, LINE, break_on_hyphens=False, break_long_words=False)
    return [line.replace("\0", " ") for line in wrapped]


def _runs(lines: Iterable[str]) -> list[tuple[bool, list[str]]]:
    runs: list[tuple[bool, list[str]]] = []
    for line in lines:
        kept = line.startswith(" ")
        if not runs or runs[-1][0] != kept:
            runs.append((kept, []))
        runs[-1][1].append(line)
    return runs


def _yaml(value: str | int) -> str:
    text = str(value)
    return text if re.fullmatch(r"[\w./][\w./:,-]*", text) else "'" + text.replace("'", "''") + "'"


def _sampleOf(key: Key) -> str:
    comment = _comment(key.doc or f"{key.help[0].upper()}{key.help[1:]}.")
    if key.default is None:
        return f"{comment}{key.name}: {key.example}\n"
    return f"{comment}# {key.name}: {_yaml(key.default)}\n"


def sample() -> str:
    """The whole of etc/nanotun.yaml."""
    return "\n".join([SAMPLE_HEAD, *map(_sampleOf, KEYS.values())])


def _row(key: Key) -> str:
    flags = f"`--{key.flag}`, `--no-{key.flag}`" if key.switch else f"`--{key.flag}`"
    if key.default is None:
        default = "(required)"
    elif key.default == "":
        default = "(none)"
    else:
        shown = str(key.default)
        if len(shown) > DEFAULT:
            shown = f"{shown[:DEFAULT].rpartition(',')[0]},..."
        default = f"`{shown}`"
    return f"| `{key.name}` | {flags} | {default} | {key.markdown.replace('|', chr(92) + '|')} |\n"


def settingsTable() -> str:
    """The table of all settings, in Markdown, and what is said of all of them that are secret."""
    rows = "".join(map(_row, KEYS.values()))
    return f"| YAML key | flag | default | |\n|---|---|---|---|\n{rows}\n{fileSentence('`')}\n"


def reloadTable() -> str:
    """The table of what a reload takes over, in Markdown; one row for each group."""
    rows = ["| applied at once | needs a restart |\n|---|---|\n"]
    for group in GROUPS:
        cells = [
            ", ".join(f"`{key.name}`" for key in keysOf(group) if key.live == live)
            for live in (True, False)
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    return "".join(rows)


def schemesTable() -> str:
    """The table of the schemes that have an address, in Markdown."""
    head = (
        "| proxy | default port | log-in | is sent | UDP | options |\n|---|---|---|---|---|---|\n"
    )
    return head + "".join(_schemeRow(each) for each in BUILT_IN if each.defaultPort is not None)


def _schemeRow(scheme: IScheme) -> str:
    cells = (
        f"`{scheme.name}`",
        str(scheme.defaultPort),
        scheme.authentication.value,
        _sent(scheme),
        "yes" if scheme.carriesDatagrams else "no",
        ", ".join(f"`?{name}={each.metavar}`" for name, each in scheme.options.items()),
    )
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def _sent(scheme: IScheme) -> str:
    """What a proxy is told of destinations whose names are known."""
    if scheme.sendsNames:
        return "names"
    return "addresses; with fake-ip, names" if sendsNamesWith(scheme, True) else "addresses"


def filled(text: str, source: str, table: str) -> str:
    """
    Put a table between its marks in a document.

    @param source: the table's source, which the first mark names.
    @raise ValueError: the document has no marks.
    """
    mark = BEGIN.format(source=source)
    before, begin, rest = text.partition(f"{mark}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the marks are missing: {mark} and {END}")
    return f"{before}{begin}{table}{end}{after}"


def documents() -> dict[Path, str]:
    """The text that each document is to have."""
    readme, command = ROOT / "README.md", ROOT / "docs" / "command.md"
    return {
        ROOT / "etc" / "nanotun.yaml": sample(),
        readme: filled(
            filled(readme.read_text(), SETTINGS, settingsTable()), SCHEMES, schemesTable()
        ),
        command: filled(command.read_text(), SETTINGS, reloadTable()),
    }


def main() -> None:
    """Write all of them."""
    for path, text in documents().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
