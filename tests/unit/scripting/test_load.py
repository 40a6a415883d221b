"""Tests of L{nanotun.scripting.load}."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

from nanotun.errors import ConfigError
from nanotun.scripting.load import MODULE, RUNNING, SOURCE_LIMIT, Guard, loadScript
from tests.unit.scripting.scripts import ScriptCase


class LoadTests(ScriptCase):
    """L{loadScript}."""

    def refused(self, text: str) -> str:
        """Why a script is refused, without its path."""
        sentence = str(self.assertRaises(ConfigError, self.load, text))
        self.assertNothingLeft()
        return sentence.replace(self.folder.path, "...")

    def test_runs(self) -> None:
        """The file is run once, and none of its functions is called."""
        loaded = self.load("""
            times = globals().get("times", 0) + 1
            def flow(flow):
                1 / 0
            """)
        self.assertEqual(vars(loaded.module)["times"], 1)
        self.assertEqual(loaded.module.__file__, loaded.path)

    def test_future(self) -> None:
        """It is compiled as a file of its own: what nanotun imports from the future is not its."""
        loaded = self.load("def flow(flow: 1 + 1): pass")
        self.assertEqual(loaded.module.flow.__annotations__, {"flow": 2})

    def test_typing(self) -> None:
        """What looks its module up by name finds it."""
        loaded = self.load("""
            from __future__ import annotations
            from dataclasses import dataclass
            @dataclass
            class Thing:
                name: str = ""
            """)
        self.assertEqual(loaded.module.Thing("a").name, "a")

    def test_wrong(self) -> None:
        """Each file that is no script is one sentence with the line, and nothing is left of it."""
        for text, sentence in (
            ("def flow(:\n", "is not Python (line 1: invalid syntax)."),
            ("\n\n1 / 0\n", "cannot be imported: line 3: ZeroDivisionError: division by zero."),
            ("\nraise SystemExit(3)\n", "cannot be imported: line 2: SystemExit: 3."),
            (
                "import nosuch\n",
                "cannot be imported: line 1: ModuleNotFoundError: No module named 'nosuch'.",
            ),
            ("raise ValueError()\n", "cannot be imported: line 1: ValueError."),
            ("x = 1\n" * (SOURCE_LIMIT // 6 + 1), "is longer than 1 MiB, so it is no script."),
        ):
            self.assertEqual(self.refused(text), f"The script .../flows.py {sentence}")
        self.assertIn("null bytes", self.refused("\0"))

    def test_notText(self) -> None:
        """A file in another encoding than it says is no Python."""
        path = self.folder.write("flows.py")
        with open(path, "wb") as file:
            file.write(b"x = '\xff'\n")
        error = self.assertRaises(ConfigError, loadScript, path, self.folder.guard())
        self.assertIn(f"The script {path} is not Python", str(error))

    def test_missing(self) -> None:
        """A script that is not there, or is no file, is one sentence."""
        path = self.folder.place("none.py")
        error = self.assertRaises(ConfigError, loadScript, path, self.folder.guard())
        sentence = f"The script {path} cannot be read (No such file or directory); check its path."
        self.assertEqual(str(error), sentence)
        path = self.folder.place("pipe.py")
        os.mkfifo(path, 0o644)
        error = self.assertRaises(ConfigError, loadScript, path, self.folder.guard())
        self.assertEqual(str(error), f"The script {path} is no regular file.")
        self.assertNothingLeft()

    def test_interrupted(self) -> None:
        """Control-C ends whoever imports the script, and is not its error."""
        self.assertRaises(KeyboardInterrupt, self.load, "raise KeyboardInterrupt()")
        self.assertNothingLeft()

    def test_owner(self) -> None:
        """A script of somebody who is not trusted is refused, with the place and the cure."""
        path = self.folder.write("flows.py")
        self.folder.owners[path] = 1000
        self.assertEqual(
            self.refused("x = 1\n"),
            "The script .../flows.py could be changed by the user ann, to whom .../flows.py "
            "belongs; keep it where only root can write, such as /etc/nanotun, or run "
            "'chown root .../flows.py'.",
        )
        self.load("x = 1\n", trusted={1000})

    def test_nothingRuns(self) -> None:
        """Nothing of a script that is refused has run."""
        made = self.folder.place("made")
        path = self.folder.write("flows.py")
        os.chmod(path, 0o666)
        self.folder.write("other.py", f"open({made!r}, 'w').close()\n")
        os.chmod(self.folder.place("other.py"), 0o666)
        self.refused("import other\n")
        self.assertFalse(os.path.exists(made))

    def test_replaced(self) -> None:
        """A version that fails leaves the modules of the one before it."""
        self.folder.write("helper.py", "VALUE = 1\n")
        loaded = self.load("import helper\ndef flow(flow):\n    import helper\n    return helper\n")
        helper = sys.modules["helper"]
        modules, finders = dict(sys.modules), list(sys.meta_path)
        self.folder.write("helper.py", "VALUE = 2\n")
        self.assertRaises(ConfigError, self.load, "import helper\n1 / 0\n")
        self.assertEqual(sys.modules, modules)
        self.assertEqual(sys.meta_path, finders)
        self.assertIs(loaded.module.flow(None), helper)

    def test_givenUp(self) -> None:
        """A version that is loaded and not taken leaves the modules of the one before it, too."""
        self.folder.write("helper.py", "VALUE = 1\n")
        loaded = self.load("import helper\ndef flow(flow):\n    import helper\n    return helper\n")
        helper = sys.modules["helper"]
        self.folder.write("helper.py", "VALUE = 2\n")
        self.load("import helper\nVALUE = helper.VALUE\n").unload()
        self.assertIs(loaded.module.flow(None), helper)
        self.assertIs(sys.modules[MODULE], loaded.module)

    def test_unloaded(self) -> None:
        """Nothing is left of a script that is unloaded, also if another came before it."""
        self.folder.write("helper.py", "VALUE = 1\n")
        before = self.load("import helper\n")
        loaded = self.load("import helper\n")
        before.unload()
        self.assertIs(sys.modules[MODULE], loaded.module)
        loaded.unload()
        loaded.unload()
        self.assertNothingLeft()


class BesideTests(ScriptCase):
    """Modules beside the script."""

    def values(self, text: str) -> Any:
        """The variables of a script."""
        return vars(self.load(text).module)

    def test_found(self) -> None:
        """A module or package beside the script is found by its name, and so is what is in it."""
        self.folder.write("helper.py", "VALUE = 1\n")
        self.folder.write("parts/__init__.py", "from parts import one\nfrom .two import VALUE\n")
        self.folder.write("parts/one.py", "VALUE = 2\n")
        self.folder.write("parts/two.py", "VALUE = 3\n")
        values = self.values("import helper, parts\nvalues = (helper.VALUE, parts.VALUE)\n")
        self.assertEqual(values["values"], (1, 3))
        self.assertEqual(values["parts"].one.VALUE, 2)

    def test_linked(self) -> None:
        """The directory of a link counts, not that of the file which it leads to."""
        self.folder.write("real/flows.py", "import helper\n")
        self.folder.write("here/helper.py", "VALUE = 1\n")
        path = self.folder.place("here/flows.py")
        os.symlink("../real/flows.py", path)
        loaded = loadScript(path, self.folder.guard())
        self.addCleanup(loaded.unload)
        self.assertEqual(loaded.module.helper.VALUE, 1)

    def test_installed(self) -> None:
        """An installed module wins over one of the same name beside the script."""
        sys.modules.pop("colorsys", None)
        self.folder.write("colorsys.py", "VALUE = 1\n")
        self.assertFalse(hasattr(self.values("import colorsys\n")["colorsys"], "VALUE"))

    def test_onlyForScript(self) -> None:
        """Nobody but the script finds what is beside it."""
        self.folder.write("helper.py", "VALUE = 1\n")
        self.load("def flow(flow):\n    import helper\n")
        self.assertRaises(ImportError, importlib.import_module, "helper")
        self.assertIsNone(importlib.util.find_spec("helper"))

    def test_lazily(self) -> None:
        """A function finds its neighbours when it is called, by whatever way it imports."""
        self.folder.write("one.py", "VALUE = 1\n")
        self.folder.write("two.py", "from three import VALUE\n")
        self.folder.write("three.py", "VALUE = 3\n")
        loaded = self.load("""
            import importlib
            def flow(flow):
                import one
                return one.VALUE, importlib.import_module("two").VALUE
            """)
        self.assertEqual(loaded.module.flow(None), (1, 3))

    def test_unsafe(self) -> None:
        """A neighbour that others could have written is refused, at the top or in a call."""
        path = self.folder.write("helper.py", "VALUE = 1\n")
        self.folder.owners[path] = 1000
        error = self.assertRaises(ConfigError, self.load, "import helper\n")
        self.assertEqual(
            str(error),
            f"{path}, which the script imports, could be changed by the user ann, to whom {path} "
            "belongs; keep it where only root can write, such as /etc/nanotun, or run "
            f"'chown root {path}'.",
        )
        loaded = self.load("def flow(flow):\n    import helper\n")
        error = self.assertRaises(ImportError, loaded.module.flow, None)
        self.assertIn("could be changed by the user ann", str(error))
        self.assertNotIn("helper", sys.modules)

    def test_unsafeInside(self) -> None:
        """In a package beside the script, each module is looked at, compiled ones too."""
        self.folder.write("parts/__init__.py")
        path = self.folder.write("parts/one.py")
        os.chmod(path, 0o666)
        error = self.assertRaises(ConfigError, self.load, "from parts import one\n")
        self.assertIn("it can be written by everybody", str(error))
        os.unlink(path)
        path = self.folder.write("parts/one.pyc")
        os.chmod(path, 0o666)
        error = self.assertRaises(ConfigError, self.load, "from parts import one\n")
        self.assertIn(f"{path}, which the script imports as parts.one, could be", str(error))

    def test_wrong(self) -> None:
        """An error in a neighbour comes with the neighbour's line."""
        path = self.folder.write("helper.py", "\n1 / 0\n")
        error = self.assertRaises(ConfigError, self.load, "import helper\n")
        self.assertIn(f"cannot be imported: {path}, line 2: ZeroDivisionError", str(error))
        self.folder.write("helper.py", "\nx = \n")
        error = self.assertRaises(ConfigError, self.load, "import helper\n")
        self.assertIn(f"is not Python ({path}, line 2: invalid syntax)", str(error))
        self.assertNothingLeft()

    def test_again(self) -> None:
        """The next version gets its neighbours as they are now."""
        self.folder.write("helper.py", "VALUE = 1\n")
        self.assertEqual(self.values("import helper\n")["helper"].VALUE, 1)
        self.folder.write("helper.py", "VALUE = 2\n")
        self.assertEqual(self.values("import helper\n")["helper"].VALUE, 2)

    def test_nothingWritten(self) -> None:
        """No __pycache__ appears."""
        self.folder.write("helper.py", "VALUE = 1\n")
        self.load("import helper\n")
        self.assertEqual(sorted(os.listdir(self.folder.path)), ["flows.py", "helper.py"])

    def test_endless(self) -> None:
        """Two versions and a module that there is not come to an end, and quickly."""
        counted: list[str] = []

        class Counting:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> None:
                counted.append(name)
                assert len(counted) < 1000, "they ask each other without end"

        loaded = [self.load("def flow(flow):\n    import nosuch\n") for _ in range(8)]
        sys.meta_path.insert(0, Counting)
        self.addCleanup(sys.meta_path.remove, Counting)
        for each in loaded:
            self.assertRaises(ImportError, each.module.flow, None)
        # By the import system, and by each of the eight, for each of the eight.
        self.assertLessEqual(len(counted), 8 * 9)


