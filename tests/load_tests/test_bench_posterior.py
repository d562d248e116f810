"""The problem behind the distances to the posterior, its figures, and what a page says of them."""

import json
from dataclasses import replace
from typing import Any

import bench_posterior as bench
import measurements
import numpy as np
import posterior_page
import pytest
from gaussian import Array
from gaussian_ddnm import simulate
from gaussian_pictures import measured, photographs
from pages import fixed
from PIL import Image

from nullscale.maths.presets import Preset

SIDE = 8
KEPT = measurements.load()["posterior"]["figures"]


def test_the_prior_has_the_spectrum_of_photographs() -> None:
    prior = photographs(16)
    drawn = np.random.default_rng(1).multivariate_normal(prior.mean, prior.covariance, 20_000)
    power = (np.abs(np.fft.fft2(drawn.reshape(-1, 16, 16))) ** 2).mean(0)
    np.testing.assert_allclose(power[0, 2] / power[[4, 0, 2], [0, 8, 2]], [4, 16, 2], rtol=0.1)
    assert drawn.var() == pytest.approx(1, abs=0.02)


def test_the_operator_is_pillows_on_pictures_that_repeat_themselves() -> None:
    picture = np.random.default_rng(2).normal(size=(SIDE, SIDE))
    large = Image.fromarray(np.tile(picture, (3, 3)).astype(np.float32))
    small = np.array(large.resize((3 * SIDE // 4, 3 * SIDE // 4), Image.Resampling.BICUBIC))
    A = measured(SIDE).problem.A
    np.testing.assert_allclose(A @ picture.ravel(), small[2:4, 2:4].ravel(), atol=1e-5)


def test_the_posterior_is_at_no_distance_from_itself() -> None:
    judge = measured(SIDE, 0.05)
    sample, mean = bench.references(judge, 4)[:2]
    assert sample["distance"] == pytest.approx(0, abs=1e-4)
    assert sample["null_share"] == pytest.approx(1)
    assert mean["distance"] == pytest.approx(1, abs=1e-4)
    # Twice the error of the mean, and 9/8 of it.
    one, eight, all_of_them = sample["psnr_db"]
    assert all_of_them - one == pytest.approx(10 * np.log10(2), abs=1e-2)
    assert all_of_them - eight == pytest.approx(10 * np.log10(9 / 8), abs=1e-2)
    assert mean["psnr_db"] == [all_of_them] * 3


@pytest.mark.parametrize("sigma_y", [0.0, 0.05])
def test_figures_are_those_of_pictures_drawn(sigma_y: float) -> None:
    """Pictures from the prior, their measurements, and the sampler's answers to them."""
    rng, count = np.random.default_rng(3), 5_000
    judge = measured(SIDE, sigma_y)
    problem, settings = judge.problem, replace(bench.ddnm(4, 0.85, 0.8), sigma_y=sigma_y)
    pixels = len(judge.null)
    latents = rng.multivariate_normal(np.zeros(pixels), problem.prior.covariance, count)
    pictures = problem.decode(latents)
    y = pictures @ problem.A.T + sigma_y * rng.normal(size=(count, len(problem.A)))

    def answers() -> Array:
        noises = (rng.normal(size=(count, pixels)) for _ in settings.sigmas)
        return simulate(replace(problem, y=y), settings, noises)

    eight = [answers() for _ in range(8)]
    found = judge.sampler(settings)
    for drawn, psnr_db in zip((eight[0], np.mean(eight, axis=0)), found["psnr_db"], strict=False):
        assert -10 * np.log10(((drawn - pictures) ** 2).mean()) == pytest.approx(psnr_db, abs=0.05)
    # Half the difference of two samples to one measurement has half a sample's variance.
    spread = ((eight[0] - eight[1]) @ judge.null.T).var(0).sum() / 2
    true = np.trace(judge.null @ judge.truth.covariance)
    assert spread / true == pytest.approx(found["null_share"], abs=0.01)


def test_every_preset_is_among_them() -> None:
    named = bench.presets()
    assert {f"`{preset}`" for preset in Preset} < set(named)
    faithful = bench.settings_of(named["`faithful`"])
    assert (faithful.projection, faithful.ending, faithful.eta) == ("latent", "latents", 0)
    assert faithful.rederive and len(faithful.sigmas) == 9
    assert bench.settings_of(named["`balanced`"]).sigmas[0] < 1


def rows(table: str, **which: Any) -> list[dict[str, Any]]:
    return [row for row in KEPT[table] if all(row[name] == is_ for name, is_ in which.items())]


def distances(table: str, **which: Any) -> list[float]:
    return [row["distance"] for row in rows(table, **which)]


@pytest.mark.parametrize("eta", bench.ETAS)
def test_more_steps_come_nearer(eta: float) -> None:
    assert distances("steps", eta=eta) == sorted(distances("steps", eta=eta), reverse=True)


@pytest.mark.parametrize("steps", bench.STEPS[1:])
def test_fresh_noise_costs_distance_and_saves_squared_error(steps: int) -> None:
    assert distances("steps", steps=steps) == sorted(distances("steps", steps=steps))
    errors = [row["psnr_db"][0] for row in rows("steps", steps=steps)]
    assert errors == sorted(errors)


def test_the_mean_of_many_samples_is_nearly_the_posteriors() -> None:
    (mean,) = rows("references", method="the posterior's mean")
    for row in KEPT["steps"][len(bench.ETAS) :]:
        assert abs(row["psnr_db"][2] - mean["psnr_db"][2]) < 0.03


def test_a_warm_start_helps_but_not_too_low_a_one() -> None:
    for steps in (6, 8):
        for eta, start in ((0.0, 0.8), (0.85, 0.6), (1.0, 0.6)):
            found = {row["start"]: row["distance"] for row in rows("warm", steps=steps, eta=eta)}
            assert min(found, key=lambda at: found[at]) == start


def test_what_the_seed_does_otherwise_costs_distance() -> None:
    for table, ours in (("rederive", {"rederive": False}), ("spacing", {"spacing": "linear"})):
        (name,) = ours
        others = [row for row in KEPT[table] if row[name] != ours[name]]
        for better, worse in zip(distances(table, **ours), others, strict=True):
            assert better < worse["distance"]


def test_steps_are_better_spent_on_levels_than_on_time_travel() -> None:
    for count in bench.WALKS:
        for eta in bench.ETAS:
            found = distances("travel", denoising=count, eta=eta)
            assert found == sorted(found)


def test_strength_one_is_right_for_many_steps_and_too_little_for_few() -> None:
    nearest = {}
    for of in {row["of"] for row in KEPT["strength"]}:
        found = {row["lambda"]: row["distance"] for row in rows("strength", of=of)}
        nearest[of] = min(found, key=lambda lam: found[lam])
    assert nearest.pop("28 steps, η = 0") == 1
    assert all(lam > 1 for lam in nearest.values()), nearest
    assert all(lam < 1.2 for of, lam in nearest.items() if "σ₀" in of), nearest


def test_every_figure_is_on_the_page_that_is_made_of_them() -> None:
    kept = measurements.load()["posterior"]
    assert posterior_page.PAGE.read_text() == posterior_page.render(kept)
    fresh = json.loads(json.dumps(bench.compare(SIDE)))
    page = posterior_page.render({**kept, "figures": fresh})
    assert f"{SIDE} × {SIDE} px" in page
    for table in ("references", "rederive", "spacing", "presets"):
        for row in fresh[table]:
            assert f"| {fixed(row['distance'], 2)} | " in page
    assert shape(fresh) == shape(KEPT)


def shape(of: Any) -> Any:
    if isinstance(of, dict):
        return {name: shape(value) for name, value in of.items()}
    return [shape(value) for value in of] if isinstance(of, list) else type(of)


def test_allowing_for_noise_lowers_the_error_and_the_variance() -> None:
    for row in KEPT["noise"]:
        for way in ("ddnm_plus", "levels", "measured_levels"):
            assert row[way]["psnr_db"][0] > row["ignored"]["psnr_db"][0]
            assert row[way]["null_share"] < row["ignored"]["null_share"]


def test_with_fresh_noise_and_counted_where_it_is_noise_is_nearly_taken_away() -> None:
    for row in KEPT["noise"]:
        if row["of"].split(", ")[1] != "η = 0":
            mean_db, best_db = row["measured_levels"]["psnr_db"][2], row["posterior_psnr_db"][2]
            assert best_db - 0.3 < mean_db < best_db
            assert mean_db > row["ddnm_plus"]["psnr_db"][2]
