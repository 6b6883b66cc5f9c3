"""Seeds, one thread, and a switch for the shape checks."""

import inspect
import os
import signal
from collections.abc import Iterator

import jaxtyping
import pytest
import torch

# Without a GPU the kernels run in Python. Triton looks when it is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

torch.set_num_threads(1)

# Commands under test are stopped as in a terminal. In a shell's background and under nohup these are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch jaxtyping's checks off: for our own messages about wrong shapes, and for torch.compile."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what was compiled, and unwraps properties: dynamo cannot read the checks around them."""
    from lambdanets.functional._dispatch import Problem

    torch._dynamo.reset()
    for name, value in list(vars(Problem).items()):
        if isinstance(value, property):
            monkeypatch.setattr(Problem, name, property(inspect.unwrap(value.fget)))


@pytest.fixture
def as_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets afterwards which recipes and data sets a test has registered, and what it imported for that."""
    from lambdanets import extensions
    from lambdanets.data.config import DATA_SETS
    from lambdanets.recipes import RECIPES

    before = [(known, dict(known)) for known in (DATA_SETS, RECIPES)]
    for name, value in (("_registered", {}), ("_imported", [])):
        monkeypatch.setattr(extensions, name, value)
    yield
    for known, names in before:
        known.clear()
        known.update(names)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take longer than a short training."""
    monkeypatch.setattr("lambdanets.runs.report.draw_figures", lambda *_, **__: [])


@pytest.fixture(scope="module")
def few_digits() -> Iterator[None]:
    """A part of the digits, so that a run takes a moment: 192 to train with, 60 to test with."""
    from lambdanets.data import digits

    parts = zip(digits.load_digits(), (192, 60), strict=True)
    few = tuple(digits.Digits(part.images[:num], part.labels[:num]) for part, num in parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load_digits", lambda: few)
        yield
