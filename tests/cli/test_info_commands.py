"""`lambdanets info`, `models` and `bench`: what they print, and one sentence for each mistake."""

import json
import re
from pathlib import Path

import pytest

from lambdanets.cli import commands
from support.commands import printed, refused


def test_info_prints_the_published_counts(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "info", "resnet50_llll")
    assert "parameters        14,995,592" in text
    assert "FLOPs             11.96 G" in text
    assert [line.split()[0] for line in text.splitlines()[-6:]] == [
        "stem",
        "c2",
        "c3",
        "c4",
        "c5",
        "classifier",
    ]


def test_info_in_json_sums_its_layers(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "info",
        "lambda_resnet_digits",
        "--size",
        "8",
        "--overrides",
        "num_classes",
        "10",
        "in_channels",
        "1",
    )
    report = json.loads(printed(capsys, *words, "--format", "json"))
    assert (report["model"], report["image_size"]) == ("lambda_resnet_digits", 8)
    assert report["parameters"] == sum(layer["parameters"] for layer in report["layers"]) == 36_234
    assert report["flops"] == sum(layer["flops"] for layer in report["layers"])
    assert 0 < report["inference_bytes_per_image"] < report["training_bytes_per_image"]


def test_info_takes_the_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("info", "lambda_resnet_digits", "--size", "8x12", "--format", "json")
    layer = "query_depth 4 num_heads 2 intra_depth 2 scope_size None key_normalization l2 content False"
    overrides = f"layers CCLL share_position stage {layer}"
    report = json.loads(printed(capsys, *words, "--overrides", *overrides.split()))
    assert report["image_size"] == [8, 12]
    assert report["overrides"] == {
        "image_size": [8, 12],
        "layers": "CCLL",
        "query_depth": 4,
        "num_heads": 2,
        "intra_depth": 2,
        "content": False,
        "share_position": "stage",
        "key_normalization": "l2",
        "scope_size": None,
    }
    overrides = ("--overrides", "positional", "False", "image_size", "16")
    text = printed(capsys, *words[:2], "--size", "8", *overrides, "--per-layer")
    assert "c5.0.mixer" in text


def test_models_lists_names_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "models", "lambda_resnet50*")
    assert text.splitlines()[1].split() == ["lambda_resnet50", "3-4-6-3", "0-0-1-3"]
    assert text.endswith("2 models\n")
    found = json.loads(printed(capsys, "models", "resnet50_cc*", "--format", "json"))
    assert [one["model"] for one in found] == ["resnet50_cccl", "resnet50_ccll"]
    assert found[1]["blocks"] == {"c2": 3, "c3": 4, "c4": 6, "c5": 3}
    assert found[1]["lambda_layers"] == {"c2": 0, "c3": 0, "c4": 6, "c5": 3}


def test_bench_explains_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "bench", "ops", "--explain", "28x28", "--scope", "global")
    assert "estimates, nothing was run" in text
    rows = json.loads(printed(capsys, "bench", "ops", "--explain", "7x7", "--format", "json"))
    assert {row["implementation"] for row in rows} == {
        "reference",
        "convolution",
        "dense",
        "fourier",
        "triton",
    }
    for direction in ("output", "gradients"):
        own = [row for row in rows if row["direction"] == direction]
        (chosen,) = [row for row in own if row["chosen"]]
        times = [row["milliseconds"] for row in own if row["reason"] is None]
        assert chosen["milliseconds"] == min(times)
        assert chosen["implementation"] == "dense"


@pytest.mark.parametrize(
    "name", sorted(set(commands()) - {"train", "slurm", "pseudo train", "pseudo iterate"})
)
def test_no_argument_is_said_to_be_empty(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "(default: )" not in printed(capsys, *name.split(), "--help")


@pytest.mark.parametrize("words", [("eval", "RUNS"), ("compare", "RUNS"), ("predict", "IMAGES")])
def test_runs_and_images_are_required(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    (explained,) = re.findall(
        rf"^\W* {words[1]} [^(]*\((\w+)\)", printed(capsys, words[0], "--help"), re.MULTILINE
    )
    assert explained == "required"


def test_the_page_has_the_exit_codes_of_the_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/recipes.md"
    (codes,) = re.findall(r"Exit codes: .*?\.", printed(capsys, "doctor", "--help"), re.DOTALL)
    assert " ".join(codes.split()) in " ".join(page.read_text().split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "resnet51"), "unknown model 'resnet51'. Closest: resnet"),
        (("info", "resnet50", "--overrides", "layers", "CCLX"), "got 'CCLX' (unknown 'X' at c5)"),
        (("info", "resnet50_llll", "--overrides", "scope_size", "24"), "scope_size must be positive and odd"),
        (
            ("info", "resnet50", "--size", "0"),
            "info: size must be up to 2 positive numbers such as 28x28, got '0'.",
        ),
        (("info", "resnet50", "--sizes", "32"), "Unrecognized options: --sizes, 32"),
        (
            ("bench", "ops", "--explain", "0x3"),
            "bench: size must be up to 3 positive numbers such as 28x28, got '0x3'.",
        ),
        (("bench", "ops", "--explain", "7x7", "--scope", "4"), "bench: scope must be odd, got 4"),
        (("bench", "ops", "--explain", "7x7", "--scope", "3x3x3"), "scope must have 2 sides"),
        (
            ("bench", "ops", "--explain", "7x7", "--scope", "all"),
            "bench: scope must be up to 3 positive numbers",
        ),
        (("bench", "ops", "--explain", "7x7", "--num-heads", "3"), "channels must be divisible by num-heads"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, *words)
