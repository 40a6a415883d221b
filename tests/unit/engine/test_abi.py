"""
Tests for L{nanotun.engine.abi}: the ctypes binding agrees with netstack.h.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.engine import abi
from nanotun.errors import EngineError
from nanotun.flow import CrowdKind, FlowState, NotHttp, Refusal, Stats
from nanotun.interfaces import LegKind

HEADER = os.path.join(os.path.dirname(os.path.dirname(abi.__file__)), "..", "netstack/netstack.h")

SCALARS = {
    "uint8_t": ctypes.c_uint8,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "int32_t": ctypes.c_int32,
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "int": ctypes.c_int,
}
POINTERS = {
    "void": ctypes.c_void_p,
    "char": ctypes.c_char_p,
    "uint8_t": ctypes.POINTER(ctypes.c_uint8),
    "uint32_t": ctypes.POINTER(ctypes.c_uint32),
    "uint64_t": ctypes.POINTER(ctypes.c_uint64),
    "struct ns_config": ctypes.POINTER(abi.ns_config),
    "struct ns_flow": ctypes.POINTER(abi.ns_flow),
    "struct ns_event": ctypes.POINTER(abi.ns_event),
    "struct ns_datagram": ctypes.POINTER(abi.ns_datagram),
    "struct ns_stats": ctypes.POINTER(abi.ns_stats),
    "struct ns_dialled": ctypes.POINTER(abi.ns_dialled),
    "struct ns_stood": ctypes.POINTER(abi.ns_stood),
}


def readHeader() -> str:
    """The header without its comments."""
    with open(HEADER) as file:
        return re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)


def parameterType(text: str) -> Any:
    """The ctypes type of one parameter's declaration; an array is a pointer."""
    found = re.fullmatch(r"(?:const\s+)?((?:struct\s+)?\w+)\s*(\*?)\s*(\w+)(\[\d+\])?", text)
    assert found is not None, text
    kind, star, _, array = found.groups()
    return POINTERS[kind] if star or array else SCALARS[kind]


