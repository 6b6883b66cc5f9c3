"""The whole layer against `lambda-networks`, timm, plain PyTorch and attention: training and inference."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from layers import first_calls, kept_bytes
from peers import (
    CONTESTANTS,
    CONVOLUTION,
    LAMBDA_NETWORKS,
    OWN,
    PAIRS,
    TIMM,
    draw,
    draw_images,
    infer,
)
from problems import Shape
from torch import Tensor, nn

from gpu_parts.attention import BIAS, attention_layers
from gpu_parts.clock import Row, cut_off, graphs, reason
from gpu_parts.session import Bench, Item
from gpu_parts.sizes import Case
from lambdanets.nn import set_implementation

OWN_TRITON: Final = "lambdanets, triton"
PATCHED: Final = "lambda-networks, patched"

# Relative error of an output in bfloat16 against ours in float32.
TOLERANCE: Final = 5e-2

# All pairs at once are not for larger maps.
PAIRS_SIDE: Final = 32

LAYOUTS: Final = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}

GROUPS: Final = ("r=23", "global", "r=7", "r=9", "strided")

# Seconds of an item, for all of its contestants to be made, and for one of them.
ITEM_SECONDS: Final = 120.0
MAKING_SECONDS: Final = 80.0
LONGEST_SECONDS: Final = 45.0


@dataclass(frozen=True)
class Entry:
    """One contestant: how its layer is made, and the order of its images in memory."""

    make: Callable[[], nn.Module]
    layout: str
    is_same_function: bool = True


def items(bench: Bench) -> list[Item]:
    """The stages eager and compiled, global contexts, few images, attention; then the other cases."""
    cases = {group: [case for case in bench.sizes.cases if case.group == group] for group in GROUPS}
    first, whole = cases["r=23"], cases["global"]
    others = [case for group in GROUPS[2:] for case in cases[group]]
    return [
        *(_item(bench, "eager", case, eager_race, warm=warm_own) for case in first),
        *(_item(bench, "compiled", case, compiled_race, warm=warm_compiled) for case in first),
        *(_item(bench, "eager", case, eager_race, warm=warm_own) for case in whole),
        *(_item(bench, "inference", case, small_inference, warm=warm_own) for case in bench.sizes.small),
        *(_item(bench, "attention", case, attention_race, warm=warm_attention) for case in first[::2]),
        *(_item(bench, "eager", case, eager_race, warm=warm_own) for case in others),
        # In a rehearsal one that is compiled will do.
        *(_item(bench, "compiled", case, compiled_race) for case in (*whole, *others) if not bench.rehearse),
    ]


def _item(
    bench: Bench,
    kind: str,
    case: Case,
    race: Callable[[Bench, Case], Any],
    warm: Callable[[Bench, Case], object] | None = None,
) -> Item:
    return Item(
        f"{kind} {case.name}",
        functools.partial(race, bench, case),
        () if warm is None else (functools.partial(warm, bench, case),),
        longest=ITEM_SECONDS,
    )


def entries(bench: Bench, shape: Shape) -> dict[str, Entry]:
    """Ours with channels last; the others in both orders, as their best setting is not known."""
    found = {
        OWN: Entry(functools.partial(build, bench, OWN, shape), "channels last"),
        OWN_TRITON: Entry(functools.partial(build_triton, bench, shape), "channels last"),
    }
    others = [LAMBDA_NETWORKS, TIMM]
    if shape.scope is None:
        others += [PATCHED, *([PAIRS] if shape.side <= PAIRS_SIDE else [])]
    else:
        others.append(CONVOLUTION)
    for name in others:
        make = functools.partial(build_patched if name == PATCHED else build, bench, name, shape)
        for layout in LAYOUTS:
            found[f"{name}, {layout}"] = Entry(make, layout)
    return found


def build(bench: Bench, name: str, shape: Shape) -> nn.Module:
    """A contestant's layer, with the weights of all."""
    return CONTESTANTS[name].make(shape, draw(shape, torch.bfloat16), torch.bfloat16).to(bench.device)


def build_triton(bench: Bench, shape: Shape) -> nn.Module:
    """Ours, by its kernels alone."""
    layer = build(bench, OWN, shape)
    set_implementation(layer, "triton")
    return layer


