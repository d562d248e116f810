"""The seed repository's figures: what is varied, what is drawn, what is concluded."""

import copy
import json
from pathlib import Path
from typing import Any

import contact_sheets
import measurements
import numpy as np
import pytest
import seed_figures
import seed_page
from fakes import FakeModel
from PIL import Image
from quality_pictures import Truth
from seed_figures import FIGURES, PROJECTIONS, write_all
from skimage import data

from sr_engine.engine import SREngine

KEPT = measurements.load()
TRUTH = Truth("set", "cup", np.ascontiguousarray(data.coffee()[150:182, 250:282]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    made = write_all([TRUTH], SREngine(FakeModel()), folder)
    loaded: dict[str, Any] = json.loads(json.dumps(made))
    return loaded


def clipped(share: float, deviation: float, chroma: float) -> dict[str, float]:
    return {"clipped_share": share, "deviation": deviation, "chroma_ratio": chroma}


def made_up(grows: bool) -> dict[str, Any]:
    """A picture in which everything grows with λ, and lies above bicubic's, or nowhere does."""
    sign = 1 if grows else -1
    runs = [
        {
            "projection": projection,
            "steps": steps,
            "strength": strength,
            "bicubic_db": 30.0,
            **clipped(*(0.5 + sign * 0.1 * strength for _ in range(3))),
        }
        for projection in PROJECTIONS
        for steps, strengths in ((1, None), (4, [1.0]), (8, None), (16, [1.0]))
        for strength in strengths or [0.0, 0.1, 0.4, 0.7, 0.8, 0.9, 1.0, 1.2]
    ]
    plain = clipped(0.5, 0.5, 0.5)
    return {"name": "made", "truth": plain, "bicubic": plain, "runs": runs}


def test_three_figures_a_picture_with_a_row_a_projection(
    found: dict[str, Any], folder: Path
) -> None:
    for figure in FIGURES:
        with Image.open(folder / f"seed-cup-{figure.name}.jpg") as page:
            columns = 2 + len(figure.columns)
            assert page.width == columns * (32 + contact_sheets.GAP_PX) - contact_sheets.GAP_PX
            assert page.height > 2 * 32
    assert [len(figure.columns) for figure in FIGURES] == [4, 7, 7]
    with Image.open(folder / "seed-curves.png") as curves:
        assert np.asarray(curves.convert("L")).std() > 5


def test_each_place_is_made_once_for_each_projection(found: dict[str, Any]) -> None:
    (picture,) = found["pictures"]
    places = [(run["projection"], run["steps"], run["strength"]) for run in picture["runs"]]
    assert len(set(places)) == len(places) == 2 * (4 + 2 * 7)
    for name, length in (("steps", 4), ("1", 8), ("8", 8)):
        assert len(seed_page.sweep(picture, "latent", name)) == length


def test_the_page_is_made_of_what_was_found(found: dict[str, Any]) -> None:
    page = seed_page.render({"machine": "two cores, CPU", "figures": found})
    (picture,) = found["pictures"]
    assert "## Cup" in page
    for figure in FIGURES:
        assert f"images/seed-cup-{figure.name}.jpg" in page
    deviation = seed_page.fixed(picture["bicubic"]["deviation"], 3)
    assert f"goes from {deviation}\n" in page
    assert page.count("| cup | `residual` |") == 4 + 8 + 8
    other = copy.deepcopy(found)
    other["pictures"][0]["truth"]["deviation"] = 0.98765
    assert "the truth 0.988" in seed_page.render({"machine": "", "figures": other})


@pytest.mark.parametrize(("grows", "word"), [(True, "agrees"), (False, "does not")])
def test_statements_are_judged_by_the_figures(grows: bool, word: str) -> None:
    verdicts = dict(seed_page.findings([made_up(grows)]))
    # All numbers of steps are alike there, so that none is the highest.
    assert verdicts.pop("and most at one step") == ["does not, 0 of 1"] * 2
    assert {cell.rpartition(",")[0] for cells in verdicts.values() for cell in cells} == {word}


def test_what_holds_here_and_not_there_holds_in_part() -> None:
    verdicts = dict(seed_page.findings([made_up(True), made_up(False)]))
    assert verdicts["and oversaturated: more clipped samples"] == ["in part, 2 of 4"] * 2


def test_residual_differs_from_latent_in_its_projection_alone() -> None:
    engine = SREngine(FakeModel())
    small = np.full((8, 8, 3), 90, np.uint8)
    seen = []

    class Watched(SREngine):
        def upscale(self, image: Any, params: Any = None, **options: Any) -> Any:
            seen.append(params)
            return engine.upscale(image, params)

    for projection in PROJECTIONS:
        seed_figures.Run(projection, 4, 0.8).upscale(Watched(FakeModel()), small)
    latent, residual = seen
    assert latent.override({"projection": "residual"}) == residual
    assert (latent.num_inference_steps, latent.guidance_strength) == (4, 0.8)
    assert latent.ending == "latents"


@pytest.mark.parametrize("name", [name for name in KEPT if name == seed_page.NAME])
def test_the_page_is_made_of_the_figures_that_are_kept(name: str) -> None:
    assert seed_page.PAGE.read_text() == seed_page.render(KEPT[name])
