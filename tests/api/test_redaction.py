from __future__ import annotations

import logging
from typing import Any

import pytest

from siliconflow_provider.api.redaction import quiet_urls, without_queries, without_text

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


@pytest.mark.parametrize("key", ["sk-Zm9v7Qx9", "sk-a/b+c", 'sk-"quoted"', "sk-back\\slash"])
def test_a_secret_is_hidden_at_any_depth_of_an_answer(key: str) -> None:
    answer = {"errors": [f"{key} is bad", {"message": {"deep": [key, 7, None]}}], key: True}
    hidden = {"errors": ["*** is bad", {"message": {"deep": ["***", 7, None]}}], "***": True}
    assert without_text(answer, key) == hidden
    harmless = {"id": "batch_1", "errors": ["sk-"]}
    assert without_text(harmless, key) is harmless
    assert without_text(key, key) == "***"


def test_an_answer_that_is_no_json_of_others_is_left_alone() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert without_text(deep, "sk-Zm9v7Qx9") is deep
    assert without_text([2**70], "sk-Zm9v7Qx9") == [2**70]


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
