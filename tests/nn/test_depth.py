"""How far it is from a layer's `forward` to the implementation that computes: few frames in few files."""

import sys
from pathlib import Path
from types import CodeType, FrameType

import pytest
import torch

import lambdanets
from lambdanets.functional.position import IMPLEMENTATIONS
from lambdanets.nn import LambdaLayer2d

ROOT = Path(lambdanets.__file__).parent

MOST_FRAMES, MOST_FILES = 8, 6
# Ten of them look at types and shapes, nine ask whether the children may be read instead of called, four
# whether the numbers suit the implementation; one calls a child, one asks whether torch.fx traces, one
# whether the keys' normalisation is known, and one is the norm of a part of the context.
MOST_FUNCTIONS = 53


def way_to_the_kernel(layer: LambdaLayer2d, inputs: torch.Tensor) -> tuple[list[str], set[CodeType]]:
    """The files of the stack where an implementation begins, and the functions called until then."""
    kernels = {
        one.run.__wrapped__.__code__ if hasattr(one.run, "__wrapped__") else one.run.__code__
        for one in IMPLEMENTATIONS
    }
    frames: list[str] = []
    passed: set[CodeType] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or frames or not Path(frame.f_code.co_filename).is_relative_to(ROOT):
            return
        # Expressions in brackets are no functions that a reader looks up.
        if not frame.f_code.co_name.startswith("<"):
            passed.add(frame.f_code)
        if frame.f_code not in kernels:
            return
        outer: FrameType | None = frame
        while outer is not None:
            if Path(outer.f_code.co_filename).is_relative_to(ROOT):
                frames.append(Path(outer.f_code.co_filename).relative_to(ROOT).as_posix())
            outer = outer.f_back

    layer(inputs)  # chooses
    sys.setprofile(profile)
    try:
        layer(inputs)
    finally:
        sys.setprofile(None)
    return frames[::-1], passed


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("impl", ["fourier", "dense", "convolution"])
@pytest.mark.usefixtures("unchecked")
def test_a_kernel_is_near(impl: str, train: bool) -> None:
    layer = LambdaLayer2d(16, scope_size=3, impl=impl).train(train)
    files, functions = way_to_the_kernel(layer, torch.randn(2, 16, 5, 6))
    assert files[0] == "nn/lambda_layer.py"
    assert files[-1] == f"functional/position/{impl}.py"
    assert len(files) <= MOST_FRAMES
    assert len(set(files)) <= MOST_FILES
    assert len(functions) <= MOST_FUNCTIONS
    # Down from the modules to the mathematics, and never up again.
    packages = [name.split("/")[0] for name in files]
    assert packages == sorted(packages, reverse=True)
