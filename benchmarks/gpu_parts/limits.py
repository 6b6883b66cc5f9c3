"""The largest batch and the largest map that fit the device, in a training step in bfloat16."""

import functools
import time
from collections.abc import Callable
from typing import Any, Final

import torch
from peers import CONTESTANTS, LAMBDA_NETWORKS, OWN, TIMM, draw
from problems import Shape

from gpu_parts.clock import reason
from gpu_parts.layer_race import learn
from gpu_parts.model_race import MODELS, Runner
from gpu_parts.session import Bench, Item

# Seconds of one search, and of a step beyond which it goes no further.
SECONDS: Final = 5.0
LONGEST_STEP: Final = 4.0

# Steps of a search in a rehearsal.
REHEARSED_LARGEST: Final = 4


def items(bench: Bench) -> list[Item]:
    """Ours and the peers', for layers; all-lambda ResNet-50 and ResNet-50, for models."""
    images, models, side = bench.sizes.limit
    first = Shape(56, 64, 23) if not bench.rehearse else Shape(4, 16, 3)
    made = [
        Item(
            f"batch, {name}", functools.partial(search, bench, functools.partial(_model, bench, name), models)
        )
        for name in ("resnet50_llll", "resnet50")
    ]
    for name in (OWN, LAMBDA_NETWORKS, TIMM):
        step = functools.partial(_batch, bench, name, first)
        made.append(
            Item(f"batch, layer {first.name}, {name}", functools.partial(search, bench, step, images))
        )
    for scope in (first.scope, None):
        for name in (OWN, LAMBDA_NETWORKS, TIMM):
            step = functools.partial(_map, bench, name, first.channels, scope)
            start = side if scope else side // 4
            text = f"map, layer d{first.channels} r={scope or 'global'} b=1, {name}"
            made.append(Item(text, functools.partial(search, bench, step, start)))
    return made


def _model(bench: Bench, name: str) -> Callable[[int], None]:
    runner = Runner(bench, MODELS[name], is_compiled=False)
    runner.model.train()

    def step(images: int) -> None:
        runner.images = runner.labels = None
        runner.optimizer.zero_grad(set_to_none=True)
        runner.resize(images)
        runner.learn()

    return step


def _batch(bench: Bench, name: str, shape: Shape) -> Callable[[int], None]:
    """One layer; images drawn on the device."""
    layer = CONTESTANTS[name].make(shape, draw(shape, torch.bfloat16), torch.bfloat16).to(bench.device)
    return functools.partial(_step, bench, layer, shape)


def _map(bench: Bench, name: str, channels: int, scope: int | None) -> Callable[[int], None]:
    """One image; the layer is made anew for each map."""

    def step(side: int) -> None:
        shape = Shape(side, channels, scope)
        with torch.device(bench.device):
            layer = CONTESTANTS[name].build(shape)
        _step(bench, layer.to(bench.device, torch.bfloat16), shape, 1)

    return step


def _step(bench: Bench, layer: torch.nn.Module, shape: Shape, images: int) -> None:
    size = (images, shape.channels, shape.side, shape.side)
    drawn = torch.randn(size, device=bench.device, dtype=torch.bfloat16)
    drawn = drawn.contiguous(memory_format=torch.channels_last).requires_grad_()
    learn(layer.train(), drawn, torch.ones_like(drawn))


def search(bench: Bench, make: Callable[[], Callable[[int], None]], start: int) -> dict[str, Any]:
    """Double until a step fails, then halve the gap; within the time."""
    # Looking for the fastest convolution takes seconds for each size.
    torch.backends.cudnn.benchmark = False
    step = make()
    end = time.perf_counter() + SECONDS
    fits, fails, why = 0, None, "out of time"
    tried: dict[int, str] = {}
    size = start
    while time.perf_counter() < end:
        tried[size] = _try(bench, step, size)
        if tried[size].startswith("failed"):
            fails = size
            why = tried[size]
        else:
            fits = max(fits, size)
            if fails is None and float(tried[size].split()[0]) > LONGEST_STEP:
                why = f"a larger one would take longer than {LONGEST_STEP:.0f} s"
                break
        if bench.rehearse and len(tried) >= REHEARSED_LARGEST:
            break
        size = 2 * fits if fails is None else (fits + fails) // 2
        if fails is not None and fails - fits <= max(1, fails // 16):
            break
    return {"fits": fits, "fails": fails, "why_not_more": why, "tried": tried}


def _try(bench: Bench, step: Callable[[int], None], size: int) -> str:
    try:
        took = bench.clock.seconds_of(functools.partial(step, size))
    except Exception as error:
        text = f"failed: {reason(error, 120)}"
    else:
        return f"{took:.3f} s"
    bench.clock.forget()
    return text
