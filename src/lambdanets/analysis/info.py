"""The job `info`: count a model, and say it in text or JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lambdanets.analysis.counting import LayerCount, ModelCount, count
from lambdanets.models import create_model, on_meta


@dataclass(frozen=True, kw_only=True)
class Information:
    """A model, how it was made, and what was counted."""

    model: str
    image_size: tuple[int, int]
    overrides: Mapping[str, Any]
    counted: ModelCount

    def to_json(self) -> str:
        """One object: model, image_size, overrides, parameters, flops, bytes and the rows of layers."""
        height, width = self.image_size
        return json.dumps(
            {
                "model": self.model,
                "image_size": height if height == width else [height, width],
                "overrides": dict(self.overrides),
                "parameters": self.counted.parameters,
                "flops": self.counted.flops,
                "inference_bytes_per_image": self.counted.inference_bytes,
                "training_bytes_per_image": self.counted.training_bytes,
                "layers": [asdict(layer) for layer in self.counted.layers],
            },
            indent=2,
        )

    def to_text(self, per_layer: bool = False) -> str:
        """A summary, and a line for each stage or each layer."""
        counted = self.counted
        height, width = self.image_size
        lines = [
            f"{self.model} at {height}x{width}",
            f"  parameters       {counted.parameters:,}",
            f"  FLOPs            {counted.flops / 1e9:.2f} G (2 x multiply-adds, by the paper's rule)",
            f"  inference memory {counted.inference_bytes / 1e6:.1f} MB of float32 activations an image",
            f"  training memory  {counted.training_bytes / 1e6:.1f} MB of float32 activations an image",
            "",
            f"  {'layer' if per_layer else 'stage':<24} {'output':<16} {'parameters':>12} {'MFLOPs':>10}",
        ]
        rows = counted.layers if per_layer else _by_stage(counted.layers)
        for row in rows:
            shape = "x".join(map(str, row.output_shape))
            lines.append(f"  {row.name:<24} {shape:<16} {row.parameters:>12,} {row.flops / 1e6:>10.1f}")
        return "\n".join(lines)


def inform(model: str, image_size: tuple[int, int], overrides: Mapping[str, Any]) -> Information:
    """Count a model by its name, without allocating it."""
    with on_meta():
        network = create_model(model, **overrides)
    counted = count(network, (network.config.in_channels, *image_size))
    return Information(model=model, image_size=image_size, overrides=overrides, counted=counted)


def _by_stage(layers: tuple[LayerCount, ...]) -> list[LayerCount]:
    stages: dict[str, list[LayerCount]] = {}
    for layer in layers:
        stages.setdefault(layer.name.split(".")[0], []).append(layer)
    return [
        LayerCount(
            name=name,
            kind="stage",
            output_shape=members[-1].output_shape,
            parameters=sum(member.parameters for member in members),
            flops=sum(member.flops for member in members),
        )
        for name, members in stages.items()
    ]
