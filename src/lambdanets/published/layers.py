"""Published numbers of the studies of layers in a ResNet-50: Tables 3, 4 and 8 to 12."""

from typing import Any, Final

from lambdanets.published.rows import Number, Row, Value, printed


def _table3(
    label: str,
    model: str,
    top1: Number,
    parameters_m: Number | None = None,
    gain: Number | None = None,
    **more: Any,
) -> Row:
    values = printed(parameters_m=parameters_m, top1=top1, gain=gain)
    return Row(table=3, label=label, model=model, values=values, **more)


TABLE_3: Final[tuple[Row, ...]] = (
    _table3("convolution", "resnet50", 76.9, 25.6),
    _table3("convolution + SE", "resnet50_se", 77.6, 28.1, 0.7),
    _table3(
        "convolution + linear attention, Chen 2018",
        "double_attention_resnet50",
        77.0,
        33.0,
        notes={"parameters_m": "open: places and depth of the five blocks, their norms and biases"},
    ),
    _table3(
        "convolution + linear attention, Shen 2018",
        "",
        77.3,
        None,
        1.2,
        notes={"label": "the paper prints no parameters, and says too little of the network to build it"},
    ),
    _table3(
        "convolution + relative attention, Bello 2019",
        "resnet50_augmented_convolution",
        77.7,
        25.8,
        1.3,
        notes={"label": "open: how the values' tenth becomes a multiple of 8 heads"},
    ),
    _table3(
        "local relative attention, Ramachandran 2019",
        "resnet50_local_attention",
        77.4,
        18.0,
        0.5,
        notes={"label": "trained for 130 epochs without label smoothing, the paper says"},
    ),
    _table3(
        "local relative attention, Hu 2019",
        "local_relation_resnet50",
        77.3,
        23.3,
        1.0,
        notes={"parameters_m": "open: the widths, the value projection and the geometry network's width"},
    ),
    _table3(
        "local relative attention, Zhao 2020",
        "patchwise_san19",
        78.2,
        20.5,
        1.3,
        notes={"label": "its patchwise SAN19, which is no ResNet-50"},
    ),
    _table3("lambda layer", "resnet50_llll", 78.4, 15.0, 1.5),
    _table3(
        "lambda layer, u=4",
        "resnet50_llll",
        78.9,
        16.0,
        2.0,
        overrides={"intra_depth": 4, "scope_size": 7},
    ),
)


def _table4(
    label: str,
    model: str,
    space: str,
    *,
    memory_gib: Number | None = None,
    speed: Value | None = None,
    top1: Value | None = None,
    **more: Any,
) -> Row:
    values = printed(space=space, memory_gib=memory_gib, inference_images_per_s=speed, top1=top1)
    return Row(table=4, label=label, model=model, values=values, **more)


# In the order of `analysis.complexity.TABLE_4`.
TABLE_4: Final[tuple[Row, ...]] = (
    _table4(
        "global self-attention",
        "resnet50_relative_attention",
        "Θ(b l h n²)",
        memory_gib=120,
        speed="out of memory",
        top1="out of memory",
        notes={"memory_gib": "122.8 by the rule that gives the rows below; the paper's source says 108"},
    ),
    _table4(
        "axial self-attention",
        "resnet50_axial_attention",
        "Θ(b l h n √n)",
        memory_gib=4.8,
        speed=960,
        top1=77.5,
    ),
    _table4("local self-attention, 7×7", "resnet50_local_attention", "Θ(b l h n m)", speed=440, top1=77.4),
    _table4("lambda layer", "resnet50_llll", "Θ(l k n²)", memory_gib=1.9, speed=1160, top1=78.4),
    _table4(
        "lambda layer, k=8",
        "resnet50_llll",
        "Θ(l k n²)",
        memory_gib=0.95,
        speed=1640,
        top1=77.9,
        overrides={"query_depth": 8},
        notes={"memory_gib": "half of the row above, 1.92, is 0.96"},
    ),
    _table4(
        "lambda layer, shared embeddings",
        "resnet50_llll",
        "Θ(k n²)",
        memory_gib=0.63,
        speed=1210,
        top1=78.0,
        overrides={"share_position": "stage"},
    ),
    _table4(
        "lambda convolution, 7×7",
        "resnet50_llll",
        "Θ(l k n m)",
        speed=1100,
        top1=78.1,
        overrides={"scope_size": 7},
    ),
)

_UNEXPLAINED: Final = "no way of counting gives the published number"
_ROUNDING: Final = "differs by more than rounding; every row around it fits"


