"""What a training step would need, estimated, so that nothing is started that cannot end."""

from typing import Final, NamedTuple

from problems import NUM_HEADS, QUERY_DEPTH, Shape

LARGEST_BYTES: Final = 6e9
LONGEST_SECONDS: Final = 30.0
# Origin: rough, from single runs on an AMD EPYC without matrix instructions; only for leaving out.
FLOPS_OF_A_THREAD: Final = 10e9
BYTES_A_SECOND: Final = 1e9


class Work(NamedTuple):
    """Bytes at the peak and floating point operations of a training step in float32, roughly."""

    bytes: float
    flops: float

    def too_much(self, threads: int, longest: float = LONGEST_SECONDS) -> str | None:
        """What is too much, in words, or None."""
        if self.bytes > LARGEST_BYTES:
            return f"would need about {self.bytes / 1e9:.0f} GB"
        seconds = self.flops / (FLOPS_OF_A_THREAD * threads) + self.bytes / BYTES_A_SECOND
        return f"would take about {seconds:.0f} s a step" if seconds > longest else None


def _lambda_bytes(shape: Shape, batch: int) -> float:
    """Bytes of all position lambdas, b·n·k·v numbers."""
    return 4 * batch * shape.positions * QUERY_DEPTH * shape.value_depth


def _lambda_flops(shape: Shape, batch: int) -> float:
    """Of making the lambdas and both gradients: every position sums the offsets of its scope."""
    offsets = shape.positions if shape.scope is None else shape.scope**2
    return 6 * batch * shape.positions * offsets * QUERY_DEPTH * shape.value_depth


def own_work(shape: Shape, batch: int) -> Work:
    # Never left out: activations, and a workspace that does not grow.
    return Work(100e6 + 40 * batch * shape.positions * shape.channels, 0)


def lambda_networks_work(shape: Shape, batch: int) -> Work:
    # At a global context: embeddings, a copy in another order, both gradients, and two 64-bit indices.
    pairs = 0 if shape.scope else shape.positions**2 * (4 * 4 * QUERY_DEPTH + 2 * 8)
    return Work(4 * _lambda_bytes(shape, batch) + pairs, _lambda_flops(shape, batch))


def timm_work(shape: Shape, batch: int) -> Work:
    # Lambdas are copied for every head; at a global context embeddings and values for every pair and image.
    pairs = 0 if shape.scope else batch * shape.positions**2 * 4 * 2 * (QUERY_DEPTH + shape.value_depth)
    return Work((2 + 2 * NUM_HEADS) * _lambda_bytes(shape, batch) + pairs, _lambda_flops(shape, batch))


def convolution_work(shape: Shape, batch: int) -> Work:
    return Work(4 * _lambda_bytes(shape, batch), _lambda_flops(shape, batch))


def pairs_work(shape: Shape, batch: int) -> Work:
    pairs, heads = shape.positions**2, batch * NUM_HEADS
    return Work(
        4 * pairs * (3 * QUERY_DEPTH + 3 * heads), 6 * pairs * heads * (QUERY_DEPTH + shape.value_depth)
    )
