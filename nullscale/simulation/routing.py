"""Which replica takes a request."""

from collections.abc import Callable, Sequence
from random import Random

from nullscale.simulation.virtual_replica import VirtualReplica

Route = Callable[[Sequence[VirtualReplica], Random], VirtualReplica]
"""Chooses among the replicas that have room for one request more."""


def power_of_two(replicas: Sequence[VirtualReplica], rng: Random) -> VirtualReplica:
    """Of two at random, the one with fewer requests: Ray Serve's own rule."""
    pair = rng.sample(replicas, 2) if len(replicas) > 1 else replicas
    return min(pair, key=lambda replica: replica.ongoing)


def least_work(replicas: Sequence[VirtualReplica], rng: Random) -> VirtualReplica:
    """The one whose requests count for the fewest seconds of work."""
    return min(replicas, key=lambda replica: (replica.work_s, replica.number))
