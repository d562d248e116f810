"""How many workers run, asked of Serve."""

from ray import serve


def running_upscalers() -> int:
    """Return how many replicas of this application's upscaler run; blocks for a moment."""
    application = serve.get_replica_context().app_name
    states = serve.status().applications[application].deployments["Upscaler"].replica_states
    return int(states.get("RUNNING", 0))
