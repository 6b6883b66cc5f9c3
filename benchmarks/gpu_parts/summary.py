"""The short table at the end: ratios, rates, distances, and what was not run."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from peers import LAMBDA_NETWORKS, OWN, TIMM

from gpu_parts.operators import PEERS
from gpu_parts.session import NOT_RUN

Results = dict[str, dict[str, Any]]

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
        ceilings,
        operators,
        layers,
        small,
        models,
        limits,
        left_out,
        means,
    ]
    for block in blocks:
        try:
            found = list(block(results))
        except Exception as error:
            found = [f"not shown: {type(error).__name__}: {error}"]
        if found:
            yield f"== {block.__name__.replace('_', ' ')}"
            yield from found


def red(results: Results) -> dict[str, list[str]]:
    """What was found to be wrong, by item."""
    found = {}
    for name, row in results.get("correctness", {}).items():
        if isinstance(row, str):
            if row != NOT_RUN:
                found[name] = [row]
        elif row.get("red"):
            found[name] = row["red"]
    return found


def gate(results: Results) -> Iterator[str]:
    """How many items are right; the worst error of the kernels beside the peers'; what is wrong."""
    rows = results.get("correctness")
    if not rows:
        return
    wrong = red(results)
    done = [name for name, row in rows.items() if row != NOT_RUN]
    right, not_run = len(done) - len(wrong), len(rows) - len(done)
    yield f"{right} of {len(rows)} right, {len(wrong)} wrong, {not_run} not run"
    yield from worst_errors(rows)
    noted = [text for row in rows.values() for part in _comparisons(row) for text in part.get("noted", [])]
    if noted:
        yield f"{len(noted)} errors of other forms above the most, first: {noted[0][:120]}"
    for name, texts in list(wrong.items())[:8]:
        yield f"WRONG {name}: {'; '.join(texts)[:150]}"


def worst_errors(rows: dict[str, Any]) -> Iterator[str]:
    """Of the kernels, by operation and precision: the largest, and the largest over the peers'."""
    found: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for name, row in rows.items():
        for part in _comparisons(row):
            errors, peers = part["errors"].get("triton"), part["peers"]
            if isinstance(errors, dict) and isinstance(peers, dict):
                words = name.split()
                found.setdefault((words[0], words[-1]), []).extend(
                    (one["rms"] / max(peers[tensor]["rms"], 1e-12), one["rms"], tensor)
                    for tensor, one in errors.items()
                )
    for (operation, precision), cells in found.items():
        ratio, _, tensor = max(cells)
        most = max(error for _, error, _ in cells)
        yield f"triton {operation} {precision}: errors to {most:.0e}, {ratio:.2f}x the peers' ({tensor})"


def _comparisons(row: Any) -> Iterator[dict[str, Any]]:
    if isinstance(row, dict):
        if "errors" in row:
            yield row
        for one in row.values():
            if isinstance(one, dict) and "errors" in one:
                yield one


def ceilings(results: Results) -> Iterator[str]:
    """Copy, product, and the peers' convolutions."""
    for name, row in results.get("ceilings", {}).items():
        if isinstance(row, str):
            yield f"{name}: {row[:80]}"
        elif "gb_per_s" in row:
            yield f"{name}: {row['gb_per_s']:.0f} GB/s"
        elif "tflop_per_s" in row:
            yield f"{name}: {row['tflop_per_s']:.0f} TFLOP/s"
        else:
            cells = [
                f"{key} {_cell(one, 'tflop_per_s', ' TF/s')}{_cell(one, 'gb_per_s', ' GB/s')}"
                for key, one in row.get("bfloat16", row).items()
                if isinstance(one, dict)
            ]
            yield f"{name}: " + ", ".join(cells)


def _cell(row: dict[str, Any], key: str, unit: str) -> str:
    return f"{row[key]:.1f}{unit}" if key in row else ""


def operators(results: Results) -> Iterator[str]:
    """Of `auto`: milliseconds forward, backward and both; rates; then others' times of both over it."""
    for name, row in results.get("operator", {}).items():
        if isinstance(row, str) or "both" not in row:
            continue
        ours = [row[kind]["auto"] for kind in ("forward", "backward", "both")]
        if any("median_ms" not in one for one in ours):
            yield f"{name}: auto failed"
            continue
        times = "/".join(f"{one['median_ms']:.3g}" for one in ours)
        both = ours[-1]
        distance = f" {both['over_least']:.1f}x least" if "over_least" in both else ""
        others = [
            f"{SHORT.get(form, form)} {one['median_ms'] / both['median_ms']:.3g}"
            for form, one in row["both"].items()
            if form != "auto" and "median_ms" in one
        ]
        chosen = "+".join(SHORT.get(form, form) for form in row["notes"]["auto"])
        yield f"{name}: {times} ms {chosen} {both['tflop_per_s']:.3g}TF/s{distance}; {' '.join(others)}"


def mean(ratios: list[float]) -> float:
    """Geometric."""
    return math.prod(ratios) ** (1 / len(ratios))


