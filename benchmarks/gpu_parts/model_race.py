"""Whole models beside ResNet-50: images a second and memory, training and inference, eager and compiled."""

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from harness import Call, Result, reason
from torch import Tensor, nn

from gpu_parts.session import Bench, Item
from lambdanets import create_model

# Images are halved until a step fits, but no further.
FEWEST_IMAGES: Final = 8


class Entry(NamedTuple):
    """One model: how it is made, and whether its images are the larger ones."""

    make: Callable[[], nn.Module]
    is_large: bool = False


def _torchvision(name: str) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name)


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name)


MODELS: Final = {
    "resnet50_llll": Entry(functools.partial(create_model, "resnet50_llll")),
    "lambda_resnet50": Entry(functools.partial(create_model, "lambda_resnet50")),
    "timm lambda_resnet50ts": Entry(functools.partial(_timm, "lambda_resnet50ts")),
    "lambda_resnet152": Entry(functools.partial(create_model, "lambda_resnet152"), is_large=True),
    "timm botnet50ts_256": Entry(functools.partial(_timm, "botnet50ts_256"), is_large=True),
    "timm halonet50ts": Entry(functools.partial(_timm, "halonet50ts"), is_large=True),
    "resnet50": Entry(functools.partial(create_model, "resnet50")),
    "timm resnet50": Entry(functools.partial(_timm, "resnet50")),
}

# In a rehearsal: one of each origin; botnet's maps are made for its own images.
REHEARSED: Final = ("resnet50_llll", "timm lambda_resnet50ts")

# Compiled while there is time: in a minute each, if nothing was compiled before.
COMPILED: Final = ("resnet50_llll", "timm lambda_resnet50ts", "lambda_resnet50", "lambda_resnet152")


def items(bench: Bench) -> list[Item]:
    """All-lambda ResNet-50 first; then all eager, then what there is time to compile."""
    names = [name for name in MODELS if not bench.rehearse or name in REHEARSED]
    compiled = [] if bench.rehearse else [(name, True) for name in COMPILED]
    first, *others = [(name, False) for name in names]
    return [_item(bench, *one) for one in (first, *compiled[:1], *others, *compiled[1:])]


def _item(bench: Bench, name: str, is_compiled: bool) -> Item:
    run = functools.partial(race, bench, name, is_compiled=is_compiled)
    wanted = {"resnet50_llll": (MODELS[name], baseline()[1]), "timm lambda_resnet50ts": (MODELS[name],)}
    entries = wanted.get(name, ()) if is_compiled else ()
    warm = tuple(functools.partial(warm_up, bench, entry) for entry in entries)
    return Item(f"{name} {'compiled' if is_compiled else 'eager'}", run, warm, longest=150.0)


class Runner:
    """A model in bfloat16 by autocast with channels last, its optimiser and images."""

    def __init__(self, bench: Bench, entry: Entry, *, is_compiled: bool) -> None:
        self.bench = bench
        self.side = bench.sizes.larger_side if entry.is_large else bench.sizes.models[0]
        self.model = entry.make().to(bench.device)
        # timm's lambda layer has 3-d convolutions, whose weights cannot be.
        for parameter in self.model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        if is_compiled:
            self.model.compile(dynamic=False)
        self.resize(bench.sizes.models[1])

    def resize(self, images: int) -> None:
        """Draw this many images."""
        drawn = torch.randn(images, 3, self.side, self.side, device=self.bench.device)
        self.images = drawn.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(1000, (images,), device=self.bench.device)

    def autocast(self) -> Any:
        """Products in bfloat16."""
        return torch.autocast(self.bench.device.type, dtype=torch.bfloat16)

    def train(self) -> None:
        """One update."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = nn.functional.cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()

    def infer(self) -> Tensor:
        """The output alone."""
        with torch.no_grad(), self.autocast():
            return self.model(self.images)

    def call(self, kind: str) -> Call:
        """The call of a kind, with the model in its mode."""
        self.model.train(kind == "train")
        return self.train if kind == "train" else self.infer

    def images_that_fit(self, call: Call) -> int:
        """Halve the images until a call has the memory it needs."""
        while True:
            try:
                call()
                return len(self.images)
            except torch.OutOfMemoryError:
                if len(self.images) <= FEWEST_IMAGES:
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            self.resize(len(self.images) // 2)

    def peak_bytes(self, kind: str) -> int | None:
        """Memory of the device at the peak of a call, with parameters, momentum and images."""
        peak = self.bench.clock.peak_bytes(self.call(kind))
        tensors = [*self.model.parameters(), *self.model.buffers(), self.images, self.labels]
        tensors += [one for state in self.optimizer.state.values() for one in state.values()]
        tensors += [one.grad for one in self.model.parameters()]
        storages = [one.untyped_storage().nbytes() for one in tensors if isinstance(one, Tensor)]
        return None if peak is None else peak + sum(storages)


@functools.cache
def baseline() -> tuple[str, Entry]:
    """torchvision's ResNet-50 where it imports, else ours."""
    try:
        _torchvision("resnet50")
    except Exception:
        return "resnet50 of lambdanets", MODELS["resnet50"]
    return "resnet50 of torchvision", Entry(functools.partial(_torchvision, "resnet50"))


_RUNNERS: dict[tuple[bool, bool], Runner] = {}


def kept_baseline(bench: Bench, *, is_large: bool, is_compiled: bool) -> Runner:
    """Made once for all models beside which it runs: it is compiled once."""
    key = (is_large, is_compiled)
    if key not in _RUNNERS:
        entry = baseline()[1]._replace(is_large=is_large)
        _RUNNERS[key] = Runner(bench, entry, is_compiled=is_compiled)
    return _RUNNERS[key]


def race(bench: Bench, name: str, *, is_compiled: bool) -> Result:
    """A model and ResNet-50 in turns: a training step, then inference."""
    entry, against = MODELS[name], baseline()[0]
    base = kept_baseline(bench, is_large=entry.is_large, is_compiled=is_compiled)
    runner = Runner(bench, entry, is_compiled=is_compiled)
    result: Result = {"side": runner.side, "against": against}
    for kind in ("train", "infer"):
        try:
            rows = _timed(bench, kind, {name: runner, against: base})
            result[kind] = rows
            result[f"{kind}_ratio"] = rows[name]["images_per_s"] / rows[against]["images_per_s"]
            result[f"{kind}_peak_bytes"] = runner.peak_bytes(kind)
        except Exception as error:
            result[kind] = f"failed: {reason(error)}"
        runner.optimizer.zero_grad(set_to_none=True)
    result["against_train_peak_bytes"] = base.peak_bytes("train")
    base.optimizer.zero_grad(set_to_none=True)
    return result


def _timed(bench: Bench, kind: str, runners: dict[str, Runner]) -> dict[str, Result]:
    calls = {name: runner.call(kind) for name, runner in runners.items()}
    images = {name: runner.images_that_fit(calls[name]) for name, runner in runners.items()}
    rows = bench.race(calls, factor=8)
    for name, row in rows.items():
        if "failed" in row:
            raise RuntimeError(f"{name}: {row['failed']}")
        row |= {"images": images[name], "images_per_s": 1e3 * images[name] / row["median_ms"]}
    return rows


def warm_up(bench: Bench, entry: Entry) -> None:
    """Compile both directions of a model."""
    runner = Runner(bench, entry, is_compiled=True)
    runner.call("train")()
    runner.call("infer")()
