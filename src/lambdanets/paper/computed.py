"""Numbers of ours that need no run: stated, computed in closed form, or counted on the meta device."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from torch import nn

from lambdanets.analysis import complexity
from lambdanets.analysis.complexity import Complexity, paper_gibibytes
from lambdanets.analysis.counting import count_layers
from lambdanets.integrations.timm import BASELINES, create_baseline
from lambdanets.models import create_model, on_meta
from lambdanets.models.config import STAGES
from lambdanets.models.variants import model_config
from lambdanets.nn import StochasticDepth
from lambdanets.paper.related_work import PARTS
from lambdanets.paper.results import Kind, Result
from lambdanets.published import TABLES, Row, Value
from lambdanets.recipes import get_recipe
from lambdanets.training.config import TrainConfig

# The sizes of the example in Tables 2, 6 and 7.
_EXAMPLE: Final = {"b": 1, "n": 784, "m": 784, "k": 16, "d": 128, "v": 128, "h": 4, "u": 4}
_ATTENTION_EXAMPLE: Final = {**_EXAMPLE, "h": 8}

# The definitions of Table 1, by their names in this library.
_NAMES: Final = {
    "query and value depth": "query_depth, value_depth",
    "inputs and context": "inputs, context",
    "queries": "to_queries, norm_queries",
    "keys": "to_keys",
    "values": "to_values, norm_values",
    "normalised keys": "normalize_keys",
    "relative position embeddings": "RelativePosition",
    "content lambda": "content_lambda",
    "position lambdas": "position_lambdas",
    "lambdas": "apply_lambdas",
}

# The closed forms by table and label; they stand in the order of the published rows.
COMPLEXITY: Final[dict[tuple[int, str], Complexity]] = {
    (number, row.label): form
    for number, forms in (
        (2, complexity.TABLE_2),
        (4, complexity.TABLE_4),
        (6, complexity.TABLE_6),
        (7, complexity.TABLE_7),
    )
    for row, form in zip(TABLES[number], forms, strict=True)
}


def compute(row: Row, key: str) -> Result | None:
    """Compute one quantity of a row without running anything; None where this is impossible.

    Raises:
        DependencyError: It needs a model of timm, which is not installed.
    """
    if key not in _COMPUTED:
        return None
    kind, value_of = _COMPUTED[key]
    if (value := value_of(row)) is None:
        return None
    return Result(table=row.table, row=row.label, column=key, value=value, kind=kind)


def build_model(name: str, image_size: int, overrides: Mapping[str, Any]) -> nn.Module:
    """Build the network of a row: ours or timm's."""
    if name in BASELINES:
        return create_baseline(name)
    return create_model(name, image_size=image_size, **overrides)


def _form(row: Row) -> Complexity:
    return COMPLEXITY[row.table, row.label]


def _example(row: Row) -> Mapping[str, int]:
    return _ATTENTION_EXAMPLE if _form(row).layer == "self-attention" else _EXAMPLE


def _parameters_m(row: Row) -> float | None:
    if not row.model:
        return None
    # Only the tables of a global scope depend on the size of the image.
    is_global = row.overrides.get("scope_size", 0) is None
    return _count_parameters(row.model, row.image_size if is_global else 224, **row.overrides) / 1e6


@cache
def _count_parameters(model: str, image_size: int, **overrides: Any) -> int:
    with on_meta():
        parts = PARTS[model]() if model in PARTS else [build_model(model, image_size, overrides)]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _count_flops(row: Row) -> int:
    with on_meta():
        network = build_model(row.model, row.image_size, row.overrides)
    return sum(layer.flops for layer in count_layers(network, (3, row.image_size, row.image_size)))


def _c4_lambdas(row: Row) -> str:
    letters = model_config(row.model).mixers("c4")
    return ", ".join(str(block) for block, letter in enumerate(letters, start=1) if letter == "L")


@cache
def _regularization(model: str, image_size: int) -> dict[str, float]:
    """Read a row of Table 20 back from the network and the augmentation that its recipe makes."""
    config = get_recipe(f"imagenet-{model.replace('_', '-')}-{image_size}", TrainConfig)
    overrides: dict[str, Any] = config.model.overrides
    with on_meta():
        network = create_model(config.model.name, **overrides)
    *_, last = (module for module in network.modules() if isinstance(module, StochasticDepth))
    return {
        "augmentation": config.augment.randaugment_magnitude,
        "dropout": network.dropout.p,
        "stochastic_depth": last.rate,
    }


# By the key of a column.
_COMPUTED: Final[dict[str, tuple[Kind, Callable[[Row], Value | None]]]] = {
    "definition": ("stated", lambda row: _NAMES[row.label]),
    "time": ("computed", lambda row: str(_form(row).time)),
    "space": ("computed", lambda row: str(_form(row).space)),
    "multiply_adds_m": ("computed", lambda row: _form(row).multiply_adds(**_example(row)) / 1e6),
    "numbers_k": ("computed", lambda row: _form(row).numbers_kept(**_example(row)) / 1e3),
    "memory_gib": ("computed", lambda row: paper_gibibytes(_form(row))),
    "augmentation": ("computed", lambda row: _regularization(row.model, row.image_size)["augmentation"]),
    "dropout": ("computed", lambda row: _regularization(row.model, row.image_size)["dropout"]),
    "stochastic_depth": (
        "computed",
        lambda row: _regularization(row.model, row.image_size)["stochastic_depth"],
    ),
    "parameters_m": ("counted", _parameters_m),
    "flops_g": ("counted", lambda row: _count_flops(row) / 1e9),
    "flops_m": ("counted", lambda row: _count_flops(row) / 1e6),
    "blocks": (
        "counted",
        lambda row: "-".join(str(len(model_config(row.model).mixers(stage))) for stage in STAGES),
    ),
    "c4_lambdas": ("counted", _c4_lambdas),
}
