"""Shapes and types in annotations are checked while the tests run."""

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

from jaxtyping import install_import_hook

install_import_hook("sr_engine", "typecheck.checked")

pytest_plugins = ["checkpoints"]
