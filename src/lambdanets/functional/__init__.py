"""Stateless mathematics: the paper's equations, and the operators with all their implementations."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.functional import relative_position
    from lambdanets.functional.attention.full import axial_attention, global_attention
    from lambdanets.functional.attention.linear import linear_attention
    from lambdanets.functional.attention.local import local_attention, local_relation, vector_attention
    from lambdanets.functional.attention.windows import window_values
    from lambdanets.functional.content import content_output, content_summary
    from lambdanets.functional.lambdas import (
        apply_lambdas,
        channel_lambda,
        content_lambda,
        normalize_keys,
        normalize_queries,
        position_lambdas,
        spatial_lambdas,
    )
    from lambdanets.functional.layer.causal import CausalState, causal_lambda_layer, causal_lambda_step
    from lambdanets.functional.layer.dense import lambda_layer
    from lambdanets.functional.layer.multihead import multihead_lambda_layer
    from lambdanets.functional.position import position_output

__all__ = [
    "CausalState",
    "apply_lambdas",
    "axial_attention",
    "causal_lambda_layer",
    "causal_lambda_step",
    "channel_lambda",
    "content_lambda",
    "content_output",
    "content_summary",
    "global_attention",
    "lambda_layer",
    "linear_attention",
    "local_attention",
    "local_relation",
    "multihead_lambda_layer",
    "normalize_keys",
    "normalize_queries",
    "position_lambdas",
    "position_output",
    "relative_position",
    "spatial_lambdas",
    "vector_attention",
    "window_values",
]

__getattr__, __dir__ = resolve_lazily(
    __name__,
    {
        "CausalState": "lambdanets.functional.layer.causal",
        "apply_lambdas": "lambdanets.functional.lambdas",
        "axial_attention": "lambdanets.functional.attention.full",
        "causal_lambda_layer": "lambdanets.functional.layer.causal",
        "causal_lambda_step": "lambdanets.functional.layer.causal",
        "channel_lambda": "lambdanets.functional.lambdas",
        "content_lambda": "lambdanets.functional.lambdas",
        "content_output": "lambdanets.functional.content",
        "content_summary": "lambdanets.functional.content",
        "global_attention": "lambdanets.functional.attention.full",
        "lambda_layer": "lambdanets.functional.layer.dense",
        "linear_attention": "lambdanets.functional.attention.linear",
        "local_attention": "lambdanets.functional.attention.local",
        "local_relation": "lambdanets.functional.attention.local",
        "multihead_lambda_layer": "lambdanets.functional.layer.multihead",
        "normalize_keys": "lambdanets.functional.lambdas",
        "normalize_queries": "lambdanets.functional.lambdas",
        "position_lambdas": "lambdanets.functional.lambdas",
        "position_output": "lambdanets.functional.position",
        "spatial_lambdas": "lambdanets.functional.lambdas",
        "vector_attention": "lambdanets.functional.attention.local",
        "window_values": "lambdanets.functional.attention.windows",
    },
    submodules=("relative_position",),
)
