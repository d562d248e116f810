"""Fetch the pictures that the bundled prior was trained on, out of packages of Debian's.

    python tools/pictures.py --output pictures

downloads the packages of ``pictures.toml`` (420 MB), unpacks them with ``dpkg``, and writes their
pictures, and what they say of authors and licences, below ``pictures/<package>_<version>/``.
Packages are pinned by their checksums: Debian's pool drops old ones, snapshot.debian.org does not.
"""

import argparse
import hashlib
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from PIL import Image, ImageOps
from qt_resources import read_rcc

TABLE = Path(__file__).with_suffix(".toml")
POOL = "https://deb.debian.org/debian/pool/main"
SNAPSHOT = "https://snapshot.debian.org/file"
LONGEST_PX = 2560
SHORTEST_PX = 400


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package and which of its pictures are kept: an entry of ``pictures.toml``."""

    pool: str
    sha1: str
    suite: str
    licence: str
    keep: tuple[str, ...]
    count: int
    left_out: tuple[str, ...] = ()
    largest: bool = False

    @property
    def file(self) -> str:
        """Its file's name."""
        return self.pool.rpartition("/")[2]

    @property
    def title(self) -> str:
        """Its name and version, as its file's name joins them."""
        return self.file.rpartition("_")[0]


def packages() -> list[Package]:
    """Return the packages of ``pictures.toml``."""
    return [Package(**entry) for entry in tomllib.loads(TABLE.read_text())["package"]]


def fetch(package: Package, debs: Path) -> Path:
    """Return the package's file in ``debs``, downloaded if it is not there yet.

    Raises:
        OSError: it is nowhere to be had with this checksum.
    """
    deb = debs / package.file
    here, pool = deb.resolve().as_uri(), f"{POOL}/{quote(package.pool)}"
    failures = []
    for url in (here, pool, f"{SNAPSHOT}/{package.sha1}"):
        try:
            with urlopen(url, timeout=60) as response:
                content: bytes = response.read()
        except OSError as err:
            failures.append(f"{url}: {err}")
            continue
        if hashlib.sha1(content).hexdigest() == package.sha1:
            if url != here:
                deb.write_bytes(content)
            return deb
        failures.append(f"{url}: another file")
    raise OSError("\n".join(failures))


def unpack(deb: Path, root: Path) -> None:
    """Unpack a package below ``root``; a folder takes the place of each Qt resource file."""
    subprocess.run(["dpkg", "-x", deb, root], check=True)
    for resource in list(root.rglob("*.rcc")):
        content = resource.read_bytes()
        resource.unlink()
        for path, data in read_rcc(content):
            target = resource / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def kept(package: Package, share: Path) -> list[Path]:
    """Return the files below ``share``, an unpacked ``/usr/share``, that the package's globs keep.

    Links are passed over: they name a file again.
    """
    found = sorted({path for glob in package.keep for path in share.glob(glob)})
    found = [p for p in found if not p.is_symlink() and p.stem not in package.left_out]
    if package.largest:
        by_size = sorted(found, key=lambda path: path.stat().st_size)
        found = sorted({path.parent: path for path in by_size}.values())
    return found


def convert(source: Path, target: Path) -> bool:
    """Write a picture in RGB, its long side at most 2560 px; say whether it was large enough."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    if max(picture.size) > LONGEST_PX:
        picture = ImageOps.contain(picture, (LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    if min(picture.size) < SHORTEST_PX:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, quality=92)
    return True


def extract(package: Package, deb: Path, output: Path) -> int:
    """Write a package's pictures and its copyright file below ``output``; return how many."""
    folder = output / package.title
    with tempfile.TemporaryDirectory() as root:
        unpack(deb, Path(root))
        share = Path(root) / "usr" / "share"
        pictures = kept(package, share)
        targets = [folder / p.relative_to(share).with_suffix(".webp") for p in pictures]
        written = [t for p, t in zip(pictures, targets, strict=True) if convert(p, t)]
        name = package.title.partition("_")[0]
        shutil.copy(share / "doc" / name / "copyright", folder)
    return len(set(written))


def main() -> None:
    """Fetch all packages and say how many pictures each gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--debs", type=Path, help="folder of the packages, by default in output")
    args = parser.parse_args()
    debs: Path = args.debs or args.output / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    total, wrong = 0, []
    for package in packages():
        found = extract(package, fetch(package, debs), args.output)
        print(f"{found:4} {package.title} ({package.suite}): {package.licence}", flush=True)
        total += found
        if found != package.count:
            wrong.append(f"{package.title} gave {found} pictures instead of {package.count}")
    print(f"{total:4} pictures")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
