"""The short table at the end: ratios, rates, distances, and what was not run."""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, Final

from harness import Result, reason
from ops import PEERS
from peers import LAMBDA_NETWORKS, OWN, TIMM

from gpu_parts import tuning
from gpu_parts.session import NOT_RUN

Results = dict[str, Result]

# By case and group, by kind of call, by contestant: the least median of all settings.
Times = dict[tuple[str, str], dict[str, dict[str, float]]]

SHORT: Final = {
    PEERS: "peers",
    "convolution": "conv",
    "plain-convolution": "plain",
    "plain-pairs": "pairs",
    LAMBDA_NETWORKS: "l-n",
    f"{LAMBDA_NETWORKS}, patched": "l-n-patched",
}


def lines(results: Results) -> Iterator[str]:
    """All blocks; one that cannot be made says why, and the others follow."""
    blocks: list[Callable[[Results], Iterator[str]]] = [
        gate,
        operators,
        layers,
        models,
        left_out,
        means,
        tiles,
    ]
    for block in blocks:
        try:
            shown = list(block(results))
        except Exception as error:
            shown = [f"not shown: {reason(error)}"]
        if shown:
            yield f"== {block.__name__.replace('_', ' ')}"
            yield from shown


def rows_of(results: Results, phase: str) -> Iterator[tuple[str, Result]]:
    """The items of a phase that gave a result."""
    return ((name, row) for name, row in results.get(phase, {}).items() if isinstance(row, dict))


def medians(rows: Result) -> dict[str, float]:
    """The milliseconds of the calls that were timed."""
    return {name: row["median_ms"] for name, row in rows.items() if "median_ms" in row}


def red(results: Results) -> dict[str, list[str]]:
    """What was found to be wrong, by item."""
    wrong = {}
    for name, row in results.get("correctness", {}).items():
        if isinstance(row, str):
            if row != NOT_RUN:
                wrong[name] = [row]
        elif row.get("red"):
            wrong[name] = row["red"]
    return wrong


def gate(results: Results) -> Iterator[str]:
    """How many items are right; the worst error of the kernels beside the peers'; what is wrong."""
    rows = results.get("correctness")
    if not rows:
        return
    wrong = red(results)
    not_run = sum(row == NOT_RUN for row in rows.values())
    right = len(rows) - not_run - len(wrong)
    yield f"{right} of {len(rows)} right, {len(wrong)} wrong, {not_run} not run"
    errors: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    noted: list[str] = []
    for name, part in _comparisons(rows):
        noted += part.get("noted", [])
        own, peers = part["errors"].get("triton"), part["peers"]
        if isinstance(own, dict) and isinstance(peers, dict):
            words = name.split()
            errors.setdefault((words[0], words[-1]), []).extend(
                (one["rms"] / max(peers[tensor]["rms"], 1e-12), one["rms"], tensor)
                for tensor, one in own.items()
            )
    for (operation, precision), cells in errors.items():
        ratio, _, tensor = max(cells)
        largest = max(error for _, error, _ in cells)
        yield f"triton {operation} {precision}: errors to {largest:.0e}, {ratio:.2f}x the peers' ({tensor})"
    if noted:
        yield f"{len(noted)} errors of other implementations too large, first: {noted[0][:120]}"
    for name, texts in list(wrong.items())[:8]:
        yield f"WRONG {name}: {'; '.join(texts)[:150]}"


def _comparisons(rows: Result) -> Iterator[tuple[str, Result]]:
    for name, row in rows.items():
        if isinstance(row, dict):
            parts = [row, *(one for one in row.values() if isinstance(one, dict))]
            yield from ((name, part) for part in parts if "errors" in part and "peers" in part)


def operators(results: Results) -> Iterator[str]:
    """The rates; milliseconds of `auto` forward, backward and both; others' times of both over it."""
    for name, row in rows_of(results, "operator"):
        if "product" in row:
            products, copies = row["product"]["tflop_per_s"], row["copy"]["gb_per_s"]
            yield f"{name}: {copies:.0f} GB/s, {products:.0f} TFLOP/s"
        if "both" not in row:
            continue
        ours = [row[kind]["auto"] for kind in ("forward", "backward", "both")]
        if any("median_ms" not in one for one in ours):
            yield f"{name}: auto failed"
            continue
        times = "/".join(f"{one['median_ms']:.3g}" for one in ours)
        both = ours[-1]
        distance = f" {both['over_least']:.1f}x least" if "over_least" in both else ""
        others = [
            f"{SHORT.get(other, other)} {took / both['median_ms']:.3g}"
            for other, took in medians(row["both"]).items()
            if other != "auto"
        ]
        chosen = "+".join(SHORT.get(one, one) for one in row["notes"]["auto"])
        yield f"{name}: {times} ms {chosen} {both['tflop_per_s']:.3g}TF/s{distance}; {' '.join(others)}"


