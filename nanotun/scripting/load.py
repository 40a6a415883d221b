"""
Loads the user's script, and whatever it imports.

The script runs in nanotun's own process with nanotun's rights, so only those whom L{Guard}
trusts may be able to write it, the modules beside it, and each module that it is the first
to import.  Nothing of the script is read from or written to __pycache__.

Modules beside the script are imported by their plain names, but only for the script, and only
where no installed module has that name.  With the next version they are read again.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

from twisted.python.failure import Failure

import nanotun
import twisted
from nanotun.errors import ConfigError
from nanotun.scripting.safety import stepsTo, writersOf

#: Bytes of one source file; anything longer is no script.
SOURCE_LIMIT = 1 << 20

#: The name of the script's module.
MODULE = "nanotun_script"

#: Characters of an exception's text: it may quote whatever a peer sent.
TEXT_LIMIT = 200

#: Files that run in this process whatever the script does.
RUNNING = tuple(filter(None, (nanotun.__file__, twisted.__file__, os.__file__)))


class Source(NamedTuple):
    """A source file as it was read."""

    path: str
    data: bytes


class UnsafeImport(ImportError):
    """A module that others could have written; its text is a sentence."""


class Guard:
    """
    Decides whose files may be run.

    @param trusted: the users besides root who may be able to write the script and what lies
        beside it.
    @param running: files that run here already.  Who can replace one of them gains nothing by
        replacing another installed module, and so may be able to.
    @param nameOf: a user's name.
    @param lstat: L{os.lstat}, unless a test makes up the owners of its files.
    """

    def __init__(
        self,
        trusted: Collection[int] = (),
        running: Collection[str] = RUNNING,
        nameOf: Callable[[int], str] = str,
        lstat: Callable[[str], os.stat_result] = os.lstat,
    ) -> None:
        self._trusted = frozenset(trusted)
        self._nameOf = nameOf
        self._lstat = lstat
        self._running: dict[str, int] = {}
        for path in running:
            # What cannot be looked at is not trusted.
            with suppress(OSError):
                for place, status in stepsTo(path, lstat):
                    self._running[place] = status.st_uid

    def check(self, path: str, what: str, installed: bool = False) -> None:
        """
        See that only trusted users can write a file.

        @param what: the file, as the subject of a sentence.
        @param installed: whether it is an installed module.
        @raise ConfigError: somebody else could.
        """
        known = self._running if installed else {}
        for uid, place in writersOf(path, what, known, self._lstat).items():
            if uid not in self._trusted and uid not in known.values():
                raise ConfigError(
                    f"{what} could be changed by the user {self._nameOf(uid)}, to whom {place} "
                    "belongs; keep it where only root can write, such as /etc/nanotun, or run "
                    f"'chown root {place}'."
                )

    def read(self, path: str, what: str) -> Source:
        """
        Read a source file that L{check} passes.

        @raise ConfigError: it does not pass, or it cannot be read.
        """
        self.check(path, what)
        try:
            # A named pipe would wait for its other end.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ConfigError(f"{what} is no regular file.")
                data = file.read(SOURCE_LIMIT + 1)
        except OSError as error:
            raise ConfigError(
                f"{what} cannot be read ({error.strerror}); check its path."
            ) from None
        if len(data) > SOURCE_LIMIT:
            raise ConfigError(f"{what} is longer than 1 MiB, so it is no script.")
        return Source(path, data)


class ScriptFinder:
    """
    Stands first in C{sys.meta_path} and takes part in imports on behalf of the script only: it
    finds the modules beside the script, and checks all others.

    @ivar files: the source files of the script; a frame of one of them is the script's.
    @ivar sources: what was read.
    @ivar code: what that was compiled to.
    """

    #: Whether one of them looks for a module already.  Two versions may be there at a time: with
    #: a flag for each, they would ask each other without end.
    _busy = False

    def __init__(self, path: str, guard: Guard) -> None:
        self._directory = os.path.dirname(path)
        self._guard = guard
        self.files = {path}
        self.sources: list[Source] = []
        # What was looked for beside the script and was not there.
        self._missing: set[str] = set()
        self.code: list[CodeType] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See L{importlib.abc.MetaPathFinder.find_spec}."""
        if ScriptFinder._busy or not self._forScript():
            return None
        inside = next((each for each in path or () if self._isOurs(each)), "")
        if inside and (spec := self._beside(name, inside)):
            return spec
        ScriptFinder._busy = True
        try:
            found = (each.find_spec(name, path, target) for each in sys.meta_path)
            spec = next(filter(None, found), None)
        finally:
            ScriptFinder._busy = False
        if spec is None:
            return self._beside(name, self._directory) if path is None else None
        self._check(spec, not inside)
        return spec

    def read(self, path: str, what: str) -> CodeType:
        """
        Read a source file of the script, and compile it.

        @raise ConfigError: it is not safe, or not there.
        """
        source = self._guard.read(path, what)
        self.sources.append(source)
        self.files.add(path)
        code = compile(source.data, path, "exec", dont_inherit=True)
        self.code.append(code)
        return code

    def isCurrent(self) -> bool:
        """Whether L{read} would read the same of every file, and of no others."""
        if any(map(os.path.isfile, self._missing)):
            return False
        try:
            return all(self._guard.read(each.path, "") == each for each in self.sources)
        except ConfigError:
            return False

    def _isOurs(self, path: str) -> bool:
        return path.startswith(f"{self._directory.rstrip('/')}/")

    def _forScript(self) -> bool:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename in self.files:
                return True
            frame = frame.f_back
        return False

    def _check(self, spec: ModuleSpec, installed: bool) -> None:
        for place in (spec.origin, spec.cached, *(spec.submodule_search_locations or ())):
            if place is None or not place.startswith("/"):
                continue  # Built in.
            while not os.path.exists(place):
                place = os.path.dirname(place)  # In an archive, or not compiled yet.
            what = f"{place}, which the script imports as {spec.name},"
            try:
                self._guard.check(place, what, installed)
            except ConfigError as error:
                raise UnsafeImport(str(error)) from None

    def _beside(self, name: str, directory: str) -> ModuleSpec | None:
        base = os.path.join(directory, name.rpartition(".")[2])
        for path, inside in ((f"{base}/__init__.py", [base]), (f"{base}.py", None)):
            if os.path.isfile(path):
                loader = BesideLoader(name, path, self)
                return spec_from_file_location(
                    name, path, loader=loader, submodule_search_locations=inside
                )
            self._missing.add(path)
        return None


