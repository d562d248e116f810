"""The page on quality is what the kept figures say."""

import copy
import json
from pathlib import Path
from typing import Any

import measurements
import numpy as np
import pytest
import quality_page
import quality_tables
from bench_quality import largest_first, measure, part_of, summary
from fakes import FakeModel
from PIL import Image
from quality_methods import BALANCED, BICUBIC, Method, changed
from quality_pictures import load_truths
from quality_plans import LONG_TABLE_PX, NOISY_PX, Plan, figures, merged, plans
from quality_records import Records
from quality_runs import Bench, Weights
from quality_times import measure as measure_times
from quality_times import timed
from skimage import data

from sr_engine.engine import SREngine

KEPT = measurements.load()
GAINS = {"balanced": 1.25, "faithful, 8 steps": -0.5, "mean of 8 of balanced": 1.5}


@pytest.fixture
def bench() -> Bench:
    return Bench(SREngine(FakeModel()), Weights("w", "d"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two sets, of one and two pictures, the last of which is grey."""
    for number, name in enumerate(("set5/a", "other/b", "other/c")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = data.coffee()[64 * number : 64 * number + 64, 200:264]
        picture = Image.fromarray(pixels)
        (picture.convert("L") if name.endswith("c") else picture).save(path)
    return tmp_path


def made_up(method: Method, number: int, chance: float) -> dict[str, float | None]:
    """Measures of the picture of this number, of which the last is grey."""
    found = {
        "psnr_y": 25 + number + GAINS.get(method.label, 0),
        "ssim_y": 0.75,
        "ms_ssim_y": None,
        "vif_y": 0.5,
        "ssimulacra2": 30 + 10 * (method is BALANCED) + chance,
        "high_frequency": 0.3,
        "chroma_ratio": None if number == 2 else 0.4,
        "consistency_error": float(method is BICUBIC) * number,
        "exact_share": 0.5 if method is BICUBIC else 1.0,
        "clipped_share": 0.1,
        "clipped_off": -0.03 if number == 1 else 0.01,
        "saturation_off": None if number == 2 else 0.015,
        "saturation_of_grey": 0.25 if number == 2 else None,
    }
    return found | ({"best_single_psnr_y": 26.0 + number} if method.samples > 1 else {})


def sets(images: Path) -> list[Path]:
    return [images / "set5", images / "other"]


@pytest.fixture
def kept(bench: Bench, images: Path, tmp_path: Path) -> dict[str, Any]:
    """Figures of every table but those at ×8, as if measured."""
    records = Records([tmp_path / "quality.jsonl"])
    rng = np.random.default_rng(0)
    for plan in plans([2, 3, 4], None):
        for number, truth in enumerate(load_truths(sets(images), plan.scale, plan.crop_px)):
            for method in plan.methods():
                key = bench.key(method, truth, plan.scale)
                # The default stands in several tables, by several names.
                if records.get(key) is None:
                    records.add(key, made_up(method, number, rng.random()))
    found = figures(sets(images), plans([2, 3, 4, 8], None), bench, records)
    return {"machine": "two cores, CPU", "figures": json.loads(json.dumps(found))}


@pytest.fixture
def times() -> dict[str, Any]:
    """Seconds of every method, as if measured."""
    figures = {"side_px": 128, "dtype": "float32", "threads": 1}
    seconds = dict.fromkeys((method.label for method in timed()), 2.0)
    return {"machine": "two cores, CPU", "figures": {**figures, "seconds": seconds}}


@pytest.mark.parametrize("name", [name for name in KEPT if name == quality_page.NAME])
def test_the_page_is_made_of_the_figures_that_are_kept(name: str) -> None:
    made = quality_page.render(KEPT[name], KEPT.get(quality_page.TIMES))
    assert quality_page.PAGE.read_text() == made


def test_every_table_is_on_the_page(kept: dict[str, Any], times: dict[str, Any]) -> None:
    page = quality_page.render(kept, times)
    assert "all of set5 (1) and other (2)" in page
    assert "128 px squares" in page
    assert "set5 25.00 dB (28.42)." in page
    # One row of each table: the methods', the changes', the projections' and the cross's.
    assert "| balanced | 27.25 | 0.7500 | 0.500 |" in page
    assert "| eta=0.5 | 26.00 |" in page
    assert "| steps | `latent`, s | `latent`, PSNR-Y |" in page
    assert "| 16 | 2.00 | 26.00 |" in page
    assert "In the 2.00 s a picture that `balanced` takes, `latent` gets to" in page
    assert "| any | 1 | any | 0.5 | 26.00 |" in page
    assert "| latent | 16 | 0.85 | 1.0 | 26.00 |" in page
    assert "| noise, σ = 0.05 | 26.00, " in page
    assert "mean distance\nfrom grey of 0.25 levels" in page
    assert "None" not in page
    assert "nan" not in page


def test_without_times_the_page_gives_none(kept: dict[str, Any]) -> None:
    page = quality_page.render(kept)
    assert "| steps | `latent`, s | `latent`, PSNR-Y |" in page
    assert "| 16 | – | 26.00 |" in page
    assert "In the" not in page
    assert "one tile alone" not in page
    assert "None" not in page


def test_every_timed_method_is_run_once_a_round(bench: Bench) -> None:
    found = measure_times(bench, 1)
    assert set(found) == {method.label for method in timed()}
    assert all(seconds > 0 for seconds in found.values())
    # The default by another name is not another time.
    assert found[changed({"projection": "pixel"}).label] == found["balanced"]


def test_only_what_was_measured_is_on_the_page(kept: dict[str, Any]) -> None:
    assert [table["scale"] for table in kept["figures"]["tables"]["methods"]] == [2, 3, 4]
    page = quality_page.render(kept)
    assert "## ×4" in page
    assert "## ×8" not in page
    none = copy.deepcopy(kept)
    none["figures"]["tables"] = {name: [] for name in kept["figures"]["tables"]}
    assert "| balanced |" not in quality_page.render(none)


def test_another_figure_makes_another_page(kept: dict[str, Any]) -> None:
    other = copy.deepcopy(kept)
    table = other["figures"]["tables"]["methods"][2]
    quality_tables.labelled(table)["sharp"]["means"]["psnr_y"] = 12.345
    assert "| sharp | 12.35 |" in quality_page.render(other)


def test_aims_are_judged(kept: dict[str, Any]) -> None:
    table = kept["figures"]["tables"]["methods"][2]
    found = {words: (value, yes) for words, value, yes in quality_page.reached(table)}
    assert found["mean PSNR-Y over bicubic, at least 1 dB"] == ("+1.25 dB", True)
    assert found["both means above faithful, 8 steps"][1]
    assert found["PSNR-Y above bicubic for every picture"] == ("least +1.25 (a)", True)
    assert found["mean of 8 of balanced: above the best of them, for every picture"] == (
        "least +0.50 (a) dB",
        True,
    )
    assert found["round trip exact for every picture"] == ("3 of 3", True)
    assert found["clipped share within 2 points"] == ("most −3.00 (b)", False)
    assert found["saturation within 2 points"] == ("most +1.50 (a)", True)
    assert not any("faithful, 1 step" in words for words in found)


def test_differences_are_of_pairs_that_agree_in_the_rest() -> None:
    rows = [
        {"params": {"eta": eta, "steps": steps}, "means": {"psnr_y": value}}
        for eta, steps, value in ((0, 4, 1.0), (1, 4, 1.5), (0, 8, 2.0), (1, 8, 1.0), (1, 9, 50.0))
    ]
    table = {"rows": [{"params": {}, "means": {}}, *rows]}
    assert quality_page.differences(table, "psnr_y", {"eta": 1}, {"eta": 0}) == "−1.00 to +0.50"
    one = quality_page.differences(table, "psnr_y", {"eta": 1, "steps": 4}, {"eta": 0})
    assert one == "+0.50"
    assert quality_page.differences(table, "psnr_y", {"eta": 2}, {"eta": 0}) is None


def test_projections_are_compared_at_one_time() -> None:
    rows = [
        {"params": {"projection": name}, "means": {"psnr_y": p, "ssimulacra2": q, "seconds": s}}
        for name, s, p, q in (("a", 1.0, 20.0, 4.0), ("a", 3.0, 24.0, 8.0), ("b", 3.0, 30.0, 9.0))
    ]
    found = quality_tables.at_time({"rows": rows}, 2.0)
    assert found == {"a": ["22.00", "6.00"], "b": ["–", "–"]}


def test_what_is_known_is_not_measured_again(bench: Bench, images: Path, tmp_path: Path) -> None:
    path, plan = tmp_path / "quality.jsonl", Plan("methods", 4, 32)
    truths = load_truths([images / "set5"], 4, 32)
    records = Records([path])
    assert measure(plan, truths, bench, records, tmp_path / "kept") == len(list(plan.methods()))
    before = path.read_text()
    again = Records([path])
    assert measure(plan, truths, bench, again, None) == 0
    assert path.read_text() == before
    pictures = list((tmp_path / "kept").rglob("*.png"))
    assert len(pictures) == len(list(plan.methods()))
    found = figures([images / "set5"], plans([4], 32), bench, again)
    (gained,) = summary(found, 0, len(again))["bicubic_and_balanced"].values()
    assert gained["psnr_y"][0] == pytest.approx(
        again.get(bench.key(BICUBIC, truths[0], 4))["psnr_y"], abs=1e-3
    )


def test_parts_are_all_of_the_pictures_and_none_twice(images: Path) -> None:
    truths = largest_first(load_truths(sets(images), 4))
    parts = [truths[part_of(f"{number}/2")] for number in (1, 2)]
    assert [len(part) for part in parts] == [2, 1]
    assert sorted(t.name for part in parts for t in part) == sorted(t.name for t in truths)
    with pytest.raises(ValueError, match="0/2"):
        part_of("0/2")


def test_rows_that_are_the_default_say_so(kept: dict[str, Any]) -> None:
    (table,) = kept["figures"]["tables"]["defaults"]
    rows = quality_tables.labelled(table)
    assert rows[changed({"projection": "pixel"}).label]["is_default"]
    assert not rows[changed({"projection": "latent"}).label]["is_default"]
    assert not rows["balanced"]["is_default"]
    assert "projection=pixel (the default)" in quality_tables.changes(table)


def test_what_is_measured_takes_the_place_of_what_was_kept_of_it(kept: dict[str, Any]) -> None:
    before = kept["figures"]
    (cross,) = before["tables"]["cross"]
    again, squares = {**cross, "dtype": "float16"}, {**cross, "crop_px": 32}
    tables = {name: [] for name in before["tables"]} | {"cross": [again, squares]}
    same = {name: before[name] for name in ("weights", "defaults")}
    after = merged(before, {**same, "tables": tables, "note": "Anew."})
    assert after["tables"] == {**before["tables"], "cross": [again, squares]}
    assert (after["note"], after["self_check"]) == ("Anew.", before["self_check"])
    page = quality_page.render({**kept, "figures": after})
    assert "networks in float16 or float32" in page
    assert "all of set5 (1) and other (2), in float16" in page
    assert "32 px squares from the centres of set5 (1) and other (2), in float32" in page
    cut_off = {**same, "tables": {"cross": [{**again, "rows": cross["rows"][:-1]}]}}
    assert merged(before, cut_off)["tables"]["cross"] == [cross]
    for name in same:
        other = {**same, name: "others", "tables": tables}
        assert merged(before, other) == other


def test_long_tables_are_of_small_squares_unless_told_otherwise() -> None:
    by_table = {(plan.table, plan.scale): plan.crop_px for plan in plans([2, 4], None)}
    assert by_table[("methods", 4)] is None
    assert by_table[("methods", 2)] == LONG_TABLE_PX
    assert by_table[("equal_time", 4)] == LONG_TABLE_PX
    assert by_table[("cross", 4)] is None
    assert by_table[("noisy", 4)] == NOISY_PX
    assert {plan.crop_px for plan in plans([4], 0)} == {None}
    assert {plan.crop_px for plan in plans([4], 64)} == {64}
