import hashlib
import io
import json
import logging
import os
import shutil
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mlops_pipeline.clients import downloads, meters
from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError, UnavailableError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.file_server import FileServer, serving

CONTENT = os.urandom(300_000)
FULL = Path("/dev/full")
HELM = "https://get.helm.sh/helm"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer({"/tool": CONTENT})) as server:
        yield server


def make(tmp_path: Path, *, mirror: str = "") -> Downloads:
    (tmp_path / "locks").mkdir(exist_ok=True)
    locks = Locks(tmp_path / "locks", timeout=30)
    return Downloads(locks=locks, mirror=mirror, clock=FakeClock())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "tool"


def fetch(tmp_path: Path, server: FileServer, target: Path, *, sha256: str = DIGEST) -> None:
    make(tmp_path).fetch(f"{server.url}/tool", target, sha256=sha256)


def left_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_file_comes_whole_and_only_once(tmp_path: Path, server: FileServer, target: Path) -> None:
    fetch(tmp_path, server, target)
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT
    assert server.paths() == ["/tool"]
    assert left_beside(target) == []


def test_an_interrupted_download_is_resumed(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.cuts = [100_000, 50_000]
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT
    asked = [request.headers.get("Range") for request in server.requests]
    assert asked[0] is None
    assert [int(a[6:-1]) for a in asked[1:] if a] == sorted(int(a[6:-1]) for a in asked[1:] if a)
    assert len(asked) == 3
    assert left_beside(target) == []


def test_another_command_resumes_a_partial_download(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.cuts, server.statuses = [100_000], [200, 503, 503, 503, 503, 503]
    with pytest.raises(
        UnavailableError, match=r"answered 503 \(5 attempts\).*partial download is kept"
    ):
        fetch(tmp_path, server, target)
    assert not target.exists()
    kept = (target.parent / ".tool.part").stat().st_size
    assert kept > 50_000
    fetch(tmp_path, server, target)
    assert server.requests[-1].headers["Range"] == f"bytes={kept}-"
    assert server.requests[-1].headers["If-Range"] == '"1"'
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_since_is_downloaded_from_its_start(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    old, server.files["/tool"] = CONTENT, os.urandom(len(CONTENT))
    server.cuts, server.statuses = [100_000], [200, 500, 500, 500, 500, 500]
    with pytest.raises(UnavailableError):
        fetch(tmp_path, server, target)
    server.files["/tool"], server.etags["/tool"] = old, '"2"'
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT


def test_a_part_of_another_address_is_downloaded_from_its_start(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.files["/other"] = os.urandom(len(CONTENT))
    server.cuts, server.statuses = [100_000], [200, 500, 500, 500, 500, 500]
    with pytest.raises(UnavailableError):
        make(tmp_path).fetch(f"{server.url}/other", target, sha256="0" * 64)
    fetch(tmp_path, server, target)
    assert "Range" not in server.requests[-1].headers


def test_a_server_without_validators_restarts_the_download(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.etags["/tool"], server.cuts = 'W/"weak"', [100_000]
    fetch(tmp_path, server, target)
    assert "Range" not in server.requests[-1].headers
    assert target.read_bytes() == CONTENT


def test_without_range_support_the_whole_file_is_requested(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.knows_ranges, server.cuts = False, [100_000]
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.knows_ranges, server.cuts = False, [100_000] * 50
    with pytest.raises(UnavailableError, match="5 attempts"):
        fetch(tmp_path, server, target)
    assert 5 <= len(server.requests) <= 7


def test_bytes_that_were_not_requested_are_discarded(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.shifts, server.cuts = -5, [100_000]
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_thrown_away(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.cuts, server.statuses = [100_000], [200, 500, 500, 500, 500, 500]
    with pytest.raises(UnavailableError):
        fetch(tmp_path, server, target)
    (target.parent / ".tool.part").write_bytes(b"x" * 400_000)
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_not_requested_again(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    target.parent.mkdir()
    (target.parent / ".tool.part").write_bytes(CONTENT)
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_a_wrong_digest_is_reported_with_the_expected_one_and_the_file_is_deleted(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    expected = "0" * 64
    with pytest.raises(IntegrityError) as caught:
        fetch(tmp_path, server, target, sha256=expected)
    for word in (f"{server.url}/tool", DIGEST, expected, "deleted"):
        assert word in str(caught.value)
    assert list(target.parent.iterdir()) == []


def test_a_file_with_another_digest_is_replaced(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    target.parent.mkdir()
    target.write_bytes(b"altered")
    fetch(tmp_path, server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_file_that_the_server_lacks_fails_at_once(
    tmp_path: Path, server: FileServer, target: Path, status: int
) -> None:
    server.statuses = [status]
    with pytest.raises(ConfigurationError, match=rf"/tool: the server answered {status} .*mirror"):
        fetch(tmp_path, server, target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_temporary_failures_are_retried(
    tmp_path: Path, server: FileServer, target: Path, status: int
) -> None:
    server.statuses = [status, status]
    fetch(tmp_path, server, target)
    assert len(server.requests) == 3


def test_what_is_not_kept_is_not_called_kept(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    client = make(tmp_path)
    for download in (
        lambda: client.bring(f"{server.url}/tool", target, most_bytes=1 << 20),
        lambda: client.read(f"{server.url}/tool"),
    ):
        server.statuses = [503] * 5
        with pytest.raises(UnavailableError, match=r"\. Run the command again$"):
            download()


def test_an_unreachable_server_is_named(tmp_path: Path, target: Path) -> None:
    with serving(FileServer()) as gone:
        pass
    with pytest.raises(UnavailableError, match=r"ConnectError.*5 attempts.*HTTPS_PROXY"):
        fetch(tmp_path, gone, target)


def test_redirects_are_followed_and_loops_are_not(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    server.redirects = {"/a": "/b", "/b": f"{server.url}/tool", "/loop": "/loop"}
    make(tmp_path).fetch(f"{server.url}/a", target, sha256=DIGEST)
    assert target.read_bytes() == CONTENT
    with pytest.raises(ConfigurationError, match="more than 5 redirects"):
        make(tmp_path).fetch(f"{server.url}/loop", target.parent / "other", sha256=DIGEST)
    assert server.paths().count("/loop") == 6


def test_a_redirect_out_of_tls_is_refused(server: FileServer) -> None:
    import httpx

    hop = httpx.Response(302, request=httpx.Request("GET", "https://example.org/tool"))
    end = httpx.Response(200, request=httpx.Request("GET", f"{server.url}/tool"), history=[hop])
    with pytest.raises(ConfigurationError, match="without TLS"):
        downloads._refusal("https://example.org/tool", end)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/tool", "http://127.0.0.1:port/tool", "tool"])
def test_an_invalid_address_is_named(tmp_path: Path, target: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="could not download"):
        make(tmp_path).fetch(url, target, sha256=DIGEST)


def test_a_slow_download_is_retried(tmp_path: Path, server: FileServer, target: Path) -> None:
    clock = FakeClock()
    drips = iter(range(10))
    (tmp_path / "locks").mkdir()

    def pass_time() -> None:
        if next(drips, None) is not None:
            threading.Event().wait(0.02)  # The client is to see each piece.
            clock.time += 40

    server.before_chunk = pass_time
    slow = Downloads(locks=Locks(tmp_path / "locks", timeout=5), clock=clock)
    slow.fetch(f"{server.url}/tool", target, sha256=DIGEST)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) > 1


def test_a_stalled_download_is_retried(
    tmp_path: Path, server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_READ", 0.2)
    over, stops = threading.Event(), [True]

    def stop_once() -> None:
        if stops:
            stops.clear()
            over.wait(5)

    server.before_chunk = stop_once
    fetch(tmp_path, server, target)
    over.set()
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_mirror_is_used_instead(tmp_path: Path, target: Path) -> None:
    files = {"/all/get.helm.sh/helm-v3.tar.gz": CONTENT}
    with serving(FileServer(files)) as mirror:
        client = make(tmp_path, mirror=f"{mirror.url}/all/")
        client.fetch("https://get.helm.sh/helm-v3.tar.gz", target, sha256=DIGEST)
    assert target.read_bytes() == CONTENT


def test_the_mirror_gets_no_password_of_the_url(tmp_path: Path) -> None:
    with serving(FileServer({"/host/index?page=2": b"text"})) as mirror:
        client = make(tmp_path, mirror=mirror.url)
        assert client.read("https://me:hidden@host/index?page=2") == "text"


def test_a_file_that_drips_longer_than_its_timeout_is_given_up(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    clock = FakeClock()
    client = Downloads(locks=Locks(tmp_path, timeout=5), clock=clock)

    def pass_time() -> None:
        clock.time += 8

    server.before_chunk = pass_time
    with pytest.raises(UnavailableError, match=r"in time: received \d+ of 300000 bytes"):
        client.bring(f"{server.url}/tool", target, most_bytes=1 << 20, timeout=10)


def test_a_password_of_the_mirror_comes_from_netrc_and_is_neither_shown_nor_stored(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passwords").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "passwords"))
    with serving(FileServer({"/get.helm.sh/helm": CONTENT})) as mirror:
        mirror.cuts, mirror.statuses = [100_000], [200, 404]
        with pytest.raises(ConfigurationError) as caught:
            make(tmp_path, mirror=mirror.url).fetch(HELM, target, sha256=DIGEST)
    assert f"{mirror.url}/get.helm.sh/helm" in str(caught.value)
    assert mirror.requests[0].headers["Authorization"].startswith("Basic ")
    note = target.with_name(".tool.part.json")
    assert json.loads(note.read_text())["url"] == HELM
    assert note.stat().st_mode & 0o777 == 0o600


def test_passwords_that_cannot_be_read_are_not_shown(
    tmp_path: Path, server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passwords").write_text("machine a login me passwort secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "passwords"))
    with pytest.raises(ConfigurationError, match="line 1 is invalid") as caught:
        fetch(tmp_path, server, target)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "a SOCKS proxy, which requires another package"),
        ("ALL_PROXY", "carrier-pigeon://me:secret@127.0.0.1:1", "could not download"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "the certificates of SSL_CERT_FILE=/nowhere/ca.pem"),
    ],
)
def test_an_invalid_environment_is_named(
    tmp_path: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(variable, value)
    downloads._trusted.cache_clear()
    for ask in (
        lambda: make(tmp_path).fetch(HELM, target, sha256=DIGEST),
        lambda: make(tmp_path).read(HELM),
    ):
        with pytest.raises(ConfigurationError, match=said) as caught:
            ask()
        assert "secret" not in str(caught.value)
        assert "free space" not in str(caught.value)
    downloads._trusted.cache_clear()


@pytest.mark.parametrize(
    ("variables", "by_proxy"),
    [
        ({"HTTP_PROXY": "{proxy}"}, True),
        ({"http_proxy": "{proxy}"}, True),
        ({"ALL_PROXY": "{proxy}"}, True),
        ({"HTTPS_PROXY": "{proxy}"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "127.0.0.1"}, False),
    ],
)
def test_proxies_of_the_environment_are_used(
    tmp_path: Path,
    server: FileServer,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    by_proxy: bool,  # noqa: FBT001  # a parameter of pytest
) -> None:
    # A proxy is asked for the whole address: this one has the file under it.
    with serving(FileServer({f"{server.url}/tool": CONTENT})) as proxy:
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(proxy=proxy.url))
        fetch(tmp_path, server, target)
        assert bool(proxy.requests) is by_proxy
    assert bool(server.requests) is not by_proxy


def test_a_full_disk_is_reported_before_the_download(
    tmp_path: Path, server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(ConfigurationError, match=r"300000 bytes are needed, 1000 are free"):
            fetch(tmp_path, server, target)


@pytest.mark.skipif(not FULL.exists(), reason="this machine has no disk that is always full")
def test_a_disk_that_fills_up_is_reported(
    tmp_path: Path, server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.parent.mkdir(exist_ok=True)
    (target.parent / ".tool.part").symlink_to(FULL)
    monkeypatch.setattr(downloads._Part, "discard", lambda _: None)
    monkeypatch.setattr(downloads._Part, "size", 0)
    with pytest.raises(ConfigurationError, match=r"could not write .*No space left on device"):
        fetch(tmp_path, server, target)


def test_two_that_want_the_same_file_get_it_once(
    tmp_path: Path, server: FileServer, target: Path
) -> None:
    both = [
        threading.Thread(target=fetch, args=(tmp_path, server, target), daemon=True)
        for _ in range(4)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(20)
    assert target.read_bytes() == CONTENT
    assert server.paths() == ["/tool"]


def test_a_text_is_read(tmp_path: Path, server: FileServer) -> None:
    server.files["/sum"] = b"0123  tool\n"
    server.statuses = [503]
    client = make(tmp_path)
    assert {client.read(f"{server.url}/sum") for _ in range(3)} == {"0123  tool\n"}
    assert server.paths() == ["/sum", "/sum"]
    with pytest.raises(ConfigurationError, match="404"):
        make(tmp_path).read(f"{server.url}/none")


def test_a_text_that_only_drips_is_given_up(tmp_path: Path, server: FileServer) -> None:
    clock = FakeClock()

    def pass_time() -> None:
        threading.Event().wait(0.02)  # The client is to see each piece.
        clock.time += 40

    server.before_chunk = pass_time
    (tmp_path / "locks").mkdir()
    slow = Downloads(locks=Locks(tmp_path / "locks", timeout=5), clock=clock)
    with pytest.raises(UnavailableError, match=r"received only \d+ bytes in .* \(5 attempts\)"):
        slow.read(f"{server.url}/tool")


def test_a_text_without_end_is_not_kept(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_TEXT_LIMIT", 1000)
    with pytest.raises(ConfigurationError, match="is too large for a checksum file"):
        make(tmp_path).read(f"{server.url}/tool")


def test_lines_of_the_log_tell_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    with caplog.at_level(logging.INFO, logger=meters.__name__):
        lines = meters._Lines("tool", clock)
        for done in (1_000_000, 2_000_000, 3_000_000):
            clock.time += 6
            lines(done, 4_000_000)
        lines(4_000_000, None)
        lines.end()
    assert caplog.messages == ["tool: 2.0 of 4.0 MB", "downloaded tool: 4.0 MB in 18.0 s"]


@pytest.mark.parametrize(("terminal", "shows"), [(True, "tool"), (False, "")])
def test_a_terminal_shows_a_bar(
    terminal: bool,  # noqa: FBT001  # a parameter of pytest
    shows: str,
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100)
    with meters.metered("tool", address="http://x/tool", console=console) as meter:
        meter(500_000, 1_000_000)
    assert shows in screen.getvalue()
    assert bool(screen.getvalue()) is terminal
