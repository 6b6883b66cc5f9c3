"""Stateless mathematics: the paper's equations, and the operators with all their implementations."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.functional import relative_position as relative_position
    from lambdanets.functional.attention.full import axial_attention as axial_attention
    from lambdanets.functional.attention.full import global_attention as global_attention
    from lambdanets.functional.attention.full import linear_attention as linear_attention
    from lambdanets.functional.attention.local import local_attention as local_attention
    from lambdanets.functional.attention.local import local_relation as local_relation
    from lambdanets.functional.attention.local import vector_attention as vector_attention
    from lambdanets.functional.attention.local import window_values as window_values
    from lambdanets.functional.causal import CausalState as CausalState
    from lambdanets.functional.causal import causal_lambda_layer as causal_lambda_layer
    from lambdanets.functional.causal import causal_lambda_step as causal_lambda_step
    from lambdanets.functional.content import content_output as content_output
    from lambdanets.functional.content import content_summary as content_summary
    from lambdanets.functional.lambdas import apply_lambdas as apply_lambdas
    from lambdanets.functional.lambdas import channel_lambda as channel_lambda
    from lambdanets.functional.lambdas import content_lambda as content_lambda
    from lambdanets.functional.lambdas import normalize_keys as normalize_keys
    from lambdanets.functional.lambdas import normalize_queries as normalize_queries
    from lambdanets.functional.lambdas import position_lambdas as position_lambdas
    from lambdanets.functional.lambdas import spatial_lambdas as spatial_lambdas
    from lambdanets.functional.layer import lambda_layer as lambda_layer
    from lambdanets.functional.layer import multihead_lambda_layer as multihead_lambda_layer
    from lambdanets.functional.position import position_output as position_output
else:
    # Where a type checker does not see it: to one, a module with __getattr__ has every name.
    __all__, __getattr__, __dir__ = resolve_lazily(__name__)