def _table8(k: int, h: int, u: int, parameters_m: Number, top1: Number, note: str = "") -> Row:
    overrides: dict[str, Any] = {"query_depth": k, "num_heads": h, "intra_depth": u}
    if u > 1:
        # The paper uses the convolution and a 7×7 scope with an intra-depth.
        overrides["scope_size"] = 7
    return Row(
        table=8,
        label=f"k={k} h={h} u={u}",
        model="resnet50_llll",
        overrides=overrides,
        values={"parameters_m": parameters_m, "top1": top1},
        notes={"parameters_m": note},
    )


TABLE_8: Final[tuple[Row, ...]] = (
    Row(table=8, label="convolution", model="resnet50", values={"parameters_m": 25.6, "top1": 76.9}),
    _table8(8, 2, 1, 14.8, 77.2, _UNEXPLAINED),
    _table8(8, 16, 1, 15.6, 77.9, _UNEXPLAINED),
    _table8(2, 4, 1, 14.7, 77.4, _ROUNDING),
    _table8(4, 4, 1, 14.7, 77.6),
    _table8(8, 4, 1, 14.8, 77.9),
    _table8(16, 4, 1, 15.0, 78.4),
    _table8(32, 4, 1, 15.4, 78.4),
    _table8(2, 8, 1, 14.7, 77.8, _ROUNDING),
    _table8(4, 8, 1, 14.7, 77.7, _ROUNDING),
    _table8(8, 8, 1, 14.7, 77.9),
    _table8(16, 8, 1, 15.1, 78.1),
    _table8(32, 8, 1, 15.7, 78.5, _ROUNDING),
    _table8(8, 8, 4, 15.3, 78.4),
    _table8(8, 8, 8, 16.0, 78.6),
    _table8(16, 4, 4, 16.0, 78.9),
)


def _table9(
    label: str,
    overrides: dict[str, Any],
    parameters_m: Number,
    flops_g: Number,
    top1: Number,
    note: str = "",
) -> Row:
    return Row(
        table=9,
        label=label,
        model="resnet50_llll",
        overrides=overrides,
        values={"parameters_m": parameters_m, "flops_g": flops_g, "top1": top1},
        notes={"parameters_m": note},
    )


TABLE_9: Final[tuple[Row, ...]] = (
    _table9("content only", {"positional": False}, 14.9, 5.0, 68.8),
    _table9("position only", {"content": False}, 14.9, 11.9, 78.1),
    _table9("content and position", {}, 14.9, 12.0, 78.4, "Table 8 prints 15.0 for the same network"),
)


def _table10(label: str, scope_size: int | None, flops_g: Number, top1: Number) -> Row:
    # The caption speaks of the last two stages; the FLOPs are those of lambda layers in the last three.
    return Row(
        table=10,
        label=label,
        model="resnet50_clll",
        overrides={"scope_size": scope_size},
        values={"flops_g": flops_g, "top1": top1},
    )


TABLE_10: Final[tuple[Row, ...]] = (
    _table10("3×3", 3, 5.7, 77.6),
    _table10("7×7", 7, 6.1, 78.2),
    _table10("15×15", 15, 7.8, 78.5),
    _table10("23×23", 23, 10.0, 78.3),
    _table10("31×31", 31, 12.4, 78.5),
    _table10("global", None, 19.4, 78.4),
)


def _table11(label: str, overrides: dict[str, Any], top1: Number) -> Row:
    return Row(table=11, label=label, model="resnet50_llll", overrides=overrides, values={"top1": top1})


TABLE_11: Final[tuple[Row, ...]] = (
    _table11("softmax on keys", {}, 78.4),
    _table11("softmax on keys and queries", {"key_normalization": "softmax_keys_and_queries"}, 78.1),
    _table11("L2 norm of keys", {"key_normalization": "l2"}, 78.0),
    _table11("keys as they are", {"key_normalization": "none"}, 70.0),
    _table11("no batch norm of queries and values", {"normalization": "none"}, 76.2),
)


def _table12(layers: str, parameters_m: Number, speed: int, top1: Number, note: str = "") -> Row:
    return Row(
        table=12,
        label="-".join(layers),
        model="resnet50" if layers == "CCCC" else f"resnet50_{layers.lower()}",
        values={"parameters_m": parameters_m, "inference_images_per_s": speed, "top1": top1},
        notes={"parameters_m": note},
    )


TABLE_12: Final[tuple[Row, ...]] = (
    _table12("CCCC", 25.6, 7240, 76.9),
    _table12("LCCC", 25.5, 1880, 77.3),
    _table12("LLCC", 25.0, 1280, 77.2),
    _table12("LLLC", 21.7, 1160, 77.8),
    _table12("LLLL", 15.0, 1160, 78.4),
    _table12("CLLL", 15.1, 2200, 78.3),
    _table12("CCLL", 15.4, 4980, 78.3, "the table's other rows imply 15.6"),
    _table12("CCCL", 18.8, 7160, 77.3),
)
