"""`LambdaLayer` against the layer of maps, the dense form, masks and its own causal steps."""

import pytest
import torch

from lambdanets.nn import DensePosition, LambdaLayer, LambdaLayer1d, RelativePosition
from support.compare import assert_close, assert_equal


def test_tokens_equal_the_layer_of_maps_with_the_same_weights() -> None:
    tokens = LambdaLayer(12, 8, scope_size=5, intra_depth=2).double()
    maps = LambdaLayer1d(12, 8, scope_size=5, intra_depth=2).double()
    weights = tokens.state_dict()
    for name in ("to_queries", "to_keys", "to_values"):
        weights[f"{name}.weight"] = weights[f"{name}.weight"].unsqueeze(-1)
    maps.load_state_dict(weights)
    inputs = torch.randn(2, 9, 12, dtype=torch.float64)
    assert_close(tokens(inputs), maps(inputs.mT).mT)


@pytest.mark.parametrize("position", ["relative", "dense", "none"])
@pytest.mark.parametrize("kind", ["softmax", "softmax_keys_and_queries", "l2", "none"])
def test_own_context_handed_in_changes_nothing(position: str, kind: str) -> None:
    layer = LambdaLayer(8, position=position, feature_size=6, scope_size=5, key_normalization=kind).double()
    inputs = torch.randn(2, 6, 8, dtype=torch.float64)
    assert_close(layer(inputs, context=inputs), layer(inputs))
    visible = torch.ones(6, 6, dtype=torch.bool)
    assert_close(layer(inputs, mask=visible), layer(inputs))
    assert_close(layer(inputs, mask=visible.expand(2, 6, 6)), layer(inputs))


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("scope_size", [5, None])
def test_hidden_elements_of_a_separate_context_do_not_count(content: bool, scope_size: int | None) -> None:
    layer = LambdaLayer(
        8,
        context_channels=5,
        scope_size=scope_size,
        feature_size=(6, 9),
        content=content,
        normalization="none",
    ).double()
    inputs = torch.randn(2, 6, 8, dtype=torch.float64)
    context = torch.randn(2, 9, 5, dtype=torch.float64)
    mask = torch.arange(9).expand(6, 9) < 7
    assert_close(layer(inputs, context, mask), layer(inputs, context[:, :7]))


def test_padding_mask_for_each_item() -> None:
    layer = LambdaLayer(8, scope_size=5, normalization="layer").double()
    inputs = torch.randn(2, 9, 8, dtype=torch.float64)
    lengths = torch.tensor([9, 4])
    mask = (torch.arange(9) < lengths[:, None])[:, None, :].expand(2, 9, 9)
    output = layer(inputs, mask=mask)
    assert_close(output[0], layer(inputs[:1])[0])
    assert_close(output[1, :4], layer(inputs[1:, :4])[0])


@pytest.mark.parametrize("kind", ["softmax", "softmax_keys_and_queries", "l2", "none"])
@pytest.mark.parametrize("position", ["relative", "none"])
def test_causal_layer_is_a_triangular_mask_and_runs_step_by_step(kind: str, position: str) -> None:
    options = {"scope_size": 5, "normalization": "layer", "key_normalization": kind, "position": position}
    causal = LambdaLayer(8, causal=True, **options).double()
    plain = LambdaLayer(8, **options).double()
    plain.load_state_dict(causal.state_dict())
    inputs = torch.randn(2, 40, 8, dtype=torch.float64)
    expected = plain(inputs, mask=torch.ones(40, 40, dtype=torch.bool).tril())
    assert_close(causal(inputs), expected)
    state, outputs = None, []
    for tokens in inputs.split([1, 1, 5, 33], dim=1):
        output, state = causal.step(tokens, state)
        outputs.append(output)
    assert_close(torch.cat(outputs, dim=1), expected)


@pytest.mark.parametrize("position", ["relative", "dense"])
def test_causal_layer_leaks_nothing(position: str) -> None:
    layer = LambdaLayer(8, causal=True, normalization="layer", position=position, feature_size=12)
    inputs = torch.randn(1, 12, 8)
    changed = inputs.clone()
    changed[:, 7:] = 100 * torch.randn(1, 5, 8)
    assert_equal(layer(changed)[:, :7], layer(inputs)[:, :7])


