"""
The C{nanotun} command: one module for each of its words.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

from nanotun import __version__

#: Exit statuses.  NOT_RUNNING is the one that the Linux Standard Base gives an init
#: script's status action for a program that is not running.
GOOD = 0
FAILED = 1
WRONG_USAGE = 2
NOT_RUNNING = 3

#: The exit status of a command that Ctrl-C ended, as a shell reports it.
INTERRUPTED = 128 + signal.SIGINT

#: Why a stream cannot be written any more: a full disk, or a terminal that is gone.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


#: Options that are about the command itself; any other is one of C{start}.
ABOUT = ("--help", "-h", "--version", "-V")


class Command(NamedTuple):
    """
    One word of the command line.

    @ivar module: name below C{nanotun.console}; its C{main} takes the arguments after the
        word and returns the exit status.
    @ivar summary: what it does, for the help.
    """

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "start": Command("start", "run the daemon; with -d in the background"),
    "check": Command("check", "read a configuration file and say what is wrong with it"),
    "status": Command("status", "show how the daemon does; --json, --watch"),
    "flows": Command("flows", "list the open flows, and whose they are; --json, --watch"),
    "top": Command("flows.top", "sum the flows up by program, domain, upstream or rule"),
    "close": Command("flows.close", "end flows, by their ids or by filters"),
    "capture": Command("capture", "write packets to a file, with their programs and rules"),
    "history": Command("history", "show the flows that have ended, or sums of them"),
    "web": Command("web", "print the link to the page in a browser; --token"),
    "reload": Command("reload", "have the daemon read its configuration again"),
    "stop": Command("stop", "end the daemon and wait until it has ended"),
    "confirm": Command("confirm", "keep the routes of a start with --confirm"),
    "run": Command("run", "run one command in a network of its own, through the proxy"),
    "explain": Command("explain", "say where a flow would go, and why"),
    "dns": Command("dns", "look a name up as programs do, and say who answered"),
    "doctor": Command("doctor", "look for what is wrong, and say the cure"),
    "plan": Command("plan", "print what --auto-route would change, and its undo"),
    "recover": Command("recover", "take back what a daemon that was killed has left"),
}


def helpText() -> str:
    """The help: all words, on one screen."""
    words = "\n".join(f"  {word:<9} {command.summary}" for word, command in COMMANDS.items())
    return (
        "usage: nanotun WORD [options]\n"
        "Sends this machine's traffic, or one command's, through a proxy.\n"
        f"{words}\n"
        "'nanotun WORD --help' has the options of a word, '--help all' explains each.\n"
        "Exit status: 0 done, 1 failed, 2 wrong command line, 3 nanotun does not run;\n"
        "run and doctor have their own."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one word of the command line.

    @param argv: the arguments after the program's name; those of C{sys.argv} by default.
    @return: the exit status: L{GOOD}, L{FAILED}, L{WRONG_USAGE}, L{NOT_RUNNING},
        L{INTERRUPTED}, or one of the word's own.
    """
    fillStreams()
    leaveNoByteCode()
    try:
        status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe: it has read enough.
        _closeOutput()
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Only the error of a stream names no file.
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise
        _closeOutput()
        print(f"nanotun: the output cannot be written ({error.strerror}).", file=sys.stderr)
        return FAILED
    return status


def fillStreams() -> None:
    """
    Open the standard streams that the caller has closed: otherwise the next file that is
    opened takes the number of one and receives what is written to it.  Python represents
    a closed stream as L{None}.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)


def leaveNoByteCode() -> None:
    """
    As root, write no byte code into another user's installation: that user could not remove the
    directories that Python makes for it, so that neither an upgrade nor a removal would work.
    """
    if os.geteuid() != 0 or os.stat(__file__).st_uid == 0:
        return
    sys.dont_write_bytecode = True
    # What Python has written already, until it came here.
    for name in ("nanotun", "nanotun.console"):
        spec = sys.modules[name].__spec__
        if spec is not None and spec.cached is not None:
            with suppress(OSError):
                if os.lstat(spec.cached).st_uid == 0:
                    os.unlink(spec.cached)
                    os.rmdir(os.path.dirname(spec.cached))


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        print(helpText(), file=sys.stderr)
        return WRONG_USAGE
    word, *rest = arguments
    if word.startswith("-") and word not in ABOUT:
        word, rest = "start", arguments
    if word in ("--version", "-V"):
        print(f"nanotun {__version__}")
        return GOOD
    if word in ("--help", "-h", "help"):
        if rest[:1] != ["all"]:
            print(helpText())
            return GOOD
        word, rest = "start", ["--help", "all"]
    command = COMMANDS.get(word)
    if command is None:
        print(f"nanotun: {_unknown(word)}", file=sys.stderr)
        return WRONG_USAGE
    if rest[:1] == ["-h"]:
        rest[0] = "--help"
    # What is imported stays.  The collector would walk it again and again while it grows, which
    # takes an eighth of the time.
    gc.disable()
    module = import_module(f"nanotun.console.{command.module}")
    gc.freeze()
    gc.enable()
    status: int = module.main(rest)
    return status


def _closeOutput() -> None:
    """Discard buffered output, which Python would otherwise try to write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unknown(word: str) -> str:
    from difflib import get_close_matches

    near = [each for each in COMMANDS if each.startswith(word)]
    near = near or get_close_matches(word, COMMANDS, 1)
    if near:
        return f"there is no word {word[:40]!a}; did you mean 'nanotun {near[0]}'?"
    return f"there is no word {word[:40]!a}; see 'nanotun --help'."
