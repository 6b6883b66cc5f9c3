"""What an import costs: torch only for a name that needs it, and the layers no library but jaxtyping."""

import ast
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lambdanets

# What the extras install: layers and models must do without. That torch looks for triton is its own affair,
# and the import law forbids it to ours.
OPTIONAL = ("torchvision", "timm", "safetensors", "tyro", "rich", "matplotlib", "sklearn", "PIL")
HELP_SECONDS = 0.5

BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
"""


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(code: str) -> set[str]:
    return set(json.loads(run_python(f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))")))


def test_import_of_the_package_costs_nothing() -> None:
    loaded = modules_after("import lambdanets")
    assert not loaded & {"torch", "jaxtyping", "numpy", *OPTIONAL}
    assert {name for name in loaded if name.startswith("lambdanets")} == {"lambdanets", "lambdanets._lazy"}


@pytest.mark.parametrize("package", ["functional", "nn", "models"])
def test_import_of_a_sub_package_costs_nothing(package: str) -> None:
    assert not modules_after(f"import lambdanets.{package}") & {"torch", "jaxtyping"}


HELP = "from lambdanets.cli import run\ntry:\n    run(['--help'])\nexcept SystemExit:\n    print()"


def test_help_imports_no_torch() -> None:
    code = f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    exec({HELP!r})"
    assert not modules_after(code) & {"torch", "jaxtyping", "numpy", *OPTIONAL}


def test_help_is_instant() -> None:
    """The best of five, because other processes share the machine."""
    command = Path(sys.executable).with_name("lambdanets")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        assert done.stdout.startswith("usage: lambdanets")
        if seconds[-1] < HELP_SECONDS:
            return
    pytest.fail(f"best of {len(seconds)}: {min(seconds):.2f} s")


USES = {
    "position_output": """
from lambdanets.functional import position_output
y = position_output(torch.ones(1, 2, 3, 4, 5), torch.ones(1, 1, 2, 4, 5), torch.ones(1, 3, 3, 3))
assert y.shape == (1, 2, 2, 4, 5)
""",
    "lambdanets": """
import lambdanets
layer = lambdanets.nn.LambdaLayer2d(8, query_depth=4, num_heads=2, scope_size=3)
assert layer(torch.randn(2, 8, 5, 4)).shape == (2, 8, 5, 4)
layer = lambdanets.LambdaLayer(8, query_depth=4, num_heads=2, position="none")
assert layer(torch.randn(2, 6, 8)).shape == (2, 6, 8)
model = lambdanets.create_model("resnet50_llll", num_classes=3)
assert sum(x.numel() for x in model.parameters()) > 1e6
assert "lambda_resnet50" in lambdanets.list_models("lambda*")
""",
}


@pytest.mark.parametrize("use", USES)
def test_layers_and_models_need_torch_and_jaxtyping_alone(use: str) -> None:
    loaded = modules_after(f"{BLOCK}\nimport torch\n{USES[use]}")
    assert "jaxtyping" in loaded
    assert not loaded & set(OPTIONAL)


def test_nothing_inside_imports_the_package_root() -> None:
    """A child that imports the root closes a circle; only the command line reads the version there."""
    root = Path(lambdanets.__file__).parent
    inside = [path for path in root.rglob("*.py") if path != root / "__init__.py"]
    guilty = [
        f"{path.relative_to(root)}: {line}"
        for path in inside
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import lambdanets", "from lambdanets import"))
        and line.strip() != "from lambdanets import __version__"
    ]
    assert not guilty


BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_benchmarks_import_what_is_there(path: Path) -> None:
    """They are seldom run, and not type-checked."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lambdanets"):
            try:
                module = importlib.import_module(node.module or "")
            except ImportError as error:
                assert error.name == "triton", error
                continue
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or importlib.import_module(f"{node.module}.{name}")
