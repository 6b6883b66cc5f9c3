"""Configs and names: what each letter means, and one sentence for each mistake."""

from dataclasses import replace

import pytest
import torch

from lambdanets import create_model, list_models
from lambdanets.models import LambdaConfig, ResNetConfig, model_config


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        (50, [3]),
        (101, [6, 12, 18]),
        (152, [5, 10, 15, 20, 25, 30]),
        (200, [5, 10, 15, 20, 25, 30]),
        (270, [8, 16, 24, 32, 40, 48]),
        (350, [10, 20, 30, 40, 50, 60]),
        (420, [10, 20, 30, 40, 50, 60, 70, 80]),
    ],
)
def test_lambda_layers_of_c4_stand_where_table_19_has_them(depth: int, blocks: list[int]) -> None:
    config = model_config(f"lambda_resnet{depth}")
    letters = config.mixers("c4")
    assert [index for index, letter in enumerate(letters, 1) if letter == "L"] == blocks
    assert set(config.mixers("c2") + config.mixers("c3")) == {"C"}
    assert set(config.mixers("c5")) == {"L"}
    assert set(model_config(f"lambda_resnet{depth}_c4").mixers("c4")) == {"L"}


def test_layers_override_drops_the_rows_own_lambda_blocks() -> None:
    assert "L" not in model_config("lambda_resnet50", layers="CCCC").mixers("c4")
    kept = model_config("lambda_resnet50", layers="CCCC", lambda_blocks={"c4": [2]})
    assert kept.mixers("c4") == "CLCCCC"


@pytest.mark.parametrize(
    ("image_size", "maps"), [(224, [56, 28, 14, 7]), (225, [57, 29, 15, 8]), (100, [25, 13, 7, 4])]
)
def test_map_sizes_are_those_of_the_network(image_size: int, maps: list[int]) -> None:
    model = create_model("resnet50", image_size=image_size, depths=(1, 1, 1, 1), widths=(4, 4, 4, 4))
    assert [model.config.map_sizes(stage)[1][0] for stage in ("c2", "c3", "c4", "c5")] == maps
    features = model.to("meta").features(torch.empty(1, 3, image_size, image_size, device="meta"))
    assert [map.shape[2] for map in features.values()] == maps


def test_list_models_matches_shell_patterns() -> None:
    assert list_models("resnet50_l??c") == ["resnet50_lccc", "resnet50_llcc", "resnet50_lllc"]
    assert set(list_models("lambda*")) < set(list_models())
    assert list_models("nothing*") == []


def test_options_of_lambda_layers_are_given_flat_or_as_one_record() -> None:
    """Flat ones change the row's own; from JSON they come as lists and as null."""
    flat = model_config("lambda_resnet_digits", query_depth=4, scope_size=None, widths=[8, 8, 8, 8])
    assert flat.lambda_layer == LambdaConfig(query_depth=4, scope_size=None, initialization="unit")
    assert flat.widths == (8, 8, 8, 8)
    own = LambdaConfig(num_heads=2)
    assert model_config("lambda_mobilenetv2", lambda_layer=own, content=False).lambda_layer == replace(
        own, content=False
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: create_model("lambda_resnet100"),
            r"unknown model 'lambda_resnet100'\. Closest: .*lambda_resnet101.* list_models\(\) shows all \d+",
        ),
        (
            lambda: create_model("resnet50", query_dept=8),
            r"unknown override 'query_dept'\. Closest: query_depth.* layers: query_depth, num_heads",
        ),
        (
            lambda: ResNetConfig(layers="CCLX"),
            r"layers must use the letters C, L, A, got 'CCLX' \(unknown 'X' at c5\)",
        ),
        (lambda: ResNetConfig(layers="CCL"), "layers must have 4 letters, one a stage, got 'CCL'"),
        (lambda: ResNetConfig(depths=(3, 4, 6)), r"depths must have 4 numbers, one a stage, got \(3, 4, 6\)"),
        (lambda: ResNetConfig(depths=(3, 0, 6, 3)), r"depths must be at least 1, got \(3, 0, 6, 3\)"),
        (lambda: ResNetConfig(strides=(1, 2, 3, 2)), r"strides must be at most 2, got \(1, 2, 3, 2\)"),
        (lambda: ResNetConfig(dropout=1.0), "dropout must be at least 0 and below 1, got 1.0"),
        (
            lambda: ResNetConfig(stem="deeq"),
            "stem must be one of 'classic', 'deep', 'small'.* Closest: deep",
        ),
        (lambda: ResNetConfig(shortcut="none"), "shortcut must be one of 'convolution', 'pool'"),
        (lambda: ResNetConfig(share_position="layer"), "share_position must be one of 'none', 'stage'"),
        (lambda: ResNetConfig(squeeze_excitation=("c6",)), "squeeze_excitation must be one of 'c2'"),
        (lambda: ResNetConfig(lambda_blocks={"c1": (1,)}), "lambda_blocks must be one of 'c2'"),
        (
            lambda: ResNetConfig(lambda_blocks={"c4": (7,)}),
            r"lambda_blocks of c4 must be from 1 to 6, got \(7,\)",
        ),
        (
            lambda: ResNetConfig(layers="CCCA"),
            r"mixer must be given when layers have the letter A, .* got None and 'CCCA'\. Known: augm",
        ),
        (
            lambda: ResNetConfig(mixer="local_attention"),
            "must be given when layers have the letter A, and then alone, got 'local_attention' and 'CCCC'",
        ),
        (
            lambda: ResNetConfig(layers="CCCA", mixer="axil_attention"),
            r"mixer must be one of 'augmented_convolution', .*got 'axil_attention'\. Closest: axial_att",
        ),
        (
            lambda: ResNetConfig(layers="CCCA", mixer="local_attention", attention_window=4),
            "attention_window must be positive and odd, got 4",
        ),
        (lambda: ResNetConfig(attention_heads=0), "attention_heads must be at least 1, got 0"),
        (lambda: ResNetConfig(num_classes=0), "num_classes must be at least 1, got 0"),
        (lambda: ResNetConfig(image_size=0), "image_size must be at least 1, got 0"),
        (lambda: LambdaConfig(num_heads=0), "LambdaConfig: num_heads must be at least 1, got 0"),
        (
            lambda: LambdaConfig(key_normalization="sofmax"),
            "key_normalization must be one of 'softmax', .* Closest: softmax",
        ),
        (lambda: LambdaConfig(content=False, positional=False), "content or positional must be True"),
        (lambda: LambdaConfig(scope_size=8), "LambdaConfig: scope_size must be positive and odd, got 8"),
        (lambda: create_model("resnet50", widths=(10, 9, 9, 9), layers="LCCC"), "got 10 and 4"),
        (
            lambda: create_model("resnet50", layers="LLLL", num_heads=7),
            "divisible by num_heads, got 64 and 7",
        ),
    ],
)
def test_mistakes_are_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
