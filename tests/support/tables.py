"""Results by hand."""

from lambdanets.paper.results import Result


def measured(value: float = 10.0, **changes: object) -> Result:
    """A speed of Table 12's convolution network."""
    fields = {
        "table": 12,
        "row": "C-C-C-C",
        "column": "inference_images_per_s",
        "value": value,
        "kind": "measured",
        "machine": "Chip, 2 cores",
        "settings": {"batch": 8, "precision": "float32"},
        "versions": {"torch": "2.13"},
        "commit": "abc",
        "command": "lambdanets tables 12 --measure",
        "date": "2026-11-21T10:00:00+00:00",
    }
    return Result(**{**fields, **changes})


def trained(seeds: tuple[float, ...] = (98.0, 99.0), **changes: object) -> Result:
    """An accuracy of Table 12's convolution network."""
    values = {str(seed): value for seed, value in enumerate(seeds)}
    fields = {"column": "top1", "kind": "trained", "dataset": "digits", "seeds": values}
    return measured(sum(seeds) / len(seeds), **{**fields, **changes})
