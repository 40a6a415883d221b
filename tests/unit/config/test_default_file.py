"""Tests of the configuration file that counts where none is given."""

from __future__ import annotations

import os

from nanotun.config.options import Options
from nanotun.console.check import CheckOptions
from nanotun.console.command import AskOptions
from nanotun.console.explain.options import ExplainOptions
from nanotun.console.run.options import RunOptions
from nanotun.console.start import StartOptions
from nanotun.daemon.reload import reread
from nanotun.errors import ConfigError, WrongOption
from tests.unit.config.test_options import FileCase


class DefaultFileTests(FileCase):
    """L{Options.defaultFile}."""

    def read(
        self, cls: type[Options], *arguments: str, text: str | None = "proxy: h\nmtu: 1400\n"
    ) -> Options:
        """Read the settings of a machine whose default file has this text, or is missing."""
        self.path = self.mktemp() if text is None else self.write(text)
        for each in (Options, AskOptions):
            self.patch(each, "defaultFile", self.path)
        options = cls()
        options.postOptions = lambda: None  # type: ignore[method-assign]
        options.parseOptions(list(arguments))
        options.readSettings(os.geteuid(), self.environment)
        return options

    environment: dict[str, str] = {}

    def test_counts(self) -> None:
        """It counts if neither --config nor --proxy is given, and the output can say so."""
        for cls in (Options, StartOptions, CheckOptions):
            options = self.read(cls)
            self.assertEqual(options.settings.mtu, 1400)
            self.assertEqual(options["config"], self.path)
            self.assertEqual(
                options.source,
                f"The configuration is {self.path}, because neither --config nor --proxy was "
                "given.",
            )

    def test_given(self) -> None:
        """With one of them it is not even looked at."""
        other = self.write("proxy: o\n")
        for arguments in (["--config", other], ["--proxy", "o"], ["--proxy", "o", "--mtu", "1500"]):
            options = self.read(Options, *arguments, text="no yaml: [")
            self.assertEqual((options.settings.mtu, options.source), (1500, ""))

    def test_variable(self) -> None:
        """A variable wins over its lines, as over those of any file."""
        self.environment = {"NANOTUN_PROXY": "socks4://v"}
        settings = self.read(Options).settings
        self.assertEqual((settings.mtu, settings.proxy[0].scheme.name), (1400, "socks4"))

    def test_missing(self) -> None:
        """Without it, the error names every place for a proxy."""
        error = self.assertRaises(WrongOption, self.read, Options, text=None)
        self.assertEqual(
            str(error),
            "No proxy is set: give --proxy socks5://host:port, or --config FILE with the line "
            f"'proxy: socks5://host:port', or write it into {self.path}.",
        )

    def test_unreadable(self) -> None:
        """If it cannot be read, that is an error which names sudo, not a start without it."""
        self.path = self.mktemp()
        os.symlink("/nowhere", self.path)
        self.patch(Options, "defaultFile", self.path)
        error = self.assertRaises(ConfigError, Options().readSettings, 0, {})
        self.assertEqual(
            str(error),
            f"The configuration file {self.path} cannot be read (No such file or directory); try "
            "it with sudo, or give --config FILE or --proxy URL.",
        )

    def test_run(self) -> None:
        """'nanotun run' does not read it."""
        error = self.assertRaises(ConfigError, self.read, RunOptions, "--", "true")
        self.assertNotIn("or write it into", str(error))

    def test_reload(self) -> None:
        """A reload reads it if the start did, and never takes up one that is new."""
        self.assertEqual(reread(self.read(Options), self.path).settings.mtu, 1400)
        self.environment = {"NANOTUN_PROXY": "v"}
        options = self.read(Options, text=None)
        self.patch(os, "environ", self.environment)
        os.rename(self.write("proxy: h\nmtu: 1400\n"), self.path)
        self.assertEqual(reread(options, "").settings.mtu, 1500)

    def test_explain(self) -> None:
        """Without it, explain goes by the defaults; with it, by what it says."""
        for text, assumed, mtu in ((None, True, 1500), ("proxy: h\nmtu: 1400\n", False, 1400)):
            self.read(Options, "--proxy", "h", text=text)
            options = ExplainOptions()
            options.parseOptions(["tcp", "192.0.2.1:443"])
            options.readAll(os.geteuid(), {})
            self.assertEqual((options.assumed, options.settings.mtu), (assumed, mtu))

    def test_runDir(self) -> None:
        """Who asks the daemon looks where the file says; a mistake in it is no obstacle."""
        for text, runDir in (
            ("proxy: h\nrunDir: /a\n", "/a"),
            ("proxy: h\n", "/run/nanotun"),
            ("runDir: a\n", "/run/nanotun"),
            ("no yaml: [", "/run/nanotun"),
            (None, "/run/nanotun"),
        ):
            self.read(Options, "--proxy", "h", text=text)
            self.assertEqual(AskOptions().runDir(), runDir)
        self.read(Options, "--proxy", "h", text="runDir: /a\n")
        options = AskOptions()
        options.parseOptions(["--run-dir", "/b"])
        self.assertEqual(options.runDir(), "/b")
