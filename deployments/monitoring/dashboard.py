"""The dashboard, built by Grafana's own SDK from the panels; `dashboard.json` is what it gives."""

import json
from collections.abc import Sequence
from itertools import count

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    VizLegendOptions,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

from deployments.monitoring.panel import Line, Panel, Row
from deployments.monitoring.picture_panels import JOBS, PARTS, PROMISE
from deployments.monitoring.service_panels import CLIENTS, ROOM, UP
from deployments.monitoring.worker_panels import ENGINE, FAULTS, MACHINES

ROWS: Sequence[Row] = (UP, CLIENTS, ROOM, ENGINE, FAULTS, PROMISE, JOBS, PARTS, MACHINES)
"""In the order in which somebody on call would ask."""

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
NUMBER_SPAN, GRAPH_SPAN = 4, 8
NUMBER_HEIGHT, GRAPH_HEIGHT = 4, 8


def build() -> models.Dashboard:
    """Build the dashboard."""
    built = (
        dashboard.Dashboard("nullscale")
        .uid("nullscale")
        .description("Super-resolution that gives the input back when it is scaled down.")
        .tags(["nullscale"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Source").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("application")
            .label("Application")
            .datasource(SOURCE)
            .query("label_values(ray_nullscale_http_in_flight, application)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    )
    numbers = count(1)
    for row in ROWS:
        built.with_row(dashboard.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            made = _number(panel) if panel.number else _graph(panel)
            built.with_panel(made.id(next(numbers)))
    return built.build()


def to_json(built: models.Dashboard) -> str:
    """Write a dashboard as Grafana reads it."""
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _graph(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .span(GRAPH_SPAN)
        .height(GRAPH_HEIGHT)
        .fill_opacity(10)
        .legend(VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM))
        .targets(_targets(panel.lines))
    )
    if panel.bad_from is not None:
        style = GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        made.thresholds(_colours(panel)).thresholds_style(style)
    return made


def _number(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(NUMBER_SPAN)
        .height(NUMBER_HEIGHT)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_colours(panel))
        .targets(_targets(panel.lines))
    )


def _targets(lines: Sequence[Line]) -> list[Builder[Dataquery]]:
    return [
        prometheus.Dataquery()
        .datasource(SOURCE)
        .expr(line.query)
        .legend_format(line.legend)
        .ref_id(chr(ord("A") + number))
        .range()
        for number, line in enumerate(lines)
    ]


def _colours(panel: Panel) -> dashboard.ThresholdsConfig:
    below, above, limit = "green", "red", panel.bad_from
    if panel.good_from is not None:
        below, above, limit = "red", "green", panel.good_from
    steps = [models.Threshold(value=None, color=below)]
    if limit is not None:
        steps.append(models.Threshold(value=limit, color=above))
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