def build_patched(bench: Bench, name: str, shape: Shape) -> nn.Module:
    """With its index of offsets on the device, where it would be if it were a buffer."""
    layer: Any = build(bench, LAMBDA_NETWORKS, shape)
    layer.rel_pos = layer.rel_pos.to(bench.device)
    return layer


def images_of(bench: Bench, case: Case) -> tuple[dict[str, Tensor], Tensor]:
    """The same images in each order, and a gradient of the output."""
    drawn = draw_images(case.shape, case.batch, torch.bfloat16).detach().to(bench.device)
    images = {
        name: drawn.contiguous(memory_format=layout).requires_grad_() for name, layout in LAYOUTS.items()
    }
    return images, torch.randn_like(drawn)


def learn(layer: nn.Module, images: Tensor, gradient: Tensor) -> None:
    """The output and all gradients, which are not added to earlier ones."""
    layer.zero_grad(set_to_none=True)
    images.grad = None
    layer(images).backward(gradient)


def eager_race(bench: Bench, case: Case) -> dict[str, Any]:
    """All contestants as they come."""
    return race(bench, case, entries(bench, case.shape), is_compiled=False)


def compiled_entries(bench: Bench, case: Case) -> dict[str, Entry]:
    """Ours, and each of the others in the order that was faster without the compiler."""
    rows = bench.results.get("layer", {}).get(f"eager {case.name}", {})
    times = rows.get("train", {}) if isinstance(rows, dict) else {}
    best: dict[str, tuple[float, str]] = {}
    for name, entry in entries(bench, case.shape).items():
        who = name.removesuffix(f", {entry.layout}")
        took = times.get(name, {}).get("median_ms", float("inf"))
        best[who] = min(best.get(who, (took, name)), (took, name), key=lambda pair: pair[0])
    chosen = entries(bench, case.shape)
    return {name: chosen[name] for _, name in best.values()}


def compiled_race(bench: Bench, case: Case) -> dict[str, Any]:
    """All contestants by torch.compile, and ours without it."""
    plain = {f"{OWN}, eager": entries(bench, case.shape)[OWN]}
    return race(bench, case, compiled_entries(bench, case), is_compiled=True, others=plain)


def attention_race(bench: Bench, case: Case) -> dict[str, Any]:
    """Attention layers of the same width, compiled; ours compiled beside them."""
    ours = {OWN: entries(bench, case.shape)[OWN]}
    made = attention_layers(case.shape, bench.device)
    theirs = {
        name: Entry(functools.partial(_on_device, bench, make), "channels last", is_same_function=False)
        for name, make in made.items()
    }
    return race(bench, case, ours | theirs, is_compiled=bench.is_cuda)


def _on_device(bench: Bench, make: Callable[[], nn.Module]) -> nn.Module:
    # The same weights in all of them.
    torch.manual_seed(0)
    return make().to(bench.device, torch.bfloat16)


def race(
    bench: Bench,
    case: Case,
    asked: dict[str, Entry],
    *,
    is_compiled: bool,
    others: dict[str, Entry] | None = None,
) -> dict[str, Any]:
    """Make all, compare their outputs, and time those that are right; `others` are not compiled."""
    images, gradient = images_of(bench, case)
    notes: dict[str, Any] = {}
    result: dict[str, Any] = {"group": case.group, "notes": notes, "first_seconds": {}}
    expected = truth(bench, case, images["channels last"])
    layers: dict[str, tuple[nn.Module, Tensor]] = {}
    biased: list[Tensor] = []
    end = time.perf_counter() + MAKING_SECONDS
    for name, entry in ((others or {}) | asked).items():
        start = time.perf_counter()
        if start > end:
            notes[name] = "not run: the others took too long to be compiled"
            continue
        try:
            with cut_off(min(LONGEST_SECONDS, end - start + 1)):
                layer = entry.make()
                if is_compiled and name in asked:
                    layer.compile(fullgraph=entry.is_same_function, dynamic=False)
                found = first_calls(layer, images[entry.layout])
            if entry.is_same_function:
                notes[f"error of {name}"] = difference(found, expected)
            elif name.endswith(BIAS):
                # Attention over the same pairs with the same bias: the first one is the truth of the others.
                biased = biased or [one.float() for one in found]
                notes[f"error of {name}"] = difference(found, biased)
            layers[name] = layer, images[entry.layout]
        except Exception as error:
            notes[name] = f"failed: {reason(error)}"
        result["first_seconds"][name] = time.perf_counter() - start
        found = layer = None
    bench.clock.forget()
    return result | timings(bench, layers, gradient, keep=not is_compiled)


