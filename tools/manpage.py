"""
Writes the manual page docs/nanotun.8, in the man(7) language:

    python tools/manpage.py

Words, options and settings are generated from the command's own tables; the rest is below.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from commandline import Option, Word, daemonOptions, words  # noqa: E402

from nanotun import __version__  # noqa: E402
from nanotun.config.keys import KEYS  # noqa: E402
from nanotun.config.secretfiles import fileSentence  # noqa: E402

#: Options of the daemon that many words have.
FEW = frozenset(("config", "help", "run-dir", "version"))

#: Whoever has this one reads the settings, and has all the daemon's options.  Others that have
#: options of the same names mean something else by them.
ANY = "proxy"

PAGE = ROOT / "docs" / "nanotun.8"
DATE = "2026-11-27"
LINE = 70  #: Characters, not counting escapes.

HEAD = r"""
.SH NAME
nanotun \- send traffic through a proxy, by way of a TUN device
.SH SYNOPSIS
.B nanotun
.I WORD
.RI [ OPTION " ...]"
.br
.B twistd
.RB [ \-n ]
.B nanotun
.RI [ OPTION " ...]"
.SH DESCRIPTION
nanotun terminates the connections that are routed to its TUN device in a TCP/IP
stack of its own, and opens them again through an upstream proxy: SOCKS5, SOCKS4
or HTTP, with or without TLS.
With
.B autoDefaultRoute
that is all the traffic and DNS of the machine; every change is taken back when
the daemon stops.
.PP
The daemon needs root, and drops the capabilities that its settings do not need.
"""

TAIL = r"""
.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
Stop within two seconds: flows end, and routes and the device are removed.
.TP
.B SIGHUP
Read the configuration again.
Open flows continue.
A file with a mistake changes nothing; the log says what is wrong.
.SH LOGS
Lines are written to standard error, unless the daemon is in the background, and
to files in
.BR logDir :
.IR nanotun\-YYYY\-MM\-DD.log ,
and
.I nanotun\-YYYY\-MM\-DD.1.log
and so on for each further MiB of a day.
Three days are kept, 100 files at most.
While a disk is full or the directory is missing, lines are lost and the tunnel
keeps running.
.PP
A line has the time, the level, the part of nanotun that logs it, and the text.
With
.B logFormat: json
each line is one object with the keys
.BR time ", " level ", " namespace " and " text ,
.B fields
with the values in the text, and
.B traceback
for an internal error.
.SH EXIT STATUS
.TP
.B 0
Success.
.TP
.B 1
Something went wrong; one sentence on standard error says what, and what to
do.
.TP
.B 2
The command line is wrong.
.PP
Other statuses are listed with the words above.
.SH ENVIRONMENT
.TP
.BI NANOTUN_ NAME
The value of a setting, where
.I NAME
is its name in capitals:
.B NANOTUN_MTU
for
.BR mtu .
It wins over the configuration file, and an option wins over it.
An empty variable counts as not set; one that belongs to no setting is named in
a warning.
.TP
.B NANOTUN_PROXY_PASSWORD
The password for a proxy that has a user name but no password.
.PP
{files}
.TP
.BR NOTIFY_SOCKET ", " WATCHDOG_USEC ", " WATCHDOG_PID
systemd sets these to be notified of start, stop and reload, and that the
daemon is alive; see
.BR sd_notify (3).
.TP
.B JOURNAL_STREAM
If it names standard error, lines begin with their level for the journal.
.SH FILES
.TP
.I /etc/nanotun.yaml
The configuration.
Only root may be able to write it.
.TP
.I /run/nanotun
The control socket, the lock and the journal of changed routes.
.TP
.I /etc/default/nanotun
Settings of the init script.
.TP
.I /var/log/nanotun
The logs of an installed nanotun.
.SH SEE ALSO
.BR ip (8),
.BR nft (8),
.BR systemd.service (5),
.BR twistd (1)
"""


def roff(text: str) -> str:
    """C{text} escaped for roff, in lines of at most L{LINE} characters."""
    lines = textwrap.wrap(text, LINE, break_long_words=False, break_on_hyphens=False)
    escaped = (
        line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq") for line in lines
    )
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in escaped)


def _option(option: Option) -> str:
    names = f"\\-\\-{roff(option.name)}"
    if option.letter:
        names = f"\\-{option.letter}\\fR, \\fB{names}"
    value = f" \\fI{roff(option.kind)}" if option.takesValue else ""
    return f".TP\n\\fB{names}{value}\\fR\n{roff(_sentence(option.help))}"


def _sentence(text: str) -> str:
    return text and text.rstrip(".") + "."


def _word(word: Word, common: Sequence[Option]) -> str:
    lines = [f".SS {word.name}"]
    if word.synopsis:
        lines += [f".B {roff(word.synopsis)}", ".PP"]
    lines.append(roff(_sentence(word.summary)))
    if word.description:
        lines += [".PP", roff(word.description)]
    reads = any(option.name == ANY for option in word.options)
    names = {option.name for option in common} if reads else FEW
    lines += [_option(option) for option in word.options if option.name not in names]
    if reads:
        lines += [".PP", "The daemon\\(aqs options, below, can be given as well."]
    return "\n".join(lines)


def _setting(name: str) -> str:
    key = KEYS[name]
    default = ""
    if key.default is not None:
        shown = "\\(aq\\(aq" if key.default == "" else roff(str(key.default))
        default = f"\nDefault: {shown}."
    help = roff(_sentence(key.help))
    return f".TP\n\\fB{name}\\fR: \\fI{roff(key.metavar)}\\fR\n{help}{default}"


def page(table: Sequence[Word]) -> str:
    """The whole page."""
    common = daemonOptions()
    parts = [
        '.\\" Made by tools/manpage.py.',
        f'.TH NANOTUN 8 {DATE} "nanotun {__version__}" "System Administration"',
        HEAD.strip(),
        ".SH WORDS",
        *(_word(word, common) for word in table),
        ".SH OPTIONS",
        "Those of the daemon.\nAll but\n.B \\-\\-config\nand\n.B \\-\\-confirm\ncan also be given "
        "in an environment variable or in the\nconfiguration file.\n"
        "An option wins over a variable, and that over the file.",
        *map(_option, common),
        ".SH CONFIGURATION",
        'The file is YAML: one\n.IR name : " value"\na line.\n'
        "Durations are numbers with a unit, as in 500ms, 30s or 1m30s.",
        *map(_setting, KEYS),
        TAIL.strip().replace("{files}", roff(fileSentence())),
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(words()))


if __name__ == "__main__":
    main()
