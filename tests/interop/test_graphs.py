"""Graphs that viewers and extractors of features make, and the numbers that come out of them."""

import copy
from pathlib import Path

import pytest
import torch

from lambdanets.models import create_model
from support.compare import assert_close, assert_equal
from support.small_network import IMAGE_SIZE, images, small_resnet, tool

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("unchecked")]

STAGES = ("c2", "c3", "c4", "c5")


def test_tensorboard_draws_every_layer_and_operator(tmp_path: Path) -> None:
    network = small_resnet().eval()
    with tool("torch.utils.tensorboard").SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(network, images(size=IMAGE_SIZE))
    events = tool("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(str(tmp_path))
    nodes = events.Reload().Graph().node
    operators = [node.op for node in nodes]
    assert operators.count("lambdanets::position_output") == len(STAGES)
    # A node for each of its two outputs.
    assert operators.count("lambdanets::content_lambdas") == 2 * len(STAGES)
    assert not [name for name in operators if "PythonOp" in name]
    for stage in STAGES:
        layers = {"to_queries", "to_keys", "to_values", "norm_queries", "norm_values", "position"}
        seen = {
            layer for layer in layers for node in nodes if f"[{stage}]" in node.name and layer in node.name
        }
        assert seen == layers


@pytest.mark.parametrize("training", [False, True])
def test_torchvision_extracts_what_features_gives(training: bool) -> None:
    network, batch = small_resnet().train(training), images(size=IMAGE_SIZE)
    extractor = tool("torchvision.models.feature_extraction").create_feature_extractor(network, list(STAGES))
    expected = copy.deepcopy(network).features(batch)
    extracted = extractor(batch)
    assert list(extracted) == list(STAGES)
    for stage in STAGES:
        assert_equal(extracted[stage], expected[stage], stage)


def test_torchvision_extracts_whole_lambda_layers() -> None:
    network, batch = small_resnet().eval(), images(size=IMAGE_SIZE)
    extraction = tool("torchvision.models.feature_extraction")
    _, nodes = extraction.get_graph_node_names(network)
    assert {f"{stage}.0.mixer" for stage in STAGES} <= set(nodes)
    seen: list[torch.Tensor] = []
    hook = network.c4[0].mixer.register_forward_hook(lambda *call: seen.append(call[2]))
    network(batch)
    hook.remove()
    extractor = extraction.create_feature_extractor(network, {"c4.0.mixer": "lambdas"})
    assert_close(extractor(batch)["lambdas"], seen[0])


@pytest.mark.parametrize("name", ["lambda_resnet50", "lambda_mobilenetv2"])
def test_torchvision_extracts_from_the_networks_of_the_paper(name: str) -> None:
    network, batch = create_model(name, num_classes=3).eval(), torch.randn(1, 3, 64, 64)
    expected = network.features(batch)
    extract = tool("torchvision.models.feature_extraction").create_feature_extractor
    extracted = extract(network, list(expected))(batch)
    for stage, maps in expected.items():
        assert_equal(extracted[stage], maps, stage)
