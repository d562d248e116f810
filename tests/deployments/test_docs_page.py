"""The page of the API's documentation: from this host alone, and in a real browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_service import application, client, problem
from fake_upscaler import FakeUpscaler
from playwright.sync_api import expect, sync_playwright
from serving import serving

import deployments

FOLDER = Path(deployments.__file__).with_name("docs")
FILES = [path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()]
LIBRARY = "swagger-ui-dist/"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


async def test_the_page_and_what_it_loads_are_served() -> None:
    async with client(FakeUpscaler()) as http:
        page = await http.get("/docs")
        links = re.findall(r'(?:href|src)="([^"]*)"', page.text)
        assert len(links) >= 5
        for link in links:
            # Relative, so that a proxy may put a path before it.
            assert re.fullmatch(r"\w[\w./-]*", link)
            assert (await http.get(f"/{link}")).status_code == 200, link
        policy = page.headers["content-security-policy"].split("; ")
        assert {"default-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
        # No script but those of the files.
        assert not [part for part in policy if part.startswith("script-src")]


@pytest.mark.parametrize("name", FILES)
async def test_each_file_is_as_it_lies_there(name: str) -> None:
    async with client(FakeUpscaler()) as http:
        answer = await http.get(f"/docs/{name}")
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = await http.get(f"/docs/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    if not name.startswith(LIBRARY):
        assert "//" not in re.sub(r"^\s*//.*$", "", answer.text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["", "swagger-ui-dist", "%2e%2e/ingress.py"])
async def test_nothing_else_is(name: str) -> None:
    async with client(FakeUpscaler()) as http:
        problem(await http.get(f"/docs/{name}"), 404, "not_found")


def test_the_librarys_licence_lies_beside_it() -> None:
    assert {f"{LIBRARY}LICENSE", f"{LIBRARY}NOTICE"} <= set(FILES)
    assert "Apache License" in (FOLDER / LIBRARY / "LICENSE").read_text()


@pytest.fixture
def url() -> Iterator[str]:
    with serving(lambda: application(FakeUpscaler())) as address:
        yield address


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine's PATH")
def test_a_browser_shows_it_and_asks_nobody_else(url: str) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text))
        page.goto(f"{url}/docs")
        shown = page.locator(".opblock-summary-path")
        expect(shown.filter(has_text="/v1/upscale")).to_be_visible(timeout=60_000)
        page.locator(".opblock-post .opblock-summary").click()
        expect(page.locator(".opblock-post").get_by_text("invalid_image").first).to_be_visible()
        browser.close()
    assert complaints == []
    assert f"{url}/openapi.json" in asked
    # Icons in the style sheet are data.
    assert not [a for a in asked if not a.startswith((url, "data:"))]
