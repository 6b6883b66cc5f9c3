"""Race the whole layer against `lambda-networks`, with the same weights and the same outputs.

    pip install lambda-networks
    python benchmarks/layers.py [--batch 8] [--repeats 7] [--threads 2] [--out FILE]

Prints medians in milliseconds of inference and of a training step of the layer, the ratio, the bytes
each keeps for backward, and the geometric mean over the four stages of a ResNet-50 at 224 pixels.
"""

import math
import sys
from functools import partial

import torch
from problems import SHAPES, STAGES, Shape
from timing import interleaved, options, write
from torch import Tensor, nn

from lambdanets import LambdaLayer2d


def pair(shape: Shape) -> tuple[LambdaLayer2d, nn.Module]:
    """Our layer with the weights of theirs; their convolution's bias, which the paper has not, is zero."""
    from lambda_networks import LambdaLayer

    peer = LambdaLayer(dim=shape.channels, dim_out=shape.channels, r=shape.scope, dim_k=16, heads=4, dim_u=1)
    nn.init.zeros_(peer.pos_conv.bias)
    own = LambdaLayer2d(shape.channels, scope_size=shape.scope)
    theirs = peer.state_dict()
    names = {"q": "queries", "k": "keys", "v": "values"}
    weights = {f"to_{names[letter]}.weight": theirs[f"to_{letter}.weight"] for letter in names}
    for letter in ("q", "v"):
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            weights[f"norm_{names[letter]}.{part}"] = theirs[f"norm_{letter}.{part}"]
    weights["position.table"] = theirs["pos_conv.weight"][:, :, 0].transpose(0, 1)
    own.load_state_dict(weights)
    return own, peer


def train(layer: nn.Module, images: Tensor) -> None:
    """The output and all gradients."""
    output = layer(images)
    output.backward(torch.ones_like(output))


def infer(layer: nn.Module, images: Tensor) -> None:
    """The output alone."""
    with torch.no_grad():
        layer(images)


def kept_bytes(layer: nn.Module, images: Tensor) -> int:
    """Bytes autograd keeps beside parameters, buffers and the input, each storage once."""
    own = {one.untyped_storage().data_ptr() for one in (*layer.parameters(), *layer.buffers(), images)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(images)
        total = sum(kept.values())
    del output
    return total


def measure(shape: Shape, batch: int, repeats: int) -> dict:
    """Both layers at one shape."""
    own, peer = pair(shape)
    images = torch.randn(batch, shape.channels, shape.side, shape.side, requires_grad=True)
    with torch.no_grad():
        expected, actual = peer(images), own(images)
    error = float((actual - expected).norm() / expected.norm())
    if error > 1e-4:
        raise SystemExit(f"the layers differ at {shape.name}: {error:.1e}")
    layers = {"lambdanets": own, "lambda-networks": peer}
    result = {
        "shape": shape.name,
        "batch": batch,
        "kept_bytes": {name: kept_bytes(layer, images) for name, layer in layers.items()},
        "train": interleaved(
            {name: partial(train, layer, images) for name, layer in layers.items()}, repeats
        ),
    }
    for layer in layers.values():
        layer.eval()
    calls = {name: partial(infer, layer, images) for name, layer in layers.items()}
    return result | {"infer": interleaved(calls, repeats)}


def ratio(result: dict, kind: str) -> float:
    """Their median over ours."""
    return result[kind]["lambda-networks"]["median_ms"] / result[kind]["lambdanets"]["median_ms"]


def show(result: dict) -> None:
    """One line a shape."""
    cells = []
    for kind in ("train", "infer"):
        own, peer = (result[kind][name]["median_ms"] for name in ("lambdanets", "lambda-networks"))
        cells.append(f"{kind} {own:7.1f} against {peer:7.1f} ms, {ratio(result, kind):4.1f}x")
    kept = [f"{value / 1e6:.1f}" for value in result["kept_bytes"].values()]
    print(f"{result['shape']:<18} b={result['batch']:<3} {'   '.join(cells)}   kept {' / '.join(kept)} MB")
    sys.stdout.flush()


def main() -> None:
    """Run the local shapes at a batch and at one image, print, and write one result file."""
    arguments = options("benchmarks/layers.py")
    results = []
    for batch in (arguments.batch, 1):
        for shape in SHAPES:
            if shape.scope is not None:
                results.append(measure(shape, batch, arguments.repeats))
                show(results[-1])
    stages = {Shape(side, channels, 23).name for side, channels in STAGES}
    for kind in ("train", "infer"):
        logs = [
            math.log(ratio(result, kind))
            for result in results
            if result["batch"] == arguments.batch and result["shape"] in stages
        ]
        print(f"geometric mean of the four stages at r=23, {kind}: {math.exp(sum(logs) / len(logs)):.2f}x")
    write("benchmarks/layers.py", arguments, results)


if __name__ == "__main__":
    main()
