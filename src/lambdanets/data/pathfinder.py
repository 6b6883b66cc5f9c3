"""Two dots among dashed paths: does one path join them? Why long range matters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lambdanets.data.config import PathfinderConfig
from lambdanets.data.seeds import Purpose
from lambdanets.data.task import Seed, Task, drawn_task
from lambdanets.errors import ArgumentError, DataError

LABELS: Final = ("apart", "joined")

NUM_TRAIN: Final = 8192
NUM_TEST: Final = 1000

# In pixels: from one dash to the next, and how long a dash is.
_STEP: Final = 3.2
_DASH: Final = 1.4

# Between joints of different paths, and of one path that are not neighbours: no two paths cross or touch,
# and the next dash of a path is always nearer than any of another one.
_CLEARANCE: Final = 3.8

# Joints are at least this far from the border, so that every mark is whole.
MARGIN: Final = 3.0

# Half the width of a dash, and of a dot.
_DASH_RADIUS, _DOT_RADIUS = 0.5, 1.6

# Places that are looked at for a path, and how many of the free ones are tried. In each, how far directions
# tried for a dash may turn from that of the dash before, in radians: sharply where it must.
_PLACES, _TRIED = 24, 6
_TURNS: Final = np.array([0.5, 0.5, 0.9, 1.2], dtype=np.float32)

# Images that are worked on together: what is computed on the way stays in the processor's cache.
_TOGETHER: Final = 128

# Attempts at an image that are made at a time: one, then twice as many each time, up to this.
_MOST_ATTEMPTS, _MOST_ROUNDS = 8, 100

# Square pixels that a joint needs; and no path is longer than the side of the map. With that, nearly every
# attempt in two succeeds.
_ROOM: Final = 25.0

# The side of the square that holds any mark, and its pixels from the middle.
_REACH: Final = 5
_SQUARE: Final = np.mgrid[:_REACH, :_REACH].reshape(2, -1).astype(np.float32) - _REACH // 2

# Standard deviation of the pixels at 32 px, 6 dashes and 2 distractors.
STD: Final = 0.187

# The last axis is that of the images, along which numpy is fast; the first one is row and column.
_Points = Float[np.ndarray, "2 ... n"]
Numbers = Float[np.ndarray, "... n"]
_Truths = Bool[np.ndarray, "... n"]
Labels = Int[Tensor, " n"]


def load(config: PathfinderConfig, seed: int) -> Task:
    """Load the data set `pathfinder`."""
    train, test = (
        _Pathfinder(size=size, path_length=config.path_length, distractors=config.distractors)
        for size in (config.image_size, config.test_size)
    )
    return drawn_task(
        train.draw,
        test.draw,
        labels=LABELS,
        num_images=(NUM_TRAIN, NUM_TEST),
        seed=seed,
        purposes=(Purpose.PATHFINDER_ORDER, Purpose.PATHFINDER_TRAINING, Purpose.PATHFINDER_TEST),
    )


@dataclass(frozen=True, kw_only=True)
class _Pathfinder:
    """Images of dashed paths, after Linsley et al. (2018) and the Long Range Arena.

    Every image has two paths of `path_length` dashes and `distractors` of half as many. Where they run does
    not depend on the class: two dots alone say it, at both ends of the first path, or at one end of the first
    and one of the second. The second begins where another path from the first dot would end, one that is not
    drawn: so dots lie alike in both classes. Dashes have one size in images of any.

    Paper: none (ours).
    """

    size: int = 32
    path_length: int = 6
    distractors: int = 2

    def __post_init__(self) -> None:
        if self.path_length < 2:
            raise ArgumentError(f"Pathfinder: path_length must be at least 2, got {self.path_length}.")
        side = max(math.sqrt(sum(self._joints) * _ROOM), self.path_length * _STEP)
        if self.size < 2 * MARGIN + side:
            raise ArgumentError(
                f"Pathfinder: size must be at least {math.ceil(2 * MARGIN + side)} pixels for paths of"
                f" {self.path_length} dashes and {self.distractors} distractors, got {self.size}."
            )

    @property
    def _joints(self) -> tuple[int, ...]:
        """Joints of each path that is drawn: one more than it has dashes."""
        return (*(self.path_length + 1,) * 2, *(max(1, self.path_length // 2) + 1,) * self.distractors)

    def draw(self, seeds: Sequence[Seed], labels: Labels) -> Float[Tensor, "n 1 size size"]:
        """Draw an image for each seed, which decides where the paths run, dotted as its class has it."""
        images = []
        for start in range(0, len(seeds), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            paths = self.paths(seeds[part])
            first, second = paths[:2]
            ends = np.where(labels.numpy()[part] == 1, first[:, -1], second[:, 0])
            images.append(_render(paths, np.stack([first[:, 0], ends], axis=1), self.size))
        return torch.from_numpy(np.concatenate(images)).unsqueeze(1)

    def paths(self, seeds: Sequence[Seed]) -> list[_Points]:
        """The paths: joints of the first path, of the second, of each distractor, "2 joints n"."""
        generators = [np.random.default_rng(seed) for seed in seeds]
        found = [np.zeros((2, joints, len(seeds)), dtype=np.float32) for joints in self._joints]
        missing = np.arange(len(seeds))
        # Random numbers of one attempt: places for each path, turns for each dash and for the unseen path's.
        dashes = sum(self._joints) - len(self._joints) + self.path_length
        num_numbers = 2 * _PLACES * len(self._joints) + _TRIED * len(_TURNS) * dashes
        num_attempts = 1
        for _ in range(_MOST_ROUNDS):
            shape = (num_attempts, num_numbers)
            numbers = np.stack(
                [generators[index].random(shape, dtype=np.float32) for index in missing], axis=-1
            )
            paths, whole = self._attempt(numbers.transpose(1, 2, 0).reshape(num_numbers, -1))
            # The first whole attempt of each image.
            whole = whole.reshape(len(missing), num_attempts)
            chosen = np.arange(len(missing)) * num_attempts + whole.argmax(axis=1)
            succeeded = whole.any(axis=1)
            for kept, path in zip(found, paths, strict=True):
                kept[..., missing[succeeded]] = path[..., chosen[succeeded]]
            missing = missing[~succeeded]
            if not len(missing):
                return found
            # Side by side, the attempts of a few images take hardly longer than one.
            num_attempts = min(2 * num_attempts, _MOST_ATTEMPTS)
        raise DataError(
            f"Pathfinder: paths must find room, got none for {len(missing)} images in"
            f" {_MOST_ROUNDS} rounds of attempts. Use a larger size, fewer distractors or shorter paths."
        )

    def _attempt(self, numbers: Numbers) -> tuple[list[_Points], _Truths]:
        """Paths from evenly distributed numbers, and which images are whole."""
        num, taken = numbers.shape[-1], 0

        def take(*shape: int) -> Numbers:
            nonlocal taken
            start, taken = taken, taken + math.prod(shape)
            return numbers[start:taken].reshape(*shape, num)

        paths: list[_Points] = []
        whole = np.ones(num, dtype=bool)
        occupied = np.empty((2, 0, num), dtype=np.float32)
        for joints in self._joints:
            turns = (joints - 1, len(_TURNS), _TRIED)
            starts = MARGIN + take(2, _PLACES) * np.float32(self.size - 1 - 2 * MARGIN)
            may_begin = np.ones(starts.shape[1:], dtype=bool)
            if len(paths) == 1:
                starts, may_begin = self._ends_of_unseen(paths[0], 2 * take(*turns) - 1)
            every, succeeded = self._grow(starts, may_begin, 2 * take(*turns) - 1, occupied)
            first = succeeded.argmax(axis=0)[None, None, None]  # 1 1 1 n
            paths.append(np.take_along_axis(every, first, axis=2)[:, :, 0])
            whole &= succeeded.any(axis=0)
            occupied = np.concatenate([occupied, paths[-1]], axis=1)
        return paths, whole

    def _ends_of_unseen(self, path: _Points, turns: Numbers) -> tuple[_Points, _Truths]:
        """The ends of other paths that begin where this one does, and which of these ends are of use.

        This path's end keeps clear of the unseen path, as the unseen one's must of this; and ends that are
        about as far away as this one's come first: so one end is distributed as the other.
        """
        starts = np.repeat(path[:, :1], _TRIED, axis=1)
        nothing = np.empty((2, 0, path.shape[-1]), dtype=np.float32)
        unseen, whole = self._grow(starts, np.ones(starts.shape[1:], dtype=bool), turns, nothing)
        whole &= _clear(path[:, -1:], unseen)
        ends = unseen[:, -1]  # 2 tried n
        order = np.abs(_lengths(ends - path[:, :1]) - _lengths(path[:, -1:] - path[:, :1])).argsort(axis=0)
        return np.take_along_axis(ends, order[None], axis=1), np.take_along_axis(whole, order, axis=0)

    def _grow(
        self, starts: _Points, may_begin: _Truths, turns: Numbers, occupied: _Points
    ) -> tuple[_Points, _Truths]:
        """Paths from a few places where there is room, "2 joints tried n"; and which of them are whole."""
        is_free = may_begin & self._free(starts, occupied)  # places n
        tried = np.argsort(~is_free, axis=0, kind="stable")[:_TRIED]  # tried n
        whole = np.take_along_axis(is_free, tried, axis=0)
        joints = np.empty((2, len(turns) + 1, *tried.shape), dtype=np.float32)  # 2 joints tried n
        joints[:, 0] = np.take_along_axis(starts, tried[None], axis=1)
        ways = np.zeros_like(turns[0, :1])  # 1 tried n
        for dash, turn in enumerate(turns):
            spread = _TURNS[:, None, None] if dash else np.float32(math.pi)
            every = ways + spread * turn  # turns tried n
            directions = np.stack([np.cos(every), np.sin(every)])  # 2 turns tried n
            tips = joints[:, dash, None] + directions * np.float32(_STEP)
            is_free = self._free(tips, occupied) & _clear(tips, joints[:, :dash, None])
            ways, tip = every[-1:], tips[:, -1]
            for way in reversed(range(len(_TURNS) - 1)):
                ways = np.where(is_free[way], every[way], ways)
                tip = np.where(is_free[way], tips[:, way], tip)
            joints[:, dash + 1] = tip
            whole &= is_free.any(axis=0)
        return joints, whole

    def _free(self, points: _Points, occupied: _Points) -> _Truths:
        """Whether each point lies inside and is far enough from all that is occupied."""
        middle = np.float32((self.size - 1) / 2)
        away = np.maximum(np.abs(points[0] - middle), np.abs(points[1] - middle))
        axes = [1] * (points.ndim - 2)
        return (away <= middle - MARGIN) & _clear(points, occupied.reshape(2, -1, *axes, points.shape[-1]))


def _lengths(ways: _Points) -> Numbers:
    return np.sqrt((ways * ways).sum(axis=0))


def _clear(points: _Points, occupied: _Points) -> _Truths:
    """Whether each point is far enough from all joints, whose other axes broadcast against the points'."""
    down = points[0] - occupied[0]  # joints *p n
    across = points[1] - occupied[1]
    return (down * down + across * across >= np.float32(_CLEARANCE**2)).all(axis=0)


