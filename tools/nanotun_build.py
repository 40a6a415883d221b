"""
The build backend (PEP 517): setuptools, and the build of the native library.

Where no Go is installed, the build requires the Python package that contains one.  The
wheel fits every Python 3 on its platform, because the library is loaded by ctypes and
does not depend on Python.  With C{SOURCE_DATE_EPOCH} set, the same source gives the same
wheel, whatever the umask.  The variable NANOTUN_LIBRARY names a library that is built already.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golang
from setuptools import Distribution, build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

__all__ = [
    "BuildPy",
    "PlatformDistribution",
    "PlatformWheel",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


#: The older name of a platform, which is asked for, and the newer one, which means the same.
ALIASES = {"manylinux2014_": "manylinux_2_17_"}


def _required(ask: Callable[[Any], list[str]], config_settings: Any) -> list[str]:
    try:
        golang.checkMachine()
    except RuntimeError as error:
        # Without a traceback, and before anything is downloaded.
        sys.exit(str(error))
    requirements = ask(config_settings)
    return requirements if golang.findGo() else [*requirements, golang.PACKAGE]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """See PEP 517."""
    return _required(build_meta.get_requires_for_build_wheel, config_settings)


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """See PEP 660."""
    return _required(build_meta.get_requires_for_build_editable, config_settings)


class BuildPy(build_py):
    """Also builds the library; for an editable install, next to the sources."""

    def run(self) -> None:
        """See L{setuptools.Command.run}."""
        super().run()
        built = os.environ.get("NANOTUN_LIBRARY")
        if built:
            # An installation needs neither Go nor its modules again.
            shutil.copy(built, self._library())
            return
        try:
            golang.buildLibrary(self._library())
        except RuntimeError as error:
            sys.exit(str(error))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """See L{setuptools.command.build_py.build_py.get_outputs}."""
        return [*super().get_outputs(include_bytecode), str(self._library())]

    def _library(self) -> Path:
        root = golang.ROOT if self.editable_mode else Path(self.build_lib)
        return Path(os.path.abspath(root)) / golang.LIBRARY


class PlatformDistribution(Distribution):
    """Is installed with compiled code, although setuptools compiles none."""

    def has_ext_modules(self) -> bool:
        """See L{Distribution.has_ext_modules}."""
        return True


class PlatformWheel(bdist_wheel):
    """A wheel for this platform, or that of --plat-name, and for every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """See L{bdist_wheel.get_tag}."""
        platform = super().get_tag()[2]
        for older, newer in ALIASES.items():
            if platform.startswith(older):
                platform = f"{platform}.{newer}{platform.removeprefix(older)}"
        return "py3", "none", platform

    def write_wheelfile(self, wheelfile_base: str, *arguments: Any, **keywords: Any) -> None:
        """See L{bdist_wheel.write_wheelfile}; the last step before the archive is made."""
        super().write_wheelfile(wheelfile_base, *arguments, **keywords)
        for path in Path(wheelfile_base).parent.rglob("*"):
            # Whatever the umask was when the source was copied, and is now.
            if path.is_file():
                path.chmod(0o755 if path.suffix == ".so" else 0o644)
