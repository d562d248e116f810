"""Pictures damaged on purpose: what is given, and what is measured of the restorations."""

from pathlib import Path

import numpy as np
from checkpoints import write_checkpoint
from quality_pictures import crop
from restoration import HEIGHT, WIDTH, damages, quality, restore
from skimage import data

from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine


def test_every_damage_is_done_and_undone(tmp_path: Path) -> None:
    engine = SREngine(load_model(str(write_checkpoint(tmp_path)), device="cpu"))
    truth = crop(data.chelsea(), 1, WIDTH)[:HEIGHT]
    for damage in damages():
        pictures = restore(engine, truth, damage)
        given, restored = pictures["given"], pictures["restored"]
        assert given.shape[0] * damage.scale == HEIGHT and restored.shape == truth.shape
        assert not np.array_equal(given, truth)
        found = quality(damage, pictures, truth)
        assert found["restored"] > 5 and found["start"] > 10
        if damage.lost is not None:
            assert (given[damage.lost] == 0).all()
            np.testing.assert_array_equal(restored[~damage.lost], truth[~damage.lost])
