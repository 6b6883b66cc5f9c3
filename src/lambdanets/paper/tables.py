"""The twenty tables: titles, captions and columns in our words, filled with the published rows and ours."""

from dataclasses import replace
from itertools import compress
from typing import Final

from lambdanets.errors import ArgumentError, DependencyError
from lambdanets.paper.computed import COMPLEXITY, compute
from lambdanets.paper.results import Results
from lambdanets.paper.schema import Cell, Column, Table
from lambdanets.published import RESNET_RS, TABLES, Row

_PARAMETERS: Final = Column(key="parameters_m", heading="parameters", unit="M", our_decimals=3)
_FLOPS: Final = Column(key="flops_g", heading="FLOPs", unit="G", our_decimals=2)
_TOP1: Final = Column(key="top1", heading="top-1", unit="%", our_decimals=1)
_PSEUDO: Final = Column(key="top1_pseudo", heading="top-1 with pseudo-labels", unit="%", our_decimals=1)
_INFERENCE: Final = Column(key="inference_images_per_s", heading="inference", unit="images/s")
_TRAINING: Final = Column(key="training_images_per_s", heading="training", unit="images/s")
_STEP: Final = Column(key="step_s", heading="training on 1024 images", unit="s", decimals=2, our_decimals=2)
_PEAK: Final = Column(key="peak_gib", heading="peak of a training step", unit="GiB", our_decimals=2)
_TIME: Final = Column(key="time", heading="time")
_SPACE: Final = Column(key="space", heading="space")
_MULTIPLY_ADDS: Final = Column(
    key="multiply_adds_m", heading="multiply-adds of an example", unit="M", our_decimals=1
)
_NUMBERS: Final = Column(key="numbers_k", heading="numbers it keeps", unit="thousands", our_decimals=1)

_SMALL: Final = (
    "Top-1 of the paper is ImageNet's. Where ours says it was trained on another data set, it is a small"
    " network with the row's layers there: compare rows, not columns."
)
_SPEED: Final = "The paper's speeds are of 8 TPUv3 cores; no ratio of them to ours says anything."
_EXAMPLE: Final = (
    "The example is b=1, n=m=784 (28×28), k=16, d=128 and h=4 (8 for attention), u=4; what a plain"
    " computation counts and keeps there, exactly."
)
_ENLARGED: Final = "350 epochs, ResNet-RS's stem and shortcuts."

