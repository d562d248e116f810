"""What the exact rounding takes and changes: the figures of one picture."""

from pathlib import Path

import pytest
from bench_rounding import measure
from checkpoints import write_checkpoint
from quality_pictures import crop
from skimage import data

from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine


@pytest.mark.parametrize("scale", [1.5, 3, 8])
def test_exact_rounding_gives_back_what_the_plain_one_does_not(
    scale: float, tmp_path: Path
) -> None:
    engine = SREngine(load_model(str(write_checkpoint(tmp_path)), device="cpu"))
    found = measure(engine, crop(data.chelsea(), 1, 32), scale)
    assert 0 < found["plain_share"] < found["exact_share"] <= 1
    assert found["pictures"] == (found["exact_share"] == 1)
    assert 0 < found["moved"] < 2 and 0 < found["time_share"] < 1
