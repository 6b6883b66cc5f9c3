"""What `explain` draws and writes: for every kind of layer, of weights and of images."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file

from lambdanets.data.preprocessing import Preprocessing
from lambdanets.errors import ArgumentError, CheckpointError, NumericError, PathError
from lambdanets.explain import explain as module
from lambdanets.explain.explain import explain
from lambdanets.explain.maps import _context_weights, _layer_maps, _observe
from lambdanets.models import create_model
from lambdanets.runs import load

MODEL = "lambda_resnet_digits"


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the drawing out, which takes most of the time; other tests look at the figures."""
    monkeypatch.setattr(module, "save_figure", lambda figure, path, who: path.touch())


@pytest.mark.usefixtures("undrawn")
def test_all_that_is_drawn_is_in_the_file(image, tmp_path):
    explanation = explain(MODEL, image, tmp_path / "out", layer="c4.0.mixer", position=(6, 1), size=7)
    found = json.loads(explanation.numbers.read_text())
    assert found["model"] == MODEL and found["weights"] == "random weights (seed 0)"
    assert (found["image_size"], found["map_size"], found["last_map_size"]) == ([7, 9], [7, 9], [4, 5])
    assert (found["layer"], found["position"], found["last_map_position"]) == ("c4.0.mixer", [6, 1], [3, 0])
    assert found["layers"] == list(explanation.layers) and len(explanation.layers) == 4
    assert found["files"] == {path.name: caption for path, caption in explanation.figures.items()}
    for name, shape in {
        "position_table": (1, 8, 7, 7),
        "position_weights": (4, 1, 7, 9),
        "content_weights": (4, 1, 7, 9),
        "normalized_keys": (1, 8, 7, 9),
        "pixels_to_layer": (7, 9),
        "pixels_to_last_map": (7, 9),
    }.items():
        assert np.array(found[name]["values"]).shape == shape, name
        assert len(found[name]["axes"]) == len(shape)
    np.testing.assert_allclose(np.array(found["normalized_keys"]["values"]).sum((2, 3)), 1, rtol=1e-4)
    assert explanation.error == found["relative_error_of_weights"] < 1e-5
    assert [row["head"] for row in found["heads"]["sum"]] == [0, 1, 2, 3]


@pytest.mark.slow
def test_the_numbers_are_those_of_the_network(image, tmp_path):
    """The same model, made again from its seed."""
    found = json.loads(explain(MODEL, image, tmp_path, position=(2, 3)).numbers.read_text())
    torch.manual_seed(0)
    model = create_model(MODEL).eval()
    images = Preprocessing.whole_image(8).read(image)[0][None]
    layer = model.c2[0].mixer
    weights = _context_weights(_layer_maps(layer, _observe(model, layer, images).inputs), (2, 3))
    for name, expected in {"position_weights": weights.position, "content_weights": weights.content}.items():
        np.testing.assert_allclose(found[name]["values"], expected.numpy(), rtol=1e-4)
    norms = [row["norm"] for row in found["heads"]["position"]]
    np.testing.assert_allclose(norms, weights.position.flatten(1).norm(dim=1), rtol=1e-4)


@pytest.mark.slow
def test_the_titles_and_captions_tell_a_stranger(image, tmp_path):
    explanation = explain(MODEL, image, tmp_path / "out")
    assert explanation.title == (
        "lambda_resnet_digits, random weights (seed 0): lambda layer c2.0.mixer, map 8×10, 4 heads, "
        "key depth 8, scope 7×7\nimage noise.png at 8×10 pixels"
    )
    positions, field, content = explanation.figures.values()
    assert positions.startswith("Position lambdas of c2.0.mixer: by key, the weight R[m−n]")
    assert "reads at row 4, column 5." in field and "The weights are random" in field
    assert "red more than the mean" in content
    for path in explanation.figures:
        with Image.open(path) as drawn:
            assert drawn.format == "PNG" and drawn.width > 800


