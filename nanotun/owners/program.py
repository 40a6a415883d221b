"""
The BPF program that the kernel runs for each new socket, as bytes.

It has some twenty instructions (linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst)
and is the same on every machine and for every kernel, so it needs no compiler.

For a socket it fills one slot of an array, by the lowest bits of the socket's cookie, with
four numbers of 64 bits:

 - the cookie, which the kernel gives to no other socket;
 - the id of the process that makes the socket, as the first PID namespace counts;
 - nanoseconds since the machine's start, with the time it was suspended;
 - a check of the three, because two processors may write to one slot at the same time.
"""

from __future__ import annotations

import struct

#: A slot.
SLOT = struct.Struct("=QQQQ")

#: How far the check has the process's id above the other numbers' lowest bits, in which
#: two that are written at the same time differ.
CHECK_SHIFT = 40

_INSTRUCTION = struct.Struct("=BBhi")

#: Registers: results, arguments, and those that a call leaves alone.
_R0, _R1, _R2, _R7, _R8, _R9, _FRAME = 0, 1, 2, 7, 8, 9, 10

#: Operations.  Those that end in _I take a number, the others a register.
_ADD_I, _AND_I, _SHIFT_LEFT_I, _SHIFT_RIGHT_I, _MOVE_I = 0x07, 0x57, 0x67, 0x77, 0xB7
_XOR, _MOVE = 0xAF, 0xBF
_LOAD_MAP, _STORE_32, _STORE_64 = 0x18, 0x63, 0x7B
_IF_ZERO, _CALL, _EXIT = 0x15, 0x85, 0x95

#: Functions of the kernel.
_MAP_LOOKUP, _PID, _COOKIE, _BOOT_TIME = 1, 14, 46, 125

#: What has the kernel go on with the socket; 0 would refuse it.
_ALLOW = 1

#: Where in its frame the program has the number of the slot.
_KEY = -4


def check(cookie: int, pid: int, born: int) -> int:
    """What a slot's last number is if the others were written together."""
    return cookie ^ pid << CHECK_SHIFT ^ born


def recorder(slots: int, count: int) -> bytes:
    """
    The program.

    @param slots: the descriptor of the array.
    @param count: how many slots it has, a power of two.
    """
    fill = b"".join(
        (
            _one(_MOVE, _R8, _R0),
            _one(_CALL, number=_PID),
            # The upper half is the process, the lower one the thread.
            _one(_SHIFT_RIGHT_I, _R0, number=32),
            _one(_STORE_64, _R8, _R0, 8),
            _one(_MOVE, _R9, _R0),
            _one(_SHIFT_LEFT_I, _R9, number=CHECK_SHIFT),
            _one(_XOR, _R9, _R7),
            _one(_CALL, number=_BOOT_TIME),
            _one(_STORE_64, _R8, _R0, 16),
            _one(_XOR, _R9, _R0),
            _one(_STORE_64, _R8, _R9, 24),
            _one(_STORE_64, _R8, _R7, 0),
        )
    )
    return b"".join(
        (
            _one(_CALL, number=_COOKIE),
            _one(_MOVE, _R7, _R0),
            _one(_AND_I, _R0, number=count - 1),
            _one(_STORE_32, _FRAME, _R0, _KEY),
            _one(_LOAD_MAP, _R1, 1, number=slots),
            _one(0),
            _one(_MOVE, _R2, _FRAME),
            _one(_ADD_I, _R2, number=_KEY),
            _one(_CALL, number=_MAP_LOOKUP),
            # There always is such a slot, but the kernel wants it to be checked.
            _one(_IF_ZERO, _R0, offset=len(fill) // _INSTRUCTION.size),
            fill,
            _one(_MOVE_I, _R0, number=_ALLOW),
            _one(_EXIT),
        )
    )


def _one(
    operation: int, target: int = 0, source: int = 0, offset: int = 0, number: int = 0
) -> bytes:
    return _INSTRUCTION.pack(operation, source << 4 | target, offset, number)
