"""A little of everything that clients send, good and bad, on threads of its own."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import httpx
from pictures import photo

TIMEOUT_S = 120
PAUSE_S = 0.1

Send = Callable[[httpx.Client], object]


def picture(http: httpx.Client, *, side: int = 24, **fields: str) -> httpx.Response:
    """Send a picture."""
    return http.post("/v1/upscale", files={"image": ("a.png", photo(side, 32))}, data=fields)


def good(http: httpx.Client) -> None:
    """Send what a service in good health does."""
    picture(http, num_inference_steps="2").raise_for_status()
    picture(http, num_inference_steps="2", output_format="jpeg").raise_for_status()
    picture(http, num_inference_steps="2", projection="none").raise_for_status()
    picture(http, **{"num_inference_steps": "2", "async": "true"}).raise_for_status()
    http.get("/readyz").raise_for_status()


def bad(http: httpx.Client) -> None:
    """Send what no service would do."""
    assert http.post("/v1/upscale", files={"image": ("a.png", b"no")}).status_code == 415
    assert http.get("/nowhere").status_code == 404
    assert http.get("/livez", headers={f"x-{n}": "1" for n in range(101)}).status_code == 431
    large = {"image": ("a.png", b"0" * 2**20)}
    assert http.post("/v1/upscale", files=large).status_code == 413


def hurried(http: httpx.Client) -> None:
    """Send a picture that nobody could finish in its time, and another as a job."""
    fields = {"num_inference_steps": "100", "deadline_s": "0.01"}
    picture(http, **fields)
    picture(http, **fields, **{"async": "true"})


def heavy(http: httpx.Client) -> None:
    """Send a picture that takes long, and soon another."""
    picture(http, num_inference_steps="100")


def quick(http: httpx.Client) -> None:
    """Send a picture and a job, whatever becomes of them."""
    picture(http, num_inference_steps="2")
    picture(http, **{"num_inference_steps": "2", "async": "true"})


@contextmanager
def clients(url: str, sends: Sequence[Send]) -> Iterator[list[BaseException]]:
    """Run a client for each of these at once, over and over; yield what they have raised.

    Connections that break do not count: a service under test may be torn down.
    """
    over, raised = threading.Event(), list[BaseException]()

    def run(send: Send) -> None:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S) as http:
            while not over.is_set():
                try:
                    send(http)
                except httpx.TransportError:
                    time.sleep(PAUSE_S)
                except BaseException as err:
                    raised.append(err)
                    return
                over.wait(PAUSE_S)

    threads = [threading.Thread(target=run, args=(send,)) for send in sends]
    for thread in threads:
        thread.start()
    try:
        yield raised
    finally:
        over.set()
        for thread in threads:
            thread.join()
