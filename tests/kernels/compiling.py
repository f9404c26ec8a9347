"""Kernels compiled for a GPU that is not there, and what their machine code says: registers, spills, instructions."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HOPPER = GPUTarget("cuda", 90, 32)


class Machine(NamedTuple):
    """Of one kernel: registers a thread, bytes of its stack (spills lie there), of shared memory, and instructions.

    `instructions` counts SASS names with their suffixes, such as "LDG.E.128"; `sass` is the listing.
    """

    registers: int
    stack: int
    shared: int
    instructions: Counter[str]
    sass: str

    def count(self, *beginnings: str) -> int:
        """How many instructions begin so: "HGMMA", "LDL"."""
        return sum(times for name, times in self.instructions.items() if name.startswith(beginnings))

    def check(self) -> None:
        """Nothing is spilled and nothing lies on a stack."""
        assert self.stack == 0 and self.count("LDL", "STL") == 0, (self.registers, self.stack)


def compiled(
    kernel: Any,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    *,
    unaligned: tuple[str, ...] = (),
    **options: Any,
) -> Machine:
    """A kernel for Hopper: `types` of arguments ("*fp32", "*i8", "i32", "fp32"), values of its constexprs.

    Pointers and integers count as divisible by 16, as a launch finds them, but for those named in `unaligned`.
    `options` are a launch's: num_warps, num_stages.
    """
    names = list(kernel.arg_names)
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    divisible = [n for n, t in types.items() if t.startswith(("*", "i")) and t != "i1" and n not in unaligned]
    attrs = {(names.index(name),): [["tt.divisibility", 16]] for name in divisible}
    source = ASTSource(kernel, signature, dict(constants), attrs)
    found = triton.compile(source, target=HOPPER, options=options)
    return _read(found.asm["cubin"], found.metadata.shared)


def _read(cubin: bytes, shared: int) -> Machine:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        usage, sass = (_said(knobs.nvidia.cuobjdump.path, how, str(file)) for how in ("-res-usage", "-sass"))
    used = dict(re.findall(r"(REG|STACK):(\d+)", usage))
    names = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", sass, re.MULTILINE)
    return Machine(int(used["REG"]), int(used["STACK"]), shared, Counter(names), sass)


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
