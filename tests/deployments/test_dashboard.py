"""The dashboard's file against the code that it is made by and the SDK's own model of it."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

import deployments.monitoring
from deployments.monitoring.dashboard import ROWS, build, to_json

FILE = Path(deployments.monitoring.__file__).with_name("dashboard.json")
WRITTEN: dict[str, Any] = json.loads(FILE.read_text())
PANELS = [panel for panel in WRITTEN["panels"] if panel["type"] != "row"]
# Of machines and processes, which know of no application.
NOBODYS = (
    "ray_node_",
    "ray_component_",
    "ray_serve_proxy_status",
    "ray_nullscale_proxy_",
    "ALERTS",
)


def test_the_file_is_what_the_code_gives() -> None:
    assert FILE.read_text() == to_json(build()), "run `python -m deployments.monitoring`"


def test_the_sdk_reads_what_it_wrote() -> None:
    assert json.loads(to_json(Dashboard.from_json(WRITTEN))) == WRITTEN


def test_every_panel_is_there_in_its_order() -> None:
    titles = [title for row in ROWS for title in (row.title, *(p.title for p in row.panels))]
    assert [panel["title"] for panel in WRITTEN["panels"]] == titles
    assert all(panel["description"] for panel in PANELS)
    numbers = [panel["id"] for panel in WRITTEN["panels"]]
    assert len(set(numbers)) == len(numbers) and None not in numbers


def test_panels_do_not_overlap() -> None:
    cells = [
        {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        for g in (panel["gridPos"] for panel in WRITTEN["panels"])
    ]
    assert all(max(x for x, _ in cell) < 24 for cell in cells)
    assert not any(one & other for one, other in combinations(cells, 2))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_query_goes_by_the_variables(panel: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in WRITTEN["templating"]["list"]}
    assert variables == {"datasource", "application"}
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        query = target["expr"]
        if not query.startswith("vector(") and not any(name in query for name in NOBODYS):
            assert query.count('application="$application"') == query.count("ray_")
