"""Write `alerts.yaml` and `dashboard.json` anew: ``python -m deployments.monitoring``."""

from pathlib import Path

from deployments.monitoring.alerts import alerts, rules
from deployments.monitoring.dashboard import build, to_json

FOLDER = Path(__file__).parent


def main() -> None:
    """Write both files beside this one."""
    (FOLDER / "alerts.yaml").write_text(rules(alerts()))
    (FOLDER / "dashboard.json").write_text(to_json(build()))


if __name__ == "__main__":
    main()
