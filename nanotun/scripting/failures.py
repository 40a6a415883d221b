"""
What goes wrong in a script, as log lines and counts.
"""

from __future__ import annotations

from collections.abc import Collection
from types import CodeType
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from nanotun.log.trouble import TroubleLog
from nanotun.scripting.load import placeOf, textOf
from nanotun.scripting.slow import BLOCKED

#: Causes told apart at a time, each with its place in the script: more would not be read.
CAUSE_LIMIT = 64

#: How the sentence about a failure ends, by C{scriptError}.
AFTERWARDS = {
    "reject": "; what it is asked about is refused meanwhile (scriptError)",
    "rules": "; the rules decide meanwhile (scriptError)",
}

#: For an exception of asyncio's own.
ASYNCIO = "asyncio's awaitables do not run on nanotun's reactor"


class WrongAnswer(Exception):
    """The script answered what there is not; the text completes C{it answered}."""


class Failures:
    """
    Logs each cause once and then counts it.

    The sentences take C{onError}, the value of C{scriptError}, where the script was asked
    something; it is empty where it was only told.

    @ivar failed: how many calls raised, were given up, or answered what there is not.
    @ivar late: how many answers took too long.
    @ivar blocked: how many steps took longer than L{BLOCKED}.
    @param path: the script's.
    @param files: all of its source files.
    """

    _log = Logger()

    def __init__(self, path: str, files: Collection[str], clock: IReactorTime) -> None:
        self.failed = self.late = self.blocked = 0
        self._path = path
        self._files = files
        self._trouble = TroubleLog(clock, self._log, LogLevel.error, CAUSE_LIMIT)
        self._blocking = TroubleLog(clock, self._log, LogLevel.warn, CAUSE_LIMIT)
        # The first sentence about each cause: others differ in what the text quotes.
        self._sentences: dict[tuple[str, int, type, str], str] = {}

    def raised(self, name: str, function: Any, reason: Failure, onError: str = "") -> str:
        """
        Report an exception.

        @param name: the function's name in the script.
        @return: what failed, for a sentence.
        """
        self.failed += 1
        file, line = placeOf(reason, self._files)
        if not line:
            file, line = self._beginning(function)
        where = self._where(name, file, line)
        error = reason.value
        key = file, line, type(error), onError
        sentence = self._sentences.get(key)
        if sentence is None:
            sentence = self._sentence(f"failed {where} ({_text(error)})", onError)
            if len(self._sentences) < CAUSE_LIMIT:
                self._sentences[key] = sentence
        self._trouble.report(sentence)
        return f"failed {where}"

    def tookTooLong(self, name: str, timeout: float, place: tuple[str, int], onError: str) -> str:
        """
        Report an answer that did not come in time.

        @param place: where it waits.
        @return: what failed, for a sentence.
        """
        self.late += 1
        what = f"did not answer within {timeout:g} s"
        where = self._where(name, *place).removeprefix("at ")
        self._trouble.report(self._sentence(f"{what} ({where})", onError))
        return what

    def tooMany(self, name: str, limit: int, onError: str = "") -> str:
        """
        Report a call that was given up because too many others are under way.

        @return: what failed, for a sentence.
        """
        self.failed += 1
        what = f"has {limit} calls under way, which is the limit"
        self._trouble.report(self._sentence(f"{what} (in {name})", onError))
        return what

    def slow(self, seconds: float, name: str, file: str, line: int) -> None:
        """Report a step that blocked the reactor."""
        self.blocked += 1
        self._blocking.report(
            f"The script {self._path} blocks nanotun for more than {BLOCKED * 1000:g} ms "
            f"{self._where(name, file, line)}, and everything else waits meanwhile; await a "
            "Deferred there, or use twisted.internet.threads.deferToThread."
        )

    def stop(self) -> None:
        """Log what is held back."""
        self._trouble.stop()
        self._blocking.stop()

    def _beginning(self, function: Any) -> tuple[str, int]:
        """Where a function begins, under its decorators."""
        code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
        if isinstance(code, CodeType) and code.co_filename in self._files:
            return code.co_filename, code.co_firstlineno
        return "", 0

    def _sentence(self, what: str, onError: str) -> str:
        return f"The script {self._path} {what}{AFTERWARDS.get(onError, '')}."

    def _where(self, name: str, file: str, line: int) -> str:
        if not line:
            return f"in {name}"
        other = "" if file == self._path else f" of {file}"
        return f"at line {line}{other}, in {name}"


def _text(error: BaseException | None) -> str:
    if isinstance(error, WrongAnswer):
        return f"it answered {error}"
    text = textOf(error)
    if isinstance(error, RuntimeError) and "event loop" in text:
        text += f": {ASYNCIO}"
    return text
