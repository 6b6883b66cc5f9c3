"""What people attach to a module or put in its place, each as a function that does it to a child of a layer.

A way takes the layer, the child's name and an `ExitStack` that ends what is not the module's own, such as
hooks of all modules. It returns what its hooks saw, or None where it has none.
"""

import copy
import functools
import types
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.modules import module as modules
from torch.nn.utils import parametrizations, parametrize, prune

Seen = list[tuple[str, tuple[int, ...]]]
Way = Callable[[nn.Module, str, ExitStack], Seen | None]

CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
BATCH_NORMS = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def scaled(grads: Any) -> Any:
    return tuple(None if grad is None else 2 * grad for grad in grads)


class OutputHook:
    """Changes the output, and remembers its shape."""

    def __init__(self, only: nn.Module | None = None) -> None:
        self.only, self.seen = only, []

    def __call__(self, module: nn.Module, *arguments: Any) -> Tensor | None:
        if self.only not in (None, module):
            return None
        output = arguments[-1]
        self.seen.append(("output", tuple(output.shape)))
        return 1.5 * output + 0.1


class InputHook(OutputHook):
    """Changes the first input."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any = None) -> Any:
        if self.only not in (None, module):
            return None
        self.seen.append(("input", tuple(args[0].shape)))
        changed = (0.7 * args[0] + 0.2, *args[1:])
        return changed if kwargs is None else (changed, kwargs)


class GradHook(OutputHook):
    """Doubles the gradients."""

    def __call__(self, module: nn.Module, *grads: Any) -> Any:
        if self.only not in (None, module):
            return None
        self.seen.append(("grad", tuple(grads[-1][0].shape)))
        return scaled(grads[0])


def hooked(kind: type[OutputHook], register: str, **options: Any) -> Way:
    def way(layer: nn.Module, name: str, stack: ExitStack) -> Seen:
        hook = kind()
        getattr(layer.get_submodule(name), register)(hook, **options)
        return hook.seen

    return way


def hooked_everywhere(kind: type[OutputHook], register: Callable[[Any], Any]) -> Way:
    def way(layer: nn.Module, name: str, stack: ExitStack) -> Seen:
        hook = kind(layer.get_submodule(name))
        stack.callback(register(hook).remove)
        return hook.seen

    return way


class Scaled(nn.Module):
    """A wrapper with a parameter of its own, which no norm takes out again, as it does with a mere scale."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.factor = inner, nn.Parameter(torch.tensor(0.6, dtype=torch.float64))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return torch.sin(self.factor * self.inner(*args, **kwargs))


class Shift(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - 0.3


class Adapter(nn.Module):
    """The child, which stands still, and a product of low rank beside it, as peft has it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.base_layer = inner.requires_grad_(False)
        out, d = inner.weight.shape[:2]
        if isinstance(inner, nn.Linear):
            self.down, self.up = nn.Linear(d, 2, bias=False), nn.Linear(2, out, bias=False)
        else:
            self.down, self.up = type(inner)(d, 2, 1, bias=False), type(inner)(2, out, 1, bias=False)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.base_layer(inputs) + 0.5 * self.up(self.down(inputs))


class Permuted(nn.Module):
    """A linear layer of the channels, wherever they are."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.axis = -1 if isinstance(inner, nn.Linear) else 1
        out, d = inner.weight.shape[:2]
        self.linear = nn.Linear(d, out).double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs.movedim(self.axis, -1)).movedim(-1, self.axis)


class Positive(nn.Module):
    def forward(self, tensor: Tensor) -> Tensor:
        return tensor.abs() + 0.01


class Rounded(nn.Module):
    """A projection that rounds its weights when it is called, as quantised ones do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def weight(self) -> Tensor:
        return self.inner.weight

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.inner.weight + ((8 * self.inner.weight).round() / 8 - self.inner.weight).detach()
        return torch.func.functional_call(self.inner, {"weight": weight}, inputs)


class Tagged(Tensor):
    """A tensor of a kind of its own, whose products are larger by a half."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.detach()

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            output = func(*args, **(kwargs or {}))
        named = getattr(func, "__name__", "")
        if named == "detach":
            return output.as_subclass(cls)
        return 1.5 * output if named in ("conv1d", "conv2d", "conv3d", "linear", "batch_norm") else output


def old_backward_hook(layer: nn.Module, name: str, stack: ExitStack) -> Seen:
    """The hook of before torch 1.8, which sees the gradients of one function."""
    seen: Seen = []
    layer.get_submodule(name).register_backward_hook(
        lambda module, _, grads: seen.append(("grad", tuple(grads[0].shape)))
    )
    return seen


