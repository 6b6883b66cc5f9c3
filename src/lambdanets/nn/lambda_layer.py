"""`LambdaLayer1d`, `LambdaLayer2d`, `LambdaLayer3d`: the lambda layer of maps with channels first."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, bind_type, check_positive
from lambdanets.functional._keys import KeyNormalizer
from lambdanets.functional._layout import channels_are_last, to_channels_first
from lambdanets.functional.content import apply_summary, content_summary
from lambdanets.functional.lambdas import normalize_queries
from lambdanets.nn.children import (
    CONVOLUTIONS,
    Branch,
    as_one_node,
    call_child,
    can_join,
    is_symbolic,
    make_normalization,
    project_by_calls,
    project_jointly,
)
from lambdanets.nn.key_normalization import describe_key_normalization, make_key_normalization
from lambdanets.nn.position import RelativePosition, per_axis
from lambdanets.nn.replacement import check_replaceable, match_scale
from lambdanets.notation import Initialization, KeyNormalization, Normalization

_Layer = TypeVar("_Layer", bound="_LambdaLayerNd")

_POOLS: Final = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


class _LambdaLayerNd(nn.Module):
    """The three layers' common base; see `LambdaLayer2d`."""

    num_axes: ClassVar[int]
    # A `RelativePosition`, None, or what was put in its place, which is called as it is.
    position: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        query_depth: int = 16,
        num_heads: int = 4,
        intra_depth: int = 1,
        scope_size: int | Sequence[int] | None = 23,
        feature_size: int | Sequence[int] | None = None,
        content: bool = True,
        positional: bool = True,
        position: nn.Module | None = None,
        position_bias: bool = False,
        stride: int | Sequence[int] = 1,
        key_normalization: KeyNormalization | KeyNormalizer = "softmax",
        normalization: Normalization = "batch",
        initialization: Initialization = "paper",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        who = type(self).__name__
        check_projections(who, in_channels, out_channels, query_depth, num_heads, intra_depth)
        strides = per_axis(who, "stride", stride, self.num_axes)
        if not content and not positional:
            raise ArgumentError(f"{who}: content or positional must be True, got False for both.")
        if position is not None and not positional:
            raise ArgumentError(
                f"{who}: position must be None when positional is False, got a {type(position).__name__}."
            )
        if position is not None:
            check_shared_position(who, position, self.num_axes, query_depth, intra_depth)
        self.query_depth, self.num_heads, self.intra_depth = query_depth, num_heads, intra_depth
        self.value_depth = out_channels // num_heads
        self.key_normalization = make_key_normalization(who, key_normalization)
        convolution = CONVOLUTIONS[self.num_axes - 1]
        value_channels = intra_depth * self.value_depth
        self.to_queries = convolution(in_channels, num_heads * query_depth, 1, bias=False)
        self.to_keys = convolution(in_channels, intra_depth * query_depth, 1, bias=False) if content else None
        self.to_values = convolution(in_channels, value_channels, 1, bias=False)
        self.norm_queries = make_normalization(normalization, num_heads * query_depth, self.num_axes)
        self.norm_values = make_normalization(normalization, value_channels, self.num_axes)
        if positional and position is None:
            position = RelativePosition(
                self.num_axes,
                query_depth=query_depth,
                intra_depth=intra_depth,
                scope_size=scope_size,
                feature_size=feature_size,
                bias=position_bias,
                initialization=initialization,
                impl=impl,
            )
        self.position = position
        self.pool = _make_pool(strides)
        initialize_projections(self, query_depth)

    @classmethod
    def like(cls: type[_Layer], convolution: nn.Module, **options: Any) -> _Layer:
        """Make a replacement for a convolution in a network that has no norm behind it.

        Channels, stride, dtype, device and mode are the convolution's, and so is the scale of the outputs: on
        noise of unit variance whose neighbours are alike, the layer starts with the standard deviation that
        the convolution's weights give. It is measured on a map of 14×14 (of `feature_size` if given), not by
        torch's global generator; the weight of `norm_values`, or of `to_values` where that has none, has the
        factor. The scale does not follow that of the inputs: queries and values are normalised.

        Kernel size, dilation, groups, bias and padding mode mean nothing to a lambda layer and are ignored,
        but the padding must keep the size of maps, as the layer does.

        Paper: none (ours).

        Args:
            convolution: The `torch.nn.Conv2d` (`Conv1d`, `Conv3d`) whose place the layer takes. It is not
                changed.
            **options: Arguments of the layer. By default `num_heads` is 4, or 2 or 1 where 4 does not divide
                the channels, `scope_size` the paper's 23, whatever the kernel, and `initialization` `"unit"`.

        Raises:
            ArgumentError: A convolution without channels yet, or one that changes the size of maps otherwise
                than by its stride; options that are taken from the convolution.
            ArgumentTypeError: Not a convolution of as many axes, such as a transposed one.

        Example:
            >>> convolution = torch.nn.Conv2d(64, 128, 3, stride=(2, 1), padding=1)
            >>> LambdaLayer2d.like(convolution, scope_size=7)(torch.ones(2, 64, 25, 14)).shape
            torch.Size([2, 128, 13, 14])
        """
        who = f"{cls.__name__}.like"
        check_replaceable(who, convolution, CONVOLUTIONS[cls.num_axes - 1])
        assert isinstance(convolution, CONVOLUTIONS)
        for name in ("in_channels", "out_channels", "stride"):
            if name in options:
                raise ArgumentError(
                    f"{who}: {name} must be left out, got {options[name]}. It is that of the convolution, "
                    f"{getattr(convolution, name)}."
                )
        out_channels, stride = convolution.out_channels, convolution.stride
        options = {"num_heads": math.gcd(4, out_channels), "initialization": "unit", **options}
        layer = cls(convolution.in_channels, out_channels, stride=stride, **options)
        match_scale(layer, convolution, options.get("feature_size"))
        weight = convolution.weight
        return layer.to(weight.device, weight.dtype).train(convolution.training)

    def reset_parameters(self) -> None:
        """Draw the projections and the position again, and a normalisation of keys that has parameters."""
        initialize_projections(self, self.query_depth)
        for part in (self.position, self.key_normalization):
            reset = getattr(part, "reset_parameters", None)
            if reset is not None:
                reset()

    def forward(self, inputs: Float[Tensor, "b d *size"]) -> Float[Tensor, "b out *pooled"]:
        """Summarise the map into one linear map per position, and apply it to the position's queries."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        who = type(self).__name__
        bind_type(who, "inputs", inputs, {})
        if inputs.ndim != self.num_axes + 2:
            raise ArgumentError(
                f"{who}: inputs must have shape (b, d, *size) with {self.num_axes} axes, "
                f"got {tuple(inputs.shape)}."
            )
        queries, keys, values = self._project(inputs)
        position = self.position
        queries = normalize_queries(queries, self.key_normalization)
        content: tuple[Tensor, ...] = ()
        if keys is not None:  # λᶜ = Σₘ k̄ₘ vₘᵀ
            content = (content_summary(keys, values, key_normalization=self.key_normalization),)
        # Hooks of others, such as those that keep inputs, expect every one to be a tensor.
        if position is not None:  # yₙ = (λᶜ + Σₘ R[m - n] vₘᵀ)ᵀ qₙ
            b, h, _, *size = queries.shape
            wanted = (b, h, values.shape[2], *size)
            output = call_child(who, "position", wanted, position, queries, values, *content)
        else:  # yₙ = λᶜᵀ qₙ
            output = apply_summary(queries, *content)
        output = call_child(who, "pool", None, self.pool, output.flatten(1, 2))
        is_map = output.ndim == inputs.ndim
        return to_channels_first(output) if is_map and not channels_are_last(inputs, axis=1) else output

    def _project(
        self, inputs: Float[Tensor, "b d *size"]
    ) -> tuple[
        Float[Tensor, "b h k *size"], Float[Tensor, "b u k *size"] | None, Float[Tensor, "b u v *size"]
    ]:
        """Queries, keys and values: by calling the children, or the same by one matrix product."""
        k, v, u = self.query_depth, self.value_depth, self.intra_depth
        branches = {
            "queries": Branch(self.to_queries, self.norm_queries, k, self.num_heads * k),
            "values": Branch(self.to_values, self.norm_values, v, u * v),
        }
        to_keys = self.to_keys
        if to_keys is not None:
            branches["keys"] = Branch(to_keys, None, k, u * k)
        plain = list(branches.values())
        if can_join(plain, inputs, self.training):
            maps = project_jointly(plain, inputs, self.training)
        else:
            maps = project_by_calls(type(self).__name__, branches, inputs)
        queries, values, *keys = maps
        return queries, keys[0] if keys else None, values

    def extra_repr(self) -> str:
        """The depths by name."""
        return (
            f"query_depth={self.query_depth}, num_heads={self.num_heads}, "
            f"intra_depth={self.intra_depth}{describe_key_normalization(self.key_normalization)}"
        )


class LambdaLayer1d(_LambdaLayerNd):
    """The lambda layer of sequences with channels first, "b d n"; otherwise as `LambdaLayer2d`.

    Paper: §3.

    Example:
        >>> LambdaLayer1d(64)(torch.ones(2, 64, 100)).shape
        torch.Size([2, 64, 100])
    """

    num_axes = 1


class LambdaLayer2d(_LambdaLayerNd):
    """Long-range interactions without attention, where a 3×3 convolution stood: maps "b d height width".

    λₙ = Σₘ (k̄ₘ + R[m - n]) vₘᵀ and yₙ = λₙᵀ qₙ: the context becomes one linear map per position, which
    is applied to the position's h queries; outputs are concatenated head by head. In the paper's letters,
    `query_depth` is k, `num_heads` h, `intra_depth` u, `scope_size` r, and v = out_channels / h. Time
    b·n·r²·u·k·v (convolution) or b·n²·u·h·(k + v) (dense), or less on large maps (fourier). The position
    lambdas are made in a fixed workspace and not kept; in eval mode the norms are part of the projections.

    The paper has a batch norm behind the layer. Its initialisation gives outputs a standard deviation up to
    √(k·u·|scope|), 72 on a map of 28×28, where a convolution gives 0.6. Without a norm behind it make the
    layer by `LambdaLayer2d.like(convolution)`, or take `initialization="unit"`, which gives about 1.

    Paper: §3, Figure 3; §B.4 (intra-depth); Tables 9, 10 and 11.

    Args:
        in_channels: d of the inputs.
        out_channels: d of the outputs; a multiple of `num_heads`. As `in_channels` by default.
        query_depth: k.
        num_heads: h, queries per position; the lambda is the same for all.
        intra_depth: u.
        scope_size: Side of the local window of the position lambdas, or one for each axis; odd. None is
            the global context. The content lambda is always global.
        feature_size: Map a global context is sized for; others work too (`RelativePosition`).
        content: Use the content lambda.
        positional: Use the position lambdas.
        position: A position module to share, instead of an own one: a `RelativePosition`, or any that
            is called as it is.
        position_bias: Only for other projects' checkpoints, see `RelativePosition`.
        stride: 2 adds the paper's 3×3 average pool after the layer (padding 1, not counted in the mean). Any
            other number, or one for each axis, adds a pool over the 2·⌊stride / 2⌋ + 1 positions around each
            that stays: maps have the sides ⌈size / stride⌉, as behind a convolution.
        key_normalization: `"softmax"`, `"softmax_keys_and_queries"`, `"l2"`, `"none"`, or a callable that
            takes keys "b u k m", in float32 at least, and `dim=-1`, the whole context, and gives keys of that
            shape, as `torch.softmax` does. A module is a child of the layer, with its parameters; a class, a
            partial of one or a function without arguments makes one for each layer. Autograd differentiates
            what it does.
        normalization: Of queries and values: `"batch"`, `"layer"` or `"none"`.
        initialization: `"paper"`, or `"unit"` for position outputs that start with the scale of the values.
        impl: Implementation of `position_output`.

    Raises:
        ArgumentError: Sizes that do not fit together; unknown choices; inputs of another shape.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> layer = LambdaLayer2d(64, 128, stride=2)
        >>> layer(torch.ones(2, 64, 25, 14)).shape
        torch.Size([2, 128, 13, 7])
    """

    num_axes = 2


class LambdaLayer3d(_LambdaLayerNd):
    """The lambda layer of volumes and videos, "b d depth height width"; otherwise as `LambdaLayer2d`.

    Paper: §3.

    Example:
        >>> LambdaLayer3d(64, scope_size=(3, 7, 7))(torch.ones(1, 64, 4, 6, 5)).shape
        torch.Size([1, 64, 4, 6, 5])
    """

    num_axes = 3


def _make_pool(strides: tuple[int, ...]) -> nn.Module:
    """The mean around each position that stays; maps have the sides of a strided convolution's.

    Paper: Appendix C.1 (stride 2).
    """
    if set(strides) == {1}:
        return nn.Identity()
    sides, padding = tuple(2 * (one // 2) + 1 for one in strides), tuple(one // 2 for one in strides)
    pool: Any = _POOLS[len(strides) - 1]
    return pool(sides, strides, padding, count_include_pad=False)


def check_projections(who: str, d: int, out_channels: int, k: int, h: int, u: int) -> None:
    """Raise unless the depths are positive and every head gets a whole number of channels.

    Paper: §3.3.
    """
    check_positive(who, in_channels=d, out_channels=out_channels, query_depth=k, num_heads=h, intra_depth=u)
    if out_channels % h:
        raise ArgumentError(
            f"{who}: out_channels must be divisible by num_heads, got {out_channels} and {h}. "
            "Each head reads a value of depth out_channels / num_heads."
        )


def check_shared_position(who: str, position: nn.Module, num_axes: int, k: int, u: int) -> None:
    """Raise unless a position module handed in fits the layer that is to use it, as far as it says.

    Paper: Table 4 (shared embeddings).
    """
    if not isinstance(position, RelativePosition):
        return
    got_u, got_k, *scope = position.table.shape
    if (got_u, got_k, len(scope)) != (u, k, num_axes):
        raise ArgumentError(
            f"{who}: position must have a table (u, k, *scope) with u={u}, k={k} and {num_axes} axes, "
            f"got {tuple(position.table.shape)}."
        )


def initialize_projections(layer: nn.Module, query_depth: int) -> None:
    """Draw W_Q from N(0, (k·d)^-1/2) and W_K, W_V from N(0, d^-1/2), the second number the std.

    The factor k^-1/2 stands where attention scales its logits.

    Paper: §3.1 (initialisation).
    """
    for name, depth in (("to_queries", query_depth), ("to_keys", 1), ("to_values", 1)):
        # What replaces a projection draws itself.
        weight = getattr(getattr(layer, name), "weight", None)
        if isinstance(weight, Tensor):
            nn.init.normal_(weight, std=(depth * weight.shape[1]) ** -0.5)
