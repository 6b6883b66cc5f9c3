"""The public names: each written once, coming from where it is defined, and frozen."""

from importlib import import_module
from pathlib import Path

import pytest

import lambdanets
from lambdanets._lazy import _typed_imports

ROOT = Path(lambdanets.__file__).parent

# A name leaves or joins this list on purpose, with a line in CHANGELOG.md.
FROZEN = {
    "lambdanets": {
        "DataConfig",
        "DetectConfig",
        "LambdaLayer",
        "LambdaLayer1d",
        "LambdaLayer2d",
        "LambdaLayer3d",
        "LoadedDetector",
        "LoadedModel",
        "TrainConfig",
        "create_model",
        "errors",
        "functional",
        "get_recipe",
        "list_models",
        "load_detector",
        "load_run",
        "models",
        "nn",
        "register_data_set",
        "register_recipe",
        "train",
        "train_detector",
    },
    "lambdanets.functional": {
        "CausalState",
        "apply_lambdas",
        "axial_attention",
        "causal_lambda_layer",
        "causal_lambda_step",
        "channel_lambda",
        "content_lambda",
        "content_output",
        "content_summary",
        "global_attention",
        "lambda_layer",
        "linear_attention",
        "local_attention",
        "local_relation",
        "multihead_lambda_layer",
        "normalize_keys",
        "normalize_queries",
        "position_lambdas",
        "position_output",
        "relative_position",
        "spatial_lambdas",
        "vector_attention",
        "window_values",
    },
    "lambdanets.nn": {
        "AugmentedConvolution2d",
        "AxialAttention2d",
        "ChannelLayerNorm",
        "DensePosition",
        "FiLM",
        "GlobalAttention2d",
        "LambdaLayer",
        "LambdaLayer1d",
        "LambdaLayer2d",
        "LambdaLayer3d",
        "LinearAttention2d",
        "LocalAttention2d",
        "LocalRelation2d",
        "RelativePosition",
        "SqueezeExcitation",
        "StochasticDepth",
        "VectorAttention2d",
        "set_implementation",
    },
}


PACKAGES = [
    ".".join([ROOT.name, *path.parent.relative_to(ROOT).parts])
    for path in sorted(ROOT.rglob("__init__.py"))
    if "resolve_lazily(" in path.read_text()
]

each_package = pytest.mark.parametrize("package", PACKAGES)


@each_package
def test_every_name_comes_from_where_it_is_defined(package: str) -> None:
    """No chain of re-exports: what is defined elsewhere says so by its `__module__`."""
    module = import_module(package)
    assert module.__all__ == sorted(set(module.__all__))
    imports = _typed_imports(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert name in dir(module)
        if imports[name] != package:
            assert value.__module__ == imports[name], name


@each_package
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'lambda_lair'"):
        _ = import_module(package).lambda_lair


@pytest.mark.parametrize("package", FROZEN)
def test_public_names_are_frozen(package: str) -> None:
    assert set(import_module(package).__all__) == FROZEN[package]


def test_version_is_the_distribution_s() -> None:
    text = (ROOT.parents[1] / "pyproject.toml").read_text()
    assert f'\nversion = "{lambdanets.__version__}"\n' in text
