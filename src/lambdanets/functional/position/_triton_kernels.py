"""Triton kernels of the attention form: scores of queries against embeddings, never written to memory.

A line is a row of columns of one slice of one image, and a program works on several lines at once. For one
offset of lines d = (dz, dy), the embeddings R[x, c] depend on the columns of query and context alone, and
the values on the context's line and column alone. With the score s[l, x, h, c] of query h at line l,
column x for the column c of line l + d,

    s[l, x, h, c] = Σₖ q[l, x, h, k] R[x, c, k]        a product for each column x, of rows (l, h),
    y[l, x, h, v] += Σ_c s[l, x, h, c] v[l + d, c, v]  a product for each line l, of rows (x, h),

and between the two a tile only changes the order of its axes: nothing is gathered, skewed or padded. With
the gradient of the score t[l, x, h, c] = Σᵥ g[l, x, h, v] v[l + d, c, v], where g is that of y,

    dv[l + d, c] += Σ_xh s[l, x, h, c] g[l, x, h],
    dq[l, x, h] += Σ_c t[l, x, h, c] R[x, c],
    dR[x, c] += Σ_lh t[l, x, h, c] q[l, x, h].

The last is a sum over all lines, made in parts that `fold_kernel` adds in a fixed order with the pairs
(x, c) of one offset. No other sum is split between programs, and nothing is added atomically: every
result is the same in each run.

Arguments: tensors are "b c d slices rows columns" with any strides, and `shared` is "b k v" or None;
`embeddings` are "u slices rows columns k" by offset, contiguous. `size` is (b, slices, rows, columns),
`depths` (h, k, v, u), `reach` the largest offset along slices, rows and columns. The lines of a program are
neighbouring rows of a slice, or BY_IMAGE the same row of neighbouring images. Columns of the other side
come in `tiles` that begin at `first`, relative to the program's own first column, so that the embeddings
of a tile are the same for all programs. ACC is the dtype of sums.
"""

from typing import no_type_check

import triton
import triton.language as tl

from lambdanets.functional._triton_kernels import product

# Axes of a tile, in the comments by their last letter: BLOCK_L lines, BLOCK_M columns of queries, BLOCK_N
# columns of context, BLOCK_V value channels, BLOCK_H all heads, BLOCK_K the query depth, BLOCK_R offsets.


