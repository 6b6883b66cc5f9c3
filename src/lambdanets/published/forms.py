"""Definitions and closed forms as the paper prints them: Tables 1, 2, 6 and 7."""

from typing import Final

from lambdanets.published.rows import Row


def _definition(label: str, definition: str) -> Row:
    return Row(table=1, label=label, values={"definition": definition})


TABLE_1: Final = (
    _definition("query and value depth", "|k|, |v|"),
    _definition("inputs and context", "X (n × d), C (m × d)"),
    _definition("queries", "Q = X W_Q (n × k)"),
    _definition("keys", "K = C W_K (m × k)"),
    _definition("values", "V = C W_V (m × v)"),
    _definition("normalised keys", "σ(K) = softmax(K) over m"),
    _definition("relative position embeddings", "e_nm, E_n (m × k)"),
    _definition("content lambda", "λᶜ = σ(K)ᵀ V (k × v)"),
    _definition("position lambdas", "λᵖₙ = E_nᵀ V (k × v)"),
    _definition("lambdas", "λₙ = λᶜ + λᵖₙ (k × v)"),
)


def _growth(table: int, label: str, time: str, space: str, note: str = "") -> Row:
    return Row(table=table, label=label, values={"time": time, "space": space}, notes={"space": note})


# In the order and the notation of `analysis.complexity`; the paper writes |n| for n.
TABLE_2: Final = (
    _growth(2, "self-attention", "Θ(b n m (h k + d))", "Θ(b h n m)"),
    _growth(2, "linear attention", "Θ(b n k d)", "Θ(b k d)"),
    _growth(2, "lambda layer", "Θ(b n m k d / h)", "Θ(k n m + b n k d / h)"),
)

_SWAPPED: Final = "printed with the other row's h: embeddings of every head are what the multi-head layer has"

TABLE_6: Final = (
    _growth(6, "multi-head lambda layer", "Θ(b n m k d)", "Θ(k n m + b n k d)", _SWAPPED),
    _growth(6, "multi-query lambda layer", "Θ(b n m k d / h)", "Θ(h k n m + b n k d / h)", _SWAPPED),
)

TABLE_7: Final = (
    _growth(7, "lambda layer", "Θ(b n m k d / h)", "Θ(k n m + b n k d / h)"),
    _growth(7, "lambda layer with intra-depth", "Θ(b n m k u d / h)", "Θ(k n m u + b n k d / h)"),
)
