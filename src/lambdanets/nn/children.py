"""Projections and norms of a layer: made, called, or read and joined where nothing would notice.

A lambda layer may read the tensors of its children instead of calling them, since one matrix product is
faster than three and a folded norm costs nothing. `can_join` alone decides where: only where every child is
exactly the plain module, in its plain state, with nothing attached to it.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeGuard, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from lambdanets.errors import ArgumentError, bind_type, check_choice, first_line, may_be_mixed
from lambdanets.functional._layout import is_traced, project_rows
from lambdanets.notation import Normalization

_NORMALIZATIONS: Final[tuple[Normalization, ...]] = get_args(Normalization)

CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position, for maps with channels before space.

    It looks at one position at a time, so it suits causal layers.

    Paper: none (ours).

    Raises:
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.
    """

    def forward(self, input: Float[Tensor, "b d *size"]) -> Float[Tensor, "b d *size"]:
        """Normalise each position's channels to mean 0 and variance 1, then scale and shift them."""
        bind_inputs(type(self).__name__, "input", input, self.weight)
        rows = input.movedim(1, -1)
        if self.weight is None or self.weight.dtype == input.dtype:
            return super().forward(rows).movedim(-1, 1)
        # Under autocast: torch takes float32 weights with maps of any type, and no others.
        weight, bias = (None if one is None else one.float() for one in (self.weight, self.bias))
        normalize = torch.nn.functional.layer_norm
        return normalize(rows, self.normalized_shape, weight, bias, self.eps).movedim(-1, 1)


def make_normalization(normalization: Normalization, channels: int, num_axes: int) -> nn.Module:
    """A module for maps "b channels *size" with `num_axes` axes.

    Paper: §3.1 (batch normalisation of queries and values); Table 11 (none).

    Args:
        normalization: `"batch"` (the paper's), `"layer"` (over the channels of a position) or `"none"`.
        channels: Channels of the map.
        num_axes: 1, 2 or 3.
    """
    check_choice("make_normalization", "normalization", normalization, _NORMALIZATIONS)
    if normalization == "batch":
        return _BATCH_NORMS[num_axes - 1](channels)
    return ChannelLayerNorm(channels) if normalization == "layer" else nn.Identity()


# What a call runs, as torch has it. Where anything else stands in its place, children are called.
_MODULE_CALLS: Final = (nn.Module.__call__, nn.Module._call_impl)
_CLASS_CALLS: Final[dict[type[nn.Module], tuple[Any, ...]]] = {
    kind: (kind.__call__, kind.forward, getattr(kind, "_conv_forward", None))
    for kind in (*CONVOLUTIONS, nn.Linear, *_BATCH_NORMS, nn.SyncBatchNorm, ChannelLayerNorm, nn.Identity)
}
# Attributes of a module that a call would take instead of its class's, or of its parameters.
_SHADOWING: Final = frozenset(
    {
        *("forward", "_conv_forward", "_check_input_dim", "_call_impl"),
        *("_compiled_call_impl", "weight", "bias", "running_mean", "running_var"),
    }
)


class Branch(NamedTuple):
    """A projection and the norm behind it, if there is one.

    Attributes:
        projection: From the inputs to one vector for each part, such as a head.
        norm: Of the projected map.
        depth: Channels of one part.
        channels: Channels of all.
    """

    projection: nn.Module
    norm: nn.Module | None
    depth: int
    channels: int


def can_join(branches: Sequence[Branch], inputs: Float[Tensor, "b d *size"], training: bool) -> bool:
    """Whether the projections may be read as one, and the norms applied to rows or folded.

    Everything that acts when a child is called stands in the way: hooks of the child or of all modules, a
    parametrisation or pruning, a wrapper, an adapter, a replaced `forward`, a bias, a tensor of a kind of its
    own, a tracer that records calls. So does a norm that is in another mode than the layer, or has no scale
    or no running statistics.
    """
    if is_traced() or _has_any_global_hook() or not _is_plain_tensor(inputs):
        return False
    if (nn.Module.__call__, nn.Module._call_impl) != _MODULE_CALLS:
        return False
    # Autocast is asked for where it can matter: each question costs as much as a small child's.
    if inputs.dtype != torch.float32 and _is_cast(inputs):
        return False
    num_axes = inputs.ndim - 2
    for projection, norm, _, channels in branches:
        if not _is_plain_projection(projection, channels, inputs, num_axes):
            return False
        if norm is not None and not _is_plain_norm(norm, channels, inputs, training):
            return False
    return True


def _is_cast(inputs: Tensor) -> bool:
    """Whether autocast would make another type of the inputs."""
    device = inputs.device.type
    is_on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return is_on and inputs.dtype != torch.get_autocast_dtype(device)