class BesideLoader(SourceFileLoader):
    """
    Loads a module beside the script, without a cache.

    @ivar finder: of the script that it is for.
    """

    def __init__(self, name: str, path: str, finder: ScriptFinder) -> None:
        super().__init__(name, path)
        self.finder = finder

    def get_code(self, fullname: str) -> CodeType:
        """See L{importlib.abc.InspectLoader.get_code}."""
        try:
            return self.finder.read(self.path, f"{self.path}, which the script imports,")
        except ConfigError as error:
            raise UnsafeImport(str(error)) from None


class Loaded(NamedTuple):
    """
    A script that was imported.

    @ivar finder: finds what it imports from now on.
    @ivar replaced: the modules of the version before it.
    """

    path: str
    module: ModuleType
    finder: ScriptFinder
    replaced: dict[str, ModuleType]

    def unload(self) -> None:
        """
        Take no part in imports any more.  If the version before still does, it has its modules
        back.
        """
        with suppress(ValueError):
            sys.meta_path.remove(self.finder)
        for name, module in _beside().items():
            if _finderOf(module) is self.finder:
                del sys.modules[name]
        for name, module in self.replaced.items():
            if _finderOf(module) in sys.meta_path:
                sys.modules.setdefault(name, module)


def loadScript(path: str, guard: Guard) -> Loaded:
    """
    Import a script: run the file, and call nothing in it.

    @param path: absolute.
    @raise ConfigError: with one sentence; nothing of it is left.
    """
    finder = ScriptFinder(path, guard)
    module = ModuleType(MODULE)
    module.__file__ = path
    module.__loader__ = BesideLoader(MODULE, path, finder)
    replaced = _beside()
    for name in replaced:
        del sys.modules[name]
    sys.modules[MODULE] = module
    sys.meta_path.insert(0, finder)
    loaded = Loaded(path, module, finder, replaced)
    try:
        exec(finder.read(path, f"The script {path}"), vars(module))
    except BaseException as error:
        loaded.unload()
        if isinstance(error, ConfigError) or not isinstance(error, (Exception, SystemExit)):
            raise
        raise ConfigError(_sentence(path, error, finder.files)) from None
    return loaded


def _beside() -> dict[str, ModuleType]:
    """The modules of all scripts, by their names."""
    return {name: each for name, each in dict(sys.modules).items() if _finderOf(each)}


def _finderOf(module: ModuleType) -> ScriptFinder | None:
    loader = getattr(module, "__loader__", None)
    return loader.finder if isinstance(loader, BesideLoader) else None


def _sentence(path: str, error: BaseException, files: Collection[str]) -> str:
    """Why a script cannot be imported."""
    if isinstance(error, SyntaxError) and error.filename in files:
        other = "" if error.filename == path else f"{error.filename}, "
        return f"The script {path} is not Python ({other}line {error.lineno}: {error.msg})."
    if isinstance(error, UnsafeImport):
        return str(error)
    return f"The script {path} cannot be imported: {described(Failure(error), path, files)}."


def described(reason: Failure, path: str, files: Collection[str]) -> str:
    """An exception with the script's line that it is from, C{line 7: KeyError: 'x'}."""
    file, line = placeOf(reason, files)
    where = f"line {line}" if file == path else f"{file}, line {line}"
    return f"{where}: {textOf(reason.value)}" if line else textOf(reason.value)


def textOf(error: BaseException | None) -> str:
    """An exception in one line, such as C{KeyError: 'x'}."""
    try:
        text = " ".join(str(error).split())[:TEXT_LIMIT].rstrip(".")
    except Exception:
        text = ""
    return type(error).__name__ + (f": {text}" if text else "")


def placeOf(reason: Failure, files: Collection[str]) -> tuple[str, int]:
    """The innermost place of the script that an exception has passed; empty and 0 if none."""
    found = "", 0
    # Not the exception's own, which a Deferred of an older Twisted takes away.
    traceback: Any = reason.getTracebackObject()
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file in files:
            found = file, traceback.tb_lineno
        traceback = traceback.tb_next
    return found