class HeaderTests(SynchronousTestCase):
    """
    Tests for L{nanotun.engine.abi} against C{netstack/netstack.h}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        if not os.path.exists(HEADER):
            # An installed nanotun has no header beside it.
            self.skipTest("netstack/netstack.h is not here")
        self.header = readHeader()

    def test_constants(self) -> None:
        """
        Every constant has the header's value, and none is missing.
        """
        found = dict(re.findall(r"#define (NS_\w+) (\d+)", self.header))
        ours = {name: str(value) for name, value in vars(abi).items() if name.startswith("NS_")}
        self.assertEqual(ours, found)

    def test_refusals(self) -> None:
        """
        L{Refusal} has the header's reasons.
        """
        self.assertEqual(
            {f"NS_REFUSE_{each.name}": str(each.value) for each in Refusal},
            dict(re.findall(r"#define (NS_REFUSE_\w+) (\d+)", self.header)),
        )

    def test_states(self) -> None:
        """
        L{FlowState} has the header's states.
        """
        self.assertEqual(
            {f"NS_FLOW_{each.name}": str(each.value) for each in FlowState},
            dict(re.findall(r"#define (NS_FLOW_\w+) (\d+)", self.header)),
        )

    def test_notHttp(self) -> None:
        """
        L{NotHttp} has the header's reasons.
        """
        self.assertEqual(
            {f"NS_HTTP_{each.name}": str(each.value) for each in NotHttp},
            dict(re.findall(r"#define (NS_HTTP_\w+) (\d+)", self.header)),
        )

    def test_crowds(self) -> None:
        """
        L{CrowdKind} has the header's causes.
        """
        self.assertEqual(
            {f"NS_CROWD_{each.name}": str(each.value) for each in CrowdKind},
            dict(re.findall(r"#define (NS_CROWD_\w+) (\d+)", self.header)),
        )

    def test_structures(self) -> None:
        """
        Each structure has the header's fields, in its order and of its types.
        """
        structures = re.findall(r"struct (\w+) \{(.*?)\};", self.header, flags=re.DOTALL)
        self.assertEqual(
            {name for name, _ in structures},
            {
                "ns_config",
                "ns_event",
                "ns_flow",
                "ns_datagram",
                "ns_dialled",
                "ns_stood",
                "ns_stats",
            },
        )
        for name, body in structures:
            expected = []
            for kind, field, count in re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body):
                ctype: Any = SCALARS[kind]
                expected.append((field, ctype * int(count) if count else ctype))
            self.assertEqual(getattr(abi, name)._fields_, expected, name)

    def test_stats(self) -> None:
        """
        The engine's own structure of counters, which the library copies as it is, has the
        header's counters in the header's order.
        """
        with open(os.path.join(os.path.dirname(HEADER), "internal/engine/stats.go")) as file:
            body = file.read().partition("type Stats struct {")[2].partition("}")[0]
        found = []
        for line in body.split("\n"):
            if line.strip():
                self.assertTrue(line.endswith(" uint64"), line)
                found += re.findall(r"\w+", line)[:-1]
        names = [re.sub(r"(?<!^)(?=[A-Z])", "_", each).lower() for each in found]
        self.assertEqual(names, [each[0] for each in abi.ns_stats._fields_])

    def test_legs(self) -> None:
        """
        L{LegKind} has the header's kinds of legs.
        """
        found = dict(re.findall(r"#define NS_LEG_(\w+) (\d+)", self.header))
        del found["SHARED"]
        self.assertEqual({each.name: str(each.value) for each in LegKind}, found)

    def test_functions(self) -> None:
        """
        Each function has the header's result and parameters.
        """
        found = []
        pattern = r"^(\w+) (ns_\w+)\(([^)]*)\);"
        for result, name, parameters in re.findall(pattern, self.header, flags=re.MULTILINE):
            texts = [" ".join(each.split()) for each in parameters.split(",")]
            types = () if texts == ["void"] else tuple(parameterType(each) for each in texts)
            found.append((name, SCALARS[result], types))
        self.assertEqual(list(abi.FUNCTIONS), found)


class EventTests(SynchronousTestCase):
    """
    Tests for L{abi.EVENT} and L{abi.EventBuffer}.
    """

    def test_sameLayout(self) -> None:
        """
        L{abi.EVENT} reads each field of L{abi.ns_event}.
        """
        buffer = abi.EventBuffer(2)
        self.assertEqual(abi.EVENT.size, ctypes.sizeof(abi.ns_event))
        event = buffer.array[1]
        names = [each[0] for each in abi.ns_event._fields_ if each[0] != "reserved"]
        for number, name in enumerate(names[:-2], 1):
            setattr(event, name, number)
        event.source[:] = range(16)
        event.destination[:] = range(16, 32)
        self.assertEqual(
            buffer.unpack(2)[1],
            (*range(1, 13), bytes(range(16)), bytes(range(16, 32))),
        )
        self.assertEqual(names[abi.EVENT_KIND], "kind")
        self.assertEqual(buffer.unpack(0), [])


class ListedTests(SynchronousTestCase):
    """
    Tests for L{abi.FLOW}.
    """

    def test_sameLayout(self) -> None:
        """
        It reads each field of L{abi.ns_flow}.
        """
        flow = abi.ns_flow(*range(1, 12))
        flow.source[:] = range(16)
        flow.destination[:] = range(16, 32)
        self.assertEqual(
            abi.FLOW.unpack(bytes(flow)),
            (*range(1, 12), bytes(range(16)), bytes(range(16, 32))),
        )


class DatagramTests(SynchronousTestCase):
    """
    Tests for L{abi.DATAGRAM}.
    """

    def test_sameLayout(self) -> None:
        """
        It reads each field of L{abi.ns_datagram}.
        """
        datagram = abi.ns_datagram(1, 2, 3, 4)
        datagram.source[:] = range(16)
        datagram.destination[:] = range(16, 32)
        self.assertEqual(
            abi.DATAGRAM.unpack(bytes(datagram)),
            (1, 2, 3, 4, bytes(range(16)), bytes(range(16, 32))),
        )


class DialledTests(SynchronousTestCase):
    """
    Tests for L{abi.DIALLED} and L{abi.STOOD}.
    """

    def test_sameLayout(self) -> None:
        """
        They read each field of L{abi.ns_dialled} and of L{abi.ns_stood}.
        """
        self.assertEqual(
            abi.DIALLED.unpack(bytes(abi.ns_dialled(1, -2, 3, 4, -5, 6, 7))),
            (1, -2, 3, 4, -5, 6, 7),
        )
        self.assertEqual(
            abi.STOOD.unpack(bytes(abi.ns_stood(1, 2, 3, 4, 5, 6, 7))), (1, 2, 3, 4, 5, 6, 7)
        )


class StatsTests(SynchronousTestCase):
    """
    Tests for L{abi.readStats}.
    """

    def test_fields(self) -> None:
        """
        The counters are read by name.
        """

        class Library:
            def ns_stats(self, handle: int, stats: abi.ns_stats) -> int:
                stats.flows, stats.heap_bytes = handle, 9
                return 0

        library: Any = Library()
        stats = abi.readStats(library, 7)
        self.assertEqual((stats.flows, stats.heap_bytes, stats.pending), (7, 9, 0))
        self.assertEqual(Stats._fields[0], "flows")


class CheckTests(SynchronousTestCase):
    """
    Tests for L{abi.check}.
    """

    def test_passes(self) -> None:
        """
        A result that is not negative is returned.
        """
        self.assertEqual(abi.check(0, "ns_pump"), 0)
        self.assertEqual(abi.check(3, "ns_pump"), 3)

    def test_raises(self) -> None:
        """
        -errno becomes the OSError of that errno.
        """
        error = self.assertRaises(FileNotFoundError, abi.check, -2, "ns_pump")
        self.assertEqual(error.errno, 2)
        self.assertIn("ns_pump", str(error))


class FakeFunction:
    """Stands for a function of a loaded library."""

    def __init__(self, result: int) -> None:
        self.result = result

    def __call__(self, *arguments: object) -> int:
        """Answer."""
        return self.result


class FakeDLL:
    """Stands for a loaded library."""

    def __init__(self, version: int) -> None:
        for name, _, _ in abi.FUNCTIONS:
            setattr(self, name, FakeFunction(0))
        self.ns_abi_version = FakeFunction(version)


class LoadTests(SynchronousTestCase):
    """
    Tests for L{abi.NativeLibrary}.
    """

    def test_binds(self) -> None:
        """
        Every function gets its types.
        """
        library = abi.NativeLibrary(FakeDLL(abi.NS_ABI_VERSION))
        function: Any = library.ns_pump
        self.assertEqual(function.restype, ctypes.c_int)
        self.assertEqual(function.argtypes, (ctypes.c_int64, ctypes.c_uint32))

    def test_version(self) -> None:
        """
        A library of another version raises an error that names the version and the cure.
        """
        error = self.assertRaises(EngineError, abi.NativeLibrary, FakeDLL(99), "/l.so")
        self.assertIn("version 99", str(error))
        self.assertIn("make build", str(error))

    def test_notOurs(self) -> None:
        """
        A library without our functions raises an error that names the first one.
        """
        error = self.assertRaises(EngineError, abi.NativeLibrary, object(), "/l.so")
        self.assertIn("ns_abi_version", str(error))

    def test_missing(self) -> None:
        """
        If the library is not built the error says how to build it.
        """
        error = self.assertRaises(EngineError, abi.NativeLibrary.load, self.mktemp())
        self.assertIn("is not built; run `make build`", str(error))

    def test_notALibrary(self) -> None:
        """
        A file that is no library raises an L{EngineError} too.
        """
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("text")
        error = self.assertRaises(EngineError, abi.NativeLibrary.load, path)
        self.assertIn("cannot be loaded", str(error))

    def test_writableByOthers(self) -> None:
        """
        Root does not load a library that others may write.
        """
        path = self.mktemp()
        with open(path, "w"):
            pass
        os.chmod(path, 0o602)
        self.patch(os, "geteuid", lambda: 0)
        error = self.assertRaises(EngineError, abi.NativeLibrary.load, path)
        self.assertIn("chmod go-w", str(error))

    def test_timerSlack(self) -> None:
        """
        The timers of the library's threads may be late; the thread that loads the library
        keeps its slack.
        """
        if not os.path.exists(abi.LIBRARY_PATH):
            raise SkipTest("the native library is not built; run `make build`")
        if os.geteuid() != 0:
            raise SkipTest("only root may ask for the slack of other threads")
        script = (
            "import os\n"
            "from nanotun.engine import abi\n"
            "before = open('/proc/self/timerslack_ns').read().strip()\n"
            "abi.NativeLibrary.load()\n"
            "mine = str(os.getpid())\n"
            "others = {open(f'/proc/{tid}/timerslack_ns').read().strip()\n"
            "          for tid in os.listdir('/proc/self/task') if tid != mine}\n"
            "assert open('/proc/self/timerslack_ns').read().strip() == before\n"
            "print(*others)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
        )
        self.assertEqual((done.stdout.strip(), done.stderr), (str(abi.TIMER_SLACK), ""))
