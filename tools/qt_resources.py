"""Reads Qt's binary resource files, ``.rcc``."""

import struct
import zlib
from collections.abc import Iterator


def read_rcc(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and data of every file in a Qt resource file, as ``rcc --binary`` writes it.

    It is a tree of nodes, the root first; children stand side by side. A node begins with the
    offset of its name and its flags; then a folder has the number of its children and the first
    one's index, a file its language and the offset of its data.

    Raises:
        ValueError: this is none, or it is compressed otherwise than by zlib.
    """
    magic, version, nodes, blobs, names = struct.unpack_from(">4s4I", content)
    if magic != b"qres":
        raise ValueError("not a Qt resource file")
    node_bytes = 22 if version >= 2 else 14

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        start = nodes + node * node_bytes
        name, flags, first, second = struct.unpack_from(">IHII", content, start)
        length = struct.unpack_from(">H", content, names + name)[0]
        # Between a name's length and its letters stands its hash.
        letters = content[names + name + 6 :][: 2 * length].decode("utf-16-be")
        path = f"{folder}/{letters}" if node else ""
        if flags & 2:
            for child in range(second, second + first):
                yield from walk(child, path)
            return
        if flags & ~1:
            raise ValueError(f"{path} is compressed by neither zlib nor nothing")
        length = struct.unpack_from(">I", content, blobs + second)[0]
        data = content[blobs + second + 4 :][:length]
        # Before what zlib made stands the length of what it was made of.
        yield path.lstrip("/"), zlib.decompress(data[4:]) if flags & 1 else data

    return walk(0, "")
