"""Users as they come: some wait, some leave, some come again, some send what is no picture.

    locust -f load_tests/locustfile.py --headless --host http://127.0.0.1:8000 \
        --users 40 --spawn-rate 2 --run-time 5m --json --html locust.html

Names of classes at the end choose among them. What the contract promises is a success: the 4xx of
a bad input, the 503 with a `Retry-After` of one who comes again then. A refusal is a failure of
those who do not. Without `--headless` there is locust's own page. This module is for locust, which
patches Python's sockets: nothing else here imports it.
"""

import io
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from typing import Any

from locust import HttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.clients import ResponseContextManager
from pictures import photo
from PIL import Image

FORMATS = ("png", "jpeg", "webp")
SCALES = (2, 3, 4)
TIMEOUT_S = 600
GIVES_UP_AFTER = 5
"""Refusals until one who comes again has had enough."""


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    """Sizes and times of the users."""
    parser.add_argument("--small-px", type=int, default=256, help="side of a small picture, most")
    parser.add_argument("--large-px", type=int, default=512, help="side of a large one, most")
    parser.add_argument("--think-s", type=float, default=10, help="between two tasks of a user")
    parser.add_argument("--patience-s", type=float, default=2, help="of an impatient one, most")


class User(HttpUser):
    """What all users do."""

    abstract = True

    def wait_time(self) -> float:
        """People think for as long as it takes, which is often short and at times very long."""
        return random.expovariate(1 / self._options.think_s)

    @property
    def _options(self) -> Any:
        return self.environment.parsed_options

    def _ask(
        self, name: str, side_px: int, *, timeout_s: float = TIMEOUT_S, prefer: str | None = None
    ) -> ResponseContextManager:
        """Send some picture of at most that side; the block that follows judges the answer."""
        image_format = random.choice(FORMATS)
        file = _picture(random.choice((side_px // 2, side_px)), image_format)
        fields = {
            "scale": random.choice(SCALES),
            "num_inference_steps": random.choice((4, 8, 12)),
            "output_format": random.choice(FORMATS),
            "seed": random.randrange(2**32),
        }
        return self.client.post(
            "/v1/upscale",
            name=name,
            files={"image": ("photo", file, f"image/{image_format}")},
            data=fields,
            headers={"Prefer": prefer} if prefer else {},
            timeout=timeout_s,
            catch_response=True,
        )

    def _submit(self, name: str) -> str | None:
        """Make a job of a large picture and return its address."""
        with self._ask(name, self._options.large_px, prefer="respond-async") as response:
            if response.status_code != 202:
                response.failure(_words(response))
                return None
            return str(response.headers["location"])

    def _status(self, job: str) -> str:
        response = self.client.get(job, name="job: status")
        return str(response.json()["status"]) if response.ok else f"{response.status_code}"


class AppUser(User):
    """Enlarges a small photo, looks at it, takes the next."""

    weight = 6

    @task
    def enlarge(self) -> None:
        with self._ask("small picture", self._options.small_px) as response:
            if _is_picture(response):
                response.success()
            else:
                response.failure(_words(response))


class BatchUser(User):
    """Has large pictures made as jobs and fetches them, by asking or by following the events."""

    weight = 2

    @task
    def ask_until_done(self) -> None:
        if job := self._submit("job: submit"):
            while (status := self._status(job)) in ("queued", "running"):
                time.sleep(min(1, self._options.think_s))
            self._fetch(job, status)

    @task
    def follow(self) -> None:
        job = self._submit("job: submit")
        if job is None:
            return
        start_s, last_id, name = time.perf_counter(), "0", ""
        # The connection breaks after some events, and the next goes on where it ended.
        while name not in ("done", "failed"):
            *_, (last_id, name) = self._events(job, last_id, most=random.randint(2, 20))
        self.environment.events.request.fire(
            request_type="SSE",
            name="job: from the first event to the end",
            response_time=1e3 * (time.perf_counter() - start_s),
            response_length=0,
            exception=None,
            context={},
        )
        self._fetch(job, "succeeded" if name == "done" else name)

    def _events(self, job: str, last_id: str, most: int) -> Iterator[tuple[str, str]]:
        """Yield the ids and names of the next events."""
        headers = {"Last-Event-ID": last_id}
        url = f"{job}/events"
        response = self.client.get(
            url, name="job: events", headers=headers, stream=True, timeout=TIMEOUT_S
        )
        with closing(response):
            response.raise_for_status()
            name = ""
            for line in response.iter_lines(decode_unicode=True):
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "id":
                    last_id = value
                elif not line and name:
                    yield last_id, name
                    name, most = "", most - 1
                    if not most:
                        return

    def _fetch(self, job: str, status: str) -> None:
        with self.client.get(f"{job}/result", name="job: result", catch_response=True) as response:
            if status == "succeeded" and _is_picture(response):
                response.success()
            else:
                response.failure(f"{status}: {_words(response)}")
        self.client.delete(job, name="job: forget")


class ImpatientUser(User):
    """Leaves before there is an answer, or cancels."""

    weight = 1

    @task
    def leave(self) -> None:
        patience_s = random.uniform(0.1, 1) * self._options.patience_s
        with self._ask("left", self._options.large_px, timeout_s=patience_s) as response:
            # Nothing: it has left. Now and then the picture was quicker.
            if response.status_code in (0, 200):
                response.success()
            else:
                response.failure(_words(response))

    @task
    def cancel(self) -> None:
        if job := self._submit("job: submit"):
            time.sleep(random.random() * self._options.patience_s)
            self.client.delete(job, name="job: cancel")


class PatientUser(User):
    """Comes again when the answer says so."""

    weight = 2

    @task
    def enlarge(self) -> None:
        for _ in range(GIVES_UP_AFTER):
            with self._ask("picture, again when told", self._options.small_px) as response:
                if response.status_code in (429, 503) and "retry-after" in response.headers:
                    response.request_meta["name"] = "told to come again"
                    response.success()
                    again_s = int(response.headers["retry-after"])
                elif _is_picture(response):
                    response.success()
                    return
                else:
                    response.failure(_words(response))
                    return
            time.sleep(again_s)


class ClumsyUser(User):
    """Sends what is no picture, or asks for what cannot be."""

    weight = 1

    @task
    def err(self) -> None:
        name, file, fields, code = random.choice(_mistakes())
        with self.client.post(
            "/v1/upscale",
            name=f"mistake: {name}",
            files={"image": ("photo.png", file)},
            data=fields,
            catch_response=True,
        ) as response:
            if response.status_code // 100 == 4 and _code(response) == code:
                response.success()
            else:
                response.failure(_words(response))

    @task
    def ask_for_what_is_not_there(self) -> None:
        with self.client.get(
            "/v1/jobs/0123456789abcdef", name="mistake: no such job", catch_response=True
        ) as response:
            if response.status_code == 404:
                response.success()


@cache
def _picture(side_px: int, image_format: str) -> bytes:
    return photo(max(8, side_px), max(8, 3 * side_px // 4), image_format=image_format)


@cache
def _mistakes() -> tuple[tuple[str, bytes, Mapping[str, str], str], ...]:
    """What is wrong, the file, the fields, and the code of the problem."""
    good, gif = _picture(32, "png"), io.BytesIO()
    Image.new("RGB", (8, 8)).save(gif, "GIF")
    return (
        ("words", b"not a picture", {}, "unsupported_media_type"),
        ("another format", gif.getvalue(), {}, "unsupported_media_type"),
        ("cut off", good[: len(good) // 2], {}, "invalid_image"),
        ("scale", good, {"scale": "-4"}, "invalid_parameter"),
        ("steps", good, {"num_inference_steps": "many"}, "invalid_parameter"),
        ("field", good, {"sharpness": "11"}, "invalid_parameter"),
    )


def _is_picture(response: ResponseContextManager) -> bool:
    return response.status_code == 200 and response.headers["content-type"].startswith("image/")


def _code(response: ResponseContextManager) -> str | None:
    try:
        return str(json.loads(response.content)["code"])
    except (ValueError, KeyError, TypeError):
        return None


def _words(response: ResponseContextManager) -> str:
    return f"{response.status_code} {_code(response) or response.error or ''}".strip()
