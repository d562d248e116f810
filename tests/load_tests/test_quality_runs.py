"""A method's picture, its measures, and the key they are kept under."""

from dataclasses import replace

import metrics
import numpy as np
import pytest
from fakes import FakeModel
from PIL import Image
from quality_damages import DAMAGES
from quality_methods import (
    BALANCED,
    BICUBIC,
    PLAIN,
    PROJECTIONS,
    TABLES,
    Method,
    changed,
    cross,
    defaults,
)
from quality_pictures import Truth, shrink
from quality_runs import Bench, Weights, pseudo_inverse
from skimage import data

from nullscale.imaging.noise import noise_of
from sr_engine.engine import SREngine

TRUTH = Truth("set", "coffee", np.ascontiguousarray(data.coffee()[150:198, 250:298]))


@pytest.fixture
def bench() -> Bench:
    return Bench(SREngine(FakeModel()), Weights("w", "d"))


def test_the_key_is_what_the_picture_depends_on(bench: Bench) -> None:
    base = bench.key(BALANCED, TRUTH, 4)
    # A default that is named is the default.
    assert bench.key(changed({"projection": "pixel"}), TRUTH, 4) == base
    others = [
        bench.key(changed({"projection": "latent"}), TRUTH, 4),
        bench.key(replace(BALANCED, samples=8), TRUTH, 4),
        bench.key(BALANCED, TRUTH, 2),
        bench.key(BALANCED, replace(TRUTH, pixels=TRUTH.pixels[4:]), 4),
        replace(bench, weights=Weights("other", "d")).key(BALANCED, TRUTH, 4),
        Bench(SREngine(FakeModel(dtype="bfloat16")), bench.weights).key(BALANCED, TRUTH, 4),
        bench.key(BICUBIC, TRUTH, 4),
    ]
    assert base not in others
    assert len({str(key) for key in others}) == len(others)


def test_only_a_draft_depends_on_the_draft(bench: Bench) -> None:
    other = replace(bench, weights=Weights("w", "other"))
    for draft in (False, True):
        method = changed({"draft": draft})
        assert (bench.key(method, TRUTH, 4) != other.key(method, TRUTH, 4)) == draft


def test_plain_filters_know_no_weights(bench: Bench) -> None:
    other = replace(bench, weights=Weights("other", "other"))
    for method in PLAIN:
        assert bench.key(method, TRUTH, 4) == other.key(method, TRUTH, 4)


def test_the_weights_of_a_checkpoint_have_fingerprints() -> None:
    found = Weights.of("bundled")
    assert found == Weights.of("bundled")
    assert len({found.main, found.draft}) == 2


def test_the_pseudo_inverse_gives_the_input_back() -> None:
    small = shrink(TRUTH.pixels, 4)
    large = Image.fromarray(pseudo_inverse(small, 4))
    back = large.resize(small.shape[1::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(back), small)


@pytest.mark.parametrize("method", [*PLAIN, BALANCED], ids=lambda method: method.label)
def test_every_kind_is_measured(bench: Bench, method: Method) -> None:
    found, image = bench.measure(method, TRUTH, 4)
    assert image.shape == TRUTH.pixels.shape
    assert found["psnr_y"] == metrics.psnr_y(image, TRUTH.pixels, 4)
    assert found["exact_share"] == (shrink(image, 4) == shrink(TRUTH.pixels, 4)).mean()
    assert bench.seconds(method, TRUTH, 4) > 0
    assert "best_single_psnr_y" not in found


def test_damage_is_of_the_strength_that_it_says() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    _, noisy = DAMAGES["noise, σ = 0.05"].done_to(grey)
    assert np.std(noisy / 255) == pytest.approx(0.05, rel=0.02)
    np.testing.assert_array_equal(DAMAGES["noise, σ = 0.05"].done_to(grey)[1], noisy)
    np.testing.assert_array_equal(DAMAGES["none"].done_to(TRUTH.pixels)[1], TRUTH.pixels)
    errors = [
        np.std(DAMAGES[f"JPEG, quality {quality}"].done_to(TRUTH.pixels)[1] - 1.0 * TRUTH.pixels)
        for quality in (90, 70, 40)
    ]
    assert errors == sorted(errors) and errors[0] > 0


def test_a_damaged_input_is_what_the_method_gets(bench: Bench) -> None:
    damage = DAMAGES["noise, σ = 0.1"]
    found, _ = bench.measure(replace(BICUBIC, damage=damage), TRUTH, 4)
    clean, _ = bench.measure(BICUBIC, TRUTH, 4)
    assert found["psnr_y"] < clean["psnr_y"]
    keys = [
        bench.key(method, TRUTH, 4)
        for method in (
            BICUBIC,
            replace(BICUBIC, damage=damage),
            replace(BALANCED, damage=damage),
            replace(BALANCED, damage=damage, estimates=True),
        )
    ]
    assert len({str(key) for key in keys}) == len(keys)
    guessed, _ = bench.measure(replace(BALANCED, damage=damage, estimates=True), TRUTH, 4)
    assert guessed["sigma_y"] == noise_of(*damage.done_to(shrink(TRUTH.pixels, 4)))


def test_a_mean_is_compared_with_each_of_its_samples(bench: Bench) -> None:
    method = replace(BALANCED, samples=3)
    image, singles = bench.make(method, shrink(TRUTH.pixels, 4), 4)
    alone = [
        bench.make(changed({"seed": seed}), shrink(TRUTH.pixels, 4), 4)[0] for seed in (1, 2, 3)
    ]
    assert sorted(x.tobytes() for x in singles) == sorted(x.tobytes() for x in alone)
    found, again = bench.measure(method, TRUTH, 4)
    np.testing.assert_array_equal(again, image)
    best = max(metrics.psnr_y(x, TRUTH.pixels, 4) for x in alone)
    assert found["best_single_psnr_y"] == best


def test_round_trips_are_those_of_the_autoencoders(bench: Bench) -> None:
    found = bench.round_trip([TRUTH])
    # The fake draft is the one that loses more.
    assert found["draft"] < found["whole"] < 60


def test_labels_are_unique_and_parameters_valid(bench: Bench) -> None:
    for methods in TABLES.values():
        labels = [method.label for method in methods()]
        assert len(set(labels)) == len(labels)
        for method in methods():
            bench.params(method, 4)


def test_the_cross_is_complete() -> None:
    rows = [method.params for method in cross() if method.params]
    assert len(rows) == 3 + 3 * 3 * 2 * 3
    assert {row["projection"] for row in rows} == set(PROJECTIONS)
    assert not any(row["draft"] for row in rows)
    assert sum(row["num_inference_steps"] == 1 for row in rows) == 3
    assert any(len(method.params) > 1 for method in defaults())
