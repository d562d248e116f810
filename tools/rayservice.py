"""Put `serve_config.yaml` into KubeRay's manifest: `python tools/rayservice.py`."""

import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "deployments" / "kubernetes" / "rayservice.yaml"
BEGIN, END = "  # BEGIN serve_config.yaml\n", "  # END serve_config.yaml\n"


def filled(manifest: str, config: str) -> str:
    """Return the manifest with the configuration between its two marks."""
    before, _, rest = manifest.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}  serveConfigV2: |\n{textwrap.indent(config, '    ')}{END}{after}"


if __name__ == "__main__":
    config = (ROOT / "serve_config.yaml").read_text()
    MANIFEST.write_text(filled(MANIFEST.read_text(), config))