@triton.jit
@no_type_check
def output_kernel(
    queries,
    values,
    embeddings,
    shared,
    output,
    size,
    depths,
    reach,
    first,
    tiles,
    q_strides,
    v_strides,
    s_strides,
    o_strides,
    BLOCK_L: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BY_IMAGE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """The output of BLOCK_L lines, BLOCK_M columns and BLOCK_V channels."""
    x0, image, z, y, count = _block(tl.program_id(0), size, BLOCK_M, BLOCK_L, BY_IMAGE)
    x, xh = x0 + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_M * BLOCK_H)
    l, lh = tl.arange(0, BLOCK_L), tl.arange(0, BLOCK_L * BLOCK_H)
    k, v = tl.arange(0, BLOCK_K), tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    q_lines = (lh // BLOCK_H) * _step(q_strides, BY_IMAGE) + (lh % BLOCK_H) * q_strides[1]
    q_pointers = _line(queries, image, z, y, q_strides) + _offsets(
        x * q_strides[5], q_lines, k * q_strides[2]
    )
    q_mask = _mask(x < size[3], (lh // BLOCK_H < count) & (lh % BLOCK_H < depths[0]), k < depths[1])
    q_tile = tl.load(q_pointers, q_mask, 0.0)  # M L·H K
    acc = tl.zeros((BLOCK_L, BLOCK_M * BLOCK_H, BLOCK_V), ACC)
    if shared is not None:
        s_images = (image + l * BY_IMAGE) * s_strides[0]
        s_pointers = shared + _offsets(s_images, k * s_strides[1], v * s_strides[2])
        lambdas = tl.load(s_pointers, _mask(l < count, k < depths[1], v < depths[2]), 0.0)  # L K V
        acc = product(_swap(q_tile, BLOCK_M, BLOCK_L, BLOCK_H, BLOCK_K), lambdas, acc, PRECISION)
    z_low, z_count, y_low, y_count = _reached(z, y, count, size, reach, BY_IMAGE)
    t_low, t_count = _tiles_on_map(x0 + first, tiles, BLOCK_N, size[3])
    for step in range(depths[3] * z_count * t_count):
        c = x0 + first + (t_low + step % t_count) * BLOCK_N + tl.arange(0, BLOCK_N)
        dz = z_low + step // t_count % z_count
        i = step // (t_count * z_count)
        r_pointers, r_mask = _embeddings(embeddings, i, dz, y_low, c[None, :] - x[:, None], k, depths, reach)
        v_pointers = _line(values + i * v_strides[1], image, z + dz, y + y_low, v_strides)
        v_pointers += _offsets(l * _step(v_strides, BY_IMAGE), c * v_strides[5], v * v_strides[2])
        v_mask = _mask(l < count, _within(c, size[3]), v < depths[2])
        for dy in range(y_low, y_low + y_count):
            r_tile = tl.load(r_pointers, r_mask, 0.0)  # M N K
            scores = tl.zeros((BLOCK_M, BLOCK_L * BLOCK_H, BLOCK_N), ACC)
            scores = product(q_tile, tl.permute(r_tile, (0, 2, 1)), scores, PRECISION)
            scores = _swap(scores.to(q_tile.dtype), BLOCK_M, BLOCK_L, BLOCK_H, BLOCK_N)  # L M·H N
            on_map = BY_IMAGE | _within(y + l + dy, size[2])
            v_tile = tl.load(v_pointers, v_mask & on_map[:, None, None], 0.0)  # L N V
            acc = product(scores, v_tile, acc, PRECISION)
            r_pointers += (2 * reach[2] + 1) * depths[1]
            v_pointers += v_strides[4]
    o_columns = (x0 + xh // BLOCK_H) * o_strides[5] + (xh % BLOCK_H) * o_strides[1]
    o_pointers = _line(output, image, z, y, o_strides)
    o_pointers += _offsets(l * _step(o_strides, BY_IMAGE), o_columns, v * o_strides[2])
    o_mask = _mask(l < count, (x0 + xh // BLOCK_H < size[3]) & (xh % BLOCK_H < depths[0]), v < depths[2])
    tl.store(o_pointers, acc.to(output.dtype.element_ty), o_mask)


@triton.jit
@no_type_check
def values_gradient_kernel(
    grad_out,
    queries,
    embeddings,
    output,
    size,
    depths,
    reach,
    first,
    tiles,
    g_strides,
    q_strides,
    o_strides,
    BLOCK_L: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BY_IMAGE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradients of the values of BLOCK_L lines, BLOCK_N columns, BLOCK_V channels and one u."""
    c0, image, z, y, count = _block(tl.program_id(0), size, BLOCK_N, BLOCK_L, BY_IMAGE)
    c, k, v = (
        c0 + tl.arange(0, BLOCK_N),
        tl.arange(0, BLOCK_K),
        tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V),
    )
    i = tl.program_id(2)
    xh, l, lh = tl.arange(0, BLOCK_M * BLOCK_H), tl.arange(0, BLOCK_L), tl.arange(0, BLOCK_L * BLOCK_H)
    q_lines = (lh // BLOCK_H) * _step(q_strides, BY_IMAGE) + (lh % BLOCK_H) * q_strides[1]
    acc = tl.zeros((BLOCK_L, BLOCK_N, BLOCK_V), ACC)
    # From the context to its queries: embeddings are those of the opposite offset.
    z_low, z_count, y_low, y_count = _reached(z, y, count, size, reach, BY_IMAGE)
    t_low, t_count = _tiles_on_map(c0 + first, tiles, BLOCK_M, size[3])
    for step in range(z_count * t_count):
        x0 = c0 + first + (t_low + step % t_count) * BLOCK_M
        x = x0 + tl.arange(0, BLOCK_M)
        dz = z_low + step // t_count
        r_pointers, r_mask = _embeddings(
            embeddings, i, -dz, -y_low, c[None, :] - x[:, None], k, depths, reach
        )
        q_pointers = _line(queries, image, z + dz, y + y_low, q_strides)
        q_pointers += _offsets(x * q_strides[5], q_lines, k * q_strides[2])
        q_mask = _mask(
            _within(x, size[3]), (lh // BLOCK_H < count) & (lh % BLOCK_H < depths[0]), k < depths[1]
        )
        g_columns = (x0 + xh // BLOCK_H) * g_strides[5] + (xh % BLOCK_H) * g_strides[1]
        g_pointers = _line(grad_out, image, z + dz, y + y_low, g_strides)
        g_pointers += _offsets(l * _step(g_strides, BY_IMAGE), g_columns, v * g_strides[2])
        g_mask = _mask(
            l < count, _within(x0 + xh // BLOCK_H, size[3]) & (xh % BLOCK_H < depths[0]), v < depths[2]
        )
        for dy in range(y_low, y_low + y_count):
            r_tile = tl.load(r_pointers, r_mask, 0.0)  # M N K
            on_map = BY_IMAGE | _within(y + lh // BLOCK_H + dy, size[2])
            q_tile = tl.load(q_pointers, q_mask & on_map[None, :, None], 0.0)  # M L·H K
            scores = tl.zeros((BLOCK_M, BLOCK_L * BLOCK_H, BLOCK_N), ACC)
            scores = product(q_tile, tl.permute(r_tile, (0, 2, 1)), scores, PRECISION)
            scores = _swap(scores.to(q_tile.dtype), BLOCK_M, BLOCK_L, BLOCK_H, BLOCK_N)  # L M·H N
            on_map = BY_IMAGE | _within(y + l + dy, size[2])
            g_tile = tl.load(g_pointers, g_mask & on_map[:, None, None], 0.0)  # L M·H V
            acc = product(tl.permute(scores, (0, 2, 1)), g_tile, acc, PRECISION)
            r_pointers -= (2 * reach[2] + 1) * depths[1]
            q_pointers += q_strides[4]
            g_pointers += g_strides[4]
    o_pointers = _line(output + i * o_strides[1], image, z, y, o_strides)
    o_pointers += _offsets(l * _step(o_strides, BY_IMAGE), c * o_strides[5], v * o_strides[2])
    tl.store(o_pointers, acc.to(output.dtype.element_ty), _mask(l < count, c < size[3], v < depths[2]))


@triton.jit
@no_type_check
def queries_gradient_kernel(
    grad_out,
    values,
    embeddings,
    shared,
    output,
    size,
    depths,
    reach,
    first,
    tiles,
    g_strides,
    v_strides,
    s_strides,
    o_strides,
    BLOCK_L: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BY_IMAGE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradients of the queries of BLOCK_L lines, BLOCK_M columns; BLOCK_V holds all value channels."""
    x0, image, z, y, count = _block(tl.program_id(0), size, BLOCK_M, BLOCK_L, BY_IMAGE)
    x, xh = x0 + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_M * BLOCK_H)
    l, lh = tl.arange(0, BLOCK_L), tl.arange(0, BLOCK_L * BLOCK_H)
    k, v = tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_V)
    g_columns = (x0 + xh // BLOCK_H) * g_strides[5] + (xh % BLOCK_H) * g_strides[1]
    g_pointers = _line(grad_out, image, z, y, g_strides)
    g_pointers += _offsets(l * _step(g_strides, BY_IMAGE), g_columns, v * g_strides[2])
    g_mask = _mask(l < count, (x0 + xh // BLOCK_H < size[3]) & (xh % BLOCK_H < depths[0]), v < depths[2])
    g_tile = tl.load(g_pointers, g_mask, 0.0)  # L M·H V
    acc = tl.zeros((BLOCK_M, BLOCK_L * BLOCK_H, BLOCK_K), ACC)
    if shared is not None:
        s_images = (image + l * BY_IMAGE) * s_strides[0]
        s_pointers = shared + _offsets(s_images, v * s_strides[2], k * s_strides[1])
        lambdas = tl.load(s_pointers, _mask(l < count, v < depths[2], k < depths[1]), 0.0)  # L V K
        by_line = product(g_tile, lambdas, tl.zeros((BLOCK_L, BLOCK_M * BLOCK_H, BLOCK_K), ACC), PRECISION)
        acc = _swap(by_line, BLOCK_L, BLOCK_M, BLOCK_H, BLOCK_K)
    z_low, z_count, y_low, y_count = _reached(z, y, count, size, reach, BY_IMAGE)
    t_low, t_count = _tiles_on_map(x0 + first, tiles, BLOCK_N, size[3])
    for step in range(depths[3] * z_count * t_count):
        c = x0 + first + (t_low + step % t_count) * BLOCK_N + tl.arange(0, BLOCK_N)
        dz = z_low + step // t_count % z_count
        i = step // (t_count * z_count)
        r_pointers, r_mask = _embeddings(embeddings, i, dz, y_low, c[None, :] - x[:, None], k, depths, reach)
        v_pointers = _line(values + i * v_strides[1], image, z + dz, y + y_low, v_strides)
        v_pointers += _offsets(l * _step(v_strides, BY_IMAGE), v * v_strides[2], c * v_strides[5])
        v_mask = _mask(l < count, v < depths[2], _within(c, size[3]))
        for dy in range(y_low, y_low + y_count):
            on_map = BY_IMAGE | _within(y + l + dy, size[2])
            v_tile = tl.load(v_pointers, v_mask & on_map[:, None, None], 0.0)  # L V N
            grad_scores = tl.zeros((BLOCK_L, BLOCK_M * BLOCK_H, BLOCK_N), ACC)
            grad_scores = product(g_tile, v_tile, grad_scores, PRECISION)
            grad_scores = _swap(grad_scores.to(g_tile.dtype), BLOCK_L, BLOCK_M, BLOCK_H, BLOCK_N)  # M L·H N
            r_tile = tl.load(r_pointers, r_mask, 0.0)  # M N K
            acc = product(grad_scores, r_tile, acc, PRECISION)
            r_pointers += (2 * reach[2] + 1) * depths[1]
            v_pointers += v_strides[4]
    o_lines = (lh // BLOCK_H) * _step(o_strides, BY_IMAGE) + (lh % BLOCK_H) * o_strides[1]
    o_pointers = _line(output, image, z, y, o_strides) + _offsets(x * o_strides[5], o_lines, k * o_strides[2])
    o_mask = _mask(x < size[3], (lh // BLOCK_H < count) & (lh % BLOCK_H < depths[0]), k < depths[1])
    tl.store(o_pointers, acc.to(output.dtype.element_ty), o_mask)


@triton.jit
@no_type_check
def table_gradient_kernel(
    grad_out,
    queries,
    values,
    partial,
    size,
    depths,
    reach,
    first,
    tiles,
    g_strides,
    q_strides,
    v_strides,
    BLOCK_L: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BY_IMAGE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """A part of the sum over all lines, for one offset of lines, one tile of columns and one u.

    `partial` is "u_slices_rows_tiles parts M K N", contiguous; BLOCK_V holds all value channels.
    """
    t = tl.program_id(0) % tiles
    offset = tl.program_id(0) // tiles
    dy = offset % (2 * reach[1] + 1) - reach[1]
    dz = offset // (2 * reach[1] + 1) % (2 * reach[0] + 1) - reach[0]
    i = offset // ((2 * reach[1] + 1) * (2 * reach[0] + 1))
    k, v, l = tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_V), tl.arange(0, BLOCK_L)
    xh, lh = tl.arange(0, BLOCK_M * BLOCK_H), tl.arange(0, BLOCK_L * BLOCK_H)
    # The lines whose context at this offset is on the map, as a smaller map of one column.
    inner = (size[0], size[1] - tl.abs(dz), size[2] - tl.abs(dy), 1)
    z0, y0 = tl.maximum(0, -dz), tl.maximum(0, -dy)
    blocks = _blocks(inner, 1, BLOCK_L, BY_IMAGE)
    q_lines = (lh // BLOCK_H) * _step(q_strides, BY_IMAGE) + (lh % BLOCK_H) * q_strides[1]
    acc = tl.zeros((BLOCK_M, BLOCK_K, BLOCK_N), ACC)
    for x0 in range(0, size[3], BLOCK_M):
        x, c = x0 + tl.arange(0, BLOCK_M), x0 + first + t * BLOCK_N + tl.arange(0, BLOCK_N)
        g_columns = (x0 + xh // BLOCK_H) * g_strides[5] + (xh % BLOCK_H) * g_strides[1]
        g_places = _offsets(l * _step(g_strides, BY_IMAGE), g_columns, v * g_strides[2])
        g_mask = _mask(l >= 0, (x0 + xh // BLOCK_H < size[3]) & (xh % BLOCK_H < depths[0]), v < depths[2])
        v_places = _offsets(l * _step(v_strides, BY_IMAGE), v * v_strides[2], c * v_strides[5])
        v_mask = _mask(l >= 0, v < depths[2], _within(c, size[3]))
        q_places = _offsets(x * q_strides[5], k * q_strides[2], q_lines)
        q_mask = _mask(x < size[3], k < depths[1], lh % BLOCK_H < depths[0])
        for block in range(tl.program_id(1), blocks, tl.num_programs(1)):
            _, image, z, y, count = _block(block, inner, 1, BLOCK_L, BY_IMAGE)
            on = l < count
            g_line = _line(grad_out, image, z + z0, y + y0, g_strides)
            g_tile = tl.load(g_line + g_places, g_mask & on[:, None, None], 0.0)  # L M·H V
            v_line = _line(values + i * v_strides[1], image, z + z0 + dz, y + y0 + dy, v_strides)
            v_tile = tl.load(v_line + v_places, v_mask & on[:, None, None], 0.0)  # L V N
            grad_scores = tl.zeros((BLOCK_L, BLOCK_M * BLOCK_H, BLOCK_N), ACC)
            grad_scores = product(g_tile, v_tile, grad_scores, PRECISION)
            grad_scores = _swap(grad_scores.to(g_tile.dtype), BLOCK_L, BLOCK_M, BLOCK_H, BLOCK_N)  # M L·H N
            q_line = _line(queries, image, z + z0, y + y0, q_strides)
            on = lh // BLOCK_H < count
            q_tile = tl.load(q_line + q_places, q_mask & on[None, None, :], 0.0)  # M K L·H
            acc = product(q_tile, grad_scores, acc, PRECISION)
    part = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    places = _offsets(tl.arange(0, BLOCK_M) * (BLOCK_K * BLOCK_N), k * BLOCK_N, tl.arange(0, BLOCK_N))
    tl.store(partial + part * (BLOCK_M * BLOCK_K * BLOCK_N) + places, acc)


@triton.jit
@no_type_check
def fold_kernel(
    partial,
    output,
    depth,
    reach_x,
    first,
    tiles,
    parts,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_R: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradients of BLOCK_R embeddings of one offset of lines: parts and pairs of columns in a fixed order.

    `output` is "u_slices_rows columns k", contiguous.
    """
    offset = tl.program_id(0).to(tl.int64)
    place, k, x = (
        tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R),
        tl.arange(0, BLOCK_K),
        tl.arange(0, BLOCK_M),
    )
    acc = tl.zeros((BLOCK_M, BLOCK_R, BLOCK_K), ACC)
    for step in range(tiles * parts):
        c = (place - reach_x - first - step // parts * BLOCK_N)[None, :] + x[:, None]  # M R
        pointers = partial + (offset * tiles * parts + step) * (BLOCK_M * BLOCK_K * BLOCK_N)
        places = (x * (BLOCK_K * BLOCK_N))[:, None, None] + c[:, :, None] + (k * BLOCK_N)[None, None, :]
        mask = ((c >= 0) & (c < BLOCK_N))[:, :, None] & (k < depth)[None, None, :]
        acc += tl.load(pointers + places, mask, 0.0)
    pointers = output + (offset * (2 * reach_x + 1) + place[:, None]) * depth + k[None, :]
    tl.store(pointers, tl.sum(acc, 0), (place <= 2 * reach_x)[:, None] & (k < depth)[None, :])


@triton.jit
@no_type_check
def _blocks(size, WIDTH: tl.constexpr, BLOCK_L: tl.constexpr, BY_IMAGE: tl.constexpr):
    """How many blocks of BLOCK_L lines and WIDTH columns there are."""
    if BY_IMAGE:
        return tl.cdiv(size[0], BLOCK_L) * size[1] * size[2] * tl.cdiv(size[3], WIDTH)
    return size[0] * size[1] * tl.cdiv(size[2], BLOCK_L) * tl.cdiv(size[3], WIDTH)


@triton.jit
@no_type_check
def _block(number, size, WIDTH: tl.constexpr, BLOCK_L: tl.constexpr, BY_IMAGE: tl.constexpr):
    """The first column, image, slice and row of a block, and how many lines it has; columns go first."""
    wide = tl.cdiv(size[3], WIDTH)
    x0 = number % wide * WIDTH
    if BY_IMAGE:
        high = tl.cdiv(size[0], BLOCK_L)
        image = number // wide % high * BLOCK_L
        row = number // (wide * high)
        return x0, image, row // size[2], row % size[2], tl.minimum(BLOCK_L, size[0] - image)
    high = tl.cdiv(size[2], BLOCK_L)
    y = number // wide % high * BLOCK_L
    place = number // (wide * high)
    return x0, place // size[1], place % size[1], y, tl.minimum(BLOCK_L, size[2] - y)


@triton.jit
@no_type_check
def _line(tensor, image, z, y, strides):
    """A pointer to the beginning of a line."""
    place = tl.cast(image, tl.int64) * strides[0] + tl.cast(z, tl.int64) * strides[3]
    return tensor + place + tl.cast(y, tl.int64) * strides[4]


@triton.jit
@no_type_check
def _step(strides, BY_IMAGE: tl.constexpr):
    """From a line of a block to the next."""
    return tl.cast(strides[0] if BY_IMAGE else strides[4], tl.int64)


@triton.jit
@no_type_check
def _within(place, size):
    return (place >= 0) & (place < size)


@triton.jit
@no_type_check
def _reached(z, y, count, size, reach, BY_IMAGE: tl.constexpr):
    """Offsets of slices and of rows at which a line of the block has another on the map: first and number."""
    last = y if BY_IMAGE else y + count - 1
    z_low, y_low = tl.maximum(-reach[0], -z), tl.maximum(-reach[1], -last)
    z_high, y_high = tl.minimum(reach[0], size[1] - 1 - z), tl.minimum(reach[1], size[2] - 1 - y)
    return z_low, z_high - z_low + 1, y_low, y_high - y_low + 1


@triton.jit
@no_type_check
def _tiles_on_map(start, tiles, WIDTH: tl.constexpr, columns):
    """The first tile of columns that is not beside the map, and their number; `start` is that of tile 0."""
    low = tl.maximum(-start, 0) // WIDTH
    return low, tl.minimum(tiles, tl.cdiv(columns - start, WIDTH)) - low


@triton.jit
@no_type_check
def _embeddings(embeddings, i, dz, dy, dx, k, depths, reach):
    """Pointers to the embeddings of one offset of lines and a tile of offsets of columns, and their mask."""
    line = (i * (2 * reach[0] + 1) + dz + reach[0]) * (2 * reach[1] + 1) + dy + reach[1]
    middle = (tl.cast(line, tl.int64) * (2 * reach[2] + 1) + reach[2]) * depths[1]
    pointers = embeddings + middle + (dx * depths[1])[:, :, None] + k[None, None, :]
    return pointers, ((dx >= -reach[2]) & (dx <= reach[2]))[:, :, None] & (k < depths[1])[None, None, :]


@triton.jit
@no_type_check
def _swap(tile, FIRST: tl.constexpr, SECOND: tl.constexpr, BLOCK_H: tl.constexpr, LAST: tl.constexpr):
    """FIRST SECOND·BLOCK_H LAST -> SECOND FIRST·BLOCK_H LAST."""
    split = tl.reshape(tile, (FIRST, SECOND, BLOCK_H, LAST))
    return tl.reshape(tl.permute(split, (1, 0, 2, 3)), (SECOND, FIRST * BLOCK_H, LAST))


@triton.jit
@no_type_check
def _offsets(first, second, third):
    """Sums of three vectors, along three axes."""
    plane = first.to(tl.int64)[:, None, None] + second.to(tl.int64)[None, :, None]
    return plane + third.to(tl.int64)[None, None, :]


@triton.jit
@no_type_check
def _mask(first, second, third):
    """A mask of three conditions, along three axes."""
    return first[:, None, None] & second[None, :, None] & third[None, None, :]
