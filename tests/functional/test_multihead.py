"""Heads with their own keys, values and embeddings: h single-query layers side by side."""

import pytest
import torch
from torch import Tensor

from lambdanets.functional import lambda_layer, multihead_lambda_layer
from support.compare import assert_close
from support.oracles import assert_specified, loop_lambda_layer
from support.parameters import each_normalization

B, H, K, V, N, M = 2, 3, 4, 5, 3, 6


@pytest.fixture
def tensors() -> tuple[Tensor, ...]:
    """Queries, keys, values and embeddings, every letter of another size where it may be."""
    shapes = [(B, H, K, N), (B, H, K, M), (B, H, V, M), (H, N, M, K)]
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


@each_normalization
def test_each_head_is_a_layer_of_its_own(tensors: tuple[Tensor, ...], key_normalization: str) -> None:
    q, k, v, e = tensors
    output = multihead_lambda_layer(q, k, v, e, key_normalization=key_normalization)
    for head in range(H):
        one = slice(head, head + 1)
        alone = loop_lambda_layer(
            q[:, one], k[:, one], v[:, one], e[head].unsqueeze(2), key_normalization=key_normalization
        )
        assert_specified(output[:, one], alone)


@each_normalization
def test_heads_that_share_everything_are_the_multi_query_layer(
    tensors: tuple[Tensor, ...], key_normalization: str
) -> None:
    q, k, v, e = tensors
    k, v, e = (x[:, :1].expand_as(x) if x is not tensors[3] else x[:1].expand_as(x) for x in (k, v, e))
    shared = lambda_layer(q, k[:, :1], v[:, :1], e[0].unsqueeze(2), key_normalization=key_normalization)
    assert_close(multihead_lambda_layer(q, k, v, e, key_normalization=key_normalization), shared)


def test_the_einsums_of_the_paper(tensors: tuple[Tensor, ...]) -> None:
    """The listing of appendix B.3, with the h its position output forgets."""
    q, k, v, e = tensors
    content = torch.einsum("bhkm,bhvm->bhkv", k.softmax(dim=-1), v)
    position = torch.einsum("hnmk,bhvm->bnhkv", e, v)
    expected = torch.einsum("bhkn,bhkv->bhvn", q, content) + torch.einsum("bhkn,bnhkv->bhvn", q, position)
    assert_specified(multihead_lambda_layer(q, k, v, e), expected)
