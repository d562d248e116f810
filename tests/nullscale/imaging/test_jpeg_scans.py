"""Scans are counted as libjpeg meets them, and no chance bytes are."""

import io
import random
import re

import numpy as np
import pytest
from PIL import Image

from nullscale.errors import InvalidImage
from nullscale.imaging import jpeg_scans
from nullscale.imaging.image_io import MAX_SCANS, decode_image
from nullscale.imaging.jpeg_scans import has_more_scans


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    samples = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(samples).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def scans_of(data: bytes) -> int:
    """The least that there are no more of."""
    return next(most for most in range(1000) if not has_more_scans(data, most))


def repeated(times: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times."""
    data = jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + times * data[last:-2] + data[-2:]


@pytest.mark.parametrize(
    ("mode", "options", "scans"),
    [
        ("RGB", {}, 1),
        # libjpeg's own script for pictures of three components, and for one.
        ("RGB", {"progressive": True}, 10),
        ("L", {"progressive": True}, 6),
        ("RGB", {"restart_marker_blocks": 1}, 1),
    ],
)
def test_scans_are_counted(mode: str, options: dict[str, object], scans: int) -> None:
    assert scans_of(jpeg(mode, **options)) == scans


def test_what_is_no_scan_is_not_counted() -> None:
    film = random.Random(0).randbytes(2**22)
    assert film.count(b"\xff\xda") > 20
    assert scans_of(jpeg() + film) == 1
    assert scans_of(jpeg(comment=b"\xff\xda" * 200)) == 1
    thumbnail = jpeg(progressive=True)
    assert scans_of(jpeg(exif=b"Exif\0\0" + thumbnail)) == 1


def test_nothing_between_the_markers_hides_a_scan() -> None:
    data = repeated(150)
    at = data.index(b"\xff\xc4")
    for filling in (b"\xff\xff\xff", b"junk", b"\xff\x01", b"\xff\xd0", b"\xff\x00"):
        hiding = data[:at] + filling + data[at:]
        assert scans_of(hiding) == 9 + 150
        with pytest.raises(InvalidImage):
            decode_image(hiding)


@pytest.mark.parametrize("filling", [b"\xff\x01", b"\xff\xd8", b"\xff\x00", b"\xff\xd3", b"\xff"])
def test_what_is_skipped_costs_no_step_of_ours(
    filling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        steps = 0

        def search(self, data: bytes, at: int) -> re.Match[bytes] | None:
            self.steps += 1
            return marker.search(data, at)

    marker, counting = jpeg_scans._MARKER, Counting()
    monkeypatch.setattr(jpeg_scans, "_MARKER", counting)
    data = repeated(3)
    at = data.rindex(b"\xff\xda")
    assert not has_more_scans(data[:at] + 2**18 * filling + data[at:], 9 + 3)
    assert has_more_scans(data[:at] + 2**18 * filling + data[at:], 9 + 2)
    assert counting.steps < 40


def test_segments_without_end_are_refused() -> None:
    data = jpeg()
    at = data.index(b"\xff\xda")
    comments = b"\xff\xfe\0\2"
    # Only where there could be too many scans are segments followed at all.
    end = repeated(MAX_SCANS)
    assert not has_more_scans(data[:at] + 20_000 * comments + data[at:], MAX_SCANS)
    assert has_more_scans(data[:at] + 20_000 * comments + data[at:] + end, MAX_SCANS)
    assert not has_more_scans(data[:at] + 300 * comments + data[at:] + end, MAX_SCANS)


def test_more_than_anybody_writes_are_refused() -> None:
    most = repeated(MAX_SCANS - 9)
    assert scans_of(most) == MAX_SCANS
    expected = np.asarray(Image.open(io.BytesIO(most)))
    np.testing.assert_array_equal(decode_image(most).samples, expected)
    with pytest.raises(InvalidImage, match="scans"):
        decode_image(repeated(MAX_SCANS - 8))
