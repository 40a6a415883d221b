"""
The main program of the process of a script that is not root's.

L{nanotun.console.run.scripts} starts it as root, because nobody else may be able to read what
it imports.  It gives up root's rights before it looks at the script.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress

from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.logger import globalLogBeginner
from twisted.python.threadable import isInIOThread

from nanotun.cell.command import CommandUser
from nanotun.errors import ConfigError
from nanotun.linux.users import nameOf
from nanotun.scripting.load import Guard, loadScript
from nanotun.scripting.script import Script, ScriptOptions
from nanotun.scripting.served import LogLines, ServedScript
from nanotun.timer import steadyReactor


def become(user: CommandUser) -> None:
    """Have the rights of a user from now on, and no others."""
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def main() -> None:
    """Serve one script; L{nanotun.console.run.scripts.ScriptProcess} passes the argument."""
    about = json.loads(sys.argv[1])
    # nanotun blocks those that it forwards to the command.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    reactor = steadyReactor()
    channel = socket.socket(fileno=about["channel"])
    channel.set_inheritable(False)
    send = channel.sendall

    def sendLog(line: bytes) -> None:
        if served is None:
            send(line)
        elif isInIOThread():
            served.transport.write(line)
        else:
            reactor.callFromThread(served.transport.write, line)

    served: ServedScript | None = None
    globalLogBeginner.beginLoggingTo([LogLines(sendLog)], redirectStandardIO=False)
    user = CommandUser(**about["user"])
    become(user)
    names = {name: frozenset(fields) for name, fields in about["names"].items()}
    options = ScriptOptions(about["timeout"], about["onError"], names)
    try:
        loaded = loadScript(about["path"], Guard({user.uid}, nameOf=nameOf))
        script = Script(loaded, options, reactor)
        script.start()
    except ConfigError as error:
        send(json.dumps({"error": str(error)}).encode() + b"\n")
        return

    def leave() -> None:
        with suppress(ReactorNotRunning):  # A signal came first.
            reactor.stop()

    served = ServedScript(script, leave)
    factory = Factory.forProtocol(lambda: served)
    reactor.adoptStreamConnection(channel.fileno(), socket.AF_UNIX, factory)
    channel.close()
    reactor.run()