@pytest.mark.parametrize(
    ("overrides", "files", "rows"),
    [
        ({"positional": False}, ["field.png", "content.png"], ["content"]),
        ({"content": False}, ["positions.png", "field.png"], ["position"]),
        pytest.param(
            {"scope_size": None, "intra_depth": 2, "key_normalization": "l2"},
            ["positions.png", "field.png", "content.png"],
            ["sum", "position", "content"],
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_layer_has_figures_of_what_it_has(image, tmp_path, monkeypatch, overrides, files, rows):
    monkeypatch.setattr(load, "create_model", partial(create_model, **overrides))
    explanation = explain(MODEL, image, tmp_path / "out", size=6)
    assert [path.name for path in explanation.figures] == files
    found = json.loads(explanation.numbers.read_text())
    assert list(found["heads"]) == rows
    assert (found["position_table"] is None, found["scope"] is None) == ("positional" in overrides,) * 2
    assert (found["keys"] is None) == ("content" in overrides)
    if "intra_depth" in overrides:
        assert found["keys"][9]["key"] == "u = 1, k = 1" and found["scope"] == "global"
        assert "red positive, blue negative" in explanation.figures[tmp_path / "out/content.png"]


@pytest.mark.slow
def test_a_mobile_network_has_lambda_layers_too(image, tmp_path):
    explanation = explain("lambda_mobilenetv2", image, tmp_path / "out", size=64)
    assert len(explanation.layers) == 2 and explanation.error < 1e-4
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_maps_that_are_not_finite_are_refused(image, tmp_path):
    state = create_model(MODEL).state_dict()
    # Finite numbers, whose products are not.
    state["c2.0.reduce.weight"][0] = 3e38
    save_file(state, tmp_path / "large.safetensors")
    message = (
        "explain: the network's feature maps must be finite, got some that are not, from "
        r"lambda_resnet_digits with weights of large.safetensors\."
    )
    with pytest.raises(NumericError, match=message):
        explain(MODEL, image, tmp_path / "out", weights=tmp_path / "large.safetensors")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_refused(image, tmp_path):
    state = create_model(MODEL).state_dict()
    state["c2.0.reduce.weight"][0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match=r"explain: check_finite: .*nan\.safetensors must hold finite"):
        explain(MODEL, image, tmp_path / "out", weights=tmp_path / "nan.safetensors")
    assert not (tmp_path / "out").exists()


def test_models_without_lambda_layers_are_refused(image, tmp_path):
    message = (
        "explain: model must have lambda layers, got 'resnet_digits', which has none. "
        r"`lambdanets models 'lambda\*'` lists some that have\."
    )
    with pytest.raises(ArgumentError, match=message):
        explain("resnet_digits", image, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "c2.0"}, r"explain: layer must be one of 'c2.0.mixer', .*, got 'c2.0'\."),
        ({"position": (8, 0)}, r"position must lie on the map of 8×10, .*, got 8 and 0\."),
        ({"size": 0}, r"explain: size must be at least 1, got 0\."),
    ],
)
def test_options_that_do_not_fit_are_named(image, tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        explain(MODEL, image, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("none", PathError, r"explain: weights must be a file, got .*none, which does not exist\."),
        ("noise.png", CheckpointError, "explain: load_weights: .*noise.png must be a safetensors file, got"),
        ("other", CheckpointError, "load_state: .*other must hold the weights of this model"),
    ],
)
def test_weights_that_do_not_fit_are_named(image, tmp_path, file, error, message):
    save_file(create_model("resnet_digits").state_dict(), tmp_path / "other")
    with pytest.raises(error, match=message):
        explain(MODEL, image, tmp_path / "out", weights=tmp_path / file)


def test_neither_a_run_nor_a_model_is_named(image, tmp_path):
    message = (
        "explain: source must be a run folder or the name of a model, got 'lambda_resnet_digit'. "
        r"Closest: lambda_resnet_digits.*\. `lambdanets models` lists the models\."
    )
    with pytest.raises(ArgumentError, match=message):
        explain("lambda_resnet_digit", image, tmp_path / "out")
    with pytest.raises(
        PathError, match=r"must be a folder of `lambdanets train` with config\.json, got none"
    ):
        explain(str(tmp_path), image, tmp_path / "out")
    message = "explain: weights must be left out for a run, which has its own, got .* the name of a model."
    with pytest.raises(ArgumentError, match=message):
        explain(str(tmp_path), image, tmp_path / "out", weights=image)


def test_in_a_run_folder_there_are_dark_variants(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        module, "save_figure", lambda figure, path, who: drawn.append((path, figure.get_facecolor()[0]))
    )
    module._save(Figure(facecolor="white"), tmp_path / "field.png")
    (tmp_path / "config.json").touch()
    module._save(Figure(facecolor="white"), tmp_path / "field.png")
    assert [path.relative_to(tmp_path).as_posix() for path, _ in drawn] == ["field.png"] * 2 + [
        "dark/field.png"
    ]
    assert drawn[1][1] == 1 and drawn[2][1] < 0.2
