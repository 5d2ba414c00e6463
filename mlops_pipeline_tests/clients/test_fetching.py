"""Models come from a web server, Google's and Amazon's stores and this machine; archives too."""

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients import fetching
from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.fetching import Fetcher
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.serving.artifact import describe_excess
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.file_server import FileServer, serving

GOOGLE = "/storage.googleapis.com"
MODEL = b"weights of a model"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer()) as made:
        yield made


@pytest.fixture
def store() -> FakeObjectStore:
    return FakeObjectStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "fetched here"
    made.mkdir()
    return made


@pytest.fixture
def fetcher(server: FileServer, store: FakeObjectStore, tmp_path: Path) -> Fetcher:
    return made_fetcher(server, store, tmp_path, most_bytes=1000)


def made_fetcher(
    server: FileServer, store: FakeObjectStore, tmp_path: Path, *, most_bytes: int
) -> Fetcher:
    web = Downloads(locks=Locks(tmp_path, timeout=5), mirror=server.url)
    return Fetcher(
        web,
        lambda: store,
        most_bytes,
        lambda size, place: describe_excess(size, place, most=most_bytes),
    )


def listing(
    server: FileServer,
    *objects: tuple[str, bytes],
    prefix: str,
    md5: bool = True,
    more: bool = False,
) -> None:
    """Serve Google's two lists: of the folder, and of the first name that starts like it."""
    items = [
        {"name": name, "size": str(len(data))}
        | ({"md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode()} if md5 else {})
        for name, data in objects
    ]
    below = [item for item in items if item["name"].startswith(f"{prefix}/")]
    page(server, f"{prefix}/", {"items": below} | ({"nextPageToken": "T"} if more else {}))
    page(server, prefix, {"items": items[:1], "nextPageToken": "T"}, "&maxResults=1")
    server.files |= {f"{GOOGLE}/public/{name}": data for name, data in objects}


def page(server: FileServer, prefix: str, content: object, options: str = "") -> None:
    fields = "fields=items%28name%2Csize%2Cmd5Hash%29%2CnextPageToken"
    query = f"prefix={prefix.replace('/', '%2F')}&{fields}{options}"
    server.files[f"{GOOGLE}/storage/v1/b/public/o?{query}"] = json.dumps(content).encode()


def test_a_folder_of_googles_store_needs_no_credentials(
    fetcher: Fetcher, server: FileServer, folder: Path
) -> None:
    listing(
        server,
        ("sklearn/iris/model.joblib", MODEL),
        ("sklearn/iris/more/part", b"more"),
        ("sklearn/iris-2/model.joblib", b"another model"),
        prefix="sklearn/iris",
    )
    found = fetcher.fetch("gs://public/sklearn/iris/", folder)
    assert (found.path / "model.joblib").read_bytes() == MODEL
    assert (found.path / "more" / "part").read_bytes() == b"more"
    assert not list(folder.rglob("iris-2"))
    assert found.size == len(MODEL) + 4
    lines = f"{hashlib.sha256(MODEL).hexdigest()}  model.joblib\n"
    lines += f"{hashlib.sha256(b'more').hexdigest()}  more/part\n"
    assert found.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert not any("Authorization" in request.headers for request in server.requests)


def test_an_object_that_differs_from_googles_digest_is_refused(
    fetcher: Fetcher, server: FileServer, folder: Path
) -> None:
    listing(server, ("m/model.joblib", MODEL), prefix="m")
    server.files[f"{GOOGLE}/public/m/model.joblib"] = MODEL[::-1]
    with pytest.raises(IntegrityError, match=r"m/model\.joblib was changed in transit"):
        fetcher.fetch("gs://public/m", folder)


@pytest.mark.parametrize("data", [MODEL[:-1], MODEL + b"!"])
def test_an_object_without_a_digest_has_its_listed_size(
    fetcher: Fetcher, server: FileServer, folder: Path, data: bytes
) -> None:
    """Google has no MD5 of composite objects."""
    listing(server, ("m/a", MODEL), ("m/b", MODEL), prefix="m", md5=False)
    server.files[f"{GOOGLE}/public/m/b"] = data
    with pytest.raises(
        PipelineError, match=r"got 17: it changed|has 19 bytes or more, .* maximum is 18"
    ):
        fetcher.fetch("gs://public/m", folder)
    server.files[f"{GOOGLE}/public/m/b"] = MODEL
    again = folder / "again"
    again.mkdir()
    assert fetcher.fetch("gs://public/m", again).without_digest == 2


def test_one_object_of_googles_store_beside_a_folder_that_starts_like_it(
    fetcher: Fetcher, server: FileServer, folder: Path
) -> None:
    listing(server, ("m.joblib", MODEL), ("m.joblib-2/x", b"x"), prefix="m.joblib")
    assert fetcher.fetch("gs://public/m.joblib", folder).path.name == "fetched"
    assert [p.name for p in folder.rglob("*") if p.is_file()] == ["m.joblib"]


def test_a_list_that_is_cut_is_not_taken_as_complete(
    fetcher: Fetcher, server: FileServer, folder: Path
) -> None:
    listing(server, ("m/model.joblib", MODEL), prefix="m", more=True)
    rest = {"items": [{"name": "m/b", "size": "1"}], "nextPageToken": "T"}
    page(server, "m/", rest, "&pageToken=T")
    with pytest.raises(ConfigurationError, match="its list has more than 200 pages"):
        fetcher.fetch("gs://public/m", folder)
    assert not list(folder.iterdir())


def test_one_file_of_a_public_folder_is_found_or_known_to_be_absent(
    fetcher: Fetcher, server: FileServer
) -> None:
    key = "m/model.sig"
    page(server, key, {"items": [{"name": "m/model.signature", "size": "1"}]}, "&maxResults=1")
    assert fetcher.find_in_google("gs://public/m/", "model.sig") is None
    with pytest.raises(ConfigurationError, match="the server answered 404"):
        fetcher.find_in_google("gs://private/m", "model.sig")


def test_all_objects_share_one_deadline(fetcher: Fetcher, server: FileServer, folder: Path) -> None:
    clock = FakeClock()
    listing(server, ("m/a", MODEL), ("m/b", MODEL), prefix="m")

    def pass_time() -> None:
        clock.time += 2500

    server.before_chunk = pass_time
    with pytest.raises(UnavailableError, match=r"only 1 of 2 objects were downloaded in 7200 s"):
        replace(fetcher, clock=clock).fetch("gs://public/m", folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [({"items": [{"name": "m/x"}]}, "KeyError"), ([], "AttributeError")],
)
def test_a_list_with_other_fields_is_named(
    fetcher: Fetcher, server: FileServer, folder: Path, content: object, complaint: str
) -> None:
    page(server, "m/", content)
    with pytest.raises(
        IntegrityError, match=f"could not read the list of gs://public/m: {complaint}"
    ):
        fetcher.fetch("gs://public/m", folder)


@pytest.mark.parametrize("keys", [("m", "m/m"), ("m/a", "m/a/b")])
def test_two_objects_do_not_get_one_file(
    fetcher: Fetcher, store: FakeObjectStore, folder: Path, keys: tuple[str, str]
) -> None:
    for key in keys:
        store.put("models", key, b"x")
    with pytest.raises(IntegrityError, match=r"are one file|needs it as a folder"):
        fetcher.fetch("s3://models/m", folder)


def test_a_password_and_a_signature_reach_neither_the_mirror_nor_a_message(
    fetcher: Fetcher, server: FileServer, folder: Path
) -> None:
    host = f"127.0.0.1:{server.port}"
    server.files = {"/m?sig=hidden": MODEL, "/m": MODEL}
    assert fetcher.fetch(f"http://{host}/m?sig=hidden", folder).size == len(MODEL)
    assert fetcher.fetch(f"http://me:hidden@{host}/m", folder).size == len(MODEL)
    assert server.paths() == ["/m?sig=hidden", "/m"], "not /127.0.0.1…, as of the mirror"
    for uri in (
        f"http://me:hidden@{host}/no?sig=hidden",
        "ftp://me:hidden@h/m",
        "http://a:hidden@[/",
    ):
        with pytest.raises(ConfigurationError) as refused:
            fetcher.fetch(uri, folder)
        assert "hidden" not in str(refused.value)


def test_a_folder_of_an_s3_service(fetcher: Fetcher, store: FakeObjectStore, folder: Path) -> None:
    store.buckets.add("shared")
    store.put("shared", "m/1/saved_model.pb", b"graph")
    store.put("shared", "m/1/variables/variables.index", b"weights")
    store.put("shared", "m2/other", b"another model")
    found = fetcher.fetch("s3://shared/m", folder)
    assert sorted(p.name for p in found.path.rglob("*") if p.is_file()) == [
        "saved_model.pb",
        "variables.index",
    ]


@pytest.mark.parametrize("key", ["m/../../x", "m//x", "m/./x"])
def test_an_object_does_not_lead_out_of_the_folder(
    fetcher: Fetcher, store: FakeObjectStore, folder: Path, key: str
) -> None:
    store.put("models", key, b"x")
    with pytest.raises(IntegrityError, match="leads out of its folder"):
        fetcher.fetch("s3://models/m", folder)
    assert list(folder.rglob("*")) == []


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_size_is_known_before_the_first_byte(
    server: FileServer, store: FakeObjectStore, tmp_path: Path, folder: Path, scheme: str
) -> None:
    store.put("models", "m/model.joblib", MODEL)
    listing(server, ("m/model.joblib", MODEL), prefix="m")
    small = made_fetcher(server, store, tmp_path, most_bytes=17)
    uri = {"s3": "s3://models/m", "gs": "gs://public/m"}[scheme]
    with pytest.raises(ConfigurationError, match=r"it has 18 bytes, .* `max_artifact_gigabytes`"):
        small.fetch(uri, folder)
    assert f"{GOOGLE}/public/m/model.joblib" not in server.paths()
    assert list(folder.rglob("*")) == []


def test_a_file_of_a_web_server(fetcher: Fetcher, server: FileServer, folder: Path) -> None:
    server.files["/host/my%20model.joblib"] = MODEL
    found = fetcher.fetch("https://host/my%20model.joblib", folder)
    assert found.path.read_bytes() == MODEL
    assert found.path.name == "my model.joblib"
    assert found.sha256 == hashlib.sha256(MODEL).hexdigest()


def test_a_large_file_of_a_web_server_is_not_downloaded(
    server: FileServer, store: FakeObjectStore, tmp_path: Path, folder: Path
) -> None:
    server.files["/host/model.joblib"] = MODEL
    small = made_fetcher(server, store, tmp_path, most_bytes=17)
    with pytest.raises(ConfigurationError, match="it has 18 bytes or more, and the maximum is 17"):
        small.fetch("https://host/model.joblib", folder)
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_a_large_folder_of_this_machine_is_not_read(
    fetcher: Fetcher, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "model\udcff").write_bytes(b"x")
    assert fetcher.fetch(str(home), folder).size == 1
    monkeypatch.setattr(fetching, "_described", None)
    (home / "large").write_bytes(b"0" * 1000)
    with pytest.raises(ConfigurationError, match="home: it has 1001 bytes"):
        fetcher.fetch(str(home), folder)
    monkeypatch.setattr(fetching, "MOST_FILES", 1)
    with pytest.raises(ConfigurationError, match="home: it has more than 1 files"):
        fetcher.fetch(str(home), folder)


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def linked(target: str) -> tarfile.TarInfo:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, target
    return link


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.zip", zipped(**{"iris/model.joblib": MODEL})),
        ("model.zip", zipped(**{"iris/model.joblib": MODEL, "__MACOSX/iris/._model.joblib": b""})),
        ("model.tar.gz", tarred((tarfile.TarInfo("iris/model.joblib"), MODEL))),
        ("model.tgz", tarred((tarfile.TarInfo("./model.joblib"), MODEL))),
    ],
)
def test_an_archive_is_unpacked(
    fetcher: Fetcher, server: FileServer, folder: Path, name: str, content: bytes
) -> None:
    server.files[f"/host/{name}"] = content
    found = fetcher.fetch(f"https://host/{name}", folder)
    assert [path.name for path in found.path.iterdir()] == ["model.joblib"]
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    (folder / "copy").mkdir()
    (folder / "copy" / name).write_bytes(content)
    empty = folder / "empty"
    empty.mkdir()
    assert fetcher.fetch(f"file://{folder}/copy/{name}", empty).sha256 == found.sha256


