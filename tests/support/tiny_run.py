"""`lambdanets train` with a data set and a network so small that a run takes a moment, and faults on demand.

    python tests/support/tiny_run.py [--fault RANK:STEP:KIND:MARKER] train digits --out DIR …

KIND is kill (of this process), raise, slow (each step takes 0.2 s) or worker (kills the process that reads).
A fault happens once: MARKER is a file that is made when it does.
"""

import os
import signal
import sys
import time
from pathlib import Path

from lambdanets.cli import run
from lambdanets.data.task import Batch, Task
from lambdanets.runs import train as job
from support.training import NUM_CLASSES, Stored, TinyData, tiny_model

SETTINGS = (
    *("--num-threads", "1", "--global-batch-size", "10", "--sched.epochs", "3", "--sched.warmup-epochs", "1"),
    *("--ckpt.every-epochs", "1", "--ema-decay", "0.9", "--exec.device", "cpu"),
)
STEPS_PER_EPOCH = 4


class TinyTask(Task):
    """The network is no lambda network."""

    def make_model(self, config):
        return tiny_model()


def tiny_task(data=None):
    data = data or TinyData(num=40)
    labels = tuple(map(str, range(NUM_CLASSES)))
    return TinyTask(train=data, test=Stored(data), labels=labels, in_channels=1, preprocessing=None)


class FaultyData(TinyData):
    """Something happens in one process when the images of one step are asked for."""

    def __init__(self, fault):
        super().__init__(num=40)
        rank, step, self.kind, marker = fault.split(":", 3)
        self.at, self.marker = (int(rank), int(step)), Path(marker)
        self.calls = [0]

    def batch(self, epoch, indices):
        batch: Batch = super().batch(epoch, indices)
        number = next(n for n, part in enumerate(self.order(epoch).tensor_split(STEPS_PER_EPOCH))
                      if int(indices[0]) in part.tolist())  # fmt: skip
        if self.kind == "slow":
            time.sleep(0.2)
        elif (int(os.environ.get("RANK", 0)), epoch * STEPS_PER_EPOCH + number) == self.at:
            self._happen()
        return batch

    def _happen(self):
        if self.marker.exists():
            return
        self.marker.touch()
        if self.kind == "raise":
            raise RuntimeError("planted: the images of this process are gone")
        os.kill(os.getpid(), signal.SIGKILL)


def main(words):
    if words[0] == "--fault":
        data, words = FaultyData(words[1]), words[2:]
    else:
        data = TinyData(num=40)
    job.load_task = lambda config: tiny_task(data)
    return run(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
