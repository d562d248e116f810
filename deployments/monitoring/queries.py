"""Queries in PromQL, of which the dashboard and the alerts are made.

What Ray exports has three habits. A counter appears with its first count, so that `rate` does not
see that one; a gauge disappears with its process, or when it has not been set for a while; and a
histogram's sum is made of its buckets' middles, which makes it an estimate at best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PREFIX = "ray_nullscale_"
SERVE = "ray_serve_"
UPSCALER = 'deployment="Upscaler"'
# Of ray_serve_deployment_status and ray_serve_proxy_status.
HEALTHY = 6
PROXY_HEALTHY = 2


def selector(name: str, *matchers: str) -> str:
    """Select the series of a metric by matchers such as ``code="ok"``."""
    return f"{name}{{{','.join(matchers)}}}" if matchers else name


@dataclass(frozen=True, slots=True)
class Queries:
    """Makes queries about one application.

    Attributes:
        application: its name, or a dashboard's variable.
        window: over which rates are taken.
    """

    application: str
    window: str

    def ours(self, name: str, *matchers: str) -> str:
        """Select a metric of this project's."""
        return selector(f"{PREFIX}{name}", f'application="{self.application}"', *matchers)

    def serves(self, name: str, *matchers: str) -> str:
        """Select a metric of Ray Serve's."""
        return selector(f"{SERVE}{name}", f'application="{self.application}"', *matchers)

    def rate(self, series: str, by: Sequence[str] = ()) -> str:
        """Sum a counter's increase a second."""
        return f"{_sum(by)}(rate({series}[{self.window}]))"

    def quantile(self, q: float, name: str, *matchers: str, by: Sequence[str] = ()) -> str:
        """Estimate a quantile of one of this project's histograms."""
        buckets = self.ours(f"{name}_bucket", *matchers)
        return f"histogram_quantile({q}, {self.rate(buckets, ('le', *by))})"

    def last(self, series: str) -> str:
        """Take a gauge's last value in the window, however short its gaps."""
        return f"last_over_time({series}[{self.window}])"

    def events(self, series: str, by: Sequence[str] = ()) -> str:
        """Count events in the window, those included with which a counter appeared."""
        old = f"increase({series}[{self.window}]) and {series} offset {self.window}"
        new = f"{series} unless {series} offset {self.window}"
        return f"{_sum(by)}(({old}) or ({new}))"


def or_zero(query: str) -> str:
    """Give 0 where a sum over no labels has nothing to sum."""
    return f"({query} or vector(0))"


def _sum(by: Sequence[str]) -> str:
    return f"sum by ({', '.join(by)}) " if by else "sum"