_TABLES: Final = (
    Table(
        number=1,
        title="What the letters of the lambda layer stand for",
        caption="Definitions. Ours is the name under which each is found in this library.",
        columns=(Column(key="definition", heading="definition"),),
        row_heading="quantity",
    ),
    Table(
        number=2,
        title="Growth of long-range layers",
        caption=f"Time and space beside the projections and the inputs. {_EXAMPLE}",
        columns=(_TIME, _SPACE, _MULTIPLY_ADDS, _NUMBERS),
        row_heading="layer",
    ),
    Table(
        number=3,
        title="Attention and lambda layers in a ResNet-50",
        caption="At 224 pixels; the gain is over the same work's own convolutions. The paper prints no speeds"
        f" here. {_SMALL}",
        columns=(
            _PARAMETERS,
            _TOP1,
            Column(key="gain", heading="gain", unit="%", our_decimals=1),
            _INFERENCE,
        ),
        row_heading="layer",
    ),
    Table(
        number=4,
        title="Memory, speed and accuracy of long-range layers in a ResNet-50",
        caption="Memory is the paper's rule: attention maps alone, or embeddings of all pairs alone, float32,"
        " 128 images of 224 pixels, 8 heads. The peak is what a training step of the"
        " batch that is named really takes, with weights, gradients, momentum and images."
        f" {_SPEED} {_SMALL}",
        columns=(
            _SPACE,
            Column(key="memory_gib", heading="memory by the rule", unit="GiB", our_decimals=2),
            _PEAK,
            _INFERENCE,
            _TOP1,
        ),
        row_heading="layer",
    ),
    Table(
        number=5,
        title="Large networks with more data",
        caption=f"Trained with pseudo-labels or with JFT. {_SPEED}",
        columns=(_PARAMETERS, _TRAINING, _INFERENCE, _TOP1),
    ),
    Table(
        number=6,
        title="Heads that share keys and values",
        caption=f"A multi-query layer against one with keys and values of each head. {_EXAMPLE}",
        columns=(_TIME, _SPACE, _MULTIPLY_ADDS, _NUMBERS),
        row_heading="layer",
    ),
    Table(
        number=7,
        title="Growth with the intra-depth",
        caption=f"u sums as many products in every lambda. {_EXAMPLE}",
        columns=(_TIME, _SPACE, _MULTIPLY_ADDS, _NUMBERS),
        row_heading="layer",
    ),
    Table(
        number=8,
        title="Query depth, heads and intra-depth",
        caption=f"An all-lambda ResNet-50, r=23, or r=7 where u>1. {_SMALL}",
        columns=(_PARAMETERS, _TOP1),
        row_heading="layer",
    ),
    Table(
        number=9,
        title="Content and position",
        caption=f"An all-lambda ResNet-50 with one kind of lambda or both. {_SMALL}",
        columns=(_PARAMETERS, _FLOPS, _TOP1),
        row_heading="lambdas",
    ),
    Table(
        number=10,
        title="The scope of position lambdas",
        caption="A ResNet-50 with lambda layers in its last three stages: the caption of the paper says two,"
        f" its FLOPs are those of three. {_SMALL}",
        columns=(_FLOPS, _TOP1),
        row_heading="scope",
    ),
    Table(
        number=11,
        title="How keys, queries and values are normalised",
        caption=f"An all-lambda ResNet-50. {_SMALL}",
        columns=(_TOP1,),
        row_heading="normalisation",
    ),
    Table(
        number=12,
        title="Lambda layers in some stages, convolutions in others",
        caption=f"ResNet-50 at 224 pixels; L or C for each of c2 to c5. {_SPEED} {_SMALL}",
        columns=(_PARAMETERS, _INFERENCE, _TOP1),
        row_heading="stages",
    ),
    Table(
        number=13,
        title="Lambda layers in c4 and c5 of ResNet-101 and 152",
        caption=f"{_ENLARGED} The first four rows at 224 pixels, the others at 256. {_SPEED}",
        columns=(_PARAMETERS, _INFERENCE, _TOP1),
    ),
    Table(
        number=14,
        title="Detection and segmentation on COCO",
        caption="Mask R-CNN from scratch at 1024 pixels; average precision of boxes and masks, and of small,"
        " medium and large objects. Where ours says it was trained on scenes, it is a small backbone on"
        " handwritten digits at 160 pixels: with squeeze-and-excitation in the rows with SE, lambda layers in"
        " c5 of LambdaResNets, a block more in c3 and in c4 of those of 152 layers. Scenes have no large"
        " objects. Compare rows, not columns.",
        columns=tuple(
            Column(key=f"{kind}_ap{part}", heading=f"{kind} AP{part.replace('_', ' ')}", our_decimals=1)
            for kind in ("box", "mask")
            for part in ("", "_small", "_medium", "_large")
        ),
        row_heading="backbone",
    ),
    Table(
        number=15,
        title="Parameters at an accuracy of 84 %",
        caption="EfficientNet-B6 beside networks with lambda layers in all of c4 and c5.",
        columns=(_PARAMETERS, _TOP1),
    ),
    Table(
        number=16,
        title="FLOPs at an accuracy of 84 %",
        caption="2 × multiply-adds.",
        columns=(_FLOPS, _TOP1),
    ),
    Table(
        number=17,
        title="Lambda layers in a MobileNetV2",
        caption="Inverted bottlenecks 10 and 16 with 5×5 lambda layers, k=32, for their depthwise"
        " convolutions.",
        columns=(
            Column(key="parameters_m", heading="parameters", unit="M", decimals=2, our_decimals=3),
            Column(key="flops_m", heading="FLOPs", unit="M", our_decimals=1),
            _TOP1,
        ),
    ),
    Table(
        number=18,
        title="LambdaResNets of every depth and size",
        caption=f"{_ENLARGED} The time of a training step on 1024 images; ours is the step of a batch that"
        " fits, times 1024 over that batch. The rows of ResNet-RS are its own publication's: Figure 4 draws"
        f" them. {_SPEED}",
        columns=(_PARAMETERS, _STEP, _TOP1, _PSEUDO),
    ),
    Table(
        number=19,
        title="Blocks of the LambdaResNets, and which of them are lambda layers",
        caption="Blocks of c2 to c5, and the lambda layers among those of c4, counted from 1; all of c5 are.",
        columns=(
            Column(key="blocks", heading="blocks"),
            Column(key="c4_lambdas", heading="lambda layers of c4"),
        ),
    ),
    Table(
        number=20,
        title="Regularisation by depth and size",
        caption="RandAugment's magnitude, dropout before the classifier, stochastic depth. Ours are those"
        " that the recipe of the row, which takes the published numbers as its settings, puts into the"
        " network and its images: that they agree says that none is lost on the way.",
        columns=(
            Column(key="augmentation", heading="RandAugment"),
            Column(key="dropout", heading="dropout", decimals=1, our_decimals=1),
            Column(key="stochastic_depth", heading="stochastic depth", decimals=1, our_decimals=1),
        ),
    ),
)

# The tables without their rows, by number.
_CAPTIONS: Final = {table.number: table for table in _TABLES}
NUMBERS: Final = tuple(_CAPTIONS)


def rows_of(number: int) -> tuple[Row, ...]:
    """The rows of a table; Table 18 also has those of ResNet-RS that Figure 4 draws."""
    if number in (2, 7):
        # What the closed form leaves out.
        return tuple(
            replace(row, notes={**row.notes, "label": COMPLEXITY[number, row.label].note})
            for row in TABLES[number]
        )
    return (*TABLES[number], *RESNET_RS) if number == 18 else TABLES[number]


def table(number: int, results: Results | None = None) -> Table:
    """Make a table of the paper with ours beside it.

    Args:
        number: 1 to 20, as in the camera-ready paper.
        results: Measured and trained results.

    Raises:
        ArgumentError: There is no table of that number.
    """
    if number not in _CAPTIONS:
        raise ArgumentError(f"tables: number must be from 1 to {len(_CAPTIONS)}, got {number}.")
    empty, results = _CAPTIONS[number], results or {}
    rows = [(row, [_cell(row, column, results) for column in empty.columns]) for row in rows_of(number)]
    # A quantity that the paper does not print and nobody has measured is no column.
    used = [not all(cells[place].is_empty for _, cells in rows) for place, _ in enumerate(empty.columns)]
    return replace(
        empty,
        columns=tuple(compress(empty.columns, used)),
        rows=tuple((row, tuple(compress(cells, used))) for row, cells in rows),
    )


def _cell(row: Row, column: Column, results: Results) -> Cell:
    note = row.notes.get(column.key, "")
    try:
        computed = compute(row, column.key)
    except DependencyError as error:
        computed, note = None, str(error)
    found = (computed,) if computed else results.get((row.table, row.label, column.key), ())
    return Cell(row=row, column=column, results=found, note=note)
