"""Our log lines in Serve's own files and encoding, with the request's id."""

import logging

SERVE_LOGGER = "ray.serve"
OURS = ("deployments", "nullscale", "sr_engine")


def join_serve() -> None:
    """Hang our loggers under Serve's: its level, handlers, encoding and request id become theirs.

    Serve exchanges its handlers when its logging configuration changes, so they are not copied. To
    be called once in each process of Serve's, in a replica's constructor.
    """
    serve = logging.getLogger(SERVE_LOGGER)
    for name in OURS:
        logging.getLogger(name).parent = serve
