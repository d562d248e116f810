"""What becomes of pictures: whether they keep the promise, as jobs, and where their time goes."""

from deployments.monitoring.panel import Line, Panel, Q, Row

EXACT = 'consistency="exact"'
PART = ("part",)

PROMISE = Row(
    "Do pictures give theirs back?",
    [
        Panel(
            "Exact",
            "percentunit",
            [
                Line(
                    f"{Q.rate(Q.ours('pictures_total', EXACT))}"
                    f" / {Q.rate(Q.ours('pictures_total'))}",
                    "of all pictures",
                )
            ],
            "Share that gives its input back bit for bit; lossy files cannot.",
        ),
        Panel(
            "By kind",
            "reqps",
            [Line(Q.rate(Q.ours("pictures_total"), ("consistency",)), "{{consistency}}")],
            "Unpromised: lossy, or not made consistent. Broken: an error of ours.",
        ),
        Panel(
            "PSNR of the rest",
            "dB",
            [Line(Q.quantile(q, "consistency_psnr_db"), f"p{100 * q:.0f}") for q in (0.05, 0.5)],
            "Of what engines made that is not exact, before encoding.",
        ),
    ],
)

JOBS = Row(
    "Jobs",
    [
        Panel(
            "Ended",
            "reqps",
            [Line(Q.rate(Q.ours("jobs_total"), ("state",)), "{{state}}")],
            "By how they ended.",
        ),
        Panel(
            "Unfinished",
            "short",
            [Line(f"sum by (state) ({Q.ours('unfinished_jobs')})", "{{state}}")],
            "Those that wait with their owner, and those with the workers.",
        ),
    ],
)

PARTS = Row(
    "Where does a picture's time go?",
    [
        Panel(
            "Median",
            "s",
            [Line(Q.quantile(0.5, "picture_seconds", by=PART), "{{part}}")],
            "Decoding and encoding are the ingress's, queue and upscale the workers'.",
        ),
        Panel(
            "p95",
            "s",
            [Line(Q.quantile(0.95, "picture_seconds", by=PART), "{{part}}")],
            "The same, for the slowest of twenty.",
        ),
        Panel(
            "Coding threads",
            "short",
            [
                Line(
                    Q.rate(Q.ours("picture_seconds_sum", 'part=~"decode|encode"'), ("deployment",)),
                    "{{deployment}}",
                )
            ],
            "Pictures that are coded at a time, an estimate; compare with its replicas' CPUs.",
        ),
    ],
)
