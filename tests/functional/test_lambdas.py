"""One function for each equation: normalised keys, lambdas, lambdas applied, attention cast to lambdas."""

import torch
from hypothesis import given
from torch import Tensor, nn

from lambdanets.functional import (
    apply_lambdas,
    channel_lambda,
    content_lambda,
    normalize_keys,
    normalize_queries,
    position_lambdas,
    spatial_lambdas,
)
from support.compare import assert_close, assert_equal
from support.oracles import assert_specified, loop_key_weights, loop_lambda_layer
from support.parameters import each_normalization, each_precision
from support.strategies import Case, layer_cases

CASE = Case(size=(4,), context=(5,), k=4, u=2)


@each_normalization
def test_keys_are_normalised_over_the_context_for_each_channel(key_normalization: str) -> None:
    keys = CASE.draw("keys")["keys"]
    channels = [
        loop_key_weights(channel.tolist(), [True] * 5, key_normalization) for channel in keys.flatten(0, 2)
    ]
    expected = torch.tensor(channels, dtype=torch.float64).view_as(keys)
    assert_specified(normalize_keys(keys, key_normalization), expected)


@each_normalization
@each_precision
def test_keys_are_normalised_in_float32_at_least(dtype: torch.dtype, key_normalization: str) -> None:
    keys = CASE.draw("keys", dtype=dtype)["keys"]
    normalized = normalize_keys(keys, key_normalization)
    assert normalized.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_close(normalized, normalize_keys(keys.double(), key_normalization), normalized.dtype)


def test_l2_of_zero_keys_is_zero() -> None:
    assert_equal(normalize_keys(torch.zeros(1, 1, 2, 3), "l2"), torch.zeros(1, 1, 2, 3))


@each_normalization
def test_queries_sum_to_one_over_k_only_where_they_are_normalised(key_normalization: str) -> None:
    queries = Case(size=(3, 2), k=4).draw("queries")["queries"]
    normalized = normalize_queries(queries, key_normalization)
    if key_normalization == "softmax_keys_and_queries":
        exponentials = queries.exp()
        assert_specified(normalized, exponentials / exponentials.sum(dim=2, keepdim=True))
    else:
        assert_equal(normalized, queries)


def unit_queries(b: int, k: int) -> Tensor:
    """Position n asks for row n of its lambda."""
    return torch.eye(k, dtype=torch.float64).expand(b, 1, k, k)


@given(case=layer_cases())
def test_content_lambda_is_the_sum_of_outer_products(case: Case) -> None:
    keys, values = case.draw("keys", "values").values()
    rows = loop_lambda_layer(unit_queries(case.b, case.k), keys, values, None, key_normalization="none")
    assert_specified(content_lambda(keys, values), rows[:, 0].transpose(1, 2))


@given(case=layer_cases())
def test_position_lambdas_are_sums_of_outer_products(case: Case) -> None:
    values, embeddings = case.draw("values", "embeddings").values()
    lambdas = position_lambdas(values, embeddings)
    for n in range(case.n):
        same = embeddings[n].expand(case.k, *embeddings.shape[1:])
        rows = loop_lambda_layer(unit_queries(case.b, case.k), None, values, same)
        assert_specified(lambdas[:, n], rows[:, 0].transpose(1, 2))


@given(case=layer_cases())
def test_lambdas_are_applied_to_each_query(case: Case) -> None:
    queries = case.draw("queries")["queries"]
    lambdas = torch.randn(case.b, case.n, case.k, case.v, dtype=torch.float64)
    expected = torch.zeros(case.b, case.h, case.v, case.n, dtype=torch.float64)
    for b in range(case.b):
        for h in range(case.h):
            for n in range(case.n):
                expected[b, h, :, n] = lambdas[b, n].T @ queries[b, h, :, n]
    assert_specified(apply_lambdas(queries, lambdas), expected)
    shared = lambdas[:, 0]
    assert_specified(
        apply_lambdas(queries, shared), apply_lambdas(queries, shared[:, None].expand_as(lambdas))
    )


def test_channel_lambda_reproduces_squeeze_and_excitation() -> None:
    """The block of Hu et al.: global average, two 1x1 convolutions, a gate on the channels."""
    images = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    gate = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1), nn.Sigmoid()
    ).double()
    weights = gate(images)
    as_lambda = apply_lambdas(images.flatten(2).unsqueeze(1), channel_lambda(weights.flatten(1)))
    assert_specified(as_lambda.squeeze(1).view_as(images), weights * images)


def test_spatial_lambdas_reproduce_spatial_attention() -> None:
    """The block of CBAM: a 7x7 convolution of the mean and the largest channel, a gate on the positions."""
    images = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    summary = torch.cat([images.mean(dim=1, keepdim=True), images.amax(dim=1, keepdim=True)], dim=1)
    weights = nn.Conv2d(2, 1, 7, padding=3).double()(summary).sigmoid()
    as_lambda = apply_lambdas(
        images.flatten(2).unsqueeze(1), spatial_lambdas(weights.flatten(1), query_depth=6)
    )
    assert_specified(as_lambda.squeeze(1).view_as(images), weights * images)
