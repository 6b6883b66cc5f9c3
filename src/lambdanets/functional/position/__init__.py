"""`position_output`: the position lambdas applied to the queries, without being kept."""

from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_shape, check_positive
from lambdanets.functional._dispatch import default_workspace
from lambdanets.functional.position.operator import position_operator
from lambdanets.functional.relative_position import check_scope, crop_table


def position_output(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    *,
    shared: Float[Tensor, "b k v"] | None = None,
    impl: str = "auto",
    workspace: int | None = None,
) -> Float[Tensor, "b h v *size"]:
    """Apply each position's own lambda, made from where the elements of its context stand.

    λᵖₙ = Σₘ R[m - n] vₘᵀ, summed over the intra-depth, and yₙ = λᵖₙᵀ qₙ. One, two or three axes.
    The index of an offset is offset + scope // 2 (a cross-correlation); elements outside the map
    count as zero. A scope larger than the map costs only the offsets that can occur. For backward the
    inputs are kept and nothing else.

    Paper: §3.1, §3.2 (lambda convolution), §B.4; Table 9 (position only).

    Args:
        queries: h queries for each position.
        values: u value vectors for each position.
        table: One embedding for each relative offset; every side odd.
        shared: A lambda of each image that all its positions share, such as the content's, to be added to
            each position's own: yₙ = (λᵖₙ + λ)ᵀ qₙ, with one pass over the output.
        impl: `"auto"`, `"reference"`, `"convolution"`, `"dense"`, `"mixed"`, `"lambda_first"` or `"triton"`.
            All are exact and differ by rounding. The output and the gradients may take different ones under
            `"auto"`.
        workspace: Bytes of scratch memory to work in, whatever the batch and the map; 16 MiB on a CPU and
            64 MiB on a GPU by default. One image, or one row of it, is the least that is worked on.

    Raises:
        ArgumentError: Shapes that do not fit, an even scope, an unknown implementation.
        NotImplementedError: The implementation asked for cannot run this call; the message says why.

    Example:
        >>> queries, values = torch.ones(2, 4, 16, 7, 5), torch.ones(2, 1, 8, 7, 5)
        >>> y = position_output(queries, values, torch.ones(1, 16, 3, 3))
        >>> y.shape, y[0, 0, 0, 3, 2].item()
        (torch.Size([2, 4, 8, 7, 5]), 144.0)
    """
    _check(queries, values, table, shared)
    if workspace is None:
        workspace = default_workspace(queries.device.type)
    check_positive("position_output", workspace=workspace)
    reachable = crop_table(table, tuple(2 * length - 1 for length in queries.shape[3:]))
    return position_operator(queries, values, reachable, shared, impl, workspace)


def _check(queries: Tensor, values: Tensor, table: Tensor, shared: Tensor | None) -> None:
    who = "position_output"
    sizes: Sizes = {}
    bind_shape(who, "queries", queries, "b h k *size", sizes)
    bind_shape(who, "values", values, "b u v *size", sizes)
    bind_shape(who, "table", table, "u k *scope", sizes)
    if shared is not None:
        bind_shape(who, "shared", shared, "b k v", sizes)
    axes = queries.ndim - 3
    check_scope(who, tuple(table.shape[2:]), axes)
    if axes > 3:
        raise ArgumentError(f"{who}: queries must have 1, 2 or 3 axes of positions, got {axes}.")
