"""R14: archives that lie, attack or are cut off are refused with their name; nothing is written outside."""

import gzip
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from lambdanets.data.shards import ShardSource
from lambdanets.data.tar_members import _MAX_HEADER_BYTES
from lambdanets.errors import DataError
from support.archives import END, content, padded, raw_header, samples, write_raw, write_tar

GOOD = [block for name, data in samples([0]) for block in (raw_header(name, len(data)), padded(data))]


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    """Whatever is refused, no file appears anywhere but the index beside the archive."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    yield
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"a.tar", "a.tar.index.json", "classes.txt", "classes.json"}


def assert_refused(folder, message):
    with pytest.raises(DataError) as caught:
        ShardSource(folder / "data", "a.tar")
    assert str(caught.value) == f"shards: a.tar must {message}", str(caught.value)
    assert not (folder / "data/a.tar.index.json").exists()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "a/..", "é/../x.jpg"])
def test_names_that_lead_elsewhere(tmp_path, form, name):
    write_tar(tmp_path / "data/a.tar", [*samples([0]), (name, b"x")], form=form)
    assert_refused(tmp_path, f"hold names inside it, got {name!r}.")


def test_a_folder_that_leads_elsewhere(tmp_path):
    write_raw(tmp_path / "data/a.tar", *GOOD, raw_header("../up/", 0, tarfile.DIRTYPE), END)
    # The standard library writes no trailing slash of its own; both are the same place.
    assert_refused(tmp_path, "hold names inside it, got '../up'.")


def test_a_member_without_a_name(tmp_path):
    write_raw(tmp_path / "data/a.tar", *GOOD, raw_header("", 0), END)
    assert_refused(tmp_path, "hold names inside it, got ''.")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "a file with holes"),
        (tarfile.GNUTYPE_LONGLINK, "a symbolic link"),
        (b"Q", "a member of kind b'Q'"),
    ],
)
def test_what_is_no_plain_file(tmp_path, kind, what):
    header = raw_header("000001.jpg", 0, kind, linkname="/etc/passwd")
    write_raw(tmp_path / "data/a.tar", *GOOD, header, END)
    assert_refused(tmp_path, f"hold plain files, got {what}, 000001.jpg.")


def test_a_file_with_holes_by_pax(tmp_path):
    header = tarfile.TarInfo("000001.jpg")
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "1000000000000"}
    write_tar(tmp_path / "data/a.tar", [*samples([0]), (header, b"x")], form=tarfile.PAX_FORMAT)
    with pytest.raises(DataError, match=r"a.tar must hold plain files, got a file with holes, "):
        ShardSource(tmp_path / "data", "a.tar")


@pytest.mark.parametrize("repeated", ["000000.jpg", "000000.JPG", "./000000.jpg", "000000.cls"])
def test_a_name_twice(tmp_path, repeated):
    write_tar(tmp_path / "data/a.tar", [*samples([0]), (repeated, b"1")])
    assert_refused(tmp_path, f"hold each name once, got {repeated!r} twice.")


def test_two_images_of_one_key_or_none(tmp_path):
    write_tar(tmp_path / "data/a.tar", [*samples([0]), ("000000.png", b"x")])
    assert_refused(
        tmp_path,
        "hold one image for each key, got 2 for '000000' (000000.cls, 000000.jpg, 000000.png).",
    )
    write_tar(tmp_path / "data/a.tar", [("000000.cls", b"0"), ("000000.txt", b"x")])
    assert_refused(tmp_path, "hold one image for each key, got 0 for '000000' (000000.cls, 000000.txt).")


@pytest.mark.parametrize("size", [10**6, 8 * 2**30, 2**62])
def test_more_bytes_declared_than_there_are(tmp_path, size):
    write_raw(tmp_path / "data/a.tar", *GOOD, raw_header("000001.jpg", size), padded(b"x"), END)
    assert_refused(
        tmp_path,
        f"hold all bytes of its members, got {size:,} declared for 000001.jpg and 1,536 to the end."
        " Is it cut off?",
    )


def test_fewer_bytes_declared_than_none(tmp_path):
    block = bytearray(raw_header("000001.jpg", 0))
    block[124:136] = b"\xff" * 11 + b"\x00"
    # The checksum counts its own field as blanks.
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    write_raw(tmp_path / "data/a.tar", *GOOD, bytes(block), END)
    assert_refused(
        tmp_path,
        "hold all bytes of its members, got -256 declared for 000001.jpg and 1,024 to the end."
        " Is it cut off?",
    )


def test_a_image_larger_than_any(tmp_path):
    size = 2**28 + 1
    path = write_raw(tmp_path / "data/a.tar", *GOOD[:2], raw_header("000000.jpg", size), bytes(512))
    with path.open("r+b") as file:
        # Holes on the disk: nothing is written.
        file.truncate(file.seek(0, io.SEEK_END) + -(-size // 512) * 512 + 1024)
    assert_refused(tmp_path, f"hold images of at most 268,435,456 bytes, got {size:,} at 000000.jpg.")


def test_a_label_larger_than_any(tmp_path):
    write_tar(tmp_path / "data/a.tar", [("0.jpg", b"x"), ("0.json", b" " * 2**20 + b"1")])
    assert_refused(tmp_path, "hold labels of at most 1,048,576 bytes, got 1,048,577 at 0.json.")


@pytest.mark.parametrize(
    ("name", "data", "shown"),
    [
        ("0.cls", b"", "''"),
        ("0.cls", b"-1", "'-1'"),
        ("0.cls", b"9" * 5000, f"'{'9' * 40}'…"),
        ("0.cls", b"n" * 1001, f"'{'n' * 40}'…"),
        ("0.json", b"{}", "'{}'"),
        ("0.json", b"\xff\x1b[2J", r"'\xff\x1b[2J'"),
        ("0.json", b'{"label": true}', """'{"label": true}'"""),
        ("0.json", b'{"label": -1}', """'{"label": -1}'"""),
        ("0.json", b'{"label": ""}', """'{"label": ""}'"""),
        ("0.json", b'{"label": 1e999}', """'{"label": 1e999}'"""),
        ("0.json", b'{"label": ' + b"9" * 9000 + b"}", f"""'{{"label": {"9" * 30}'…"""),
        ("0.json", b"[" * 900_000, f"'{'[' * 40}'…"),
    ],
)
def test_labels_that_are_none(tmp_path, name, data, shown):
    write_tar(tmp_path / "data/a.tar", [("0.jpg", b"x"), (name, data)])
    what = "the number or the name of a class" if name.endswith("cls") else 'an object with "label"'
    assert_refused(tmp_path, f"hold {what} in {name}, got {shown}.")


def test_a_image_without_a_class(tmp_path):
    write_tar(tmp_path / "data/a.tar", [*samples([0]), ("000001.jpg", b"x")])
    assert_refused(tmp_path, "hold a .cls or a .json for each image, got none for '000001'.")


def test_no_archive_at_all(tmp_path):
    for data in (b"<html>Not found</html>" * 100, np.random.default_rng(0).bytes(2000)):
        write_raw(tmp_path / "data/a.tar", data)
        with pytest.raises(DataError, match=r"a.tar must be a tar archive, got no header at byte 0 \("):
            ShardSource(tmp_path / "data", "a.tar")
    write_raw(tmp_path / "data/a.tar")
    assert_refused(tmp_path, "end with empty blocks, got none at byte 0. Cut off?")


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (gzip.compress(b"".join(GOOD)), "gzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00\x00", "xz"),
        (b"\x28\xb5\x2f\xfd\x24", "zstandard"),
    ],
)
def test_a_packed_archive(tmp_path, data, method):
    write_raw(tmp_path / "data/a.tar", data)
    assert_refused(
        tmp_path,
        f"be an uncompressed tar archive, got one packed by {method}. Images are read at their places in"
        " it: unpack the archive.",
    )


def test_two_archives_in_one_file(tmp_path):
    write_raw(tmp_path / "data/a.tar", *GOOD, END, *GOOD, END)
    start = sum(map(len, GOOD))
    assert_refused(
        tmp_path, f"end after its end mark, got more at byte {start:,}. Are two archives in one file?"
    )


def test_an_archive_cut_off_anywhere_is_refused_or_whole(tmp_path):
    whole = b"".join([*GOOD, END])
    for length in range(0, len(whole), 64):
        path = write_raw(tmp_path / "data/a.tar", whole[:length])
        # One empty block is an end as well.
        if length < len(whole) - 512:
            with pytest.raises(DataError, match=r"^shards: a\.tar must "):
                ShardSource(tmp_path / "data", "a.tar")
        else:
            assert ShardSource(tmp_path / "data", "a.tar").read(0) == content(0)
            path.with_name("a.tar.index.json").unlink()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_any_damage_is_refused_or_harmless(tmp_path, form):
    path = write_tar(
        tmp_path / "data/a.tar", [("n" * 200 + ".jpg", b"x"), ("n" * 200 + ".cls", b"0")], form=form
    )
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in generator.integers(0, 4096, 3):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged)
        try:
            source = ShardSource(tmp_path / "data", "a.tar")
        except DataError as error:
            assert "a.tar" in str(error) and str(error).isprintable()
        else:
            assert len(source) == 1 and len(source.read(0)) <= len(whole)


PAX = tarfile.XHDTYPE


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (b"13 path=aaa\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"99999999999 path=a\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"10 path=a", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"path=a\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"0 path=a\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"-5 path=a\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"10 size=x\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"11 size=-1\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"29 size=99999999999999999999\n", "have whole pax headers, got a damaged one at PaxHeader."),
        (b"21 path=../../up.jpg\n", "hold names inside it, got '../../up.jpg'."),
        (b"21 path=/etc/x.jpg\x1b\n", None),
        (b"9 path=\n", None),
    ],
)
def test_pax_headers_that_lie(tmp_path, records, message):
    header = raw_header("PaxHeader", len(records), PAX)
    write_raw(
        tmp_path / "data/a.tar",
        *GOOD,
        header,
        padded(records),
        raw_header("000001.jpg", 1),
        padded(b"x"),
        END,
    )
    if message:
        assert_refused(tmp_path, message)
    else:
        with pytest.raises(DataError) as caught:
            ShardSource(tmp_path / "data", "a.tar")
        assert "a.tar" in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("record", [b"20 path=000009.jpg\n", b"10 size=1\n"])
def test_one_name_or_size_for_all(tmp_path, record):
    record = b"%d%s" % (len(record), record[2:])
    header = raw_header("GlobalHead", len(record), tarfile.XGLTYPE)
    write_raw(tmp_path / "data/a.tar", header, padded(record), *GOOD, END)
    keyword = record.split()[1].split(b"=")[0].decode()
    assert_refused(tmp_path, f"name each member, got one {keyword} for all at GlobalHead.")


@pytest.mark.parametrize("kind", [PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.SOLARIS_XHDTYPE])
def test_a_huge_header(tmp_path, kind):
    size = _MAX_HEADER_BYTES + 1
    write_raw(tmp_path / "data/a.tar", *GOOD, raw_header("Header", size, kind), bytes(size + 511), END)
    assert_refused(tmp_path, f"have headers of at most 65,536 bytes, got {size:,} at Header.")


ATTACK = """
import resource, sys
from pathlib import Path
from lambdanets.data.shards import ShardSource
from lambdanets.errors import DataError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
for folder in map(Path, sys.argv[1:]):
    try:
        ShardSource(folder, "a.tar")
    except DataError as error:
        print(error)
