"""The local variables of each frame, which error reporters such as Sentry send, contain no secret."""

from __future__ import annotations

import io
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.hidden import Secret, SignedUrl
from siliconflow_provider.api.models import Batch
from tests.servers import LocalServer, QuietHandler

# Split, since the frames of the tests are searched too.
KEY = Secret("-".join(("sk", "traced", "Zm9v7Qx9")))
SIGNATURE = Secret("-".join(("traced", "signature", "51f0")))
SECONDS = 0.2


class Failing(LocalServer):
    """A server that fails as the path says; all responses repeat the key and a signed URL."""

    def __init__(self) -> None:
        class Handler(QuietHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = self.path.split("/")[1].partition("?")[0]
                signed = f"{origin}/{kind}?Signature={SIGNATURE.reveal()}"
                if kind == "silent":
                    released.wait(10)
                    return
                status = {"refused": 401, "broken": 500, "redirected": 302, "elsewhere": 302}.get(kind, 200)
                text = f'{{"id": "", "output_file_id": "{signed}", "key": "{self.headers["Authorization"]}"}}'
                text = {"garbage": f"<html>{text}", "nameless": f'{{"data": [{text}]}}', "out": "{}"}.get(kind, text)
                self.send_response(status)
                self.send_header("Location", signed if kind == "redirected" else f"http://169.254.169.254/?{signed}")
                self.send_header("Content-Length", str(len(text) + 100 * (kind == "cut")))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_POST(self) -> None:
                self.do_GET()

        released = self.released = threading.Event()
        super().__init__(Handler)
        origin = self.origin

    def stop(self) -> None:
        self.released.set()
        super().stop()


@pytest.fixture
def service() -> Iterator[Failing]:
    failing = Failing()
    yield failing
    failing.stop()


def client(origin: str, **options: Any) -> SiliconFlowClient:
    return SiliconFlowClient(KEY.reveal(), f"{origin}/v1", **{"timeout": SECONDS, "max_retries": 0} | options)


def signed(origin: str) -> Any:
    """Return the file reference of a batch, as a caller gets it."""
    url = f"{origin}/out?Signature={SIGNATURE.reveal()}"
    return Batch.from_json({"id": "b", "output_file_id": url}).output_file_id


class FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


class Interrupted(BaseException):
    """The exception that Airflow raises at any point of a task after its timeout."""


@contextmanager
def interrupted() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, SECONDS / 2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupted_while(action: Callable[[], Any]) -> None:
    with interrupted():
        action()


def unconnected() -> str:
    """Return an address that accepts no connection: its queue is full."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=0)
    _held.append(listening)
    for _ in range(3):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(listening.getsockname())
        _held.append(waiting)
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


_held: list[socket.socket] = []

# Failing calls, by the service's address. The first path element says how they fail.
FAILURES: dict[str, Callable[[str], Any]] = {
    "no key": lambda origin: SiliconFlowClient(f"{KEY.reveal()}\n{KEY.reveal()}", origin),
    "no URL": lambda origin: SiliconFlowClient(KEY.reveal(), "ftp://x"),
    "no timeout": lambda origin: client(origin, timeout=-1),
    "no proxy": lambda origin: client("https://api.invalid").get_batch("b"),
    "no connection": lambda origin: client("http://127.0.0.1:1").get_batch("b"),
    "no file": lambda origin: client("http://127.0.0.1:1").download(signed("http://127.0.0.1:1"), io.BytesIO()),
    "no list": lambda origin: list(client(f"{origin}/list").list_batches()),
    "no ids": lambda origin: list(client(f"{origin}/nameless").list_batches()),
    "no ids in a page": lambda origin: client(f"{origin}/nameless").batch_page(),
    "no files": lambda origin: client(f"{origin}/list").list_files(),
    "no id": lambda origin: client(f"{origin}/batch").get_batch("b"),
    "no JSON": lambda origin: client(f"{origin}/garbage").get_batch("b"),
    "refused": lambda origin: client(f"{origin}/refused").get_batch("b"),
    "refused file": lambda origin: client(origin).download(signed(f"{origin}/refused"), io.BytesIO()),
    "broken": lambda origin: client(f"{origin}/broken").create_batch("file-1"),
    "cut": lambda origin: client(f"{origin}/cut").get_batch("b"),
    "cut file": lambda origin: client(origin).download(signed(f"{origin}/cut"), io.BytesIO()),
    "silent": lambda origin: client(f"{origin}/silent").get_batch("b"),
    "silent file": lambda origin: client(origin).download(signed(f"{origin}/silent"), io.BytesIO()),
    "redirected": lambda origin: client(f"{origin}/redirected").download("file-1", io.BytesIO()),
    "elsewhere": lambda origin: client(f"{origin}/elsewhere").download("file-1", io.BytesIO()),
    "upload": lambda origin: client(f"{origin}/refused").upload_file(io.BytesIO(b"{}")),
    "silent upload": lambda origin: client(f"{origin}/silent").upload_file(io.BytesIO(b"{}")),
    "disk": lambda origin: client(origin).download(signed(f"{origin}/out"), FullDisk()),
    "interrupted": lambda origin: interrupted_while(lambda: client(f"{origin}/silent", timeout=9).get_batch("b")),
    "interrupted file": lambda origin: interrupted_while(
        lambda: client(origin, timeout=9).download(signed(f"{origin}/silent"), io.BytesIO())
    ),
    "interrupted connection": lambda origin: interrupted_while(
        lambda: client(unconnected(), timeout=9).download(signed(unconnected()), io.BytesIO())
    ),
}


def shown(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield everything visible of a failure, with its place."""
    errors: list[BaseException | None] = [error]
    seen: set[int] = set()
    while errors:
        failure = errors.pop()
        if failure is None or id(failure) in seen:
            continue
        seen.add(id(failure))
        errors += [failure.__cause__, failure.__context__]
        yield "error", f"{failure} {failure!r} {failure.args!r} {vars(failure)!r}"
        traceback = failure.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_qualname}: {name}", shown_value(value)
            traceback = traceback.tb_next


