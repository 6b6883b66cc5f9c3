"""Print every row of the paper that can be counted, ours beside the published, as Markdown.

python examples/paper_counts.py
"""

import torch

from lambdanets import create_model
from lambdanets.analysis.counting import count_layers
from lambdanets.paper import TABLES, Row


def line(row: Row) -> str:
    """One row: what the paper prints and what the modules give."""
    with torch.device("meta"):
        model = create_model(row.model, image_size=row.image_size, **row.overrides)
    layers = count_layers(model, (model.config.in_channels, row.image_size, row.image_size))
    parameters, flops = sum(layer.parameters for layer in layers), sum(layer.flops for layer in layers)
    overrides = ", ".join(f"{name}={value!r}" for name, value in row.overrides.items())
    cells = (
        row.label,
        f"`{row.model}`" + (f" with {overrides}" if overrides else ""),
        str(row.image_size),
        f"{row.values.get('parameters_m', '')}",
        f"{parameters}",
        f"{row.values.get('flops_g', '')}",
        f"{flops / 1e9:.3f}",
        row.notes.get("parameters_m", ""),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print one Markdown table for each table of the paper."""
    for table in (8, 9, 10, 12, 13):
        print(f"### Table {table}\n")
        print("| row | model | px | paper M | ours | paper GFLOPs | ours | note |")
        print("|---|---|---|---|---|---|---|---|")
        for row in TABLES[table]:
            print(line(row))
        print()


if __name__ == "__main__":
    main()