def layers(results: Results) -> Iterator[str]:
    """Our best time in any setting, and the others' best over it; few images eager and from a graph."""
    for (name, _), kinds in best_times(results).items():
        cells = []
        for kind, times in kinds.items():
            if OWN in times:
                own = times[OWN]
                others = [
                    f"{SHORT.get(one, one)} {took / own:.3g}" for one, took in times.items() if one != OWN
                ]
                cells.append(f"{kind} {own:.3g} ms: {' '.join(others)}")
        if cells:
            yield f"{name}: " + "; ".join(cells)


def best_times(results: Results) -> Times:
    """The least medians of eager, compiled and attention races; of inference with few images apart."""
    best: Times = {}
    for item, row in rows_of(results, "layer"):
        setting, _, name = item.partition(" ")
        # Of the same shape and batch there may be both.
        key = (f"{name} {setting}" if setting == "inference" else name, row["group"])
        for kind in ("train", "infer", "graph"):
            for contestant, took in medians(row.get(kind, {})).items():
                times = best.setdefault(key, {}).setdefault(kind, {})
                who = _without_setting(contestant)
                times[who] = min(times.get(who, math.inf), took)
    return best


def _without_setting(contestant: str) -> str:
    """The contestant's name; ours by any implementation is ours."""
    if contestant.split(",")[0] == OWN:
        return OWN
    return contestant.removesuffix(", channels last").removesuffix(", channels first")


def models(results: Results) -> Iterator[str]:
    """Images a second over ResNet-50's, and memory of a training step."""
    for name, row in rows_of(results, "models"):
        model = name.rpartition(" ")[0]
        cells = []
        for kind in ("train", "infer"):
            if isinstance(row.get(kind), dict):
                speed, ratio = row[kind][model]["images_per_s"], row.get(f"{kind}_ratio", math.nan)
                cells.append(f"{kind} {speed:.0f} im/s, {ratio:.2f} of ResNet-50")
            else:
                cells.append(f"{kind} {str(row.get(kind))[:60]}")
        own, base = row.get("train_peak_bytes"), row.get("against_train_peak_bytes")
        memory = f"; {own / 1e9:.2f} GB, {own / base:.2f}x" if own and base else ""
        yield f"{name} {row['side']}px: " + "; ".join(cells) + memory


def left_out(results: Results) -> Iterator[str]:
    """Items that failed or were not run, in short."""
    for phase, rows in results.items():
        failed = [name for name, row in rows.items() if isinstance(row, str) and row != NOT_RUN]
        not_run = [name for name, row in rows.items() if row == NOT_RUN]
        if not_run:
            yield f"{phase}: {len(not_run)} not run for lack of time, from {not_run[0]} on"
        for name in failed[:4]:
            yield f"{phase}: {name}: {rows[name][:90]}"


def means(results: Results) -> Iterator[str]:
    """Over each group of shapes, geometric: the operator's peers, the faster of the layer's peers."""
    ratios: dict[str, list[float]] = {}
    for _, row in rows_of(results, "operator"):
        times: dict[str, Any] = medians(row.get("both", {}))
        if "auto" in times:
            if PEERS in times:
                name = f"operator {row['group']}: {PEERS} / auto"
                ratios.setdefault(name, []).append(times[PEERS] / times["auto"])
            if "over_least" in row["both"]["auto"]:
                name = f"operator {row['group']}: auto / least time"
                ratios.setdefault(name, []).append(row["both"]["auto"]["over_least"])
    for (_, group), kinds in best_times(results).items():
        for kind, times in kinds.items():
            peers = [took for one, took in times.items() if one.startswith((LAMBDA_NETWORKS, TIMM))]
            if peers and OWN in times:
                name = f"layer {group} {kind}: faster of lambda-networks and timm / ours"
                ratios.setdefault(name, []).append(min(peers) / times[OWN])
    for name, values in ratios.items():
        yield f"{name} {statistics.geometric_mean(values):.2f} ({len(values)} shapes)"


def tiles(results: Results) -> Iterator[str]:
    """Rows for `TUNED`, under the device's name."""
    yield from tuning.lines(results.get("tune", {}))
