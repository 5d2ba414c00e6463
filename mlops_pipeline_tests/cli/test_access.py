"""Who gets through the gate in front of the Dagster UI."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_pipeline.cli.access import TokenGate, secret_path

TOKEN = "a-token-of-43-characters-as-secrets-makes-it"
BASE = "http://127.0.0.1:3000"
PATH = secret_path(TOKEN)


async def say_path(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"the UI at {scope['path']}")(scope, receive, send)


def make_gate() -> ASGIApp:
    return TokenGate(say_path, token=TOKEN, names=["ui.example.com"])


@pytest.fixture
def gate() -> ASGIApp:
    return make_gate()


def ask(gate: ASGIApp, path: str = "/", **headers: str) -> httpx.Response:
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


def cookie(gate: ASGIApp) -> str:
    return ask(gate, f"/?token={TOKEN}").headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Cookie": "mlops-ui="},
        {"Cookie": f"mlops-ui={TOKEN}"},
        {"Cookie": "mlops-ui=ünknown"},
    ],
)
def test_without_the_token_or_the_cookie_it_is_401(gate: ASGIApp, headers: dict[str, str]) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = ask(gate, **encoded)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert "Open the address that `mlops-pipeline ui` printed" in answer.text


def test_the_token_gives_a_cookie_that_opens(gate: ASGIApp) -> None:
    shown = cookie(gate)
    assert ask(gate, PATH, Cookie=shown).text == f"the UI at {PATH}"
    assert ask(gate, f"{PATH}/graphql", Cookie=shown).text == f"the UI at {PATH}/graphql"
    assert TOKEN not in shown


@pytest.mark.parametrize("path", ["/graphql", f"{PATH}/graphql"])
def test_programs_need_not_know_the_path(gate: ASGIApp, path: str) -> None:
    answer = ask(gate, path, Authorization=f"Bearer {TOKEN}")
    assert answer.text == f"the UI at {PATH}/graphql"


def test_browsers_send_the_cookie_to_no_other_port(gate: ASGIApp) -> None:
    """What listens on another port of this host gets cookies too: it must not know their path."""
    urls = (f"{BASE}{PATH}/runs", "http://127.0.0.1:3001/", "http://127.0.0.1:3001/graphql")

    async def sent() -> list[bool]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate)) as browser:
            await browser.get(f"{BASE}/?token={TOKEN}")
            return ["cookie" in (await browser.get(url)).request.headers for url in urls]

    assert asyncio.run(sent()) == [True, False, False]


def test_a_cookie_of_an_earlier_start_does_not_open(gate: ASGIApp) -> None:
    """Also with the same token: whoever listens on the port of a UI that ended may have it."""
    assert ask(gate, PATH, Cookie=cookie(make_gate())).status_code == 401


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"/?token={TOKEN}", "/"),
        (f"/runs?a=1&token={TOKEN}", "/runs?a=1"),
        (f"{PATH}/runs?a=1&token={TOKEN}", "/runs?a=1"),
        (f"//evil.example/x?token={TOKEN}", "//evil.example/x"),
        (f"/%22%3E%3Cscript%3E?token={TOKEN}", "/%22%3E%3Cscript%3E"),
        (f"/?token={TOKEN}&x=%22%3E", "/?x=%22%3E"),
    ],
)
def test_the_address_goes_on_without_the_token(gate: ASGIApp, path: str, target: str) -> None:
    answer = ask(gate, f"{BASE}{path}")
    assert f'content="0;url={PATH}{target}"' in answer.text
    assert TOKEN not in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:3000", 200),
        ("[::1]:3000", 200),
        ("localhost:8000", 200),
        ("UI.example.com", 200),
        ("evil.example.com:3000", 403),
        ("localhost.evil.example.com", 403),
        ("127.0.0.1.evil.example.com", 403),
    ],
)
def test_other_names_than_ours_are_refused(gate: ASGIApp, host: str, status: int) -> None:
    assert ask(gate, Host=host, Authorization=f"Bearer {TOKEN}").status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:3000", 200),
        ("http://127.0.0.1:4000", 403),
        ("https://evil.example.com", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_origins_are_refused(gate: ASGIApp, origin: str, status: int) -> None:
    assert ask(gate, Origin=origin, Cookie=cookie(gate)).status_code == status
