"""The public names: written out three times in every package, agreeing, and frozen."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import lambdanets

ROOT = Path(lambdanets.__file__).parent

# A name leaves or joins this list on purpose, with a line in CHANGELOG.md.
FROZEN = {
    "lambdanets": {
        "LambdaLayer",
        "LambdaLayer1d",
        "LambdaLayer2d",
        "LambdaLayer3d",
        "LoadedModel",
        "__version__",
        "create_model",
        "functional",
        "list_models",
        "load_run",
        "models",
        "nn",
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


def module_name(path: Path) -> str:
    return ".".join([ROOT.name, *path.parent.relative_to(ROOT).parts])


LAZY_PACKAGES = {
    module_name(path): ast.parse(path.read_text())
    for path in sorted(ROOT.rglob("__init__.py"))
    if "resolve_lazily(" in path.read_text()
}

each_package = pytest.mark.parametrize("package", LAZY_PACKAGES)


def written_all(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def typed_imports(tree: ast.Module) -> dict[str, str]:
    """Name -> module of the imports that only a type checker reads."""
    guarded = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imports = [node for block in guarded for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def resolved_names(package: str, tree: ast.Module) -> dict[str, str]:
    """Name -> module of what `resolve_lazily` was given; a submodule belongs to its package."""
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "resolve_lazily"
    )
    names = dict(ast.literal_eval(call.args[1]))
    submodules = [word.value for word in call.keywords if word.arg == "submodules"]
    return names | {name: package for value in submodules for name in ast.literal_eval(value)}


@each_package
def test_what_is_resolved_is_what_a_type_checker_sees(package: str) -> None:
    """The same names; a package may hand on what a module of it defines."""
    tree = LAZY_PACKAGES[package]
    assert typed_imports(tree).keys() == resolved_names(package, tree).keys()
    for name, module in typed_imports(tree).items():
        seen = getattr(import_module(module), name, None) or import_module(f"{module}.{name}")
        assert seen is getattr(import_module(package), name), name


@each_package
def test_all_lists_every_name_in_order(package: str) -> None:
    tree = LAZY_PACKAGES[package]
    listed = written_all(tree)
    assert listed == sorted(set(listed))
    assert {name for name in listed if not name.startswith("__")} == resolved_names(package, tree).keys()


@each_package
def test_every_name_resolves_and_is_listed_by_dir(package: str) -> None:
    module = import_module(package)
    for name in written_all(LAZY_PACKAGES[package]):
        assert getattr(module, name) is not None
        assert name in dir(module)


@each_package
def test_a_name_comes_from_where_it_is_defined(package: str) -> None:
    """No chain of re-exports: the mapping names the module that holds the definition."""
    for name, module in resolved_names(package, LAZY_PACKAGES[package]).items():
        value = getattr(import_module(package), name)
        if module != package:
            assert value.__module__ == module, name


@each_package
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'lambda_lair'"):
        _ = import_module(package).lambda_lair


@pytest.mark.parametrize("package", FROZEN)
def test_public_names_are_frozen(package: str) -> None:
    assert set(written_all(LAZY_PACKAGES[package])) == FROZEN[package]


def test_version_is_the_distribution_s() -> None:
    text = (ROOT.parents[1] / "pyproject.toml").read_text()
    assert f'\nversion = "{lambdanets.__version__}"\n' in text