def _is_plain_projection(module: Any, channels: int, inputs: Tensor, num_axes: int) -> bool:
    """Whether it is an untouched 1×1 convolution without a bias, from the inputs to the channels."""
    if type(module) is not CONVOLUTIONS[num_axes - 1] or not _is_untouched(module):
        return False
    parameters, ones = module._parameters, (1,) * num_axes
    weight = parameters.get("weight")
    return (
        _is_plain_tensor(weight)
        and parameters.get("bias") is None
        and weight.shape == (channels, inputs.shape[1], *ones)
        and module.groups == 1
        and module.stride == ones
        and module.padding in ((0,) * num_axes, "valid")
        # Mixed types are the child's to refuse.
        and (weight.dtype == inputs.dtype or may_be_mixed(inputs, weight.dtype))
    )


def _is_plain_norm(module: nn.Module, channels: int, inputs: Tensor, training: bool) -> bool:
    """Whether it is untouched, and a norm that looks at the channels of rows as it does at those of maps."""
    kind = type(module)
    if kind is nn.Identity:
        return _is_untouched(module)
    if kind is ChannelLayerNorm:
        return _is_untouched(module) and module.normalized_shape == (channels,)
    if kind is not _BATCH_NORMS[inputs.ndim - 3] and kind is not nn.SyncBatchNorm:
        return False
    parameters, buffers = module._parameters, module._buffers
    scale = parameters.get("weight")
    return (
        module.training == training
        and _is_untouched(module)
        and _is_plain_tensor(scale)
        and _is_plain_tensor(parameters.get("bias"))
        and _is_plain_tensor(buffers.get("running_mean"))
        and _is_plain_tensor(buffers.get("running_var"))
        and scale.shape == (channels,)
        and (scale.dtype == inputs.dtype or may_be_mixed(inputs, scale.dtype))
    )


def _is_plain_tensor(tensor: Tensor | None) -> TypeGuard[Tensor]:
    """Whether it is a tensor of no special kind: those of compilers stand for such a one."""
    return type(tensor) in (nn.Parameter, Tensor) or (
        torch.compiler.is_compiling() and tensor is not None and not is_traceable_wrapper_subclass(tensor)
    )


def _is_untouched(module: nn.Module) -> bool:
    """Whether a call of the module runs the `forward` of its class, and nothing beside it."""
    kind = type(module)
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._modules
        or (kind.__call__, kind.forward, getattr(kind, "_conv_forward", None)) != _CLASS_CALLS[kind]
        or (not _SHADOWING.isdisjoint(module.__dict__) and _is_shadowed(module))
    )


def _is_shadowed(module: nn.Module) -> bool:
    """Whether an attribute is another one than the class's own, which tools leave there when they go."""
    kind, own = type(module), module.__dict__
    return any(
        getattr(own[name], "__self__", None) is not module
        or getattr(own[name], "__func__", None) is not getattr(kind, name, None)
        for name in _SHADOWING & own.keys()
    )


