"""The page to try the service with: its files over HTTP, and itself in a real browser."""

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from fake_service import application, client, problem
from fake_upscaler import FakeUpscaler
from PIL import Image
from playwright.sync_api import Page, Route, expect, sync_playwright
from serving import serving

import deployments
from deployments.form_schema import FORM_FIELDS
from deployments.limits import Access, JobSettings, Limits
from nullscale.maths.presets import PRESETS, Preset

COFFEE = Path(__file__).parents[2] / "examples" / "coffee-small.png"
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
FOLDER = Path(deployments.__file__).with_name("page")
FILES = [path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()]
# Names, not addresses: nothing is fetched from them.
NAMESPACES = {"http://www.w3.org/2000/svg"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine's PATH")


class Tags(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


PAGE = Tags((FOLDER / "index.html").read_text()).tags


async def test_the_page_is_served_and_keeps_to_itself() -> None:
    async with client(FakeUpscaler()) as http:
        page = await http.get("/playground")
        assert page.text == (FOLDER / "index.html").read_text()
        policy = page.headers["content-security-policy"].split("; ")
        assert {"default-src 'self'", "img-src 'self' blob: data:"} <= set(policy)
        assert {"connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
        assert "unsafe" not in page.headers["content-security-policy"]
        head = await http.head("/playground")
        assert head.headers["content-length"] == str(len(page.content)) and not head.content


@pytest.mark.parametrize("name", FILES)
async def test_each_file_has_its_type_and_is_sent_once(name: str) -> None:
    async with client(FakeUpscaler()) as http:
        answer = await http.get(f"/playground/{name}")
        assert answer.status_code == 200 and answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"].startswith(TYPES[name.split(".")[-1]])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        known = {"If-None-Match": answer.headers["etag"]}
        again = await http.get(f"/playground/{name}", headers=known)
        assert again.status_code == 304 and not again.content
        assert again.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("name", ["", "nonsense.js", "img-comparison-slider", "%2e%2e/ingress.py"])
async def test_nothing_else_is(name: str) -> None:
    async with client(FakeUpscaler()) as http:
        problem(await http.get(f"/playground/{name}"), 404, "not_found")


async def test_it_needs_no_key_and_is_not_of_the_api(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(f"alice {'0' * 64}\n")
    async with client(FakeUpscaler(), access=Access(keys_file=str(keys))) as http:
        assert (await http.get("/playground")).status_code == 200
        assert (await http.get("/v1/models")).status_code == 401
        assert "playground" not in (await http.get("/openapi.json")).text


def test_what_the_files_refer_to_exists() -> None:
    links = {a[k] for _, a in PAGE for k in ("href", "src") if k in a}
    assert links and None not in links
    files = {urljoin("/playground", link) for link in links if link and link != "docs"}
    for module in FOLDER.glob("*.js"):
        imports = re.findall(r'from "(.*?)"', module.read_text())
        files |= {urljoin(f"/playground/{module.name}", name) for name in imports}
    served = {f"/playground/{name}" for name in FILES}
    assert files <= served
    # Nothing is left over either.
    assert served - files == {
        "/playground/index.html",
        "/playground/img-comparison-slider/LICENSE.txt",
    }


@pytest.mark.parametrize("name", FILES)
def test_no_file_speaks_of_another_host(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert set(re.findall(r"\w+://[^\s\"')`]+", text)) <= NAMESPACES
    assert not re.search(r"""(?:src|href)=["']//|url\(["']?//|@import""", text)
    if name.endswith(".js") and "/" not in name:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r"localStorage|sessionStorage|indexedDB|cookie", text)


def test_the_fields_are_those_of_the_api() -> None:
    fields = {
        a["name"]: a for tag, a in PAGE if tag in ("input", "textarea", "select") and "name" in a
    }
    assert len(fields) >= 8 and set(fields) <= set(FORM_FIELDS)
    labelled = {a["for"] for tag, a in PAGE if tag == "label" and "for" in a}
    assert {a["id"] for a in fields.values()} <= labelled
    for name, attributes in fields.items():
        schema = FORM_FIELDS[name]
        for key, attribute in (("minimum", "min"), ("maximum", "max"), ("maxLength", "maxlength")):
            if key in schema:
                assert attributes[attribute] == str(schema[key]), name
    # A union in the API; what lies between 1 and 1.1 is refused by the page's own code.
    assert (fields["scale"]["min"], fields["scale"]["max"]) == ("1", "16")
    options = {a["value"] for tag, a in PAGE if tag == "option"}
    assert options == {*FORM_FIELDS["output_format"]["enum"], *FORM_FIELDS["preset"]["enum"]}


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in a browser; whatever it complains of fails the test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(60_000)
        complaints: list[str] = []
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda said: complaints.append(said.text))
        yield opened
        browser.close()
    # A refused request is one of the tests' own.
    assert not [c for c in complaints if not c.startswith("Failed to load resource")]


def start(page: Page, url: str, file: Path = COFFEE) -> None:
    page.goto(f"{url}/playground")
    page.set_input_files("#file", file)
    expect(page.locator("#go")).to_be_enabled(timeout=60_000)


ROOM = Limits(max_input_pixels=2**16, max_output_pixels=2**20)


@in_browser
def test_a_picture_from_its_choice_to_its_comparison(page: Page, tmp_path: Path) -> None:
    upscaler = FakeUpscaler(delay_s=0.2, echo=True)
    with serving(lambda: application(upscaler, limits=ROOM)) as url:
        start(page, url)
        expect(page.locator("#sizes")).to_have_text("150 × 100 becomes 600 × 400")
        page.fill("#seed", "7")
        page.click("#go")
        expect(page.locator("#said")).to_contain_text("Step", timeout=60_000)
        expect(page.locator("#preview")).to_have_attribute("src", re.compile("^data:image/jpeg"))
        page.locator("#done").wait_for()
        slider = page.get_by_role("slider")
        expect(slider).to_have_attribute("aria-valuenow", "50")
        slider.focus()
        page.keyboard.press("ArrowRight", delay=300)
        assert int(slider.get_attribute("aria-valuenow") or 0) > 50
        expect(page.locator("#sentence")).to_contain_text("yours back with a PSNR of ")
        expect(page.locator("#facts")).to_contain_text("seed7")
        page.set_viewport_size({"width": 320, "height": 600})
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width == 320, "it scrolls sideways in a narrow window"
        # What is called bicubic is Pillow's.
        drawn = page.locator("canvas").evaluate("canvas => canvas.toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(drawn.split(",")[1]))) as canvas:
            bicubic = np.asarray(canvas.convert("RGB"), int)
        with Image.open(COFFEE) as coffee:
            larger = coffee.convert("RGB").resize((600, 400), Image.Resampling.BICUBIC)
        assert np.abs(bicubic - np.asarray(larger, int)).max() <= 1
        # The command gives what the page gives.
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename == "coffee-small-x4.png"
        command = page.locator("#curl").text_content()
        assert command and "seed=7" in command
        shutil.copy(COFFEE, tmp_path)
        run(command, tmp_path)
        assert download.value.path().read_bytes() == (tmp_path / "upscaled.png").read_bytes()
        page.fill("#scale", "1")
        page.click("#go")
        exact = "Scaled down, this picture gives yours back, bit for bit."
        expect(page.locator("#sentence")).to_have_text(exact, timeout=60_000)


@in_browser
def test_a_preset_fills_in_its_fields(page: Page) -> None:
    upscaler = FakeUpscaler()
    with serving(lambda: application(upscaler, limits=ROOM)) as url:
        start(page, url)
        page.select_option("#preset", "fast")
        steps = str(PRESETS[Preset.FAST]["num_inference_steps"])
        expect(page.locator("#num_inference_steps")).to_have_value(steps)
        page.fill("#guidance_strength", "0.5")
        page.click("#go")
        page.locator("#done").wait_for()
    (made,) = (call["params"] for call in upscaler.calls)
    known = {**PRESETS[Preset.FAST], "guidance_strength": 0.5}
    assert {name: made[name] for name in known} == known


@in_browser
def test_a_job_can_be_cancelled(page: Page) -> None:
    upscaler = FakeUpscaler(delay_s=30)
    with serving(lambda: application(upscaler, limits=ROOM)) as url:
        start(page, url)
        page.click("#go")
        expect(page.locator("#said")).to_have_text("Next in line", timeout=60_000)
        page.click("#cancel")
        expect(page.locator("#said")).to_have_text("Cancelled", timeout=60_000)
        expect(page.locator("#go")).to_be_enabled()
        assert [stream.cancelled for stream in upscaler.events.streams] == [True]


@in_browser
def test_a_stream_that_breaks_is_taken_up_again(page: Page) -> None:
    seen: list[str | None] = []

    def broken(route: Route) -> None:
        seen.append(route.request.headers.get("last-event-id"))
        if len(seen) > 2:
            return route.continue_()
        if len(seen) > 1:
            return route.abort()
        step = 'data: {"step": 3, "of": 9, "eta_s": 1}'
        # The last event is cut off, and so has not been seen.
        body = f": hello\r\n\r\nid: 1\nevent: step\n{step}\n\nid: 2\nevent: done\n"
        return route.fulfill(content_type="text/event-stream", body=body)

    with serving(lambda: application(FakeUpscaler(delay_s=0.1), limits=ROOM)) as url:
        page.route("**/events", broken)
        start(page, url)
        page.click("#go")
        page.locator("#done").wait_for()
    assert seen == ["0", "1", "1"]


@in_browser
def test_a_key_is_asked_for_and_a_refusal_can_be_tried_again(page: Page, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(f"alice {hashlib.sha256(b'sesame').hexdigest()}\n")
    upscaler = FakeUpscaler(delay_s=0.1, prompts=True)
    markup = "<img src=x onerror=alert(1)>"
    upscaler.description = replace(upscaler.description, name=markup)
    hostile = tmp_path / f"{markup}'$(x)\";.png"
    shutil.copy(COFFEE, hostile)
    options = {
        "limits": ROOM,
        "access": Access(keys_file=str(keys)),
        "jobs": JobSettings(max_unfinished=1),
    }
    page.on("dialog", lambda dialog: pytest.fail("a script was run"))
    with (
        serving(lambda: application(upscaler, **options)) as url,
        httpx.Client(base_url=url, headers={"Authorization": "Bearer sesame"}) as http,
    ):
        page.goto(f"{url}/playground")
        for key in ("öffne dich", "sesame"):
            page.fill("#key", key)
            page.keyboard.press("Enter")
            if key != "sesame":
                expect(page.locator("#problem-title")).to_have_text("A valid API key is needed")
        expect(page.locator("#fields")).to_be_enabled()
        expect(page.locator("#key")).to_be_hidden()
        expect(page.locator("#model")).to_contain_text(markup)
        page.set_input_files("#file", hostile)
        expect(page.locator("#drop-text")).to_have_text(hostile.name)
        page.fill("#prompt", "@it's <b>; a cup")
        page.fill("#scale", "1.05")
        expect(page.locator("#wrong")).to_have_text("Scale: 1, or 1.1 and more.")
        expect(page.locator("#go")).to_be_disabled()
        page.fill("#scale", "2")
        upscaler.delay_s = 30
        files = {"image": COFFEE.read_bytes()}
        other = http.post("/v1/upscale", files=files, headers={"Prefer": "respond-async"}).json()
        upscaler.delay_s = 0.1
        page.click("#go")
        expect(page.locator("#problem-title")).to_have_text("The server has too much to do")
        expect(page.locator("#problem-detail")).to_contain_text("The server asks to wait")
        http.delete(f"/v1/jobs/{other['id']}").raise_for_status()
        page.click("#retry")
        page.locator("#done").wait_for()
        expect(page.locator("#problem")).to_be_hidden()
        expect(page.locator("#facts")).to_contain_text(markup)
        assert upscaler.calls[-1]["params"]["prompt"] == "@it's <b>; a cup"
        command = page.locator("#curl").text_content() or ""
        assert "sesame" not in command
        run(command, tmp_path, NULLSCALE_KEY="sesame")
        with Image.open(tmp_path / "upscaled.png") as larger:
            assert larger.size == (300, 200)
        assert upscaler.calls[-1]["params"] == upscaler.calls[-2]["params"]


def run(command: str, folder: Path, **environment: str) -> None:
    """Run a command that the page gives, as a person would."""
    environment = {**os.environ, **environment}
    subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=True)
