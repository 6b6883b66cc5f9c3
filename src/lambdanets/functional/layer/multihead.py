"""`multihead_lambda_layer`: lambdas for each head, which the paper compares its multi-query layer with."""

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import Sizes, bind_shape
from lambdanets.functional.layer.dense import lambda_layer
from lambdanets.notation import KeyNormalization


def multihead_lambda_layer(
    queries: Float[Tensor, "b h k n"],
    keys: Float[Tensor, "b h k m"],
    values: Float[Tensor, "b h v m"],
    embeddings: Float[Tensor, "h n m k"],
    *,
    key_normalization: KeyNormalization = "softmax",
) -> Float[Tensor, "b h v n"]:
    """Give each head its own keys, values and embeddings: h single-query layers side by side.

    Time b·n·m·k·v·h and memory b·n·k·v·h: h times the multi-query layer of the same depths.

    Paper: §B.3; Table 6.

    Example:
        >>> q, k, v = torch.ones(1, 2, 3, 5), torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 6, 4)
        >>> multihead_lambda_layer(q, k, v, torch.zeros(2, 5, 4, 3)).shape
        torch.Size([1, 2, 6, 5])
    """
    who = "multihead_lambda_layer"
    sizes: Sizes = {}
    bind_shape(who, "queries", queries, "b h k n", sizes)
    bind_shape(who, "keys", keys, "b h k m", sizes)
    bind_shape(who, "values", values, "b h v m", sizes)
    bind_shape(who, "embeddings", embeddings, "h n m k", sizes)
    heads = [
        lambda_layer(
            queries[:, i : i + 1],
            keys[:, i : i + 1],
            values[:, i : i + 1],
            embeddings[i].unsqueeze(2),
            key_normalization=key_normalization,
        )
        for i in range(queries.shape[1])
    ]
    return torch.cat(heads, dim=1)
