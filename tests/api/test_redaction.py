from __future__ import annotations

import logging

import pytest

from siliconflow_provider.api.redaction import quiet_urls, without_queries

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
    ],
)
def test_the_query_of_every_url_is_hidden(text: str, shown: str) -> None:
    assert without_queries(text) == shown


def test_the_pool_logs_no_query_meanwhile_and_again_does_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, POOL)
    pool = logging.getLogger(POOL)
    with quiet_urls(), quiet_urls():
        pool.debug('"%s %s HTTP/1.1" %s', "GET", "/a?Signature=s3cret", 200)
    with quiet_urls():
        pool.debug("GET /b?s3cret")
    pool.debug("GET /somebody?elses=query")
    assert caplog.messages == ['"GET /a?... HTTP/1.1" 200', "GET /b?...", "GET /somebody?elses=query"]


def test_the_filter_is_installed_once() -> None:
    for _ in range(3):
        with quiet_urls():
            pass
    names = [type(each).__name__ for each in logging.getLogger(POOL).filters]
    assert names.count("_HideQuery") == 1
