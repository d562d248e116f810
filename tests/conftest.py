"""Shapes and types in annotations are checked while the tests run."""

import os
import shutil

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
if shutil.which("nvidia-smi") is None:
    # Read when Triton is imported: without a GPU, its kernels run in its interpreter.
    os.environ.setdefault("TRITON_INTERPRET", "1")

from jaxtyping import install_import_hook

install_import_hook(["nullscale", "sr_engine"], "typecheck.checked")

pytest_plugins = ["checkpoints"]
