"""Tar archives for tests, made by the standard library."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def write_tar(path, members, *, form=tarfile.USTAR_FORMAT, pax_headers=None):
    """Write `members`, pairs of a name (or a whole header) and bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form, pax_headers=pax_headers) as archive:
        for name, content in members:
            header = tarfile.TarInfo(name) if isinstance(name, str) else name
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def samples(labels, *, first=0, extension="jpg", kind="cls"):
    """Members of one image a label, whose bytes say which one it is."""
    members = []
    for index, label in enumerate(labels, first):
        key = f"{index:06d}"
        text = json.dumps({"label": label}) if kind == "json" else str(label)
        members += [(f"{key}.{kind}", text.encode()), (f"{key}.{extension}", content(index))]
    return members


def content(index):
    """Bytes of an image that is none: only reading counts."""
    return np.random.default_rng(index).bytes(700 + 37 * index)


def image_bytes(seed=0, size=(12, 16), form="JPEG"):
    """A small encoded image of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def raw_header(name, size, kind=tarfile.REGTYPE, **fields):
    """One block of a header, whatever it claims."""
    header = tarfile.TarInfo(name)
    header.size, header.type = size, kind
    for field, value in fields.items():
        setattr(header, field, value)
    return header.tobuf(tarfile.GNU_FORMAT)


def padded(data):
    """Bytes in whole blocks."""
    return data + bytes(-len(data) % tarfile.BLOCKSIZE)


END = bytes(2 * tarfile.BLOCKSIZE)


def write_raw(path: Path, *blocks: bytes) -> Path:
    """Write blocks as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(blocks))
    return path