@pytest.mark.parametrize(
    ("name", "content", "error", "complaint"),
    [
        ("m.zip", zipped(**{"../x": b"x"}), IntegrityError, "leads out of its folder"),
        ("m.zip", zipped(**{"/x": b"x"}), IntegrityError, "leads out of its folder"),
        ("m.zip", zipped(x=b"0" * 1001), ConfigurationError, "contains 1001 bytes or more"),
        ("m.zip", b"not an archive", IntegrityError, "could not unpack"),
        ("m.tar", tarred((tarfile.TarInfo("../x"), b"x")), IntegrityError, "leads out of its fol"),
        ("m.tar", tarred((tarfile.TarInfo("/x"), b"x")), IntegrityError, "leads out of its folder"),
        ("m.tar", tarred((linked("/etc/hostname"), b"")), IntegrityError, "neither a file nor"),
        ("m.tar", tarred((tarfile.TarInfo("x"), b"0" * 1001)), ConfigurationError, "1001 bytes"),
        ("m.tgz", tarred((tarfile.TarInfo("x"), b"x"))[:-20], IntegrityError, "could not unpack"),
    ],
)
def test_an_archive_that_is_damaged_or_hostile_is_refused(
    fetcher: Fetcher,
    tmp_path: Path,
    folder: Path,
    name: str,
    content: bytes,
    error: type[PipelineError],
    complaint: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=complaint):
        fetcher.fetch(str(tmp_path / name), folder)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("uri", "error", "complaint"),
    [
        ("ftp://host/m", ConfigurationError, r"expected gs://, s3://, http://"),
        ("gs://bucket", ConfigurationError, "expected scheme://<bucket>/<prefix>"),
        ("file://host/m", ConfigurationError, "expected file:///path, without a host"),
        ("/nowhere/model.joblib", NotFoundError, "it does not exist"),
        ("s3://models/nothing", NotFoundError, "there are no objects below it"),
        ("https://host/nothing", ConfigurationError, "the server answered 404"),
    ],
)
def test_a_uri_that_leads_nowhere_is_named(
    fetcher: Fetcher, folder: Path, uri: str, error: type[PipelineError], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        fetcher.fetch(uri, folder)