def timings(
    bench: Bench, layers: dict[str, tuple[nn.Module, Tensor]], gradient: Tensor, *, keep: bool
) -> dict[str, Any]:
    """A training step and inference of all in turns, and memory of a step."""
    found: dict[str, Any] = {}
    for layer, _ in layers.values():
        layer.train()
    steps = {
        name: functools.partial(learn, layer, images, gradient) for name, (layer, images) in layers.items()
    }
    found["train"] = bench.clock.race(steps)
    able = [name for name, row in found["train"].items() if "median_ms" in row]
    found["peak_bytes"] = {name: bench.clock.peak_bytes(steps[name]) for name in able}
    if keep:
        found["kept_bytes"] = {name: kept_bytes(*layers[name]) for name in able}
    for layer, _ in layers.values():
        layer.eval()
    calls = {name: functools.partial(infer, layer, images) for name, (layer, images) in layers.items()}
    found["infer"] = bench.clock.race(calls)
    return found


def truth(bench: Bench, case: Case, images: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of ours in float32, in inference and in training."""
    layer = CONTESTANTS[OWN].make(case.shape, draw(case.shape, torch.bfloat16), torch.float32)
    return first_calls(layer.to(bench.device), images.detach().float())


def difference(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The larger relative error; no time is taken of a layer whose output is wrong."""
    found = [
        float((one.float() - other).norm() / other.norm())
        for one, other in zip(actual, expected, strict=True)
    ]
    # Written so that a NaN is found too.
    if not all(error < TOLERANCE for error in found):
        raise ValueError(f"wrong output: relative errors {found}")
    return max(found)


def small_inference(bench: Bench, case: Case) -> dict[str, Any]:
    """Few images: eager, and from a CUDA graph."""
    images, _ = images_of(bench, case)
    notes: dict[str, Any] = {}
    calls: dict[str, Callable[[], object]] = {}
    for name, entry in entries(bench, case.shape).items():
        try:
            calls[name] = functools.partial(infer, entry.make().eval(), images[entry.layout])
            calls[name]()
        except Exception as error:
            calls.pop(name, None)
            notes[name] = f"failed: {reason(error)}"
    rows: dict[str, dict[str, Row]] = {"infer": bench.clock.race(calls)}
    if bench.is_cuda:
        # Where the index of offsets is on the CPU, a graph cannot be captured.
        able = {
            name: call
            for name, call in calls.items()
            if case.shape.scope or not name.startswith(LAMBDA_NETWORKS) or name.startswith(PATCHED)
        }
        rows["graph"] = bench.clock.race(graphs(able, notes))
    return {"group": case.group, "notes": notes, **rows}


def warm_own(bench: Bench, case: Case) -> None:
    """Compile our kernels as the layer calls them."""
    images, gradient = images_of(bench, case)
    layer = build_triton(bench, case.shape)
    learn(layer.train(), images["channels last"], gradient)
    infer(layer.eval(), images["channels last"])


def warm_compiled(bench: Bench, case: Case) -> None:
    """Compile what `compiled_race` will."""
    _warm(bench, case, compiled_entries(bench, case))


def warm_attention(bench: Bench, case: Case) -> None:
    """Compile what `attention_race` will."""
    if bench.is_cuda:
        made = attention_layers(case.shape, bench.device)
        _warm(
            bench,
            case,
            {
                name: Entry(
                    functools.partial(_on_device, bench, make), "channels last", is_same_function=False
                )
                for name, make in made.items()
            },
        )


def _warm(bench: Bench, case: Case, asked: dict[str, Entry]) -> None:
    images, gradient = images_of(bench, case)
    for entry in asked.values():
        try:
            layer = entry.make()
            layer.compile(fullgraph=entry.is_same_function, dynamic=False)
            infer(layer.eval(), images[entry.layout])
            learn(layer.train(), images[entry.layout], gradient)
        except Exception as error:
            # It is told where it is raced.
            print(f"warm: {reason(error)}")
