"""LambdaNetworks: long-range interactions without attention.

Paper: Bello, "LambdaNetworks: Modeling long-range interactions without attention", ICLR 2021.
"""

from typing import TYPE_CHECKING

from lambdanets._lazy import import_with, resolve_lazily

if TYPE_CHECKING:
    from lambdanets import functional as functional
    from lambdanets import models as models
    from lambdanets import nn as nn
    from lambdanets.models.factory import create_model as create_model
    from lambdanets.models.variants import list_models as list_models
    from lambdanets.nn.lambda_layer import LambdaLayer1d as LambdaLayer1d
    from lambdanets.nn.lambda_layer import LambdaLayer2d as LambdaLayer2d
    from lambdanets.nn.lambda_layer import LambdaLayer3d as LambdaLayer3d
    from lambdanets.nn.token_layer import LambdaLayer as LambdaLayer
    from lambdanets.runs.detect import LoadedDetector as LoadedDetector
    from lambdanets.runs.detect import load_detector as load_detector
    from lambdanets.runs.load import LoadedModel as LoadedModel
    from lambdanets.runs.load import load_run as load_run

__version__ = "0.1.0"

# Programs saved by torch.export call our operators by name.
import_with("torch", "lambdanets.functional.content", "lambdanets.functional.position")

__all__, __getattr__, __dir__ = resolve_lazily(__name__)
