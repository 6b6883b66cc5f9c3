"""Groups of parameters: with weight decay and without."""

from typing import Any

from torch import nn

from lambdanets.nn.attention_products import AttentionProduct
from lambdanets.nn.position import DensePosition, RelativePosition


def parameter_groups(
    model: nn.Module, weight_decay: float, *, decay_position: bool = True
) -> list[dict[str, Any]]:
    """Groups for an optimizer: norms and biases without weight decay, everything else with it.

    Args:
        model: Any module.
        weight_decay: Of the group that has it.
        decay_position: Decay position tables like other weights; whether the paper did is not known.

    Returns:
        Two groups, `{"params": …, "weight_decay": …}`; together they hold every parameter once.
    """
    undecayed: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_position = isinstance(module, AttentionProduct) or (
                isinstance(module, RelativePosition | DensePosition) and name == "table"
            )
            if (is_position and not decay_position) or (not is_position and parameter.ndim <= 1):
                undecayed.add(id(parameter))
    parameters = list(model.parameters())
    return [
        {"params": [one for one in parameters if id(one) not in undecayed], "weight_decay": weight_decay},
        {"params": [one for one in parameters if id(one) in undecayed], "weight_decay": 0.0},
    ]
