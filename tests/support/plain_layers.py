"""Attention and lambda layers as their formulas are written, by matrix products, to be counted.

Inputs are parameters, so that only what a layer makes itself is kept; where two products want the same input
in another order in memory, it is there twice. `l` layers follow one another without reading each other.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainLayer(nn.Module):
    """Sizes by letter; `one_layer` is what `l` repeats."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.b, self.n, self.h, self.k, self.d = (sizes[letter] for letter in "bnhkd")
        self.v = self.d // self.h
        self.m = sizes.get("m", self.n)

    def given(self, *shape: int) -> nn.Parameter:
        """The next input: the same in every run."""
        name = f"input{self.num_given}"
        self.num_given += 1
        if not hasattr(self, name):
            self.register_parameter(name, nn.Parameter(torch.empty(*shape, device="meta")))
        return self.get_parameter(name)

    def forward(self, _: Tensor) -> list[Tensor]:
        self.num_given = 0
        return [self.one_layer() for _ in range(self.sizes.get("l", 1))]

    def one_layer(self) -> Tensor:
        raise AssertionError("each layer has its own")


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q Kᵀ) V for a batch of [n, k], [k, m] and [m, v]."""
    return torch.bmm(torch.bmm(queries, keys).softmax(-1), values)


class SelfAttention(PlainLayer):
    def one_layer(self) -> Tensor:
        maps, n, m = self.b * self.h, self.n, self.m
        return attend(self.given(maps, n, self.k), self.given(maps, self.k, m), self.given(maps, m, self.v))


class AxialAttention(PlainLayer):
    """Along rows, along columns, added: each query sees √n positions twice."""

    def one_layer(self) -> Tensor:
        side = int(self.n**0.5)
        lines = self.b * self.h * side
        rows, columns = (
            attend(
                self.given(lines, side, self.k),
                self.given(lines, self.k, side),
                self.given(lines, side, self.v),
            )
            for _ in range(2)
        )
        return rows + columns


class LocalAttention(PlainLayer):
    """Every query has its own window of keys and of values, written out."""

    def one_layer(self) -> Tensor:
        maps = self.b * self.h
        keys = windows(self.given(maps, self.k, *self.map_size()), self.side()).flatten(0, 1)
        values = windows(self.given(maps, self.v, *self.map_size()), self.side()).flatten(0, 1)
        return attend(self.given(maps * self.n, 1, self.k), keys, values.mT)

    def side(self) -> int:
        return int(self.m**0.5)

    def map_size(self) -> tuple[int, int]:
        return (4, self.n // 4)


def windows(maps: Tensor, side: int) -> Tensor:
    """The window of every position, zeros outside the map: [b, n, d, m] from [b, d, height, width]."""
    b, d, height, width = maps.shape
    return (
        F.unfold(maps, side, padding=side // 2)
        .view(b, d, side * side, height * width)
        .movedim(3, 1)
        .contiguous()
    )


class LinearAttention(PlainLayer):
    def one_layer(self) -> Tensor:
        maps, n = self.b * self.h, self.n
        keys = self.given(maps, self.k, n).softmax(-1)
        return torch.bmm(self.given(maps, n, self.k), torch.bmm(keys, self.given(maps, n, self.v)))


class Lambda(PlainLayer):
    """Content lambda and position lambdas, added and applied; u is 1 unless given."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.u = sizes.get("u", 1)

    def one_layer(self) -> Tensor:
        b, n, h, k, v = self.b, self.n, self.h, self.k, self.v
        keys = self.given(b, k, self.u, self.m).softmax(-1).flatten(2)
        content = torch.bmm(keys, self.given(b, self.u * self.m, v))
        lambdas = self.position_lambdas() + content.unsqueeze(1)
        return torch.bmm(self.given(b * n, h, k), lambdas.view(b * n, k, v))

    def position_lambdas(self) -> Tensor:
        """From embeddings of all pairs: [b, n, k, v]."""
        context = self.u * self.m
        rows = self.embeddings().view(1, self.n * self.k, context).expand(self.b, -1, -1)
        return torch.bmm(rows, self.given(self.b, context, self.v)).view(self.b, self.n, self.k, self.v)

    def embeddings(self) -> Tensor:
        """Written out anew by every layer: [n, k, u · m]."""
        return self.given(self.n, self.k, self.u * self.m) + 0


class SharedLambda(Lambda):
    """One tensor of embeddings for all layers."""

    def forward(self, inputs: Tensor) -> list[Tensor]:
        self.shared = None
        return super().forward(inputs)

    def embeddings(self) -> Tensor:
        if self.shared is None:
            self.shared = super().embeddings()
        return self.shared


class LocalLambda(Lambda):
    """Embeddings of the pairs in a window; the values of every window written out."""

    def position_lambdas(self) -> Tensor:
        b, n, side = self.b, self.n, int(self.sizes["m"] ** 0.5)
        height = 4
        values = self.given(1, b * self.v, height, n // height)
        pairs = torch.bmm(self.given(n, self.k, side * side) + 0, windows(values, side)[0].mT)
        return pairs.view(n, self.k, b, self.v).movedim(2, 0).contiguous()

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        # The content lambda is global.
        self.m = self.n


class LambdaConvolution(Lambda):
    """The values of every channel as an image of their own, convolved by k kernels."""

    def position_lambdas(self) -> Tensor:
        b, n, k, v, side = self.b, self.n, self.k, self.v, self.sizes["r"]
        height = 4
        values = self.given(b * v, 1, height, n // height)
        kernel = self.given(k, 1, side, side) + 0
        maps = F.conv2d(values, kernel, padding=side // 2)
        return maps.view(b, v, k, n).permute(0, 3, 2, 1).contiguous()


class MultiHeadLambda(PlainLayer):
    """Keys, values and embeddings of its own for each head."""

    def one_layer(self) -> Tensor:
        b, n, m, h, k, v = self.b, self.n, self.m, self.h, self.k, self.v
        keys = self.given(h * b, k, m).softmax(-1)
        content = torch.bmm(keys, self.given(h * b, m, v)).view(h, 1, b, k, v)
        embeddings = self.given(h, n * k, m) + 0
        positions = torch.bmm(embeddings, self.given(h, m, b * v)).view(h, n, k, b, v).transpose(2, 3)
        lambdas = positions + content
        return torch.bmm(self.given(h * n * b, 1, k), lambdas.reshape(h * n * b, k, v))
