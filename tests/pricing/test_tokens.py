"""Counts of tokens. `benchmarks/tokens.py` writes the real counts of the corpus."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from siliconflow_provider.pricing.tokens import TokenizerError, load_tokenizer, token_hundredths

CORPUS = Path(__file__).parent / "corpus"
REAL_COUNTS: dict[str, int] = json.loads((CORPUS / "counts.json").read_text())


@pytest.mark.parametrize("name", sorted(REAL_COUNTS))
def test_rule_of_thumb_is_close_to_the_tokenizer(name: str) -> None:
    estimated = token_hundredths((CORPUS / name).read_bytes()) / 100
    assert estimated == pytest.approx(REAL_COUNTS[name], rel=0.25)


def test_each_text_of_the_corpus_has_a_count() -> None:
    assert set(REAL_COUNTS) == {path.name for path in CORPUS.glob("*.txt")}


@pytest.mark.parametrize("name", sorted(REAL_COUNTS))
def test_bytes_are_an_upper_bound(name: str) -> None:
    assert REAL_COUNTS[name] < len((CORPUS / name).read_bytes())


def test_each_kind_of_character_has_its_weight() -> None:
    assert token_hundredths("abc XYZ\n12é中😀!".encode()) == 6 * 27 + 2 * 75 + 60 + 65 + 200 + 60


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(TokenizerError, match=r"pip install 'airflow-provider-siliconflow\[tokenizers\]'"):
        load_tokenizer("tokenizer.json")


class SplitsAtSpaces:
    """Has the methods of `tokenizers.Tokenizer` that are used."""

    def __init__(self, text: str) -> None:
        self.calls = [text]

    @classmethod
    def from_file(cls, path: str) -> SplitsAtSpaces:
        return cls(Path(path).read_text())

    def no_truncation(self) -> None:
        self.calls.append("no_truncation")

    def no_padding(self) -> None:
        self.calls.append("no_padding")

    def encode_batch(self, texts: list[str], add_special_tokens: bool) -> list[list[str]]:
        assert self.calls == ["{}", "no_truncation", "no_padding"]
        assert not add_special_tokens
        return [text.split() for text in texts]


def test_a_tokenizer_counts_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = ModuleType("tokenizers")
    monkeypatch.setattr(library, "Tokenizer", SplitsAtSpaces, raising=False)
    monkeypatch.setitem(sys.modules, "tokenizers", library)
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    assert load_tokenizer(path)(["a b", "c d e"]) == 5
    with pytest.raises(TokenizerError, match=r"^cannot read tokenizer /no/t.json \(.*\): give the tokenizer.json of"):
        load_tokenizer("/no/t.json")
    with pytest.raises(TokenizerError, match=r"^cannot read tokenizer https://\*\*\*@h/t.json \("):
        load_tokenizer("https://user:s3cret@h/t.json?sig=s3cret")
