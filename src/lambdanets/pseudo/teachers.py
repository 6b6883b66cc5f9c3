"""The networks that give labels: a run of ours, a model of timm, or a repository of the Hugging Face Hub."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from lambdanets.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from lambdanets.dependencies import missing_library
from lambdanets.errors import PathError, first_line
from lambdanets.integrations.timm import load_timm
from lambdanets.pseudo.settings import HUB, TIMM, LabelConfig
from lambdanets.reading import read_json
from lambdanets.runs.load import load_run
from lambdanets.runs.loaded import LoadedModel, Origin
from lambdanets.training.weights import check_finite, state_digest


def load_teacher(config: LabelConfig) -> LoadedModel:
    """Load the network that a labelling names. The labels of a model of timm are not known."""
    if config.teacher.startswith(TIMM):
        weights = Path(config.weights) if config.weights else None
        return _from_timm(config.teacher, config.teacher.removeprefix(TIMM), weights)
    if config.teacher.startswith(HUB):
        return _from_hub(config.teacher.removeprefix(HUB))
    return load_run(config.teacher)


class _Renormalized(nn.Module):
    """A network for images of another mean and std, which takes colour images of ImageNet's usual ones."""

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        old_mean, old_std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        shift, scale = (torch.tensor(mean) - old_mean) / old_std, torch.tensor(std) / old_std
        self.normalize = Normalize(shift.tolist(), scale.tolist())
        self.model = model

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b num_classes"]:
        """Logits. Grey images stay as they are: broadcasting would make three channels of one."""
        return self.model(self.normalize(images) if images.shape[1] == len(IMAGENET_MEAN) else images)


def _from_timm(source: str, name: str, weights: Path | None = None) -> LoadedModel:
    model = load_timm(name, weights)
    check_finite(model.state_dict(), source if weights is None else str(weights))
    origin = Origin(source=source, model=source, sha256=state_digest(model.state_dict()))
    config = getattr(model, "pretrained_cfg", {})
    mean, std = tuple(config.get("mean", IMAGENET_MEAN)), tuple(config.get("std", IMAGENET_STD))
    if len(mean) == len(IMAGENET_MEAN) and (mean, std) != (IMAGENET_MEAN, IMAGENET_STD):
        model = _Renormalized(model, mean, std)
    return LoadedModel(model=model.eval(), preprocessing=None, labels=None, origin=origin)


def _from_hub(repository: str) -> LoadedModel:
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
    except ImportError as error:
        raise missing_library("load_teacher", "huggingface_hub") from error
    try:
        config = read_json(Path(hf_hub_download(repository, "config.json")), {})
        files = ["config.json", "best.safetensors", "best.json"]
        is_run = "architecture" not in config
        folder = snapshot_download(repository, allow_patterns=files) if is_run else None
    # Each layer of the download has errors of its own.
    except Exception as error:
        raise PathError(
            f"load_teacher: {HUB}{repository} must be within reach, got '{first_line(error)}'. Without a"
            " network give the folder of a run."
        ) from error
    return load_run(folder) if folder else _from_timm(f"{HUB}{repository}", f"hf-hub:{repository}")
