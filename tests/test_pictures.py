"""The fetcher of the training pictures: Qt resource files, what is kept, and the page's table."""

import importlib.util
import os
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qt_resources import read_rcc

ROOT = Path(__file__).resolve().parent.parent


def _loaded() -> Any:
    """Return the module under test by its path: ``load_tests`` has a ``pictures`` too."""
    spec = importlib.util.spec_from_file_location("tools_pictures", ROOT / "tools" / "pictures.py")
    assert spec and spec.loader
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pictures = _loaded()


def resource(version: int, *, flags: int = 1) -> bytes:
    """Return a Qt resource file: ``é.txt``, plain, and ``in/b.txt``, compressed (``flags`` 1)."""
    packed = struct.pack(">I", 200) + zlib.compress(b"b" * 200)
    blobs = struct.pack(">I", 1) + b"a" + struct.pack(">I", len(packed)) + packed
    names, at = b"", []
    for name in ("é.txt", "in", "b.txt"):
        at.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    rows = [
        struct.pack(">IHII", 0, 2, 2, 1),
        struct.pack(">IHII", at[0], 0, 0, 0),
        struct.pack(">IHII", at[1], 2, 1, 3),
        struct.pack(">IHII", at[2], flags, 0, 5),
    ]
    nodes = b"".join(row + bytes(8 if version >= 2 else 0) for row in rows)
    start = 24 if version >= 3 else 20
    head = struct.pack(">4s4I", b"qres", version, start, start + len(nodes), 0)
    head = head[:-4] + struct.pack(">I", start + len(nodes) + len(blobs))
    return head.ljust(start, b"\0") + nodes + blobs + names


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_resource_file_gives_its_files(version: int) -> None:
    assert dict(read_rcc(resource(version))) == {"é.txt": b"a", "in/b.txt": b"b" * 200}


def test_what_is_no_resource_file_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Qt resource"):
        list(read_rcc(b"RIFF" + bytes(30)))
    with pytest.raises(ValueError, match="compressed"):
        list(read_rcc(resource(3, flags=4)))


def package(**changes: object) -> Any:
    """Return a package of ``a/*.jpg``."""
    entry: dict[str, object] = {
        "pool": "p/pics/pics_1.0-1_all.deb",
        "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
        "suite": "sid",
        "licence": "CC0-1.0",
        "keep": ["a/*.jpg"],
        "count": 2,
    }
    return pictures.Package(**(entry | changes))


def test_globs_keep_but_links_and_names_left_out(tmp_path: Path) -> None:
    for name, size in {
        "a/1.jpg": 9,
        "a/2.jpg": 5,
        "a/3.jpg": 1,
        "a/4.png": 1,
        "b/1.jpg": 1,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    os.symlink("1.jpg", tmp_path / "a" / "5.jpg")

    def names(chosen: Any) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in pictures.kept(chosen, tmp_path)]

    assert names(package(left_out=["2"])) == ["a/1.jpg", "a/3.jpg"]
    assert names(package(keep=["*/*.jpg", "a/1*"], largest=True)) == ["a/1.jpg", "b/1.jpg"]


def test_pictures_are_rgb_of_bounded_sides(tmp_path: Path) -> None:
    source, target = tmp_path / "source.png", tmp_path / "new" / "target.webp"
    Image.new("RGBA", (800, 399)).save(source)
    assert not pictures.convert(source, target)
    Image.new("RGBA", (5120, 2880)).save(source)
    assert pictures.convert(source, target)
    with Image.open(target) as picture:
        assert (picture.mode, picture.size) == ("RGB", (2560, 1440))


def test_a_package_already_there_is_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "pics_1.0-1_all.deb").write_bytes(b"abc")
    assert pictures.fetch(package(), tmp_path) == tmp_path / "pics_1.0-1_all.deb"


def test_the_page_lists_every_package() -> None:
    page = (ROOT / "docs" / "bundled-model.md").read_text()
    rows = re.findall(r"^\| ([a-z][\w.-]+) \| (\S+) \((\w+)\) \| (\d+)\b", page, re.M)
    assert [(f"{name}_{version}", suite, int(n)) for name, version, suite, n in rows] == [
        (chosen.title, chosen.suite, chosen.count) for chosen in pictures.packages()
    ]
