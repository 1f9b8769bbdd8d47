"""A join token is copied by people: it must survive that, and give nothing away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import BadMessage
from assay.core.token import JoinToken

CA = "ab" * 32


def test_a_token_reads_back_as_it_was_made() -> None:
    token = JoinToken.generate(CA)
    assert JoinToken.parse(str(token)) == token
    assert JoinToken.parse(f"  {token}\n") == token


def test_tokens_differ_and_their_secret_has_128_bits() -> None:
    made = [JoinToken.generate(CA) for _ in range(50)]
    assert len({token.secret for token in made}) == 50
    assert all(len(bytes.fromhex(token.secret)) == 16 for token in made)


def test_the_secret_does_not_show_in_logs() -> None:
    token = JoinToken.generate(CA)
    assert token.secret not in repr(token)
    assert token.secret not in token.secret_sha256


@pytest.mark.parametrize("cut", range(0, 113, 7))
def test_a_token_that_was_cut_short_is_refused(cut: int) -> None:
    text = str(JoinToken.generate(CA))
    with pytest.raises(BadMessage, match="not a whole join token"):
        JoinToken.parse(text[:cut])


@given(st.text(max_size=200))
def test_any_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadMessage):
        JoinToken.parse(text)


@given(st.integers(0, 112), st.characters(codec="utf-8"))
def test_a_mistyped_character_never_passes_unnoticed(place: int, character: str) -> None:
    token = JoinToken.generate(CA)
    text = str(token)
    changed = text[:place] + character + text[place + 1 :]
    try:
        read = JoinToken.parse(changed)
    except BadMessage:
        return
    assert (read == token) == (changed.strip() == text)
