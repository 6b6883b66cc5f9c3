"""What the compiler makes of the Triton kernels for an H200, without one: registers, spills, loops.

`--search` compiles other tiles too.
"""

import collections
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from gpu_parts import tuning
from harness import Result, ResultFile, add_shapes, command_line, reason
from shapes import NUM_HEADS, OPERATOR_SHAPES, QUERY_DEPTH, Case, Shape, named
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lambdanets.functional.position import _triton_kernels
from lambdanets.functional.position import triton as form
from lambdanets.functional.position._tiles import KERNELS, Tiles

TARGET = GPUTarget("cuda", 90, 32)
PROGRAMS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64"}


class Launch(NamedTuple):
    """One kernel call, as the launcher makes it."""

    kernel: str
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]


class Compiled(NamedTuple):
    """What a launch compiles to."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    loop: collections.Counter[str]


def launches(shape: Shape, batch: int, dtype: torch.dtype, tiles: Tiles | None = None) -> list[Launch]:
    """What a forward and a backward call start, on tensors that hold nothing."""
    side, v = shape.side, shape.value_depth
    reach = min(shape.table_side, 2 * side - 1)

    def rows(c: int, d: int) -> torch.Tensor:
        return torch.empty(batch, side, side, c, d, dtype=dtype, device="meta").movedim((3, 4), (1, 2))

    queries, values, gradient = rows(NUM_HEADS, QUERY_DEPTH), rows(1, v), rows(NUM_HEADS, v)
    table = torch.empty(1, QUERY_DEPTH, reach, reach, device="meta")
    shared = torch.empty(batch, QUERY_DEPTH, v, device="meta")
    found: list[Launch] = []

    def record(kernel: str, grid: tuple[int, ...], arguments: Any, constants: dict[str, Any]) -> None:
        found.append(Launch(kernel, grid, tuple(arguments), constants))

    with patch.object(form, "start", record), patch.object(form, "device_name", lambda _: "no device"):
        form.run(queries, values, table, 64 << 20, shared, tiles)
        form.gradients(gradient, queries, values, table, [True, True, True], 64 << 20, shared, tiles)
    return found


def compile_ahead(launch: Launch) -> Compiled:
    """The kernel with the specialisations that its arguments would get."""
    function = getattr(_triton_kernels, launch.kernel)
    constants = {name: one for name, one in launch.constants.items() if not name.startswith("num_")}
    options = {name: one for name, one in launch.constants.items() if name.startswith("num_")}
    signature: dict[str, Any] = {}
    known: dict[tuple[int, ...], Any] = {}
    divisible: dict[tuple[int, ...], Any] = {}

    def describe(place: tuple[int, ...], value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(describe((*place, index), one) for index, one in enumerate(value))
        if isinstance(value, torch.Tensor):
            divisible[place] = [["tt.divisibility", 16]]
            return f"*{TYPES[value.dtype]}"
        if value is None or value == 1:
            known[place] = value
            return "constexpr"
        if value % 16 == 0:
            divisible[place] = [["tt.divisibility", 16]]
        return "i32" if abs(value) < 1 << 31 else "i64"

    for index, name in enumerate(function.arg_names):
        if name in constants:
            signature[name], known[(index,)] = "constexpr", constants[name]
        else:
            signature[name] = describe((index,), launch.arguments[index])
    source = ASTSource(function, signature, known, divisible)
    kernel = triton.compile(source, target=TARGET, options=options)
    return _read(kernel.asm["cubin"], kernel.metadata.shared)


def _read(cubin: bytes, shared_bytes: int) -> Compiled:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, assembly = (
            subprocess.run(
                [PROGRAMS / words[0], *words[1:], file.name], capture_output=True, text=True
            ).stdout
            for words in (("cuobjdump", "--dump-resource-usage"), ("nvdisasm", "-c"))
        )
    registers, stack = (int(re.search(rf"{word}:(\d+)", usage)[1]) for word in ("REG", "STACK"))  # type: ignore[index]
    return Compiled(registers, stack, shared_bytes, _innermost_loop(assembly))


def _innermost_loop(assembly: str) -> collections.Counter[str]:
    """Instructions of the shortest loop that multiplies."""
    labels: dict[str, int] = {}
    names: list[str] = []
    loops: list[list[str]] = []
    for line in assembly.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(names)
        elif instruction := re.search(r"/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)(.*)", line):
            names.append(instruction[1])
            target = re.search(r"`\((\.L_x_\d+)\)", instruction[2])
            if instruction[1] == "BRA" and target and labels.get(target[1], len(names)) < len(names):
                loops.append(names[labels[target[1]] :])
    multiplying = [loop for loop in loops if {"HMMA", "HGMMA", "DMMA", "FFMA"} & set(loop)]
    return collections.Counter(min(multiplying, key=len, default=[]))


def measure(shape: Shape, batch: int, dtype: torch.dtype, tiles: Tiles | None = None) -> Iterator[Result]:
    """One line a kernel."""
    for launch in launches(shape, batch, dtype, tiles):
        if launch.kernel == "fold_kernel":
            continue
        compiled = compile_ahead(launch)
        yield {
            "shape": shape.name,
            "kernel": launch.kernel.removesuffix("_kernel"),
            "tiles": [launch.constants[name] for name in ("BLOCK_L", "BLOCK_M", "BLOCK_N", "BLOCK_V")],
            "warps": launch.constants["num_warps"],
            "stages": launch.constants["num_stages"],
            "by_image": launch.constants["BY_IMAGE"],
            "programs": list(launch.grid),
            "registers": compiled.registers,
            "spilled_bytes": compiled.spilled_bytes,
            "shared_bytes": compiled.shared_bytes,
            "loop": compiled.loop.total(),
            "products": compiled.loop["HMMA"],
        }


def candidates(shape: Shape, batch: int) -> list[Tiles]:
    """The tiles that `gpu.py --tune` would try, of all kernels."""
    problem = tuning.problem_of("cuda", Case("", shape, batch))
    return sorted({one for kernel in KERNELS for one in tuning.candidates(kernel, problem)[: tuning.MOST]})


def show(row: Result) -> None:
    tiles = "x".join(map(str, row["tiles"]))
    print(
        f"{row['shape']:18} {row['kernel']:17} {tiles:12} {row['warps']:2}w {row['stages']}s "
        f"{'image' if row['by_image'] else 'row':5} {row['registers']:4} registers "
        f"{row['spilled_bytes']:5} B spilled {row['shared_bytes'] // 1024:4} KiB "
        f"{row['products']:4}/{row['loop']:4}",
        flush=True,
    )


def main() -> None:
    parser = command_line(__doc__, batch=128)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    add_shapes(parser)
    parser.add_argument("--search", action="store_true", help="other tiles too")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    file, results = ResultFile(arguments.out), []
    for shape in named(OPERATOR_SHAPES, arguments.shapes):
        for tiles in [None, *(candidates(shape, arguments.batch) if arguments.search else ())]:
            try:
                for row in measure(shape, arguments.batch, dtype, tiles):
                    show(row)
                    results.append(row)
            except Exception as error:
                print(shape.name, tiles, reason(error, 90), flush=True)
        file.add(results=results)


if __name__ == "__main__":
    main()
