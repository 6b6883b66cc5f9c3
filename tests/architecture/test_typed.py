"""A program that uses the package checks under mypy's strict rules; help and completion know every name."""

import inspect
import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lambdanets

SOURCE = Path(lambdanets.__file__).parents[1]
ROOT = SOURCE.parent

# What a user writes, and the type that mypy sees behind each line.
PROGRAM = """
from pathlib import Path

import torch

import lambdanets
from lambdanets import LambdaLayer2d, create_model

model = create_model("lambda_resnet50", num_classes=10)
layer = LambdaLayer2d(64, 128, num_heads=4, query_depth=16, scope_size=23)
outputs: torch.Tensor = layer(torch.randn(2, 64, 40, 25))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
config = lambdanets.get_recipe("digits").replace(seed=1, sched={"epochs": 3})
run = lambdanets.train(config, out=Path("runs") / "x", exec={"device": "cpu"}, label_smoothing=0.1)
loaded = lambdanets.load_run("runs/digits", weights="ema")
detector = lambdanets.train_detector("scenes-demo", data={"root": Path("scenes")})


@lambdanets.register_recipe
def short() -> lambdanets.TrainConfig:
    return config


try:
    names = lambdanets.list_models("lambda*")
except lambdanets.errors.ArgumentError as error:
    print(error)
"""
REVEALED = {
    "model": "lambdanets.models.resnet.ResNet | lambdanets.models.mobilenet.MobileNetV2",
    "layer": "lambdanets.nn.lambda_layer.LambdaLayer2d",
    "config": "lambdanets.training.config.TrainConfig",
    "config.sched.epochs": "int",
    "run": "lambdanets.runs.loaded.LoadedModel",
    "run.labels": "tuple[str, ...] | None",
    'run.predict("three.png")': "list[tuple[str, float]]",
    'run.predict([Path("three.png"), Path("four.png")])': "list[list[tuple[str, float]]]",
    "loaded": "lambdanets.runs.loaded.LoadedModel",
    "detector": "lambdanets.runs.detect.LoadedDetector",
    "short()": "lambdanets.training.config.TrainConfig",
    "names": "list[str]",
    "lambdanets.nn.LambdaLayer1d(8)": "lambdanets.nn.lambda_layer.LambdaLayer1d",
}
# What mypy must refuse: a name that is not there, also where names are looked up lazily; a wrong type.
MISTAKES = {
    "lambdanets.creat_model": 'Module has no attribute "creat_model"; maybe "create_model"?',
    "lambdanets.nn.LambdaLayer4d": 'Module has no attribute "LambdaLayer4d"; maybe',
    'lambdanets.train("digits", seed="1")': 'Argument "seed" to "train" has incompatible type "str"',
    'lambdanets.train("digits", epochs=3)': 'Unexpected keyword argument "epochs" for "train"',
    "config.sched.epoch": '"SchedConfig" has no attribute "epoch"; maybe "epochs"?',
}


@pytest.mark.slow
def test_a_user_s_program_is_typed(tmp_path: Path) -> None:
    lines = [
        *PROGRAM.splitlines(),
        *(f"reveal_type({expression})" for expression in REVEALED),
        *(f"{expression}  # wrong" for expression in MISTAKES),
    ]
    (tmp_path / "program.py").write_text("\n".join(lines) + "\n")
    # Found as an installed package is, by Python's path: without py.typed mypy would take no types from it.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "program.py",
            ROOT / "examples/own_data.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    notes = re.findall(r'note: Revealed type is "(.*)"', done.stdout)
    # Python's own names are written in full by some versions of mypy.
    assert [note.replace("builtins.", "") for note in notes] == list(REVEALED.values())
    errors = re.findall(r"^(\S+?):\d+: error: (.*)$", done.stdout, re.MULTILINE)
    assert {file for file, _ in errors} == {"program.py"}, done.stdout
    assert len(errors) == len(MISTAKES), done.stdout
    for (_, message), expected in zip(errors, MISTAKES.values(), strict=True):
        assert message.startswith(expected)


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "lambdanets/py.typed").is_file()
    # The wheel takes the whole folder.
    assert 'packages = ["src/lambdanets"]' in (ROOT / "pyproject.toml").read_text()


def test_help_lists_the_public_names_with_their_signatures() -> None:
    text = pydoc.plain(pydoc.render_doc(lambdanets))
    overview = (lambdanets.__doc__ or "").split("Paper:")[0]
    for name in lambdanets.__all__:
        value = getattr(lambdanets, name)
        if inspect.isclass(value):
            assert f"class {name}(" in text
        elif inspect.isfunction(value):
            assert f"\n    {name}(" in text
            assert (inspect.getdoc(value) or "").splitlines()[0] in text
        if name not in (
            "LoadedModel",
            "LoadedDetector",
            "TrainConfig",
            "DetectConfig",
            "DataConfig",
            "models",
        ):
            assert re.search(rf"\b{name}\b", overview), name


def test_completion_knows_the_public_names_and_no_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import lambdanets; print(*dir(lambdanets))"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [name for name in done.stdout.split() if not name.startswith("__")] == lambdanets.__all__


def test_signatures_are_those_of_the_functions() -> None:
    assert [*inspect.signature(lambdanets.create_model).parameters] == [
        *("name", "num_classes", "in_channels", "overrides"),
    ]
    assert [*inspect.signature(lambdanets.train).parameters] == [
        *("recipe", "out", "progress", "resume_allow", "tensorboard", "settings"),
    ]
    assert "query_depth" in inspect.signature(lambdanets.LambdaLayer2d).parameters