def test_causal_layer_with_a_padding_mask() -> None:
    layer = LambdaLayer(8, causal=True, normalization="layer", scope_size=5).double()
    inputs = torch.randn(1, 9, 8, dtype=torch.float64)
    mask = (torch.arange(9) >= 3).expand(9, 9)
    output = layer(inputs, mask=mask)
    assert_equal(output[:, :3], torch.zeros_like(output[:, :3]))
    assert_close(output[:, 3:], layer(inputs[:, 3:]))


def test_dense_positions_read_their_own_pairs() -> None:
    layer = LambdaLayer(
        8, position="dense", feature_size=(4, 6), content=False, normalization="none"
    ).double()
    inputs = torch.randn(1, 4, 8, dtype=torch.float64)
    context = torch.randn(1, 6, 8, dtype=torch.float64)
    queries = layer.to_queries(inputs).view(4, 4, 16)
    lambdas = torch.einsum("nmk,mv->nkv", layer.position.table[:, :, 0], layer.to_values(context)[0])
    expected = torch.einsum("nhk,nkv->nhv", queries, lambdas).flatten(1)
    assert_close(layer(inputs, context)[0], expected)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LambdaLayer(8, causal=True), "normalization must not look across time when causal is True"),
        (
            lambda: LambdaLayer(8, position="none", content=False),
            "content must be True when position is 'none'",
        ),
        (lambda: LambdaLayer(8, position="absolute"), "position must be one of 'relative', 'dense', 'none'"),
        (lambda: LambdaLayer(8, position="dense"), "feature_size must be given when position is 'dense'"),
        (
            lambda: LambdaLayer(8, position=RelativePosition(1, bias=True)),
            "position must have no bias, got one with bias=True",
        ),
        (
            lambda: LambdaLayer(8, position=DensePosition(3, 4, query_depth=5)),
            r"position must have embeddings \(n, m, u, k\) with u=1, k=16",
        ),
        (
            lambda: LambdaLayer(8, position="dense", feature_size=5)(torch.ones(1, 6, 8)),
            "inputs and context must have the lengths n=5 and m=5",
        ),
        (
            lambda: LambdaLayer(8, causal=True, normalization="layer")(
                torch.ones(1, 6, 8), torch.ones(1, 6, 8)
            ),
            "context must be None when causal is True",
        ),
        (lambda: LambdaLayer(8).step(torch.ones(1, 1, 8)), "step must be called on a causal layer"),
        (
            lambda: LambdaLayer(8, causal=True, normalization="layer", scope_size=None, feature_size=9).step(
                torch.ones(1, 1, 8)
            ),
            "step needs a local scope",
        ),
        (
            lambda: LambdaLayer(8)(torch.ones(1, 6, 7)),
            r"inputs must have shape \(b, n, d\) with d=8 taken from in_channels, got \(1, 6, 7\)",
        ),
        (
            lambda: LambdaLayer(8, context_channels=5)(torch.ones(1, 6, 8)),
            r"context must have shape \(b, m, c\) with b=1 taken from inputs, c=5 taken from context_ch",
        ),
        (
            lambda: LambdaLayer(8, scope_size=3)(torch.ones(1, 6, 8), mask=torch.ones(1, 6).bool()),
            r"mask must have shape \(n, m\) with n=6 taken from inputs, m=6 taken from context, got \(1, 6\)",
        ),
        (
            lambda: LambdaLayer(8, scope_size=3)(torch.ones(1, 6, 8), mask=torch.ones(2, 6, 6).bool()),
            r"mask must have shape \(b, n, m\) with b=1, n=6 taken from inputs, m=6 taken from context, got",
        ),
        (
            lambda: LambdaLayer(8, context_channels=5)(torch.ones(1, 6, 8), torch.ones(1, 6, 7)),
            r"context must have shape \(b, m, c\) with b=1 taken from inputs, c=5 taken from context_ch",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
