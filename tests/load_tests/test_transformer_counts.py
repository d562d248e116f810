"""SD3.5 at its true size, without its weights: conditioning is gone from the loop."""

from typing import Any

import pytest
from transformer_counts import counts

from nullscale.networks.published import PUBLISHED

MEDIUM, LARGE = (PUBLISHED[name].transformer for name in ("sd3.5-medium", "sd3.5-large"))


@pytest.mark.parametrize(
    ("config", "conditioning_gb", "grid_gb", "table_mb"),
    [(MEDIUM, 1.56, 0.45, 1.0), (LARGE, 5.43, 0.18, 2.2)],
    ids=["medium", "large"],
)
def test_conditioning_is_gone_from_the_loop(
    config: dict[str, Any], conditioning_gb: float, grid_gb: float, table_mb: float
) -> None:
    found = counts(config)
    stock, first, fast = (found[name] for name in ("stock", "first", "fast"))
    assert stock["read_gb"] - fast["read_gb"] == pytest.approx(conditioning_gb, rel=0.03)
    assert first["read_gb"] == pytest.approx(stock["read_gb"], rel=0.01)
    gone = conditioning_gb + grid_gb
    assert stock["resident_gb"] - fast["resident_gb"] == pytest.approx(gone, rel=0.03)
    assert fast["table_mb"] == pytest.approx(table_mb, rel=0.05)
    # It was never a matter of operations.
    assert 0.995 * stock["tflop"] < fast["tflop"] < stock["tflop"]
