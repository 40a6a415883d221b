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
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.config.change import KEPT, Change, changeTo
from nanotun.config.notices import namesInClear
from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.config.upstreams import upstreamsOf
from nanotun.daemon.current import Current, logOptions, makeJudge, needsOwners, ownersFor
from nanotun.daemon.lists import ReadLists, readLists
from nanotun.daemon.networkwatch import waysOut
from nanotun.daemon.privileges import Privileges, needed
from nanotun.daemon.upstreams import Upstreams, noticesOf
from nanotun.errors import NanotunError
from nanotun.gateway import Gateway
from nanotun.interfaces import IPart
from nanotun.linux.markedroute import MarkedRoute
from nanotun.log.service import LoggedService
from nanotun.owners.recorder import Recorder
from nanotun.router.router import FlowRouter
from nanotun.routing.routes import Routes


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
    the owners.

    @ivar current: what is in force.
    @ivar recorder: see L{__init__}.
    """

    name = "the process table"

    _log = Logger()

    def __init__(
        self,
        options: Options,
        config: str,
        current: Current,
        marked: MarkedRoute,
        gateway: Gateway,
        router: FlowRouter,
        routes: Routes | None,
        privileges: Privileges,
        recorder: Recorder,
        root: LoggedService,
        reactor: Any,
    ) -> None:
        """
        @param options: those of the start.
        @param config: the configuration file's absolute path, or the empty string.
        @param current: made of these options.
        @param routes: L{None} where no route is changed.
        @param privileges: what the daemon may still do.
        @param recorder: knows who makes each socket.
        @param root: the logs, and the parent of the upstreams.
        """
        self.current = current
        self._options = options
        self._config = config
        self._marked = marked
        self._gateway = gateway
        self._router = router
        self._routes = routes
        self._privileges = privileges
        self.recorder = recorder
        self._root = root
        self._reactor = reactor
        self._base = "/"
        with suppress(OSError):  # Somebody has removed it.
            self._base = os.getcwd()

    def start(self) -> None:
        """See L{IPart.start}."""
        owners = self.current.owners
        if owners is not None:
            owners.start()
            if self._routes is not None:
                owners.hops.follow(self._routes.passBack)

    def stop(self) -> Deferred[None] | None:
        """See L{IPart.stop}."""
        if self.current.owners is not None:
            self.current.owners.stop()
        return None

    def reload(self) -> dict[str, Any]:
        """
        Read the configuration again and put it in force.

        @return: C{changed} and C{restart}: names of settings; C{warnings}: sentences.
        @raise NanotunError: with one sentence; nothing has changed.
        """
        try:
            with self._inBase():
                options = reread(self._options, self._config)
                change, lists = self._changeTo(options.settings)
                notices = self._takeOver(change.settings, lists) if change.live else ()
        except NanotunError as error:
            self._log.error(
                "The configuration was read again and is no good, so nothing changes: {error}",
                error=str(error),
            )
            raise
        warnings = (*options.notices, *self.current.lists.lists.notices, *notices)
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

    def _changeTo(self, new: Settings) -> tuple[Change, ReadLists]:
        """
        Find out what changes.

        @return: that, and what the new rules take from files.
        @raise ConfigError: the new settings are no good, or a file that they name is not.
        """
        old = self.current
        renewed = old.lists.changed()
        # All of them are checked, even those that have to wait for a restart.
        lists = self._make(new, None, old.lists).lists
        for kept in KEPT:
            change = changeTo(new, old.settings, kept)
            if not self._lacksRights(change.settings):
                break
        # Rules that say the same of another list are other rules.
        if renewed and "rules" not in (*change.live, *change.restart):
            change = change._replace(live=(*change.live, "rules"))
        return change, lists

    def _lacksRights(self, settings: Settings) -> bool:
        names = needed(settings, needsOwners(settings), foreign=False)
        return bool(self._privileges.lacking(names))

    def _make(self, settings: Settings, before: Current | None, known: ReadLists) -> Current:
        """
        Make what these settings ask for.  Starts nothing.

        @param before: whose owners to keep if they will do.
        @param known: what was read from files already.
        @raise ConfigError: they are no good, or a file that they name is not.
        """
        upstreams = Upstreams(
            settings,
            self._reactor,
            self._gateway.names,
            self._router.trouble,
            self._marked.leadsIn,
            self._gateway.isLocal,
        )
        owners = ownersFor(settings, self._reactor, self.recorder, before)
        lists = readLists(settings, os.geteuid(), known)
        carrier = self.current.judge.carrier
        judge = makeJudge(
            settings,
            upstreams,
            owners,
            lists.lists,
            self._gateway,
            self._marked,
            carrier=carrier,
        )
        return Current(settings, upstreams, owners, judge, lists)

    def _takeOver(self, settings: Settings, lists: ReadLists) -> tuple[str, ...]:
        """
        Put settings in force.

        @param lists: what was read from the files that they name.
        @return: warnings.
        @raise NanotunError: nothing has changed.
        """
        before = self.current
        current = self._make(settings, before, lists)
        newOwners = None if current.owners is before.owners else current.owners
        if newOwners is not None:
            newOwners.start()
        try:
            self._root.configure(logOptions(settings))
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
        debug = settings.logLevel == "debug"
        yield partial(self._router.configure, current.judge, upstreams, debug)
        yield partial(self._gateway.configure, settings, upstreams.byName)
        if self._routes is not None:
            yield partial(self._routes.configure, settings)
            if current.owners is None:
                yield partial(self._routes.passBack, ())
            else:
                yield partial(current.owners.hops.follow, self._routes.passBack)
        yield partial(upstreams.setServiceParent, self._root)

    def _farewell(self, before: Current, current: Current) -> Iterator[Callable[[], object]]:
        """The steps that stop the old configuration's parts; flows they connected go on."""
        if before.owners is not None and before.owners is not current.owners:
            yield partial(before.owners.handOver, current.owners)
            yield before.owners.stop
        yield partial(self._disown, before.upstreams)

    def _disown(self, upstreams: Upstreams) -> None:
        stopped = upstreams.disownServiceParent()
        if stopped is not None:
            stopped.addErrback(self._notStopped)

    def _notStopped(self, reason: Failure) -> None:
        self._log.failure(
            "The upstreams of the old configuration cannot be stopped", failure=reason
        )


def _waysOf(settings: Settings) -> tuple[object, ...]:
    """What decides whether names are looked up in the clear."""
    return upstreamsOf(settings), settings.dnsVia