def project_jointly(
    branches: Sequence[Branch], inputs: Float[Tensor, "b d *size"], training: bool
) -> list[Float[Tensor, "b _ _ *size"]]:
    """All branches as one matrix product with channels last; in eval mode norms are folded into it."""
    # Not by `get_parameter`, which refuses the plain tensors that `torch.func.functional_call` puts there.
    weights = [cast(Tensor, branch.projection._parameters["weight"]).flatten(1) for branch in branches]
    bias = None
    if not training:
        folded = [_fold_batch_norm(weight, one.norm) for weight, one in zip(weights, branches, strict=True)]
        weights, bias = [weight for weight, _ in folded], torch.cat([shift for _, shift in folded])
    rows = project_rows(inputs, torch.cat(weights), bias)
    maps = []
    b, _, *size = inputs.shape
    parts = rows.split([branch.channels for branch in branches], dim=-1)
    for part, (_, norm, depth, channels) in zip(parts, branches, strict=True):
        if training or not isinstance(norm, BatchNorm):
            part = _normalize_rows(part, norm)
        by_position = part.view(b, *size, channels // depth, depth)
        maps.append(by_position.movedim((-2, -1), (1, 2)))
    return maps


def project_by_calls(
    who: str, branches: dict[str, Branch], inputs: Float[Tensor, "b d *size"]
) -> list[Float[Tensor, "b _ _ *size"]]:
    """The same by calling the children, with the maps they would see in a plain network."""
    maps = {}
    # In the order of the formula, which is that of random draws in them.
    for name in sorted(branches, key=["queries", "keys", "values"].index):
        projection, norm, depth, channels = branches[name]
        bind_inputs(who, "inputs", inputs, plain_weight(projection))
        wanted = (inputs.shape[0], channels, *inputs.shape[2:])
        try:
            projected = call_child(who, f"to_{name}", wanted, projection, inputs)
        except ArgumentError:
            _check_channels(who, branches, inputs)
            raise
        if norm is not None:
            projected = call_child(who, f"norm_{name}", wanted, norm, projected)
        maps[name] = projected.unflatten(1, (-1, depth))
    return [maps[name] for name in branches]


def _check_channels(who: str, branches: dict[str, Branch], inputs: Float[Tensor, "b d *size"]) -> None:
    """Raise if a projection failed because of the layer's inputs."""
    d = taken_channels(*(branch.projection for branch in branches.values()))
    if d is not None and not is_traced() and inputs.shape[1] != d:
        raise ArgumentError(
            f"{who}: inputs must have shape (b, d, *size) with d={d}, got {tuple(inputs.shape)}."
        )


def _fold_batch_norm(
    weight: Float[Tensor, "out d"], norm: nn.Module | None
) -> tuple[Float[Tensor, "out d"], Float[Tensor, " out"]]:
    """The weights and biases of a projection followed by a batch norm with its running statistics.

    Computed in float32 at least. Other norms, which look at their input, change nothing here.
    """
    if not isinstance(norm, BatchNorm):
        return weight, weight.new_zeros(len(weight))
    assert norm.running_mean is not None and norm.running_var is not None
    dtype = torch.promote_types(weight.dtype, torch.float32)
    tensors = (weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    wide, factor, shift, mean, variance = (one if one.dtype == dtype else one.to(dtype) for one in tensors)
    scale = factor * (variance + norm.eps).rsqrt()
    folded, bias = wide * scale[:, None], shift - mean * scale
    return (folded, bias) if weight.dtype == dtype else (folded.to(weight.dtype), bias.to(weight.dtype))


def _normalize_rows(rows: Float[Tensor, "b n d"], norm: nn.Module | None) -> Float[Tensor, "b n d"]:
    """A norm of maps applied to positions, each as a map of one element: only the channels matter to it."""
    if norm is None or isinstance(norm, nn.Identity):
        return rows
    axes = 2 if isinstance(norm, nn.BatchNorm2d) else 3 if isinstance(norm, nn.BatchNorm3d) else 0
    # Norms of channels that are not beside each other are several times slower.
    flat = rows.contiguous().flatten(0, 1)
    return norm(flat.view(*flat.shape, *(1,) * axes)).view(rows.shape)


def taken_channels(*projections: nn.Module | None) -> int | None:
    """The channels that all projections say they take; None where they differ, or one does not say."""
    taken = {
        # Lazy modules say 0 before their first call.
        getattr(one, "in_features", getattr(one, "in_channels", None)) or None
        for one in projections
        if one is not None
    }
    return taken.pop() if len(taken) == 1 else None


def plain_weight(child: nn.Module | None) -> Tensor | None:
    """The weight of a plain layer with nothing attached; None where the type it takes is its own affair."""
    if child is None or type(child) not in _CLASS_CALLS or not _is_untouched(child):
        return None
    weight = child._parameters.get("weight")
    return weight if _is_plain_tensor(weight) else None


def is_symbolic(inputs: object) -> bool:
    """Whether torch.fx traces, which has no sizes to decide by."""
    return isinstance(inputs, Proxy)


def as_one_node(module: nn.Module, inputs: Any, *arguments: object) -> Any:
    """Record a call of a module as one node of the graph that torch.fx traces."""
    tracer = inputs.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (inputs, *arguments), {})


def bind_inputs(who: str, argument: str, inputs: Tensor, weight: Tensor | None = None) -> None:
    """`bind_type` with the type of the weights that read the inputs, where these are known.

    A function that torch.fx may keep as a call: see `torch.fx.wrap`.
    """
    bind_type(who, argument, inputs, {} if weight is None else {"dtype": (weight.dtype, "the weights")})


def call_child(
    who: str,
    name: str,
    wanted: tuple[int, ...] | None,
    child: nn.Module,
    *tensors: Tensor,
    **options: Any,
) -> Tensor:
    """Call a child, and see that it gives what the layer needs.

    Args:
        who: The layer that complains.
        name: The child's name.
        wanted: The shape that the layer needs; None for any.
        child: A projection, a norm, a position or a pool, whatever became of it.
        tensors: What it would see in a plain network.
        options: Handed on.
    """
    if torch.compiler.is_compiling() or is_traced():
        return child(*tensors, **options)
    try:
        output = child(*tensors, **options)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if not _is_about_arguments(error):
            raise
        shapes = [str(tuple(one.shape)) for one in tensors]
        taken = (
            f"a tensor of shape {shapes[0]}" if len(shapes) == 1 else f"tensors of shapes {', '.join(shapes)}"
        )
        raise ArgumentError(f"{who}: {name} must take {taken}, got '{first_line(error)}'.") from error
    if not isinstance(output, Tensor) or (wanted is not None and output.shape != wanted):
        came = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        given = "a tensor" if wanted is None else f"a tensor of shape {wanted}"
        raise ArgumentError(f"{who}: {name} must give {given}, got {came}.")
    return output


def _is_about_arguments(error: Exception) -> bool:
    """Whether it is a plain error; those of a kind of their own, or of memory, say more than we could."""
    return (
        type(error).__module__ == "builtins"
        and not isinstance(error, NotImplementedError)
        and "memory" not in str(error)
    )
