"""Sources in memory, for what takes any source."""

from dataclasses import dataclass

import torch

from lambdanets.errors import DataError


@dataclass(frozen=True)
class MemorySource:
    """Bytes with names and classes; None is an image that cannot be read."""

    contents: list
    classes: list
    labels: tuple = ("cat", "dog")
    form: str = "images/n{index:03d}.x/photo {index}.jpg"

    @property
    def targets(self):
        return torch.tensor(self.classes, dtype=torch.int64)

    def __len__(self):
        return len(self.contents)

    def name(self, index):
        return self.form.format(index=index)

    def relative_name(self, index):
        return self.name(index).encode()

    def read(self, index):
        if self.contents[index] is None:
            raise DataError(f"{self.name(index)}: cannot be read: Permission denied.")
        return self.contents[index]
