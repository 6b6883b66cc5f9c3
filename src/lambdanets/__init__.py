"""LambdaNetworks: long-range interactions without attention.

Layers and networks, with torch alone:

    LambdaLayer2d, LambdaLayer1d, LambdaLayer3d   in place of a convolution
    LambdaLayer                                   for tokens
    create_model, list_models                     the paper's networks by name
    nn, functional                                all layers; the mathematics, one function an equation

Training and use, with the extra `train`:

    get_recipe                                    settings by name, to print and to change
    train, train_detector                         a recipe on data, in a program or a notebook
    load_run, load_detector                       a trained network, ready to use
    register_recipe, register_data_set            recipes and data sets of your own
    errors                                        what can go wrong

Paper: Bello, "LambdaNetworks: Modeling long-range interactions without attention", ICLR 2021.
"""

from typing import TYPE_CHECKING

from lambdanets._lazy import import_with, resolve_lazily

__version__ = "0.1.0"

# Programs saved by torch.export call our operators by name.
import_with("torch", "lambdanets.functional.content", "lambdanets.functional.position")

if TYPE_CHECKING:
    from lambdanets import errors as errors
    from lambdanets import functional as functional
    from lambdanets import models as models
    from lambdanets import nn as nn
    from lambdanets.data.config import DataConfig as DataConfig
    from lambdanets.data.registration import register_data_set as register_data_set
    from lambdanets.models.factory import create_model as create_model
    from lambdanets.models.variants import list_models as list_models
    from lambdanets.nn.lambda_layer import LambdaLayer1d as LambdaLayer1d
    from lambdanets.nn.lambda_layer import LambdaLayer2d as LambdaLayer2d
    from lambdanets.nn.lambda_layer import LambdaLayer3d as LambdaLayer3d
    from lambdanets.nn.token_layer import LambdaLayer as LambdaLayer
    from lambdanets.recipes.registry import get_recipe as get_recipe
    from lambdanets.recipes.registry import register_recipe as register_recipe
    from lambdanets.runs.api import train as train
    from lambdanets.runs.api import train_detector as train_detector
    from lambdanets.runs.detect import LoadedDetector as LoadedDetector
    from lambdanets.runs.detect import load_detector as load_detector
    from lambdanets.runs.load import load_run as load_run
    from lambdanets.runs.loaded import LoadedModel as LoadedModel
    from lambdanets.training.config import DetectConfig as DetectConfig
    from lambdanets.training.config import TrainConfig as TrainConfig
else:
    # Where a type checker does not see it: to one, a module with __getattr__ has every name.
    __all__, __getattr__, __dir__ = resolve_lazily(__name__)
