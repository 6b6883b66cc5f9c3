"""Operators that recompute in backward, registered with torch once for all its tools.

An operator keeps its inputs (and small outputs it names) instead of what autograd would keep. It is
registered together with the operator of its gradients, so that torch.compile and torch.export see two nodes;
in eager mode the same two run as autograd functions, since functorch differentiates those and not operators.
Double backward goes through the reference, which autograd differentiates twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

from lambdanets.functional._layout import cache_signature, is_traced

_LIBRARY: Final = torch.library.Library("lambdanets", "FRAGMENT")


class RecomputeOperator(ABC):
    """`lambdanets::{name}` and `lambdanets::{name}_gradients`; an instance runs the first, differentiably.

    Attributes:
        tensors: The schema of its tensors, such as `("Tensor queries", "Tensor? shared")`; all have the
            batch in front but those in `unbatched`.
        options: The schema of the arguments behind them, such as `("str impl",)`.
        num_kept: Outputs of `run` that are kept for backward, the first of which is the one that is
            differentiated; 0 where `run` returns one output, which is not kept.
        unbatched: Indices of tensors that all items of a batch share.
    """

    name: ClassVar[str]
    tensors: ClassVar[tuple[str, ...]]
    options: ClassVar[tuple[str, ...]]
    num_kept: ClassVar[int] = 0
    unbatched: ClassVar[tuple[int, ...]] = ()

    @abstractmethod
    def run(self, *arguments: Any) -> Any:
        """(*tensors, *options) -> the output, or a tuple of `num_kept` outputs."""

    @abstractmethod
    def gradients(self, grad_out: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        """(grad_out, *tensors, *kept, needs_grad, *options) -> one for each tensor, empty if not needed."""

    @abstractmethod
    def fake(self, *arguments: Any) -> Any:
        """Uninitialised tensors like those of `run`."""

    @abstractmethod
    def fake_gradients(self, grad_out: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        """Uninitialised tensors like those of `gradients`."""

    @abstractmethod
    def reference(self, *arguments: Any) -> Tensor:
        """(*tensors, *options) -> the output that is differentiated, by operations of torch alone."""

    @abstractmethod
    def flops(self, *shapes: Any, **options: Any) -> int:
        """Operations of `run` by the tensors' shapes; the gradients take twice as many."""

    def __init__(self) -> None:
        kept = [f"Tensor kept{i}" for i in range(self.num_kept)]
        self.operator = _register(
            self.name, [*self.tensors, *self.options], max(1, self.num_kept), self.run, self.fake, self.flops
        )
        self.gradients_operator = _register(
            f"{self.name}_gradients",
            ["Tensor grad_out", *self.tensors, *kept, "bool[] needs_grad", *self.options],
            len(self.tensors),
            self.gradients,
            self.fake_gradients,
            lambda _, *shapes, **options: 2 * self.flops(*shapes, **options),
        )
        self._function = _differentiable(self.operator, self.run, self._keep, self._backward, self._vmap)
        self._gradients_function = _differentiable(
            self.gradients_operator,
            self.gradients,
            self._keep_inputs,
            self._double_backward,
            self._vmap_gradients,
        )

    def __call__(self, *arguments: Any) -> Any:
        """The outputs of the operator, the first differentiable."""
        if torch.compiler.is_compiling() or is_traced():
            return self.operator(*arguments)
        tensors = arguments[: len(self.tensors)]
        is_differentiated = torch.is_grad_enabled() and any(
            one is not None and one.requires_grad for one in tensors
        )
        if not is_differentiated and not _is_watched(tensors):
            return self.run(*arguments)
        return self._function.apply(*arguments)

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        kept = output if self.num_kept else ()
        ctx.mark_non_differentiable(*kept[1:])
        ctx.save_for_backward(*inputs[: len(self.tensors)], *kept)
        ctx.options = inputs[len(self.tensors) :]

    def _backward(self, ctx: Any, grad_out: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        needs_grad = list(ctx.needs_input_grad[: len(self.tensors)])
        tensors = (grad_out, *ctx.saved_tensors)
        if torch.compiler.is_compiling():
            run = self.gradients_operator
        elif torch.is_grad_enabled() or _is_watched(tensors):
            run = self._gradients_function.apply
        else:
            run = self.gradients
        grads = run(*tensors, needs_grad, *ctx.options)
        needed = (grad if need else None for grad, need in zip(grads, needs_grad, strict=True))
        return (*needed, *(None for _ in ctx.options))

    def _keep_inputs(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        num_tensors = 1 + len(self.tensors)
        ctx.save_for_backward(*inputs[:num_tensors])
        ctx.needs_grad, *ctx.options = inputs[num_tensors + self.num_kept :]

    def _double_backward(self, ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Through the reference, which autograd differentiates twice."""
        with torch.enable_grad():
            grad_out, *tensors = (
                None if one is None else one.detach().requires_grad_() for one in ctx.saved_tensors
            )
            given = {i: tensor for i, tensor in enumerate(tensors) if tensor is not None}
            output = self.reference(*tensors, *ctx.options)
            grads = torch.autograd.grad(output, list(given.values()), grad_out, create_graph=True)
            used = [
                (grad, grad_grads[i])
                for i, grad in zip(given, grads, strict=True)
                if ctx.needs_grad[i] and grad_grads[i] is not None
            ]
            second = torch.autograd.grad(
                [grad for grad, _ in used],
                [grad_out, *given.values()],
                [grad_grad for _, grad_grad in used],
                allow_unused=True,
            )
        by_index = dict(zip(given, second[1:], strict=True))
        grad_tensors = (by_index.get(i) for i in range(len(tensors)))
        return (second[0], *grad_tensors, *(None for _ in range(self.num_kept + 1 + len(ctx.options))))

    def _vmap(self, info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        """The mapped axis becomes part of the batch, unless it is one of a tensor that has no batch."""
        if any(in_dims[i] is not None for i in self.unbatched):
            return _looped(self, info.batch_size, in_dims, arguments)
        batched = [i for i in range(len(self.tensors)) if i not in self.unbatched]
        return _folded(self, info.batch_size, in_dims, arguments, batched)

    def _vmap_gradients(self, info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        """The same; a tensor without a batch has a gradient for each mapped item."""
        run = self._gradients_function.apply
        if self.unbatched:
            return _looped(run, info.batch_size, in_dims, arguments)
        batched = range(1 + len(self.tensors) + self.num_kept)
        return _folded(run, info.batch_size, in_dims, arguments, batched)


def _register(
    name: str,
    arguments: Sequence[str],
    num_outputs: int,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    flops: Callable[..., int],
) -> Any:
    returns = "Tensor" if num_outputs == 1 else f"({', '.join(['Tensor'] * num_outputs)})"
    _LIBRARY.define(f"{name}({', '.join(arguments)}) -> {returns}")
    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lambdanets::{name}", fake, lib=_LIBRARY)
    packet = getattr(torch.ops.lambdanets, name)
    register_flop_formula(packet)(flops)
    return packet.default


def _is_watched(arguments: Sequence[Any]) -> bool:
    """Whether anything sees an operator's call: a mode, a transform, a profiler, a special kind of tensor.

    Where nothing does, the call is spared: on a small map it takes as long as the products.
    """
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
        or any(
            isinstance(one, Tensor) and (type(one) not in (Tensor, nn.Parameter) or one.is_meta)
            for one in arguments
        )
    )


def _differentiable(
    operator: Any,
    run: Callable[..., Any],
    keep: Callable[..., None],
    differentiate: Callable[..., Any],
    mapped: Callable[..., Any],
) -> Any:
    """Register an operator's backward, and return it as an autograd function too."""
    torch.library.register_autograd(operator, differentiate, setup_context=keep, lib=_LIBRARY)

    @cache_signature
    class Recomputed(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Any:
            return operator(*arguments) if _is_watched(arguments) else run(*arguments)

        setup_context = staticmethod(keep)
        backward = staticmethod(differentiate)
        vmap = staticmethod(mapped)

    return Recomputed


def _folded(
    run: Callable[..., Any],
    count: int,
    in_dims: Sequence[Any],
    arguments: Sequence[Any],
    batched: Sequence[int],
) -> tuple[Any, Any]:
    """One call with a larger batch."""
    folded = list(arguments)
    for i in batched:
        if arguments[i] is not None:
            folded[i] = _mapped_first(arguments[i], in_dims[i], count).flatten(0, 1)
    output = run(*folded)
    if isinstance(output, Tensor):
        return output.unflatten(0, (count, -1)), 0
    return tuple(one.unflatten(0, (count, -1)) for one in output), (0,) * len(output)


def _looped(
    run: Callable[..., Any], count: int, in_dims: Sequence[Any], arguments: Sequence[Any]
) -> tuple[Any, Any]:
    """One call for each mapped item."""
    mapped = [
        _mapped_first(one, axis, count) if isinstance(one, Tensor) else [one] * count
        for one, axis in zip(arguments, in_dims, strict=True)
    ]
    outputs = [run(*item) for item in zip(*mapped, strict=True)]
    if isinstance(outputs[0], Tensor):
        return torch.stack(outputs), 0
    stacked = tuple(torch.stack(one) for one in zip(*outputs, strict=True))
    return stacked, (0,) * len(stacked)


def _mapped_first(tensor: Tensor, axis: int | None, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
