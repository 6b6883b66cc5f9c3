"""Calls of everything public that takes tensors: functions, modules and networks, each with small tensors."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, partial
from types import NoneType
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lambdanets import functional, models
from lambdanets import nn as layers
from lambdanets.functional import CausalState, content, position, relative_position
from lambdanets.functional.attention import full, local
from support.gradients import cotangent

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OTHERS = (
    torch.uint8,
    torch.int8,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
)

Shape = tuple[int, ...]
Surroundings = Callable[[], AbstractContextManager[Any]]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """A default type for what is made without one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS: dict[str, Surroundings] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
}


@dataclass(frozen=True)
class PublicCall:
    """A function, or a method of a module, with the shapes of the tensors that it is given.

    Attributes:
        name: Of the function, or of the class and the method: "LambdaLayer.step".
        shapes: By parameter. A part of a list is "tables.0", one of a named tuple "state.recent".
        form: What tells it from other calls of the same name.
        options: The other arguments of the function.
        make: How the module is made.
        who: By parameter, who complains where it is not the function or class itself.
        own_types: Parameters that may be of another floating-point type than the others.
    """

    name: str
    shapes: dict[str, Shape]
    form: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    make: Callable[[], nn.Module] | None = None
    who: dict[str, str] = field(default_factory=dict)
    own_types: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}-{self.form}" if self.form else self.name

    @property
    def floats(self) -> list[str]:
        """The parameters, and parts of parameters, that hold floating-point numbers."""
        return [name for name in self.shapes if name != "mask"]

    def complains(self, parameter: str) -> tuple[str, str]:
        """Who refuses a tensor, and what it is called there."""
        list_name, _, place = parameter.partition(".")
        argument = list_name if place.isdigit() else parameter
        return self.who.get(parameter, self.name.partition(".")[0]), argument

    def is_optional(self, parameter: str) -> bool:
        """Whether None may stand for it."""
        annotation = inspect.signature(self.target).parameters[parameter.partition(".")[0]].annotation
        return "." not in parameter and NoneType in get_args(annotation)

    @property
    def target(self) -> Callable[..., Any]:
        """The function, or the method as a function of the module."""
        name, _, method = self.name.partition(".")
        for place in (functional, relative_position, layers, models):
            found = getattr(place, name, None)
            if found is not None:
                return getattr(found, method or "forward") if inspect.isclass(found) else found
        raise AssertionError(f"{name} is not public")

    def draw(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Normal tensors, and masks that hide a half."""
        generator = torch.Generator().manual_seed(0)
        drawn = {}
        for name, shape in self.shapes.items():
            numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
            if name.endswith("denominators"):
                numbers = numbers.abs() + 1
            drawn[name] = numbers > 0 if name == "mask" else numbers.to(dtype)
        return drawn

    @property
    def has_weights(self) -> bool:
        """Whether the inputs meet parameters."""
        return self.make is not None and any(True for _ in _made(self.make).parameters())

    def module(self, dtype: torch.dtype = torch.float32, training: bool = True) -> nn.Module | None:
        """The module, always with the same parameters; None for a function."""
        return None if self.make is None else deepcopy(_made(self.make)).to(dtype).train(training)

    def run(self, module: nn.Module | None, tensors: dict[str, Any]) -> Any:
        """Call it."""
        call = self.target if module is None else partial(self.target, module)
        if isinstance(module, nn.Module) and "." not in self.name:
            call = module
        return call(**_grouped(tensors), **self.options)

    def results(
        self,
        module: nn.Module | None,
        tensors: dict[str, Tensor],
        forward: Surroundings = nullcontext,
        backward: Surroundings = nullcontext,
    ) -> dict[str, Tensor]:
        """Outputs, and the gradients of tensors and parameters, each computed in surroundings."""
        torch.manual_seed(0)
        leaves = {name: one.detach().requires_grad_(one.is_floating_point()) for name, one in tensors.items()}
        wanted = {name: one for name, one in leaves.items() if one.requires_grad}
        if module is not None:
            wanted |= dict(module.named_parameters())
        with forward():
            outputs = [one for one in tree_leaves(self.run(module, leaves)) if isinstance(one, Tensor)]
        ends = [one for one in outputs if one.requires_grad]
        cotangents = [cotangent(one) for one in ends]
        with backward():
            gradients = torch.autograd.grad(ends, [*wanted.values()], cotangents, allow_unused=True)
        found = {f"output {i}": one.detach() for i, one in enumerate(outputs)}
        return found | {
            f"gradient of {name}": one for name, one in zip(wanted, gradients, strict=True) if one is not None
        }


@cache
def _made(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = make()
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():  # what starts at zero would hide what comes before it
                parameter.fill_(0.5)
    return module


def _grouped(tensors: dict[str, Any]) -> dict[str, Any]:
    """Parts of lists and of named tuples together."""
    arguments: dict[str, Any] = {}
    for name, tensor in tensors.items():
        parameter, _, part = name.partition(".")
        if not part:
            arguments[name] = tensor
        else:
            arguments.setdefault(parameter, {})[part] = tensor
    for parameter, parts in arguments.items():
        if isinstance(parts, dict):
            arguments[parameter] = CausalState(**parts) if parameter == "state" else [*parts.values()]
    return arguments


# b=2, h=2, k=4, v=3, u=1; n=5 and m=6, or a map of 4×3.
_FLAT = {"queries": (2, 2, 4, 5), "keys": (2, 1, 4, 6), "values": (2, 1, 3, 6), "embeddings": (5, 6, 1, 4)}
_MAPS = {"queries": (2, 2, 4, 4, 3), "values": (2, 1, 3, 4, 3), "table": (1, 4, 3, 5), "shared": (2, 4, 3)}
_PAST = {"queries": (2, 2, 4, 5), "keys": (2, 1, 4, 5), "values": (2, 1, 3, 5), "table": (1, 4, 5)}
_STATE = {
    "state.maximum": (2, 1, 4),
    "state.numerators": (2, 1, 4, 3),
    "state.denominators": (2, 1, 4),
    "state.recent": (2, 1, 3, 2),
}
_HEADS = {"queries": (2, 2, 4, 4, 3), "keys": (2, 2, 4, 4, 3), "values": (2, 2, 3, 4, 3)}
_TABLES = {"tables.0": (4, 3), "tables.1": (4, 5)}
_WINDOWS = {"weights": (2, 2, 9, 4, 3), "values": (2, 2, 3, 4, 3)}


def _take(shapes: dict[str, Shape], *names: str) -> dict[str, Shape]:
    return {name: shapes[name] for name in names}


def _functions() -> Iterator[PublicCall]:
    maps: dict[str, Shape] = {"keys": (2, 1, 4, 4, 3), "values": (2, 1, 3, 4, 3)}
    for one in position.IMPLEMENTATIONS:
        yield PublicCall("position_output", _MAPS, one.name, {"impl": one.name}, own_types=("shared",))
    for one in content.IMPLEMENTATIONS:
        options = {"impl": one.name}
        yield PublicCall("content_summary", maps, one.name, options)
        yield PublicCall("content_output", {"queries": (2, 2, 4, 7), **maps}, one.name, options)
        yield PublicCall("linear_attention", _HEADS, one.name, options)
    for normalization in ("softmax", "softmax_keys_and_queries", "l2", "none"):
        options = {"key_normalization": normalization}
        yield PublicCall("normalize_keys", _take(_FLAT, "keys"), normalization, options)
        yield PublicCall("normalize_queries", _take(_FLAT, "queries"), normalization, options)
        yield PublicCall(
            "causal_lambda_step", {**_PAST, **_STATE}, normalization, options, own_types=(*_STATE,)
        )
        yield PublicCall("causal_lambda_layer", _PAST, normalization, options)
        yield PublicCall("lambda_layer", {**_FLAT, "mask": (2, 5, 6)}, normalization, options)
    yield PublicCall("lambda_layer", {**_FLAT, "mask": (5, 6)}, "one mask")
    yield PublicCall("lambda_layer", _FLAT, "unmasked")
    for missing in ("keys", "embeddings"):
        others = {name: shape for name, shape in _FLAT.items() if name != missing}
        yield PublicCall("lambda_layer", others, f"without {missing}", {missing: None})


def _functions_of_equations() -> Iterator[PublicCall]:
    yield PublicCall("content_lambda", {"normalized_keys": (2, 1, 4, 6), "values": (2, 1, 3, 6)})
    yield PublicCall("position_lambdas", _take(_FLAT, "values", "embeddings"))
    yield PublicCall("apply_lambdas", {"queries": (2, 2, 4, 5), "lambdas": (2, 4, 3)}, "shared")
    yield PublicCall("apply_lambdas", {"queries": (2, 2, 4, 5), "lambdas": (2, 5, 4, 3)}, "own")
    yield PublicCall("channel_lambda", {"weights": (2, 4)})
    yield PublicCall("spatial_lambdas", {"weights": (2, 5)}, options={"query_depth": 4})
    yield PublicCall(
        "multihead_lambda_layer",
        {"queries": (2, 2, 4, 5), "keys": (2, 2, 4, 6), "values": (2, 2, 3, 6), "embeddings": (2, 5, 6, 4)},
    )


def _attentions() -> Iterator[PublicCall]:
    for one in full.IMPLEMENTATIONS:
        options = {"impl": one.name}
        yield PublicCall("global_attention", {**_HEADS, **_TABLES}, one.name, options)
        yield PublicCall("axial_attention", {**_HEADS, "table": (4, 5)}, one.name, {**options, "axis": 0})
    for one in local._ATTENTIONS:
        options = {"impl": one.name, "window_size": (3, 5)}
        yield PublicCall("local_attention", {**_HEADS, **_TABLES}, one.name, options)
    for one in local.RELATIONS:
        options = {"impl": one.name}
        yield PublicCall("local_relation", {**_HEADS, "prior": (2, 3, 5)}, one.name, options)
    for one in local._AGGREGATIONS:
        for normalize in (True, False):
            options = {"impl": one.name, "window_size": 3, "normalize": normalize}
            form = f"{one.name}-{'softmax' if normalize else 'sum'}"
            yield PublicCall("vector_attention", _WINDOWS, form, options)
    yield PublicCall("window_values", {"maps": (2, 3, 4, 3)}, options={"window_size": 3})


def _tables() -> Iterator[PublicCall]:
    table, pairs = {"table": (1, 4, 3, 5)}, {"embeddings": (12, 6, 1, 4)}
    size, context = (4, 3), (2, 3)
    yield PublicCall("dense_embeddings", table, options={"size": size, "context_size": context})
    yield PublicCall(
        "fold_embeddings", pairs, options={"size": size, "scope": (3, 5), "context_size": context}
    )
    lengths = {"length": 3, "context_length": 4, "side": 5}
    yield PublicCall("fold_axis", {"table": (2, 3, 4)}, options=lengths)
    yield PublicCall("table_from_embeddings", pairs, options={"size": size, "context_size": context})
    yield PublicCall("crop_table", table, options={"scope": (1, 3)})
    yield PublicCall("resize_table", table, options={"scope": (7, 3)})


def _layer(
    kind: str, *arguments: int, form: str = "", shape: Shape = (2, 8, 4, 3), **options: Any
) -> PublicCall:
    make = partial(getattr(layers, kind), *arguments, **options)
    return PublicCall(kind, {"inputs": shape}, form, make=make)


def _lambda_layers() -> Iterator[PublicCall]:
    small = {"query_depth": 4, "num_heads": 2, "scope_size": 3}
    for normalization in ("batch", "layer", "none"):
        for axes in (1, 2, 3):
            name, shape = f"LambdaLayer{axes}d", (2, 8, 4, 3, 2)[: 2 + axes]
            yield _layer(name, 8, form=normalization, shape=shape, normalization=normalization, **small)
    yield _layer("LambdaLayer2d", 8, form="global", stride=2, **{**small, "scope_size": None}, feature_size=2)
    yield _layer("LambdaLayer2d", 8, form="content", positional=False, **small)
    heads: dict[str, Shape] = {"queries": (2, 2, 4, 4, 3), "values": (2, 1, 3, 4, 3), "shared": (2, 4, 3)}
    forms: dict[str, dict[str, Any]] = {
        "local": {"scope_size": 3},
        "global": {"scope_size": None, "feature_size": (2, 3)},
        "biased": {"scope_size": 3, "bias": True},
    }
    for form, options in forms.items():
        # A local one without a bias hands on what it is given.
        who = dict.fromkeys(heads, "position_output") if form == "local" else {}
        make = partial(layers.RelativePosition, 2, query_depth=4, **options)
        yield PublicCall("RelativePosition", heads, form, make=make, who=who, own_types=("shared",))


def _positions_of_tokens() -> Iterator[PublicCall]:
    heads: dict[str, Shape] = {"queries": (2, 2, 4, 5), "values": (2, 1, 3, 5), "shared": (2, 4, 3)}
    masked = {**heads, "mask": (2, 5, 5)}
    relative = partial(layers.RelativePosition, 1, query_depth=4, scope_size=3)
    dense = partial(layers.DensePosition, 5, 5, query_depth=4)
    for name, make in {"RelativePosition": relative, "DensePosition": dense}.items():
        for causal in (True, False):
            form, options = ("causal" if causal else "tokens"), {"causal": causal}
            yield PublicCall(name, masked, f"{form}-masked", options, make, own_types=("shared",))
    yield PublicCall("RelativePosition", heads, "causal", {"causal": True}, relative, own_types=("shared",))
    yield PublicCall("DensePosition", heads, "tokens", make=dense, own_types=("shared",))


def _token_layers() -> Iterator[PublicCall]:
    tokens, context = {"inputs": (2, 5, 8)}, {"context": (2, 6, 8)}
    small = {"query_depth": 4, "num_heads": 2}
    causal = {"causal": True, "normalization": "layer", "scope_size": 5, **small}
    forms: dict[str, tuple[dict[str, Shape], dict[str, Any]]] = {
        "plain": (tokens, small),
        "context": ({**tokens, **context, "mask": (5, 6)}, small),
        "dense": ({**tokens, **context}, {**small, "position": "dense", "feature_size": (5, 6)}),
        "causal": (tokens, causal),
        "masked-causal": ({**tokens, "mask": (2, 5, 5)}, causal),
    }
    for form, (shapes, options) in forms.items():
        yield PublicCall("LambdaLayer", shapes, form, make=partial(layers.LambdaLayer, 8, **options))
    state = {**_STATE, "state.numerators": (2, 1, 4, 4), "state.recent": (2, 1, 4, 2)}
    yield PublicCall(
        "LambdaLayer.step",
        {**tokens, **state},
        make=partial(layers.LambdaLayer, 8, **causal),
        own_types=(*state,),
    )


def _other_layers() -> Iterator[PublicCall]:
    sized = {"num_heads": 2, "feature_size": (4, 3)}
    yield _layer("GlobalAttention2d", 8, form="relative", **sized)
    yield _layer("GlobalAttention2d", 8, form="strided", num_heads=2, stride=2)
    yield _layer("AxialAttention2d", 8, **sized)
    yield _layer("LinearAttention2d", 8, num_heads=2)
    yield _layer("AugmentedConvolution2d", 8, 16, **sized)
    yield _layer("LocalAttention2d", 8, num_heads=2, window_size=3)
    yield _layer("LocalRelation2d", 8, shared_channels=3, window_size=3)
    prior = partial(layers.LocalRelation2d, 8, window_size=3)
    yield PublicCall("LocalRelation2d.prior", {"like": (2, 8, 4, 3)}, make=prior)
    for relation in ("pairwise", "patchwise"):
        options = {"relation": relation, "shared_channels": 4, "window_size": 3}
        yield _layer("VectorAttention2d", 8, form=relation, **options)
    yield PublicCall("ChannelLayerNorm", {"input": (2, 8, 4, 3)}, make=partial(layers.ChannelLayerNorm, 8))
    yield _layer("StochasticDepth", form="0.5", rate=0.5)
    for method in ("", ".weights", ".lambdas"):
        make = partial(layers.SqueezeExcitation, 8, 2)
        yield PublicCall(f"SqueezeExcitation{method}", {"inputs": (2, 8, 4, 3)}, make=make)
    film = partial(layers.FiLM, 8, 3)
    yield PublicCall("FiLM", {"inputs": (2, 8, 4, 3), "condition": (2, 3)}, make=film)
    yield PublicCall("FiLM.lambdas", {"condition": (2, 3)}, make=film)


def _networks() -> Iterator[PublicCall]:
    images = {"images": (2, 3, 16, 16)}
    small = {"num_classes": 5, "query_depth": 4, "scope_size": 5}
    stages = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem": "small", **small}
    blocks = {"depths": (1,) * 7, "widths": (4, 8, 8, 8, 12, 12, 16), "stem_width": 4, "head_width": 20}
    forms: dict[str, dict[str, Any]] = {
        "convolutions": {},
        "lambdas": {"layers": "LLLL"},
        "squeezed": {"squeeze_excitation": ("c2", "c3", "c4", "c5"), "stochastic_depth": 0.5},
    }
    for method in ("", ".features"):
        for form, options in forms.items():
            make = partial(models.create_model, "resnet50", **stages, **options)
            yield PublicCall(f"ResNet{method}", images, form, make=make)
        for form, lambdas in {"convolutions": (), "lambdas": (5,)}.items():
            make = partial(models.create_model, "mobilenetv2", lambda_blocks=lambdas, **blocks, **small)
            yield PublicCall(f"MobileNetV2{method}", images, form, make=make)


CALLS: tuple[PublicCall, ...] = (
    *_functions(),
    *_functions_of_equations(),
    *_attentions(),
    *_tables(),
    *_lambda_layers(),
    *_positions_of_tokens(),
    *_token_layers(),
    *_other_layers(),
    *_networks(),
)
