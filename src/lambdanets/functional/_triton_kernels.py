"""What Triton kernels share: products, and the types they sum in."""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from lambdanets.functional._triton import is_interpreted

# The dtype that sums are made in.
ACC_DTYPE = {
    torch.float16: tl.float32,
    torch.bfloat16: tl.float32,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}

# Triton's interpreter multiplies bfloat16 as if they were integers.
INTERPRETED = tl.constexpr(is_interpreted())


@triton.jit
@no_type_check
def product(left, right, acc, PRECISION: tl.constexpr):
    """acc + left @ right, for each item of the axes before the last two."""
    if INTERPRETED and left.dtype == tl.bfloat16:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), acc)
    return tl.dot(left, right, acc, input_precision=PRECISION, out_dtype=acc.dtype)
