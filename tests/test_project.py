"""Promises of the project as a whole."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_torchvision_is_neither_installed_nor_pinned() -> None:
    # Without its operators, diffusers' SD3 pipeline fails to import while `pip check` is content.
    assert importlib.util.find_spec("torchvision") is None
    assert "torchvision" not in (ROOT / "constraints.txt").read_text()
    assert "torchvision" not in (ROOT / "pyproject.toml").read_text()


def test_every_requirement_is_pinned() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    text = (ROOT / "pyproject.toml").read_text()
    block = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    names = re.findall(r'"([A-Za-z][\w.-]*)(?:\[\w+\])?(?:[<>=].*?)?"', block)
    assert len(names) > 20
    assert {name.lower().replace("_", "-") for name in names} <= pinned


def test_the_bundled_weights_stay_small_and_safe() -> None:
    bundled = ROOT / "nullscale" / "networks" / "bundled"
    weights = list(bundled.rglob("*.safetensors"))
    assert len(weights) == 4
    assert sum(path.stat().st_size for path in weights) <= 32_000_000
    assert not [p for p in bundled.rglob("*") if p.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]


def test_every_module_has_its_line_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    packages = (ROOT / "nullscale", ROOT / "sr_engine")
    modules = [path for package in packages for path in package.rglob("*.py")]
    modules += (ROOT / "deployments").glob("*.py")
    for module in modules:
        if module.name != "__init__.py":
            assert f"`{module.relative_to(ROOT)}`" in readme, module.name
