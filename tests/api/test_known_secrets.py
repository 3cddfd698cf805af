from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.known_secrets import KnownSecrets

KEY = 'sk-Zm9v.7Qx9/b+c="quoted"\\back&end'
PLAIN_KEY = "sk-" + "abcdefghijklmnop" * 3
SIGNATURE = "c2VjcmV0/LXNpZ25h+dHVyZQ=="
# Different prefixes, so that the secret starts at each of the three positions of base64.
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON with slashes escaped": lambda text: json.dumps(text).replace("/", "\\/"),
    "repr": repr,
    "a URL's value": lambda text: quote(text, safe=""),
    "a URL's path": quote,
    "a URL's value twice": lambda text: quote(quote(text, safe=""), safe=""),
    "a URL's value in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f"),
    "JavaScript's encodeURIComponent": lambda text: quote(text, safe="!'()*"),
    "HTML": html.escape,
    "hexadecimal": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 behind a colon": lambda text: base64.b64encode(f":{text}".encode()).decode(),
    "base64 within": lambda text: base64.urlsafe_b64encode(f"a:{text}:b".encode()).decode(),
    "base64 of the header": lambda text: base64.b64encode(f"Bearer {text}".encode()).decode(),
}


def parts_of(text: str) -> set[str]:
    """Return the pieces of eight characters of a text."""
    return {text[start : start + 8] for start in range(len(text) - 7)}


@pytest.mark.parametrize("key", [KEY, PLAIN_KEY, SIGNATURE, "\\abcdefghijklmnop", '"abcdefghijklmnop'])
@pytest.mark.parametrize("form", FORMS)
def test_secret_is_hidden_in_common_encodings(form: str, key: str) -> None:
    said = FORMS[form](key)
    secrets = KnownSecrets([key])
    shown = secrets.hidden(f"no {said}, no")
    assert shown.startswith("no ")
    assert shown.endswith(", no")
    inner = FORMS[form](key).strip("\"'")[12:-6]
    assert not parts_of(inner) & parts_of(shown)
    value = {"errors": [said, {"message": {"deep": [f"no {said}", 7, None]}}], said: True}
    text = json.dumps(value)
    for encoded in (text.encode(), text.replace("/", "\\/").encode(), json.dumps(value, ensure_ascii=False).encode()):
        found = secrets.hidden_in_value(json.loads(encoded), encoded)
        assert found["errors"][1]["message"]["deep"][1:] == [7, None]
        assert not parts_of(inner) & parts_of(str(found).replace("\\\\", "\\"))


def test_text_without_secret_is_the_same_object() -> None:
    secrets = KnownSecrets([KEY])
    text, harmless = "sk-Zm9v is no key, and Bearer none", {"id": "batch_1", "errors": ["sk-\\"]}
    assert secrets.hidden(text) is text
    assert secrets.hidden_in_value(harmless, json.dumps(harmless).encode()) is harmless


def test_short_key_is_not_a_secret() -> None:
    secrets = KnownSecrets(["local"])
    assert secrets.hidden("a local server") == "a local server"
    assert secrets.hidden_in_value(["local\\"], b'["local\\\\"]') == ["local\\"]


def test_short_key_is_matched_with_exact_case() -> None:
    assert KnownSecrets(["emulator"]).hidden("the emulator of Emulators") == "the *** of Emulators"


def test_other_values_are_unchanged() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    secrets = KnownSecrets([KEY])
    assert secrets.hidden_in_value(deep, b"\\") is deep
    assert secrets.hidden_in_value([2**70], b"\\") == [2**70]


def test_repr_shows_no_secret() -> None:
    secrets = KnownSecrets([PLAIN_KEY]).with_more([SIGNATURE])
    assert secrets.hidden(f"{PLAIN_KEY} {SIGNATURE}") == "*** ***"
    assert PLAIN_KEY not in f"{secrets!r} {secrets}"


def test_secret_may_have_any_characters() -> None:
    assert KnownSecrets(["schlüssel", "\ud800" * 8]).hidden("ein schlüssel " + "\ud800" * 8) == "ein *** ***"


