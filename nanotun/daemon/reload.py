"""
The live configuration, and how another one takes its place.

A reload first does everything that may fail, and leaves no trace where it does.  Then it
swaps, which cannot fail.  So a bad configuration changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.config.change import KEPT, Change, changeTo
from nanotun.config.flowrules import FlowRule
from nanotun.config.notices import namesInClear
from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.config.upstreams import upstreamsOf
from nanotun.daemon.current import Current, Maker, logOptions, needsOwners
from nanotun.daemon.lists import ReadLists, keysNaming
from nanotun.daemon.networkwatch import waysOut
from nanotun.daemon.privileges import Privileges, needed
from nanotun.daemon.scripts import scriptFor, scriptOptions
from nanotun.daemon.upstreams import Upstreams, noticesOf
from nanotun.errors import NanotunError
from nanotun.gateway import Gateway
from nanotun.interfaces import IPart
from nanotun.log.service import LoggedService
from nanotun.router.router import FlowRouter

if TYPE_CHECKING:
    from nanotun.routing.routes import Routes
    from nanotun.scripting.script import Script


def reread(options: Options, config: str) -> Options:
    """
    Read the configuration again: the same file and the same flags.

    @param config: the file's absolute path, or the empty string.
    @raise ConfigError: with one sentence.
    """
    again = Options()
    again.update(options)
    # A file that was not read at the start is not read now.
    again.defaultFile = ""
    again["config"] = config or None
    again.readSettings(os.geteuid(), os.environ)
    return again


@implementer(IPart)
class Live:
    """
    Holds what is in force, and replaces it.  As a part of the daemon it starts and stops
    the owners and the script.

    @ivar current: what is in force.
    @ivar read: the options as they were read last.
    """

    name = "the process table or the script"

    _log = Logger()

    def __init__(
        self,
        options: Options,
        config: str,
        current: Current,
        maker: Maker,
        gateway: Gateway,
        router: FlowRouter,
        routes: Routes | None,
        privileges: Privileges,
        root: LoggedService,
        reactor: Any,
    ) -> None:
        """
        @param options: those of the start.
        @param config: the configuration file's absolute path, or the empty string.
        @param current: made of these options.
        @param maker: makes what other settings ask for.
        @param routes: L{None} where no route is changed.
        @param privileges: what the daemon may still do.
        @param root: the logs, and the parent of the upstreams.
        """
        self.current = current
        self.read = self._options = options
        self._config = config
        self._maker = maker
        self._gateway = gateway
        self._router = router
        self._routes = routes
        self._privileges = privileges
        self._root = root
        self._reactor = reactor
        self._base = "/"
        with suppress(OSError):  # Somebody has removed it.
            self._base = os.getcwd()

    def start(self) -> None:
        """See L{IPart.start}."""
        owners, script = self.current.owners, self.current.script
        if owners is not None:
            owners.start()
        try:
            if script is not None:
                script.start()
        except BaseException:
            if owners is not None:
                owners.stop()
            raise
        if owners is not None and self._routes is not None:
            owners.hops.follow(self._routes.passBack)

    def stop(self) -> Deferred[None] | None:
        """See L{IPart.stop}."""
        if self.current.owners is not None:
            self.current.owners.stop()
        return None if self.current.script is None else self.current.script.stop()

    def reload(self) -> dict[str, Any]:
        """
        Read the configuration again and put it in force.

        @return: C{changed} and C{restart}: names of settings; C{warnings}: sentences.
        @raise NanotunError: with one sentence; nothing has changed.
        """
        try:
            with self._inBase():
                options = reread(self._options, self._config)
                notices: tuple[str, ...] = ()
                with self._scriptOf(options.settings) as script:
                    change, lists = self._changeTo(options.settings, script)
                    if change.live:
                        own = self._scriptFor(change, options.settings, script)
                        notices = self._takeOver(change.settings, lists, own)
        except NanotunError as error:
            self._log.error(
                "The configuration was read again and is no good, so nothing changes: {error}",
                error=str(error),
            )
            raise
        self.read, current = options, self.current
        found = *current.lists.lists.notices, *current.names.notices
        warnings = (*options.notices, *found, *notices)
        self._log.info(
            "The configuration was read again; changed: {changed}; needs a restart: {restart}",
            changed=", ".join(change.live) or "nothing",
            restart=", ".join(change.restart) or "nothing",
        )
        for warning in warnings:
            self._log.warn("{notice}", notice=warning)
        return {
            "changed": list(change.live),
            "restart": list(change.restart),
            "warnings": list(warnings),
        }

    def networkMoved(self) -> None:
        """The machine is in another network."""
        self.current.upstreams.networkMoved()

    def waysOut(self) -> frozenset[object]:
        """See L{nanotun.daemon.networkwatch.waysOut}."""
        return waysOut(self.current.settings)

    @contextmanager
    def _inBase(self) -> Iterator[None]:
        """Relative paths mean what they meant at the start, before twistd's C{--rundir}."""
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # If that directory is gone, relative paths are not found; absolute ones are.
            with suppress(OSError):
                os.chdir(self._base)
            yield
        finally:
            os.fchdir(before)
            os.close(before)

    @contextmanager
    def _scriptOf(self, settings: Settings) -> Iterator[Script | None]:
        """The script of new settings, of which nothing is left if it is not taken over."""
        script = scriptFor(settings, self._reactor, self.current.script)
        try:
            yield script
        finally:
            if script is not None and script is not self.current.script:
                script.unload()

    def _changeTo(self, new: Settings, script: Script | None) -> tuple[Change, ReadLists]:
        """
        Find out what changes.

        @param script: that of the new settings.
        @return: that, and what the new rules take from files.
        @raise ConfigError: the new settings are no good, or a file that they name is not.
        """
        old = self.current
        renewed = keysNaming(old.settings, old.lists.changed())
        # All of them are checked, even those that have to wait for a restart.
        lists = self._maker.make(new, script, None, old.lists).lists
        for kept in KEPT:
            change = changeTo(new, old.settings, kept)
            if not self._lacksRights(change.settings, self._scriptFor(change, new, script)):
                break
        # Rules that say the same of another list are other rules, and so is a script that says
        # something else.
        again = (*renewed, "script") if script is not old.script else renewed
        more = tuple(name for name in again if name not in (*change.live, *change.restart))
        return change._replace(live=(*change.live, *more)), lists

    def _scriptFor(self, change: Change, new: Settings, script: Script | None) -> Script | None:
        """The script of the settings that are taken over, if the new one may have to wait."""
        return script if change.settings.script == new.script else self.current.script

    def _lacksRights(self, settings: Settings, script: Script | None) -> bool:
        names = needed(settings, needsOwners(settings, script), foreign=False)
        return bool(self._privileges.lacking(names))

    def _takeOver(
        self, settings: Settings, lists: ReadLists, script: Script | None
    ) -> tuple[str, ...]:
        """
        Put settings in force.

        @param lists: what was read from the files that they name.
        @param script: theirs.
        @return: warnings.
        @raise NanotunError: nothing has changed.
        """
        before = self.current
        current = self._maker.make(settings, script, before, lists)
        newOwners = None if current.owners is before.owners else current.owners
        newScript = None if script is before.script else script
        if newOwners is not None:
            newOwners.start()
        try:
            self._root.configure(logOptions(settings))
            try:
                if newScript is not None:
                    newScript.start()
            except BaseException:
                self._root.configure(logOptions(before.settings))
                raise
        except BaseException:
            if newOwners is not None:
                newOwners.stop()
            raise
        # From here on nothing fails: an internal error in one step is logged, and the others
        # are done all the same.
        self.current = current
        for step in (*self._adoption(current), *self._farewell(before, current)):
            try:
                step()
            except Exception:
                self._log.failure("Internal error while the new configuration took effect")
        notices = noticesOf(settings, current.upstreams, before.settings)
        if _waysOf(settings) != _waysOf(before.settings):
            notices += namesInClear(settings)
        return notices

    def _adoption(self, current: Current) -> Iterator[Callable[[], object]]:
        """The steps that hand the configuration to every part that follows it."""
        settings, upstreams = current.settings, current.upstreams
        debug, again = settings.logLevel == "debug", settings.reloadFlows == "judge"
        if current.script is not None:
            yield partial(current.script.configure, scriptOptions(settings))
        judge, script, lines = current.judge, current.script, settings.logFlows
        yield partial(self._router.configure, judge, upstreams, debug, script, again, lines)
        yield partial(self._gateway.configure, settings, upstreams.byName, *current.forNames)
        if self._routes is not None:
            yield partial(self._routes.configure, settings)
            if current.owners is None:
                yield partial(self._routes.passBack, ())
            else:
                yield partial(current.owners.hops.follow, self._routes.passBack)
        yield partial(upstreams.setServiceParent, self._root)

    def _farewell(self, before: Current, current: Current) -> Iterator[Callable[[], object]]:
        """The steps that stop the old configuration's parts; flows they connected go on."""
        if _ruled(current.settings) != _ruled(before.settings):
            yield self._router.tally.rulesChanged
        if before.owners is not None and before.owners is not current.owners:
            yield partial(before.owners.handOver, current.owners)
            yield before.owners.stop
        if before.script is not None and before.script is not current.script:
            yield partial(before.script.leaveTo, current.script)
        yield partial(self._disown, before.upstreams)

    def _disown(self, upstreams: Upstreams) -> None:
        stopped = upstreams.disownServiceParent()
        if stopped is not None:
            stopped.addErrback(self._notStopped)

    def _notStopped(self, reason: Failure) -> None:
        self._log.failure(
            "The upstreams of the old configuration cannot be stopped", failure=reason
        )


def _ruled(settings: Settings) -> list[FlowRule]:
    """The user's rules, wherever they are written."""
    return [each._replace(where="") for each in settings.rules]


def _waysOf(settings: Settings) -> tuple[object, ...]:
    """What decides whether names are looked up in the clear."""
    return upstreamsOf(settings), settings.dnsVia
