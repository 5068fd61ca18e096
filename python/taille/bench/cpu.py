"""What the CPU offers to every engine, and how to refuse AMX to all of them."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Any

__all__ = ["deny_amx", "features"]

FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16")
ARCH_PRCTL, REQUEST_PERMISSION = 158, 0x1023  # the system call by which a process gets the use of AMX
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2

_denied = False


def features() -> dict[str, Any]:
    """Flags of the CPU that matter here, and whether engines may use AMX."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    found = [flag for flag in FLAGS if flag in flags]
    return {"cpu_flags": found, "amx": "amx_int8" in found and not _denied}


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def deny_amx() -> None:
    """Refuse AMX to this process from now on, so that every engine runs as on a CPU without it.

    Linux grants AMX to a process that asks; a seccomp filter answers that it is not permitted, as older kernels do. It
    must be in place before taille looks for its level and other engines start their threads, and lasts as long as the
    process.

    Raises:
        OSError: not an x86-64 Linux, or the filter is refused.
    """
    global _denied
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        raise OSError("AMX can be refused on x86-64 Linux only")
    instructions = (  # opcode, jump if true, jump if false, operand
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 3, ARCH_PRCTL),
        (0x20, 0, 0, 16),  # load its first argument
        (0x15, 0, 1, REQUEST_PERMISSION),
        (0x06, 0, 0, 0x00050001),  # return EPERM
        (0x06, 0, 0, 0x7FFF0000),  # allow
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
    program = Program(len(instructions), ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if library.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"AMX cannot be refused: {os.strerror(ctypes.get_errno())}")
    _denied = True