def _render(paths: Sequence[_Points], dots: _Points, size: int) -> Float[np.ndarray, "n size size"]:
    """Draw each mark in a small square of its own; what overlaps is added, up to full ink.

    A mark is a stroke with round ends; that of a dot has no length.
    """
    starts = np.concatenate([*(path[:, :-1] for path in paths), dots], axis=1)  # 2 marks n
    ways = np.concatenate([*(np.diff(path, axis=1) for path in paths), np.zeros_like(dots)], axis=1)
    # A dash lies in the middle between two joints.
    middles, halves = starts + ways / 2, ways * np.float32(_DASH / _STEP / 2)
    radii = np.full(middles.shape[1], _DASH_RADIUS, np.float32)
    radii[-dots.shape[1] :] = _DOT_RADIUS
    corners = np.rint(middles)
    places = (corners - middles)[:, None] + _SQUARE[..., None, None]  # 2 pixels marks n
    # The nearest point of a stroke lies a fraction of the way to one of its ends.
    lengths = np.maximum((halves * halves).sum(axis=0), np.float32(1e-12))  # marks n
    fractions = (places * (halves / lengths)[:, None]).sum(axis=0)  # pixels marks n
    offsets = places - np.clip(fractions, -1, 1) * halves[:, None]
    ink = np.clip(radii[:, None] + np.float32(0.5) - _lengths(offsets), 0, 1)
    rows, columns = corners.astype(np.int64)[:, None] + _SQUARE.astype(np.int64)[..., None, None]
    num = middles.shape[-1]
    flat = (np.arange(num) * size + rows) * size + columns  # pixels marks n
    summed = np.bincount(flat.ravel(), weights=ink.ravel(), minlength=num * size * size)
    return (np.minimum(summed, 1) / STD).astype(np.float32).reshape(num, size, size)
