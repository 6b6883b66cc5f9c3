"""One row of a table of the paper, with the model that it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A whole number is printed without a point: 66, and not 66.0.
Number = int | float
Value = Number | str


@dataclass(frozen=True, kw_only=True)
class Row:
    """Published numbers of one row.

    Attributes:
        table: Number of the table in the camera-ready paper.
        label: What the row shows.
        values: Quantity -> the published number, or words. The unit is in the quantity's name: `parameters_m`
            (millions), `flops_g` (billions, 2 × multiply-adds), `memory_gib`, `inference_images_per_s` and
            `training_images_per_s` (8 TPUv3 cores), `step_s` (a training step on 1024 images, 8 TPUv3 cores),
            `top1` (ImageNet, percent), `top1_pseudo` (with pseudo-labels), `gain` (of top-1, over the same
            work's convolutions), `box_ap…` and `mask_ap…` (COCO).
        model: Name for `create_model`, `create_baseline` or `related_work`; empty where the row has none.
        overrides: Overrides for `create_model`.
        image_size: Side of the images, in pixels.
        notes: Quantity -> why the published number is doubtful or not met; `label` for the row as a whole.
            An empty note is none.
    """

    table: int
    label: str
    values: Mapping[str, Value] = field(default_factory=dict)
    model: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 224
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """The note on the row as a whole; may be empty."""
        return self.notes.get("label", "")


def printed(**values: Value | None) -> dict[str, Value]:
    """The values that the paper prints: all but None."""
    return {name: value for name, value in values.items() if value is not None}
