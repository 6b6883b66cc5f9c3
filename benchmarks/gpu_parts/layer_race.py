"""The whole layer against `lambda-networks`, timm, plain PyTorch and attention: training and inference."""

import functools
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from harness import Call, Result, cut_off, reason
from peers import (
    CONTESTANTS,
    CONVOLUTION,
    LAMBDA_NETWORKS,
    OWN,
    PAIRS,
    TIMM,
    draw,
    draw_images,
    first_calls,
    infer,
    kept_bytes,
    relative_error,
    train,
)
from shapes import NUM_HEADS, Case, Shape
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gpu_parts.session import Bench, Item, graphs
from lambdanets.nn import set_implementation

OWN_TRITON: Final = "lambdanets, triton"
PATCHED: Final = "lambda-networks, patched"
# The end of the names of attention layers with a bias.
BIAS: Final = ", bias"

# Largest relative error of an output in bfloat16 against ours in float32.
TOLERANCE: Final = 5e-2
# All pairs at once are not for larger maps.
PAIRS_SIDE: Final = 32

LAYOUTS: Final = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
GROUPS: Final = ("r=23", "global", "r=7", "r=9", "strided")

# Seconds of an item, for all of its contestants to be made, and for one of them.
ITEM_SECONDS: Final = 120.0
MAKING_SECONDS: Final = 80.0
LONGEST_SECONDS: Final = 45.0


class Entry(NamedTuple):
    """One contestant: how its layer is made, the order of its images in memory, whether it is compiled."""

    make: Callable[[], nn.Module]
    layout: str = "channels last"
    is_compiled: bool = False
    is_same_function: bool = True

    def ready(self) -> nn.Module:
        """The layer, to be compiled at its first call."""
        layer = self.make()
        if self.is_compiled:
            layer.compile(fullgraph=self.is_same_function, dynamic=False)
        return layer


Entries = dict[str, Entry]


def items(bench: Bench) -> list[Item]:
    """The stages eager and compiled, global contexts, few images, attention; then the other cases."""
    cases = {group: [case for case in bench.sizes.cases if case.group == group] for group in GROUPS}
    first, whole = cases["r=23"], cases["global"]
    others = [case for group in GROUPS[2:] for case in cases[group]]
    make = functools.partial(_item, bench)
    return [
        *(make("eager", case, eager, own_triton) for case in first),
        *(make("compiled", case, compiled, compiled) for case in first),
        *(make("eager", case, eager, own_triton) for case in whole),
        *(make("inference", case, eager, own_triton) for case in bench.sizes.small),
        *(make("attention", case, attention, attention) for case in first[::2]),
        *(make("eager", case, eager, own_triton) for case in others),
        # In a rehearsal one that is compiled will do.
        *(make("compiled", case, compiled) for case in (*whole, *others) if not bench.rehearse),
    ]


def _item(
    bench: Bench,
    kind: str,
    case: Case,
    entries: Callable[[Bench, Case], Entries],
    first_compiled: Callable[[Bench, Case], Entries] | None = None,
) -> Item:
    measure = inference if kind == "inference" else race
    warm_up = () if first_compiled is None else (functools.partial(warm, bench, case, first_compiled),)
    return Item(
        f"{kind} {case.name}", functools.partial(measure, bench, case, entries), warm_up, ITEM_SECONDS
    )


def eager(bench: Bench, case: Case) -> Entries:
    """Ours with channels last; the others in both orders, as their best setting is not known."""
    shape = case.shape
    ours = functools.partial(build, bench, OWN, shape)
    others = [LAMBDA_NETWORKS, TIMM]
    if shape.scope is None:
        others += [PATCHED, *([PAIRS] if shape.side <= PAIRS_SIDE else [])]
    else:
        others.append(CONVOLUTION)
    return {OWN: Entry(ours), **own_triton(bench, case)} | {
        f"{name}, {layout}": Entry(functools.partial(build, bench, name, shape), layout)
        for name in others
        for layout in LAYOUTS
    }


def own_triton(bench: Bench, case: Case) -> Entries:
    """Ours, by its kernels alone."""
    return {OWN_TRITON: Entry(functools.partial(build, bench, OWN_TRITON, case.shape))}


def compiled(bench: Bench, case: Case) -> Entries:
    """By torch.compile ours, and each of the others in the order that was faster without; ours without it."""
    rows = bench.results.get("layer", {}).get(f"eager {case.name}", {})
    times = rows.get("train", {}) if isinstance(rows, dict) else {}
    best: dict[str, tuple[float, str, Entry]] = {}
    for name, entry in eager(bench, case).items():
        contestant = name.removesuffix(f", {entry.layout}")
        took = times.get(name, {}).get("median_ms", float("inf"))
        if contestant not in best or took < best[contestant][0]:
            best[contestant] = took, name, entry._replace(is_compiled=True)
    plain = Entry(functools.partial(build, bench, OWN, case.shape))
    return {f"{OWN}, eager": plain} | {name: entry for _, name, entry in best.values()}


