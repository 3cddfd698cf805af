from __future__ import annotations

import logging

import pytest

from siliconflow_provider.api.redaction import (
    quiet_urls,
    shown_path,
    without_credentials,
    without_credentials_of,
    without_queries,
)

POOL = "urllib3.connectionpool"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no URL? none", "no URL? none"),
        ("see https://a.b/c and http://d", "see https://a.b/c and http://d"),
        ("https://a.b/c?Signature=s3cret", "https://a.b/c?..."),
        ("at http://a.b:9/c?x=s3cret&y=1, then", "at http://a.b:9/c?... then"),
        ('<a href="https://a/b?s3cret">x</a>', '<a href="https://a/b?...">x</a>'),
        ("http://a/?s3cret http://b/?s3cret", "http://a/?... http://b/?..."),
        ("http://a/b?c?s3cret", "http://a/b?..."),
        ("https://h/x?a='1'&Signature=s3cret-s3cret", "https://h/x?...'1'&Signature=***"),
        ("https://h/x?a=attachment; name=x&Signature=s3cret-s3cret", "https://h/x?... name=x&Signature=***"),
        ("https%3A%2F%2Fh%2Fx%3FSignature%3Ds3cret-s3cret%26a", "https%3A%2F%2Fh%2Fx%3FSignature%3D***"),
        ("https%253A%252F%252Fh%253Fsignature%253ds3cret-s3cret", "https%253A%252F%252Fh%253Fsignature%253d***"),
        ("https://h/x;Signature=s3cret-s3cret, then", "https://h/x;Signature=*** then"),
        ("https://h/x#X-Amz-Security-Token=s3cret-s3cret&b", "https://h/x#X-Amz-Security-Token=***&b"),
        (r"h\u0026X-Amz-Credential\u003ds3cret-s3cret", r"h\u0026X-Amz-Credential\u003d***"),
        ("OSSAccessKeyId=s3cret-s3cret GoogleAccessId=s3cret-s3cret", "OSSAccessKeyId=*** GoogleAccessId=***"),
        (
            "said <a>b</a><SignatureProvided>s3cret/s3cret</SignatureProvided>",
            "said <a>b</a><SignatureProvided>***</SignatureProvided>",
        ),
        ("SAS sv=1&sig=s3cret-s3cret", "SAS sv=1&sig=***"),
        ("https://user:s3cret@h/x and http:\\/\\/u:s3@cret@h", "https://***@h/x and http:\\/\\/***@h"),
        ("s3://AKIA:ab/s3@cret@bucket/x, https://h/a@b", "s3://***@bucket/x, https://h/a@b"),
        # Texts without secrets.
        ("http://h:80/users/@me and https://h/a:b/c@d", "http://h:80/users/@me and https://h/a:b/c@d"),
        ("s3://bucket/token=20260101/design=abcdefgh", "s3://bucket/token=20260101/design=abcdefgh"),
        ("eos_token=151643 and max_tokens=123456789", "eos_token=151643 and max_tokens=123456789"),
        ("s3://conn_id@bucket/key, write to me@h", "s3://conn_id@bucket/key, write to me@h"),
        ("http://h:80/a, me@h and //h:80?", "http://h:80/a, me@h and //h:80?"),
        ("the signature of the token is bad", "the signature of the token is bad"),
    ],
)
def test_query_of_every_url_is_hidden(text: str, shown: str) -> None:
    assert without_queries(text) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a/prices.json", "/a/prices.json"),
        ("prices.json", "prices.json"),
        ("s3://bucket/dt=1/a@b.json", "s3://bucket/dt=1/a@b.json"),
        ("https://user:s3/cret@h/a.json?sig=s3cret#s3cret", "https://***@h/a.json"),
        ("https://s3cret@h/a.json", "https://***@h/a.json"),
        ("/a.json?sig=s3cret-s3cret", "/a.json?..."),
        ("/" + "a" * 999, "/" + "a" * 199 + "..."),
        ("sk-abcdefs3cret", "sk-abcde..."),
        ("eyJhbGciOi.s3cret.s3cret-s3cret", "eyJhbGci..."),
        ("/etc\ns3cret", "/etc\\ns3c..."),
    ],
)
def test_only_a_path_is_shown_as_one(path: str, shown: str) -> None:
    assert shown_path(path) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("s3://conn_id@bucket/dt=1/a:b@c", "s3://conn_id@bucket/dt=1/a:b@c"),
        ("s3://AKIA:s3cret@bucket/x", "s3://***@bucket/x"),
        ("s3://AKIA:a@b/s3 cr\net@bucket/x?sig=s3cret", "s3://***@bucket/x?..."),
        ("s3://AKIA:a?b#s3cret@bucket/x", "s3://***"),
        ("https://h:443/x?to=a@b&s3cret", "https://***"),
    ],
)
def test_a_path_is_shown_without_credentials(path: str, shown: str) -> None:
    assert without_credentials(path) == shown


def test_parts_of_a_paths_credentials_are_hidden() -> None:
    said = "'AKIA:ab' has no key 's3%2Fcret@bucket/x' or 's3/cret' of AKIA:ab/s3%2Fcret"
    assert (
        without_credentials_of("s3://AKIA:ab/s3%2Fcret@bucket/x", said)
        == "'***' has no key '***@bucket/x' or '***' of ***"
    )
    assert without_credentials_of("s3://conn_id@bucket/x", "The conn_id `conn_id` isn't defined") == (
        "The conn_id `conn_id` isn't defined"
    )


def test_urllib3_logs_no_query_inside_quiet_urls(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, POOL)
    pool = logging.getLogger(POOL)
    with quiet_urls(), quiet_urls():
        pool.debug('"%s %s HTTP/1.1" %s', "GET", "/a?Signature=s3cret", 200)
    with quiet_urls():
        pool.debug("GET /b?s3cret")
    pool.debug("GET /somebody?elses=query")
    assert caplog.messages == ['"GET /a?... HTTP/1.1" 200', "GET /b?...", "GET /somebody?elses=query"]


def test_filter_is_installed_once() -> None:
    for _ in range(3):
        with quiet_urls():
            pass
    names = [type(filter_).__name__ for filter_ in logging.getLogger(POOL).filters]
    assert names.count("_HideQuery") == 1