class CurrentTests(ScriptCase):
    """L{ScriptFinder.isCurrent}."""

    def test_current(self) -> None:
        """A script is current until it, or a neighbour that it has imported, changes."""
        self.folder.write("helper.py", "VALUE = 1\n")
        self.folder.write("other.py", "VALUE = 1\n")
        finder = self.load("import helper\n").finder
        self.assertTrue(finder.isCurrent())
        self.folder.write("other.py", "VALUE = 2\n")
        self.assertTrue(finder.isCurrent())
        self.folder.write("helper.py", "VALUE = 2\n")
        self.assertFalse(finder.isCurrent())
        self.folder.write("helper.py", "VALUE = 1\n")
        self.assertTrue(finder.isCurrent())
        self.folder.write("flows.py", "import helper, os\n")
        self.assertFalse(finder.isCurrent())

    def test_added(self) -> None:
        """A neighbour that was not there when the script looked for it makes it another one."""
        finder = self.load("try:\n    import extra\nexcept ImportError:\n    pass\n").finder
        self.assertTrue(finder.isCurrent())
        self.folder.write("extra.py", "VALUE = 1\n")
        self.assertFalse(finder.isCurrent())
        finder = self.load("import extra\n").finder
        self.assertTrue(finder.isCurrent())
        self.folder.write("extra/__init__.py", "VALUE = 2\n")
        self.assertFalse(finder.isCurrent())

    def test_unsafe(self) -> None:
        """One that is gone, or that others can write now, is not current."""
        helper = self.folder.write("helper.py", "VALUE = 1\n")
        finder = self.load("import helper\n").finder
        os.chmod(helper, 0o666)
        self.assertFalse(finder.isCurrent())
        os.unlink(helper)
        self.assertFalse(finder.isCurrent())