def layers(results: Results) -> Iterator[str]:
    """Our best time in any setting, and the others' best over it."""
    for (name, _), kinds in best_times(results).items():
        cells = []
        for kind, times in kinds.items():
            if OWN in times:
                own = times[OWN]
                others = [
                    f"{SHORT.get(who, who)} {took / own:.3g}" for who, took in times.items() if who != OWN
                ]
                cells.append(f"{kind} {own:.3g} ms: {' '.join(others)}")
        yield f"{name}: " + "; ".join(cells)


def means(results: Results) -> Iterator[str]:
    """Over each group of shapes, geometric: the operator's peers, the faster of the layer's peers."""
    found: dict[str, list[float]] = {}
    for row in results.get("operator", {}).values():
        if isinstance(row, dict) and "both" in row:
            times = {form: one["median_ms"] for form, one in row["both"].items() if "median_ms" in one}
            if PEERS in times and "auto" in times:
                ratio = times[PEERS] / times["auto"]
                found.setdefault(f"operator {row['group']}: {PEERS} / auto", []).append(ratio)
            if "over_least" in row["both"]["auto"]:
                distance = row["both"]["auto"]["over_least"]
                found.setdefault(f"operator {row['group']}: auto / least time", []).append(distance)
    for (_, group), kinds in best_times(results).items():
        for kind, times in kinds.items():
            peers = [took for who, took in times.items() if who.startswith((LAMBDA_NETWORKS, TIMM))]
            if peers and OWN in times:
                what = f"layer {group} {kind}: faster of lambda-networks and timm / ours"
                found.setdefault(what, []).append(min(peers) / times[OWN])
    for what, ratios in found.items():
        yield f"{what} {mean(ratios):.2f} ({len(ratios)} shapes)"


def best_times(results: Results) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """By case and group, by kind of call, by contestant: the least median of all settings."""
    best: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for item, row in results.get("layer", {}).items():
        setting, _, name = item.partition(" ")
        if isinstance(row, str) or setting not in ("eager", "compiled", "attention"):
            continue
        for kind in ("train", "infer"):
            times = best.setdefault((name, row["group"]), {}).setdefault(kind, {})
            for contestant, one in row.get(kind, {}).items():
                who = _who(contestant)
                if "median_ms" in one:
                    times[who] = min(times.get(who, math.inf), one["median_ms"])
    return best


def _who(contestant: str) -> str:
    """Without the setting; ours by any implementation is ours."""
    if contestant.split(",")[0] == OWN:
        return OWN
    for ending in (", channels last", ", channels first"):
        contestant = contestant.removesuffix(ending)
    return contestant


def small(results: Results) -> Iterator[str]:
    """Inference with few images: eager and from a graph, ours and the best of the peers."""
    for name, row in results.get("layer", {}).items():
        if isinstance(row, str) or not name.startswith("inference"):
            continue
        cells = []
        for kind in ("infer", "graph"):
            times = {who: one["median_ms"] for who, one in row.get(kind, {}).items() if "median_ms" in one}
            own = [took for who, took in times.items() if _who(who) == OWN]
            others = [took for who, took in times.items() if _who(who) != OWN]
            if own and others:
                ratio = min(others) / min(own)
                cells.append(f"{kind} {1e3 * min(own):.1f} us, best other {ratio:.2f}x")
        yield f"{name}: " + "; ".join(cells)


def models(results: Results) -> Iterator[str]:
    """Images a second over ResNet-50's, and memory of a training step."""
    for name, row in results.get("models", {}).items():
        if isinstance(row, str):
            continue
        who = next((key for key in row.get("train", {}) if key != row["against"]), name)
        cells = []
        for kind in ("train", "infer"):
            if isinstance(row.get(kind), dict):
                speed = row[kind][who]["images_per_s"]
                cells.append(
                    f"{kind} {speed:.0f} im/s, {row.get(kind + '_ratio', math.nan):.2f} of ResNet-50"
                )
            else:
                cells.append(f"{kind} {str(row.get(kind))[:60]}")
        mine, base = row.get("train_peak_bytes"), row.get("against_train_peak_bytes")
        memory = f"; {mine / 1e9:.2f} GB, {mine / base:.2f}x" if mine and base else ""
        yield f"{name} {row['side']}px: " + "; ".join(cells) + memory


def limits(results: Results) -> Iterator[str]:
    """What fits."""
    for name, row in results.get("memory", {}).items():
        if isinstance(row, dict):
            more = f"{row['fails']} does not" if row["fails"] and row["fits"] else row["why_not_more"]
            yield f"{name}: {row['fits']} fits, {more}"


def left_out(results: Results) -> Iterator[str]:
    """Items that failed or were not run, in short."""
    for phase, rows in results.items():
        failed = [name for name, row in rows.items() if isinstance(row, str) and row != NOT_RUN]
        not_run = [name for name, row in rows.items() if row == NOT_RUN]
        if not_run:
            yield f"{phase}: {len(not_run)} not run for lack of time, from {not_run[0]} on"
        for name in failed[:4]:
            yield f"{phase}: {name}: {rows[name][:90]}"