def attention(bench: Bench, case: Case) -> Entries:
    """Attention layers of the same width, compiled; ours compiled beside them."""
    shape, is_compiled = case.shape, bench.is_cuda
    window = "global" if shape.scope is None else f"{shape.scope}x{shape.scope}"
    layers: dict[str, tuple[Callable[..., Tensor], bool]] = {
        f"fused {window}{BIAS}": (by_fused_product_with_bias, True),
        "fused global": (by_fused_product, False),
        f"flex {window}{BIAS}": (by_flex_attention, True),
    }
    return {OWN: Entry(functools.partial(build, bench, OWN, shape), is_compiled=is_compiled)} | {
        name: Entry(
            functools.partial(build_attention, bench, shape, attend, bias),
            is_compiled=is_compiled,
            is_same_function=False,
        )
        for name, (attend, bias) in layers.items()
    }


def build(bench: Bench, name: str, shape: Shape, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """A contestant's layer, with the weights of all."""
    contestant = {OWN_TRITON: OWN, PATCHED: LAMBDA_NETWORKS}.get(name, name)
    layer: Any = CONTESTANTS[contestant].make(shape, draw(shape, torch.bfloat16), dtype).to(bench.device)
    if name == OWN_TRITON:
        set_implementation(layer, "triton")
    if name == PATCHED:
        # Its index of offsets on the device, where it would be if it were a buffer.
        layer.rel_pos = layer.rel_pos.to(bench.device)
    return layer


def images_of(bench: Bench, case: Case) -> dict[str, Tensor]:
    """The same images in each order."""
    drawn = draw_images(case.shape, case.batch, torch.bfloat16).detach().to(bench.device)
    return {name: drawn.contiguous(memory_format=layout).requires_grad_() for name, layout in LAYOUTS.items()}


def race(bench: Bench, case: Case, entries: Callable[[Bench, Case], Entries]) -> Result:
    """Make all, compare their outputs, and time those that are right: a step, inference, and memory."""
    images = images_of(bench, case)
    notes: Result = {}
    result: Result = {"group": case.group, "notes": notes, "first_seconds": {}}
    exact = build(bench, OWN, case.shape, torch.float32)
    expected = first_calls(exact, images["channels last"].detach().float())
    layers: dict[str, tuple[nn.Module, Tensor]] = {}
    # Attention over the same pairs with the same bias: the first one is the truth of the others.
    biased: tuple[Tensor, ...] = ()
    chosen = entries(bench, case)
    end = time.perf_counter() + MAKING_SECONDS
    for name, entry in chosen.items():
        start = time.perf_counter()
        if start > end:
            notes[name] = "not run: the others took too long to be compiled"
            continue
        try:
            with cut_off(min(LONGEST_SECONDS, end - start + 1)):
                layer = entry.ready()
                outputs = first_calls(layer, images[entry.layout])
            if name.endswith(BIAS):
                biased = biased or tuple(one.float() for one in outputs)
            if entry.is_same_function or name.endswith(BIAS):
                truth = expected if entry.is_same_function else biased
                notes[f"error of {name}"] = relative_error(outputs, truth, TOLERANCE)
            layers[name] = layer, images[entry.layout]
        except Exception as error:
            notes[name] = f"failed: {reason(error)}"
        result["first_seconds"][name] = time.perf_counter() - start
        outputs = layer = None
    for kind, call in (("train", train), ("infer", infer)):
        for one, _ in layers.values():
            one.train(kind == "train")
        calls: dict[str, Call] = {name: functools.partial(call, *pair) for name, pair in layers.items()}
        result[kind] = bench.race(calls)
        if kind == "train":
            able = [name for name, row in result["train"].items() if "median_ms" in row]
            result["peak_bytes"] = {name: bench.clock.peak_bytes(calls[name]) for name in able}
            plain = [name for name in able if not chosen[name].is_compiled]
            result["kept_bytes"] = {name: kept_bytes(*layers[name]) for name in plain}
    return result


def inference(bench: Bench, case: Case, entries: Callable[[Bench, Case], Entries]) -> Result:
    """Few images: as they come, and from a CUDA graph."""
    images = images_of(bench, case)
    notes: Result = {}
    calls: dict[str, Call] = {}
    for name, entry in entries(bench, case).items():
        try:
            call = functools.partial(infer, entry.ready().eval(), images[entry.layout])
            call()
            calls[name] = call
        except Exception as error:
            notes[name] = f"failed: {reason(error)}"
    result: Result = {"group": case.group, "notes": notes, "infer": bench.race(calls)}
    if bench.is_cuda:
        # Where the index of offsets is on the CPU, a graph cannot be captured.
        able = {
            name: call
            for name, call in calls.items()
            if case.shape.scope or not name.startswith(LAMBDA_NETWORKS) or name.startswith(PATCHED)
        }
        result["graph"] = bench.race(graphs(able, notes))
    return result


def warm(bench: Bench, case: Case, entries: Callable[[Bench, Case], Entries]) -> None:
    """Compile what a race will need; what fails is noted where it is raced."""
    images = images_of(bench, case)
    for entry in entries(bench, case).values():
        try:
            layer = entry.ready()
            infer(layer.eval(), images[entry.layout])
            train(layer.train(), images[entry.layout])
        except Exception as error:
            print(f"warm: {reason(error)}")


class AttentionLayer(nn.Module):
    """Softmax attention with as many heads as the lambda layer and one bias for each offset and head.

    It is not the lambda layer's function: a neighbour in a network, at the same width and scope.

    Args:
        shape: Map, channels and scope.
        attend: The layer, its queries, keys and values "b h n d" to the output.
        bias: Whether there is one.
    """

    def __init__(self, shape: Shape, attend: Callable[..., Tensor], *, bias: bool) -> None:
        super().__init__()
        self.shape, self.attend = shape, attend
        self.project = nn.Conv2d(shape.channels, 3 * shape.channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(3 * shape.channels)
        side = shape.table_side
        self.table = nn.Parameter(0.1 * torch.randn(NUM_HEADS, side, side)) if bias else None
        self.mask: Any = None

    def forward(self, images: Tensor) -> Tensor:
        """Project, attend, and put the heads beside each other."""
        # As it lies where channels are last; compiled flex_attention is wrong on a CPU in another order.
        projected = self.norm(self.project(images)).flatten(2).transpose(1, 2).contiguous()  # b n 3d
        parts = projected.unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)  # 3 b h n d/h
        output = self.attend(self, *parts.unbind(0))  # b h n d/h
        return output.permute(0, 1, 3, 2).reshape(images.shape)


def build_attention(bench: Bench, shape: Shape, attend: Callable[..., Tensor], bias: bool) -> nn.Module:
    """An attention layer; the same weights in all of them."""
    torch.manual_seed(0)
    layer = AttentionLayer(shape, attend, bias=bias)
    if attend is by_flex_attention:
        layer.mask = flex_mask(shape, bench.device)
    return layer.to(bench.device, torch.bfloat16)


def by_fused_product(layer: AttentionLayer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The whole map, no bias."""
    return scaled_dot_product_attention(q, k, v)


def by_fused_product_with_bias(layer: AttentionLayer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The bias of all pairs written out; minus infinity outside the scope."""
    side, reach = layer.shape.side, layer.shape.table_side // 2
    places = torch.arange(side, device=q.device)
    offsets = places[None, :] - places[:, None]
    index, inside = offsets.clamp(-reach, reach) + reach, offsets.abs() <= reach
    bias = layer.table[:, index[:, None, :, None], index[None, :, None, :]]  # h y x y x
    both = inside[:, None, :, None] & inside[None, :, None, :]
    bias = bias.masked_fill(~both, -torch.inf).reshape(1, NUM_HEADS, side**2, side**2)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))


def by_flex_attention(layer: AttentionLayer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The bias read for each pair; blocks of pairs that are all out of scope are left out."""
    from torch.nn.attention.flex_attention import flex_attention

    side, reach, table = layer.shape.side, layer.shape.table_side // 2, layer.table

    def score(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row = (key // side - query // side + reach).clamp(0, 2 * reach)
        column = (key % side - query % side + reach).clamp(0, 2 * reach)
        return score + table[h, row, column]

    return flex_attention(q, k, v, score_mod=score, block_mask=layer.mask)


def flex_mask(shape: Shape, device: torch.device) -> Any:
    """Which blocks of pairs have a pair in scope; None for a global context."""
    from torch.nn.attention.flex_attention import create_block_mask

    side, reach = shape.side, shape.table_side // 2
    if shape.scope is None:
        return None

    def in_scope(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        rows = (key // side - query // side).abs() <= reach
        return rows & ((key % side - query % side).abs() <= reach)

    return create_block_mask(in_scope, None, None, side**2, side**2, device=device.type)
