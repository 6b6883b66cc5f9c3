"""Run a causal lambda layer over a sequence at once, and token by token with a state of constant size.

python examples/causal_stream.py
"""

import torch

from lambdanets import LambdaLayer


def main() -> None:
    """Both give the same outputs."""
    torch.manual_seed(0)
    layer = LambdaLayer(32, causal=True, normalization="layer", scope_size=9).eval()
    tokens = torch.randn(1, 100, 32)
    with torch.no_grad():
        at_once = layer(tokens)
        state, outputs = None, []
        for token in tokens.split(1, dim=1):
            output, state = layer.step(token, state)
            outputs.append(output)
    difference = (torch.cat(outputs, dim=1) - at_once).abs().max() / at_once.abs().max()
    numbers = sum(part.numel() for part in state)
    print(f"largest relative difference {difference:.1e}; the state holds {numbers} numbers after any length")


if __name__ == "__main__":
    main()