def shown_value(value: Any) -> str:
    """Return a variable as reporters send it, and also the attributes of our own objects."""
    texts = [repr(value)]
    if type(value).__module__.startswith("siliconflow_provider") and hasattr(value, "__dict__"):
        for held in vars(value).values():
            texts += [repr(held), repr(getattr(held, "__dict__", ""))]
    return " ".join(texts)


# urllib3 leaves a socket open if it is interrupted while it connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", FAILURES)
def test_no_frame_shows_a_secret(kind: str, service: Failing, held_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "no proxy":
        monkeypatch.setenv("HTTPS_PROXY", "foo://x")
    with pytest.raises((SiliconFlowError, OSError, Interrupted)) as caught:
        FAILURES[kind](service.origin)
    while _held:
        _held.pop().close()
    found = list(shown(caught.value))
    assert any(where.startswith(("SiliconFlowClient.", "Transport.")) for where, _ in found), "no frame was looked at"
    secrets = (KEY.reveal(), SIGNATURE.reveal())
    assert [where for where, text in found if any(secret in text for secret in secrets)] == []
    modules = {frame.tb_frame.f_globals["__name__"].partition(".")[0] for frame in frames_of(caught.value)}
    assert not modules & {"requests", "urllib3", "http"}


def frames_of(error: BaseException) -> Iterator[Any]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def test_a_hidden_secret_is_never_shown() -> None:
    assert f"{KEY} {KEY!r} {[KEY]} " == "*** *** [***] "
    assert pickle.loads(pickle.dumps(KEY)).reveal() == "***"
    assert not hasattr(KEY, "__dict__")


def test_a_signed_url_hides_its_query() -> None:
    url = SignedUrl("https://a.b/c?Signature=s3cret")
    assert repr([url]) == "['https://a.b/c?...']"
    assert f"{url}" == url == "https://a.b/c?Signature=s3cret"
    assert pickle.loads(pickle.dumps(url)) == url