def replaced(make: Callable[[nn.Module], nn.Module | None]) -> Way:
    """The child's place is taken by what is made of it."""

    def way(layer: nn.Module, name: str, stack: ExitStack) -> None:
        made = make(layer.get_submodule(name))
        setattr(layer, name, made if made is None else made.double().train(layer.training))

    return way


def changed(change: Callable[[nn.Module], Any]) -> Way:
    """Something is done to the child itself."""

    def way(layer: nn.Module, name: str, stack: ExitStack) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            change(layer.get_submodule(name))

    return way


def with_forward(module: nn.Module, wrap: Callable[[Tensor], Tensor]) -> None:
    """The module gets a `forward` of its own, as accelerate gives it."""
    old = module.forward
    module._old_forward = old

    def forward(_: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        return wrap(old(*args, **kwargs))

    module.forward = functools.update_wrapper(functools.partial(forward, module), old)


def class_forward(attribute: str, of: Callable[[nn.Module], type]) -> Way:
    """The class gets another method, which does something else for the child alone."""

    def way(layer: nn.Module, name: str, stack: ExitStack) -> None:
        child = layer.get_submodule(name)
        owner = of(child)
        old = getattr(owner, attribute)

        def method(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
            output = old(self, *args, **kwargs)
            return 0.8 * output if self is child else output

        own = vars(owner).get(attribute)
        setattr(owner, attribute, method)
        stack.callback(lambda: delattr(owner, attribute) if own is None else setattr(owner, attribute, own))

    return way


def subclassed(module: nn.Module) -> None:
    """The module becomes one of a class with a `forward` of its own."""

    class Own(type(module)):
        def forward(self, *args: Any, **kwargs: Any) -> Tensor:
            return 1.2 * super().forward(*args, **kwargs)

    module.__class__ = Own


def as_attribute(*names: str) -> Callable[[nn.Module], None]:
    """Parameters become views of another one, and plain attributes, as sharded ones are."""

    def change(module: nn.Module) -> None:
        for name in names:
            weight = module._parameters.pop(name)
            module.register_parameter(f"flat_{name}", nn.Parameter(weight.detach().flatten()))
            object.__setattr__(module, name, module.get_parameter(f"flat_{name}").view(weight.shape))

    return change


def shadowed(name: str) -> Callable[[nn.Module], None]:
    """An attribute stands in front of a parameter or buffer."""

    def change(module: nn.Module) -> None:
        module.__dict__[name] = 2 * getattr(module, name).detach() + 0.1

    return change


def tagged(name: str) -> Callable[[nn.Module], None]:
    def change(module: nn.Module) -> None:
        weight = getattr(module, name).detach().as_subclass(Tagged)
        module._parameters[name] = nn.Parameter(weight)

    return change


def patched_convolution(module: nn.Module) -> None:
    """As images that join at their borders are made with: the convolution's inner method is another."""
    old = module._conv_forward
    module._conv_forward = types.MethodType(lambda self, *arguments: old(*arguments) + 0.2, module)


def pruned_twice(name: str) -> Callable[[nn.Module], None]:
    def change(module: nn.Module) -> None:
        prune.l1_unstructured(module, name, 0.3)
        prune.random_unstructured(module, name, 0.2)

    return change


def convolution(module: nn.Module, *size: Any, **options: Any) -> nn.Module:
    """Another convolution between the same channels."""
    out, d = module.weight.shape[:2]
    return CONVOLUTIONS[module.weight.ndim](d, out, *size, **options)


def transposed(module: nn.Module) -> nn.Module:
    out, d = module.weight.shape[:2]
    kinds = {3: nn.ConvTranspose1d, 4: nn.ConvTranspose2d, 5: nn.ConvTranspose3d}
    return kinds[module.weight.ndim](d, out, 1, bias=False)


def batch_norm(module: nn.Module, **options: Any) -> nn.Module:
    """Another batch norm, that is not in its first state."""
    norm = type(module)(module.num_features, **options)
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return norm


class Frozen(nn.Module):
    """A batch norm of which a scale and a shift are left."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.register_buffer("scale", (norm.weight / (norm.running_var + norm.eps).sqrt()).detach())
        self.register_buffer("shift", (norm.bias - norm.running_mean * self.scale).detach())

    def forward(self, inputs: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (inputs.ndim - 2))
        return inputs * self.scale.view(shape) + self.shift.view(shape)


class RootMeanSquare(nn.Module):
    """A norm over the channels of each position."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs / (inputs.square().mean(1, keepdim=True) + 1e-3).sqrt()


class OwnPosition(nn.Module):
    """Somebody's own: each context element weighs as its distance says."""

    def __init__(self, position: nn.Module) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.4))

    def forward(
        self,
        queries: Tensor,
        values: Tensor,
        shared: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        n, m = queries[0, 0, 0].numel(), values[0, 0, 0].numel()
        weights = torch.exp(-self.decay * (torch.arange(m) - torch.arange(n)[:, None]).abs())
        if causal:
            weights = weights.tril(m - n)
        weights = weights * (1 if mask is None else mask)
        sums = torch.einsum(
            "...nm,buvm->b...vn" if mask is None or mask.ndim == 2 else "bnm,buvm->bvn",
            weights,
            values.flatten(3),
        )
        output = queries.flatten(3).sum(2, keepdim=True) * sums.unsqueeze(1)
        if shared is not None:
            output = output + torch.einsum("bhkn,bkv->bhvn", queries.flatten(3), shared.to(queries.dtype))
        return output.unflatten(3, queries.shape[3:])


def wrapped_in_a_sequence(module: nn.Module) -> nn.Module:
    return nn.Sequential(module, Shift())


def copied(way: Way) -> Way:
    """The child is a copy that was made after something was attached."""

    def both(layer: nn.Module, name: str, stack: ExitStack) -> None:
        way(layer, name, stack)
        setattr(layer, name, copy.deepcopy(layer.get_submodule(name)))

    return both


HOOKS: dict[str, Way] = {
    "forward hook": hooked(OutputHook, "register_forward_hook"),
    "forward hook, kwargs": hooked(
        OutputHook, "register_forward_hook", with_kwargs=True, always_call=True, prepend=True
    ),
    "forward pre-hook": hooked(InputHook, "register_forward_pre_hook"),
    "forward pre-hook, kwargs": hooked(
        InputHook, "register_forward_pre_hook", with_kwargs=True, prepend=True
    ),
    "backward hook": hooked(GradHook, "register_full_backward_hook"),
    "backward pre-hook": hooked(GradHook, "register_full_backward_pre_hook"),
    "old backward hook": old_backward_hook,
    "global forward hook": hooked_everywhere(OutputHook, modules.register_module_forward_hook),
    "global forward pre-hook": hooked_everywhere(InputHook, modules.register_module_forward_pre_hook),
    "global backward hook": hooked_everywhere(GradHook, modules.register_module_full_backward_hook),
    "global backward pre-hook": hooked_everywhere(GradHook, modules.register_module_full_backward_pre_hook),
}
ANY: dict[str, Way] = {
    **HOOKS,
    "wrapper": replaced(Scaled),
    "checkpoint wrapper": replaced(checkpoint_wrapper),
    "own forward": changed(lambda child: with_forward(child, lambda output: 1.3 * output)),
    "subclass": changed(subclassed),
    "forward of the class": class_forward("forward", type),
    "call of all modules": class_forward("__call__", lambda _: nn.Module),
    "inner call of all modules": class_forward("_call_impl", lambda _: nn.Module),
    "copied with its hook": copied(hooked(OutputHook, "register_forward_hook")),
}
PROJECTION: dict[str, Way] = {
    **ANY,
    "sequence": replaced(wrapped_in_a_sequence),
    "compiled": changed(lambda child: child.compile(backend="eager")),
    "compiled, wrapped": replaced(lambda child: torch.compile(child, backend="eager")),
    "scripted": replaced(torch.jit.script),
    "hooks of the weights": changed(lambda child: child.weight.register_hook(lambda grad: 3 * grad)),
    "weight norm": changed(parametrizations.weight_norm),
    "spectral norm": changed(lambda child: parametrizations.spectral_norm(child, n_power_iterations=3)),
    "orthogonal": changed(parametrizations.orthogonal),
    "own parametrisation": changed(
        lambda child: parametrize.register_parametrization(child, "weight", Positive())
    ),
    "old spectral norm": changed(torch.nn.utils.spectral_norm),
    "old weight norm": changed(torch.nn.utils.weight_norm),
    "pruned twice": changed(pruned_twice("weight")),
    "adapter": replaced(Adapter),
    "permuted": replaced(Permuted),
    "rounded": replaced(Rounded),
    "dropout behind": replaced(lambda child: nn.Sequential(child, nn.Dropout(0.4))),
    "frozen weight": changed(lambda child: child.requires_grad_(False)),
    "weight of a kind of its own": changed(tagged("weight")),
    "weight is an attribute": changed(as_attribute("weight")),
    "attribute before the weight": changed(shadowed("weight")),
}
CONVOLUTION: dict[str, Way] = {
    **PROJECTION,
    "bias": replaced(lambda child: convolution(child, 1)),
    "bias registered": changed(
        lambda child: child.register_parameter("bias", nn.Parameter(child.weight.detach().flatten(1).sum(1)))
    ),
    "3 wide": replaced(lambda child: convolution(child, 3, padding=1, bias=False)),
    "3 wide, circular": replaced(
        lambda child: convolution(child, 3, padding="same", padding_mode="circular", bias=False)
    ),
    "3 wide, dilated": replaced(lambda child: convolution(child, 3, padding=2, dilation=2, bias=False)),
    "grouped": replaced(lambda child: convolution(child, 1, groups=2, bias=False)),
    "transposed": replaced(transposed),
    "inner method": changed(patched_convolution),
    "inner method of the class": class_forward("_conv_forward", type),
}
LINEAR: dict[str, Way] = {
    **PROJECTION,
    "bias": replaced(lambda child: nn.Linear(*reversed(child.weight.shape))),
}
NORM: dict[str, Way] = {
    **ANY,
    "sequence": replaced(wrapped_in_a_sequence),
    "identity": replaced(lambda child: nn.Identity()),
    "none": replaced(lambda child: None),
    "root mean square": replaced(lambda child: RootMeanSquare()),
    "dropout": replaced(lambda child: nn.Dropout(0.4)),
    "relu": replaced(lambda child: nn.ReLU()),
}
BATCH_NORM: dict[str, Way] = {
    **NORM,
    "compiled": changed(lambda child: child.compile(backend="eager")),
    "hooks of the weights": changed(lambda child: child.weight.register_hook(lambda grad: 3 * grad)),
    "group norm": replaced(lambda child: nn.GroupNorm(2, child.num_features)),
    "layer norm of the map": replaced(lambda child: nn.GroupNorm(1, child.num_features)),
    "not affine": replaced(lambda child: batch_norm(child, affine=False)),
    "without statistics": replaced(lambda child: batch_norm(child, track_running_stats=False)),
    "statistics taken away": changed(
        lambda child: [setattr(child, f"running_{one}", None) for one in ("mean", "var")]
    ),
    "statistics not tracked": changed(lambda child: setattr(child, "track_running_stats", False)),
    "mean of all batches": replaced(lambda child: batch_norm(child, momentum=None)),
    "other epsilon and momentum": replaced(lambda child: batch_norm(child, eps=0.3, momentum=0.7)),
    "synchronised": replaced(lambda child: nn.SyncBatchNorm.convert_sync_batchnorm(batch_norm(child))),
    "frozen": replaced(lambda child: Frozen(batch_norm(child).double())),
    "frozen weights": changed(lambda child: child.requires_grad_(False)),
    "other mode": changed(lambda child: child.train(not child.training)),
    "parametrised": changed(lambda child: parametrize.register_parametrization(child, "weight", Positive())),
    "pruned twice": changed(pruned_twice("weight")),
    "weight of a kind of its own": changed(tagged("weight")),
    "weights are attributes": changed(as_attribute("weight", "bias")),
    "attribute before the mean": changed(shadowed("running_mean")),
    "attribute before the bias": changed(shadowed("bias")),
}
POSITION: dict[str, Way] = {
    **ANY,
    "own position": replaced(OwnPosition),
    "parametrised": changed(lambda child: parametrize.register_parametrization(child, "table", Positive())),
    "old weight norm": changed(lambda child: torch.nn.utils.weight_norm(child, "table")),
    "pruned twice": changed(pruned_twice("table")),
    "frozen table": changed(lambda child: child.requires_grad_(False)),
}
POOL: dict[str, Way] = {
    **ANY,
    "sequence": replaced(wrapped_in_a_sequence),
    "means of the map": replaced(lambda child: nn.Flatten(2)),
    "relu": replaced(lambda child: nn.ReLU()),
}
# What ends with its stack, and leaves the child as it was.
EVERYWHERE = {
    *("global forward hook", "global forward pre-hook", "global backward hook", "global backward pre-hook"),
    *(
        "forward of the class",
        "call of all modules",
        "inner call of all modules",
        "inner method of the class",
    ),
}
