"""Bytes of activations, the most alive at a time and those kept for backward; and of the process."""

import resource
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def live_bytes_peak(model: Callable[[Tensor], object], images: Tensor) -> int:
    """Most bytes of activations, inputs included, alive at a time while a function of images runs.

    No gradients are recorded. What an operator uses inside itself, such as a workspace, is not seen.
    """
    tracker = _LiveBytes(images)
    with torch.no_grad(), tracker:
        model(images)
    return tracker.peak


def saved_bytes(model: nn.Module, images: Tensor, others: Sequence[Tensor] = ()) -> int:
    """Bytes of activations autograd keeps for backward, each storage once, parameters not counted.

    Args:
        model: A network.
        images: Its input.
        others: What is kept beside that, read after the call of the network.
    """
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(images)
        kept |= {tensor.untyped_storage()._cdata: tensor for tensor in others}
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        del output
    return total


def peak_bytes_of_process(device: str) -> int:
    """Most bytes that this process has taken: of the accelerator on `cuda`, else of the machine's memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's `getrusage` hands a parent's peak on to its children.
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(peak.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _LiveBytes(TorchDispatchMode):
    """Adds up storages as operators return them, and subtracts them as they are freed."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.known: set[int] = set()
        self._add(images)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {leaf.untyped_storage()._cdata for leaf in tree_leaves(args) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in inputs:
                self._add(leaf)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size
