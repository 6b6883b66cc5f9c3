"""Closed forms against what is counted: multiply-adds by torch, bytes that autograd keeps, our layers."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lambdanets.analysis.complexity import (
    TABLE_2,
    TABLE_4,
    TABLE_6,
    TABLE_7,
    Complexity,
    Form,
    paper_gibibytes,
)
from lambdanets.analysis.counting import count_layers, layer_flops
from lambdanets.analysis.memory import saved_bytes
from lambdanets.nn import LambdaLayer2d
from support import plain_layers as plain

# What §3.1 and §3.2 say and no table prints; the first for h = 1, the second with r² offsets.
SECTION_3 = (
    Complexity(
        layer="lambda layer, one query",
        time=Form("b n m k v"),
        space=Form("k n m + b n k v"),
        time_left_out=Form("b m k v + b n k v"),
        space_left_out=Form("b m k"),
    ),
    Complexity(
        layer="lambda convolution",
        time=Form("b n r² k d / h"),
        space=Form("k r² + b n k d / h"),
        time_left_out=Form("b n k d / h + b n k d"),
        space_left_out=Form("b n k"),
    ),
)
ROWS = (*TABLE_2, *SECTION_3, *TABLE_4, *TABLE_6, *TABLE_7)

PLAIN = {
    "self-attention": plain.SelfAttention,
    "linear attention": plain.LinearAttention,
    "lambda layer": plain.Lambda,
    "lambda layer, one query": plain.Lambda,
    "lambda convolution": plain.LambdaConvolution,
    "global self-attention": plain.SelfAttention,
    "axial attention": plain.AxialAttention,
    "local attention, 7×7": plain.LocalAttention,
    "lambda layer, k = 8": plain.Lambda,
    "lambda layer, shared embeddings": plain.SharedLambda,
    "lambda convolution, 7×7": plain.LocalLambda,
    "multi-head lambda layer": plain.MultiHeadLambda,
    "multi-query lambda layer": plain.Lambda,
    "lambda layer with intra-depth": plain.Lambda,
}
# n is a square of an even side, for rows and columns and for windows.
BASE = {"b": 2, "n": 16, "m": 9, "h": 2, "k": 3, "d": 8, "u": 2, "r": 3, "l": 2}
GROWN = {**dict.fromkeys("bhkdul", 2), "n": 4, "m": 9, "r": 3}

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.layer.replace(" ", "_"))


def settled(row: Complexity, sizes: dict[str, int]) -> dict[str, int]:
    """The letters of a row and those that a layer is never without."""
    letters = {*row.time.letters, *row.space.letters, *"bnhkd"} & sizes.keys()
    chosen = {letter: sizes[letter] for letter in letters} | dict(row.sizes)
    if "v" in row.time.letters:
        return chosen | {"h": 1, "v": chosen["d"]}
    return chosen


def counted(row: Complexity, sizes: dict[str, int]) -> tuple[int, int]:
    """Multiply-adds and numbers kept of the plain layer."""
    layer = PLAIN[row.layer](**sizes)
    nothing = torch.empty(0, device="meta")
    with FlopCounterMode(display=False) as counter:
        layer(nothing)
    return counter.get_total_flops() // 2, saved_bytes(layer, nothing) // 4


def variations(row: Complexity) -> list[dict[str, int]]:
    """The base, and one letter larger at a time."""
    letters = settled(row, BASE).keys() - row.sizes.keys() - {"v"}
    grown = [settled(row, BASE | {letter: BASE[letter] * GROWN[letter]}) for letter in sorted(letters)]
    return [settled(row, BASE), *grown]


@each_row
def test_a_plain_computation_counts_what_the_row_says(row: Complexity) -> None:
    """Whichever letter grows: what is counted, less what the row leaves out, grows as its form."""
    for sizes in variations(row):
        assert counted(row, sizes) == (row.multiply_adds(**sizes), row.numbers_kept(**sizes)), sizes


@each_row
def test_multiply_adds_that_are_left_out_grow_no_faster_with_the_map(row: Complexity) -> None:
    small = {**BASE, **row.sizes, "v": 8}
    large = small | {"n": 64 * small["n"]} | ({} if "m" in row.sizes else {"m": 64 * small["m"]})
    rest = 0 if row.time_left_out is None else row.time_left_out.at(**large) / row.time_left_out.at(**small)
    assert rest <= row.time.at(**large) / row.time.at(**small)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (TABLE_2[2], {"scope_size": None, "feature_size": (4, 9)}),
        (SECTION_3[1], {"scope_size": 3}),
        (TABLE_7[1], {"scope_size": None, "feature_size": (4, 9), "intra_depth": 4}),
        (TABLE_6[1], {"scope_size": None, "feature_size": (4, 9)}),
    ],
    ids=lambda value: getattr(value, "layer", ""),
)
def test_our_layers_count_the_same_beside_their_projections(row: Complexity, options) -> None:
    layer = LambdaLayer2d(24, query_depth=5, num_heads=3, **options)
    (whole,) = count_layers(layer, (24, 4, 9))
    projections = sum(
        layer_flops(one, [(24, 4, 9)], (one.out_channels, 4, 9))
        for one in (layer.to_queries, layer.to_keys, layer.to_values)
    )
    sizes = {"b": 1, "n": 36, "m": 36, "k": 5, "h": 3, "d": 24, "r": 3, "u": layer.intra_depth}
    assert whole.flops - projections == 2 * row.multiply_adds(**sizes)


@pytest.mark.parametrize(
    ("layer", "gibibytes"),
    [
        ("axial attention", 4.82),
        ("lambda layer", 1.92),
        ("lambda layer, k = 8", 0.96),
        ("global self-attention", 122.83),
    ],
)
def test_memory_of_table_4_by_the_papers_rule(layer: str, gibibytes: float) -> None:
    (row,) = (row for row in TABLE_4 if row.layer == layer)
    assert round(paper_gibibytes(row), 2) == gibibytes


def test_memory_of_shared_embeddings_by_the_papers_rule() -> None:
    (row,) = (row for row in TABLE_4 if "shared" in row.layer)
    assert round(paper_gibibytes(row), 3) == 0.625
    # One tensor for each stage, by hand.
    assert paper_gibibytes(row) * 2**30 == 4 * 16 * sum(side**4 for side in (56, 28, 14, 7))


def test_memory_of_lambda_resnet_420_in_the_papers_text() -> None:
    """Eight lambda layers at 20×20 in bfloat16, 32 images: 0.625 GB of maps, 4.8 MB of embeddings a layer."""
    rows = {row.layer: row for row in TABLE_4}
    sizes = {"b": 32, "h": 8, "k": 16, "n": 400, "l": 8}
    assert 2 * rows["global self-attention"].space.at(**sizes) / 2**20 == 625
    shared = 2 * rows["lambda layer, shared embeddings"].space.at(**sizes) / 2**20
    assert math.floor(10 * shared) / 10 == 4.8
    assert round(8 * math.floor(10 * shared) / 10, 1) == 38.4


def test_measured_bytes_of_all_stages_are_those_of_the_rule() -> None:
    """Global attention of a whole ResNet-50, at one image: nothing but its maps is kept."""
    stages = zip((56, 28, 14, 7), (3, 4, 6, 3), strict=True)
    kept = sum(
        counted(TABLE_4[0], {"b": 1, "h": 8, "k": 16, "d": 64, "n": side**2, "l": layers})[1]
        for side, layers in stages
    )
    assert 4 * kept / 2**30 == paper_gibibytes(TABLE_4[0], b=1)


def test_multi_query_is_h_times_cheaper_than_multi_head() -> None:
    """What the printed Table 6 would contradict: the embeddings of one head against those of h."""
    multi_head, multi_query = TABLE_6
    sizes = BASE | {"h": 4}
    assert multi_head.time.at(**sizes) == 4 * multi_query.time.at(**sizes)
    assert multi_head.space.at(**sizes) == 4 * multi_query.space.at(**sizes)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("b n m (h k + d)", 2 * 9 * 5 * (3 * 4 + 12)),
        ("b n √n", 2 * 9 * 3),
        ("k n² + d / h", 4 * 81 + 4),
        ("(b + h) (b + d) / k", 5 * 14 / 4),
        ("b / (n + m)", 2 / 14),
        ("m √m", 5 * 5**0.5),
    ],
)
def test_forms_are_read_as_they_are_written(text: str, value: float) -> None:
    form = Form(text)
    assert form.at(b=2, n=9, m=5, h=3, k=4, d=12) == pytest.approx(value, rel=1e-15)
    assert str(form) == f"Θ({text})"


def test_whole_numbers_stay_exact() -> None:
    large = Form("b n² √n / h").at(b=3, n=10**14, h=3)
    assert large == 10**35
    assert isinstance(large, int)


@pytest.mark.parametrize("text", ["", "b +", "b (n", "b n)", "3 n", "(b 3) n", "b / ", "b - n"])
def test_text_that_is_no_form_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"Form: text must be a sum of products of letters, got '"):
        Form(text)


def test_a_letter_without_a_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"Form\.at: sizes must have k, n for Θ\(b n k\), got none\."):
        Form("b n k").at(b=1, m=3)
