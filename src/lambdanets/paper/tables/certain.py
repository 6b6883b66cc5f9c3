"""What needs no run: stated, computed from closed forms, or counted from modules on the meta device."""

import json
from collections.abc import Callable
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
from lambdanets.paper.tables.record import Finding
from lambdanets.paper.tables.related_work import PARTS
from lambdanets.published import RESNET_RS, TABLES, Row, Value
from lambdanets.recipes import get_recipe
from lambdanets.training.config import TrainConfig

# Where the example of Tables 2, 6 and 7 is evaluated.
_EXAMPLE: Final = {"b": 1, "n": 784, "m": 784, "k": 16, "d": 128, "v": 128, "h": 4, "u": 4}
_ATTENTION_HEADS: Final = {"h": 8}

# What Table 1 defines, by the names of this library.
_HERE: Final = {
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


def certain_finding(row: Row, key: str) -> Finding | None:
    """Ours of one quantity of a row without running anything; None where that cannot be.

    Raises:
        DependencyError: It needs a model of timm, which is not installed.
    """
    return FILLERS[key](row) if key in FILLERS else None


def build(row: Row) -> nn.Module:
    """The network of a row: ours or timm's."""
    if row.model in BASELINES:
        return create_baseline(row.model)
    return create_model(row.model, image_size=row.image_size, **row.overrides)


@cache
def _flops_counted(model: str, image_size: int, overrides: str) -> int:
    row = Row(table=0, label="", model=model, image_size=image_size, overrides=json.loads(overrides))
    with on_meta():
        network = build(row)
    return sum(layer.flops for layer in count_layers(network, (3, image_size, image_size)))


@cache
def _parameters(model: str, image_size: int, overrides: str) -> int:
    with on_meta():
        if model in PARTS:
            parts = PARTS[model]()
        else:
            row = Row(table=0, label="", model=model, image_size=image_size, overrides=json.loads(overrides))
            parts = [build(row)]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _place(row: Row) -> tuple[str, int, str]:
    return row.model, row.image_size, json.dumps(dict(row.overrides), sort_keys=True)


def _parameters_of(row: Row) -> int:
    # Only tables of a global context are made for a size.
    size = row.image_size if row.overrides.get("scope_size", 0) is None else 224
    return _parameters(row.model, size, _place(row)[2])


def _finding(value: Value, origin: str) -> Finding:
    return Finding(value=value, origin=origin, how=origin)


def _parameters_m(row: Row) -> Finding | None:
    return _finding(_parameters_of(row) / 1e6, "counted") if row.model else None


def _flops(unit: float) -> Callable[[Row], Finding]:
    return lambda row: _finding(_flops_counted(*_place(row)) / unit, "counted")


# In `paper` and in `analysis.complexity` the rows are in one order.
_COMPLEXITY: Final[dict[tuple[int, str], Complexity]] = {
    (number, row.label): form
    for number, forms in (
        (2, complexity.TABLE_2),
        (4, complexity.TABLE_4),
        (6, complexity.TABLE_6),
        (7, complexity.TABLE_7),
    )
    for row, form in zip(TABLES[number], forms, strict=True)
}


def growth_note(row: Row) -> str:
    """What the closed form of a row of Table 2 or 7 leaves out."""
    return _COMPLEXITY[row.table, row.label].note if row.table in (2, 7) else ""


def _form(name: str) -> Callable[[Row], Finding]:
    return lambda row: _finding(str(getattr(_COMPLEXITY[row.table, row.label], name)), "computed")


def _evaluated(name: str, unit: float) -> Callable[[Row], Finding]:
    def evaluate(row: Row) -> Finding:
        form = _COMPLEXITY[row.table, row.label]
        sizes = _EXAMPLE | (_ATTENTION_HEADS if form.layer == "self-attention" else {})
        return _finding(getattr(form, name)(**sizes) / unit, "computed")

    return evaluate


def _memory_gib(row: Row) -> Finding:
    return _finding(paper_gibibytes(_COMPLEXITY[row.table, row.label]), "computed")


def _definition(row: Row) -> Finding:
    return _finding(_HERE[row.label], "stated")


def _blocks(row: Row) -> Finding:
    config = model_config(row.model)
    return _finding("-".join(str(len(config.mixers(stage))) for stage in STAGES), "counted")


def _c4_lambdas(row: Row) -> Finding:
    letters = model_config(row.model).mixers("c4")
    blocks = [str(block) for block, letter in enumerate(letters, start=1) if letter == "L"]
    return _finding(", ".join(blocks), "counted")


def recipe_of(row: Row) -> TrainConfig:
    """Our recipe of a row of Table 20."""
    return get_recipe(f"imagenet-{row.model.replace('_', '-')}-{row.image_size}")


@cache
def _regularisation(model: str, image_size: int) -> dict[str, float]:
    """What a network's recipe makes, read from the network itself and from the recipe's augmentation."""
    config = recipe_of(Row(table=20, label="", model=model, image_size=image_size))
    overrides: dict[str, Any] = config.model.overrides
    with on_meta():
        network = create_model(config.model.name, **overrides)
    *_, last = (module for module in network.modules() if isinstance(module, StochasticDepth))
    return {
        "augmentation": config.augment.randaugment_magnitude,
        "dropout": network.dropout.p,
        "stochastic_depth": last.rate,
    }


def _regularised(key: str) -> Callable[[Row], Finding]:
    return lambda row: _finding(_regularisation(row.model, row.image_size)[key], "computed")


FILLERS: Final[dict[str, Callable[[Row], Finding | None]]] = {
    "definition": _definition,
    "time": _form("time"),
    "space": _form("space"),
    "multiply_adds_m": _evaluated("multiply_adds", 1e6),
    "numbers_k": _evaluated("numbers_kept", 1e3),
    "memory_gib": _memory_gib,
    "parameters_m": _parameters_m,
    "flops_g": _flops(1e9),
    "flops_m": _flops(1e6),
    "blocks": _blocks,
    "c4_lambdas": _c4_lambdas,
    **{key: _regularised(key) for key in ("augmentation", "dropout", "stochastic_depth")},
}


def rows_of(number: int) -> tuple[Row, ...]:
    """The rows of a table; beside the paper's, Table 18 has those of ResNet-RS that Figure 4 draws."""
    return (*TABLES[number], *RESNET_RS) if number == 18 else TABLES[number]