class TestOfAnAnswer:
    """Responses of the service or a storage that repeat the secret."""

    @pytest.fixture
    def failure(self, server: Any, key: str) -> Callable[..., SiliconFlowError]:
        """Return a function that sends a failing request and returns its error."""

        def fail(ask: Callable[[SiliconFlowClient], Any] | None = None, key: str = key) -> SiliconFlowError:
            client = SiliconFlowClient(key, server.base_url, max_retries=0)
            with pytest.raises(SiliconFlowError) as caught:
                (ask or (lambda client: client.get_batch("batch_1")))(client)
            return caught.value

        return fail

    @pytest.mark.parametrize("before", [160, 460])
    @pytest.mark.parametrize("status", ["400 Bad", "200 OK"])
    def test_key_is_hidden_before_a_message_is_cut(self, server: Any, failure: Any, before: int, status: str) -> None:
        key = "sk-abcdefghijkl.mnopqrstuvwxyz.0123456789"
        said = "x" * before + key + "y " * 200
        body = json.dumps({"code": said, "message": said}).encode()
        head = f"HTTP/1.1 {status} {said}\r\nx-request-id: {said}\r\nContent-Length: {len(body)}\r\n\r\n"
        server.raw(head.encode() + body)
        error = failure(key=key)
        assert not parts_of(key) & parts_of(f"{error} {vars(error)}")

    def test_key_is_hidden_before_a_reason_is_cut(self, server: Any, failure: Any) -> None:
        key = "sk-abcdefghijkl.mnopqrstuvwxyz.0123456789"
        server.raw(b"x" * 3_880 + key.encode() + b"y" * 200 + b"\r\n\r\n")
        assert not parts_of(key) & parts_of(str(failure(key=key)))

    @pytest.mark.parametrize("form", FORMS)
    def test_batch_shows_no_encoded_key(self, server: Any, batch_json: Any, form: str) -> None:
        said = FORMS[form](PLAIN_KEY)
        server.json(batch_json(errors=[said, {"message": said}], metadata={"said": said}))
        found = SiliconFlowClient(PLAIN_KEY, server.base_url, max_retries=0).get_batch("batch_1")
        assert not parts_of(said.strip("\"'\\")[12:-6]) & parts_of(f"{found} {found.to_json()}")

    @pytest.mark.parametrize(
        "said",
        ["signature {} does not match", '{{"message": "{} is bad"}}', "\ufeff<Error><Sig>{}</Sig></Error>", "\ufeff{}"],
    )
    @pytest.mark.parametrize("place", ["elsewhere", "here"])
    @pytest.mark.parametrize("number", [1, 3])
    def test_signature_of_a_redirect_target_is_hidden(
        self, server: Any, storage: Any, failure: Any, said: str, place: str, number: int
    ) -> None:
        host = storage if place == "elsewhere" else server
        server.redirects(f"{host.origin}/bucket/a?Signature={quote(SIGNATURE, safe='')}&Expires=1")
        for _ in range(number - 1):
            host.redirects(f"{host.origin}/bucket/b?Expires=1")
        host.text(said.format(SIGNATURE), 403, x_request_id=f"x-{SIGNATURE}", location=f"/?{SIGNATURE}")
        error = failure(lambda client: client.download("file-1", io.BytesIO()))
        assert SIGNATURE not in f"{error} {vars(error)}"
        assert error.message.endswith(": the link to the result file may have expired: try again")

    def test_signature_is_hidden_in_errors_after_redirect(self, server: Any, storage: Any, failure: Any) -> None:
        server.redirects(f"{storage.origin}/a?Signature={SIGNATURE}")
        storage.raw(f"{SIGNATURE}\r\n\r\n".encode())
        error = failure(lambda client: client.download("file-1", io.BytesIO()))
        assert "BadStatusLine: ***" in error.message

    def test_refusal_by_the_api_has_api_remedy(self, server: Any, failure: Any) -> None:
        server.redirects(f"{server.base_url}/files/file-1/content/?a=1")
        server.json("Forbidden", 403)
        error = failure(lambda client: client.download("file-1", io.BytesIO()))
        assert "the charged balance is too low" in error.message
