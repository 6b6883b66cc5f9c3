"""Time and peak memory of a LambdaResNet-101 as the backbone of a detector, on one image of 1024 pixels.

    python benchmarks/large_images.py [--side 1024] [--repeats 3] [--threads 2] [--gib 16] [--seconds 120]
        [--networks PART ...] [--out FILE]

Forward gives c2 to c5 without gradients, in evaluation mode. A training step is the features, all
gradients of the sum of their mean squares, and an update with momentum. There is no classifier. The network
is measured with convolutions in place of its lambda layers (ResNet-RS-101), with our lambda layers, and with
those of `lambda-networks` and `timm` in their places, at the scope of the paper, r=23, and at a global
context.

Each network has a process of its own: times are medians, the first call among them, and the mean of the
processor's seconds over all threads, which other programs change less; memory is the peak resident memory
less what was resident before the first call, when the weights were there already (Linux). A network that
needs more than so many GiB of further address space, or more seconds, is reported as such.
"""

import resource
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final, NamedTuple

import torch
from harness import Clock, Result, ResultFile, begin_peak, command_line, cut_off, fresh, peak_bytes, show_time
from peers import CONTESTANTS, LAMBDA_NETWORKS, OWN, TIMM
from shapes import Shape
from torch import Tensor, nn

from lambdanets import LambdaLayer2d
from lambdanets.detection.backbones import create_backbone

CONVOLUTIONS: Final = "convolutions"
FORWARD, STEP = "forward", "training step"


class Case(NamedTuple):
    """A network: whose lambda layers it has, and their scope; None is the global context."""

    layers: str
    scope: int | None

    @property
    def name(self) -> str:
        """Such as `timm-r23`."""
        return self.layers if self.layers == CONVOLUTIONS else f"{self.layers}-r{self.scope or 'global'}"


CASES: Final = (
    Case(CONVOLUTIONS, None),
    *(Case(name, scope) for scope in (23, None) for name in (OWN, LAMBDA_NETWORKS, TIMM)),
)


def build(case: Case, side: int) -> nn.Module:
    """The backbone of a case."""
    if case.layers == CONVOLUTIONS:
        return create_backbone("resnet_rs101")
    backbone = create_backbone("lambda_resnet101", image_size=side, scope_size=case.scope)
    if case.layers == OWN:
        return backbone
    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, LambdaLayer2d):
            # The first layer of c5 stands before its pool, on the map of c4.
            stage, block = name.split(".")[:2]
            stride = 32 if (stage, block) > ("c5", "0") else 16
            shape = Shape(side // stride, layer.to_queries.in_channels, case.scope)
            theirs = nn.Sequential(CONTESTANTS[case.layers].build(shape), layer.pool)
            backbone.set_submodule(name, theirs)
    return backbone


def step(backbone: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    """One update."""
    optimizer.zero_grad()
    sum(maps.square().mean() for maps in backbone.features(images).values()).backward()
    optimizer.step()


@torch.no_grad()
def forward(backbone: nn.Module, images: Tensor) -> None:
    """The maps alone."""
    backbone.features(images)


def measure(case: Case, side: int, repeats: int, threads: int, gib: int, seconds: int) -> Result:
    """Times and extra bytes of a network in this process, or why there are none."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    # Libraries start with their first call.
    nn.Conv2d(3, 4, 3)(torch.ones(1, 3, 8, 8)).sum().backward()
    used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + gib * 2**30, hard))
    found: Result = {}
    try:
        with cut_off(seconds):
            backbone = build(case, side)
            images = torch.randn(1, 3, side, side)
            optimizer = torch.optim.SGD(backbone.parameters(), lr=1e-3, momentum=0.9)
            calls = {
                FORWARD: lambda: forward(backbone.eval(), images),
                STEP: lambda: step(backbone.train(), optimizer, images),
            }
            before = begin_peak()
            for name, call in calls.items():
                start = time.process_time()
                times = Clock().race({name: call}, repeats, is_warm=True)[name]
                taken = (time.process_time() - start) / times["repeats"]
                found[name] = times | {"cpu_s": taken, "extra_bytes": peak_bytes() - before}
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        found["failed"] = f"more than {gib} GiB"
    except TimeoutError:
        found["failed"] = f"more than {seconds} s"
    return found


def main() -> None:
    """Measure the networks one after the other."""
    parser = command_line(__doc__, side=1024, repeats=3, gib=16, seconds=120)
    parser.add_argument("--networks", nargs="+", default=[""], metavar="PART", help="parts of names")
    arguments = parser.parse_args()
    sizes = (arguments.side, arguments.repeats, arguments.threads, arguments.gib, arguments.seconds)
    settings = {name: value for name, value in vars(arguments).items() if name != "out"}
    settings |= {"batch": 1, "precision": "float32"}
    file, results = ResultFile(arguments.out), {}
    for case in (one for one in CASES if any(part in one.name for part in arguments.networks)):
        try:
            results[case.name] = fresh(measure, case, *sizes)
        except BrokenProcessPool:
            results[case.name] = {"failed": "ended by the system"}
        for name in (FORWARD, STEP):
            row = results[case.name].get(name) or {"failed": results[case.name].get("failed")}
            print(f"{case.name:<26}{name:<15}{show_time(row)}", end="")
            if "failed" not in row:
                print(f"{row['cpu_s']:8.1f} s{row['extra_bytes'] / 2**30:8.2f} GiB", end="")
            print(flush=True)
        file.add(settings=settings, results=results)


if __name__ == "__main__":
    main()