print(peak() - before)
"""


@pytest.mark.slow
def test_a_gigabyte_of_a_name_takes_no_memory(tmp_path):
    """In a process of its own, whose peak is its own. The files have holes: they take no room on the disk."""
    size = 2**30
    kinds = {
        "pax": PAX,
        "gnu": tarfile.GNUTYPE_LONGNAME,
        "holes": tarfile.GNUTYPE_SPARSE,
        "jpg": tarfile.REGTYPE,
    }
    for name, kind in kinds.items():
        path = write_raw(tmp_path / name / "a.tar", raw_header("000000.jpg", size, kind))
        with path.open("r+b") as file:
            file.truncate(512 + size + 1024)
    folders = [tmp_path / name for name in kinds]
    run = subprocess.run(
        [sys.executable, "-c", ATTACK, *folders], capture_output=True, text=True, check=True, timeout=60
    )
    *messages, megabytes = run.stdout.splitlines()
    assert len(messages) == len(kinds)
    assert all(message.startswith("shards: a.tar must ") for message in messages)
    assert int(megabytes) < 16


def test_names_cannot_give_commands_to_a_terminal(tmp_path):
    write_tar(tmp_path / "data/a.tar", [("\x1b[2J\n.jpg", b"x"), ("\x1b[2J\n.cls", b"0")])
    source = ShardSource(tmp_path / "data", "a.tar")
    assert source.name(0) == r"a.tar: \x1b[2J\x0a.jpg" and source.name(0).isprintable()