class GuardTests(ScriptCase):
    """L{Guard}, for installed modules."""

    def setUp(self) -> None:
        super().setUp()
        self.folder.write("site/nanotun.py")
        self.module = self.folder.write("site/installed/__init__.py", "VALUE = 1\n")
        sys.path.insert(0, self.folder.place("site"))
        self.addCleanup(sys.path.remove, self.folder.place("site"))
        self.addCleanup(sys.modules.pop, "installed", None)
        self.path = self.folder.write("flows.py", "import installed\n")

    def loadWith(self, *running: str) -> object:
        """Load the script where some files run already."""
        importlib.invalidate_caches()
        loaded = loadScript(self.path, self.folder.guard((), running))
        self.addCleanup(loaded.unload)
        return loaded.module.installed.VALUE

    def test_safe(self) -> None:
        """One of root's is imported."""
        self.assertEqual(self.loadWith(), 1)

    def test_owner(self) -> None:
        """One of somebody else's is refused, unless that user can change nanotun itself."""
        site = self.folder.place("site")
        self.folder.owners[site] = 1000
        error = self.assertRaises(ConfigError, self.loadWith)
        self.assertIn(f"{self.module}, which the script imports as installed, could", str(error))
        self.assertIn(f"changed by the user ann, to whom {site} belongs", str(error))
        self.assertEqual(self.loadWith(self.folder.place("site/nanotun.py")), 1)

    def test_inside(self) -> None:
        """Whoever can change nanotun is trusted with all modules, and others are with none."""
        self.folder.owners[self.folder.place("site")] = 1000
        self.folder.owners[self.module] = 1001
        error = self.assertRaises(ConfigError, self.loadWith, self.folder.place("site/nanotun.py"))
        self.assertIn("the user bob", str(error))
        self.folder.owners[self.module] = 1000
        self.assertEqual(self.loadWith(self.folder.place("site/nanotun.py")), 1)

    def test_shared(self) -> None:
        """A directory of a group, as /usr/local/lib may be, is no worse for a module in it."""
        site = self.folder.place("site")
        os.chmod(site, 0o775)
        error = self.assertRaises(ConfigError, self.loadWith)
        self.assertIn(f"the directory {site} can be written by its group", str(error))
        self.assertEqual(self.loadWith(self.folder.place("site/nanotun.py")), 1)

    def test_notForNeighbours(self) -> None:
        """A compiled module beside the script is no installed one."""
        nanotun = self.folder.place("site/nanotun.py")
        self.folder.write("parts/__init__.py")
        compiled = self.folder.write("parts/one.pyc")
        self.folder.owners = {nanotun: 1000, compiled: 1000}
        self.path = self.folder.write("flows.py", "import installed, parts.one\n")
        error = self.assertRaises(ConfigError, self.loadWith, nanotun)
        self.assertIn("could be changed by the user ann", str(error))

    def test_notForScripts(self) -> None:
        """The script itself has no better a place for lying where nanotun lies."""
        self.folder.owners[self.folder.place("site")] = 1000
        path = self.folder.write("site/flows.py")
        guard = self.folder.guard((), (self.folder.place("site/nanotun.py"),))
        self.assertRaises(ConfigError, loadScript, path, guard)

    def test_running(self) -> None:
        """nanotun's own files, Twisted's and Python's count, and one out of sight does not."""
        self.assertEqual(
            [os.path.basename(os.path.dirname(each)) for each in RUNNING[:2]],
            ["nanotun", "twisted"],
        )
        Guard(running=(*RUNNING, "/nowhere/at/all.py"))
