"""The jobs `data shard` and `data index`: a data set as shards, and what is where in them."""

from dataclasses import dataclass
from pathlib import Path

from lambdanets.data.class_names import write_class_names
from lambdanets.data.config import FilesConfig, FolderConfig, switched
from lambdanets.data.shard_index import index_place, read_index
from lambdanets.data.shard_writer import MAX_COUNT, MAX_SHARD_BYTES, write_shards
from lambdanets.errors import ArgumentError, PathError
from lambdanets.files import storing
from lambdanets.terminal import counting


def find_files(
    root: str,
    kind: str | None = None,
    *,
    train: str = "train",
    test: str = "val",
    train_labels: str | None = None,
    test_labels: str | None = None,
) -> FilesConfig:
    """The data set of a folder, by how the folder looks.

    Args:
        root: The folder, or the name of a Hugging Face data set.
        kind: folder, shards or huggingface; None: shards where `train` holds tar archives, else folder.
        train: A folder or a pattern of shards below root, or a split.
        test: The same; empty where there is none.
        train_labels: A label file for a flat folder, below root.
        test_labels: The same for the test.

    Raises:
        ArgumentError: `train` is empty, or label files are given for something else than a folder.
        PathError: There is no such folder.
    """
    if not train:
        raise ArgumentError("data: train must name a folder, a pattern or a split, got nothing.")
    if kind is None:
        if not Path(root).is_dir():
            raise PathError(
                f"data: root must be a folder, got {root}, which is none."
                " A data set of Hugging Face needs --kind huggingface."
            )
        is_sharded = train.endswith(".tar") or any((Path(root) / train).glob("*.tar"))
        kind = "shards" if is_sharded else "folder"
    settings = {"root": root, "train": train, "test": test}
    labels = {"train_labels": train_labels, "test_labels": test_labels}
    given = {name: file for name, file in labels.items() if file is not None}
    config = switched(FolderConfig(), kind, **settings, **given)
    assert isinstance(config, FilesConfig), "only files are looked for"
    return config


@dataclass(frozen=True, kw_only=True)
class Written:
    """A part that was written as shards.

    Attributes:
        part: Its name.
        num_images: All of its images.
        shards: The archives.
    """

    part: str
    num_images: int
    shards: list[Path]


def shard_data(
    data: FilesConfig,
    out: Path,
    *,
    max_bytes: int = MAX_SHARD_BYTES,
    max_count: int = MAX_COUNT,
    shuffle_seed: int | None = None,
) -> list[Written]:
    """Write a data set as shards: `train/` and `val/` in a new folder, with the names of the classes.

    Args:
        data: Where it is.
        out: The folder; nothing may be in it.
        max_bytes: Size of a shard at most.
        max_count: Images in a shard at most.
        shuffle_seed: Decides the order in the shards; none: the order of the source.

    Raises:
        ArgumentError: Something is in the folder.
        PathError: A part is not there.
        DataError: An image cannot be read, or the test has a class that the training has not.
        StorageError: The folder cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArgumentError(f"data shard: out must be a new or an empty folder, got {out}.")
    train = data.open_train()
    sources = {"train": train}
    if data.test:
        sources["val"] = data.open_test(train.labels)
    with storing(out, "data shard", "Free some space or use another folder."):
        out.mkdir(parents=True, exist_ok=True)
        write_class_names(out, train.labels)
    written = []
    for part, source in sources.items():
        with counting(f"writing {part}", len(source)) as show:
            shards = write_shards(
                source,
                out / part,
                part,
                max_bytes=max_bytes,
                max_count=max_count,
                shuffle_seed=shuffle_seed,
                progress=show,
            )
            # So that the first reader need not.
            for shard in shards:
                read_index(shard)
        written.append(Written(part=part, num_images=len(source), shards=shards))
    return written


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """A shard with its index.

    Attributes:
        shard: The archive.
        num_images: How many are in it.
        place: Where the index is; none where it could not be kept.
    """

    shard: Path
    num_images: int
    place: Path | None


def index_data(root: Path) -> list[Indexed]:
    """Make the index of every shard below a folder, where it is not there yet.

    Raises:
        PathError: There is no such folder, or no shard in it.
        DataError: A shard is damaged or not to be trusted.
    """
    shards = sorted(root.rglob("*.tar"))
    if not shards:
        raise PathError(f"data index: root must be a folder with *.tar in it or below, got {root}.")
    indexed = []
    with counting("indexing", len(shards)) as show:
        for number, shard in enumerate(shards, 1):
            index = read_index(shard)
            indexed.append(
                Indexed(shard=shard, num_images=len(index.names), place=index_place(shard, index.stamp))
            )
            show(number)
    return indexed
