"""T5's tokenizer from a file of SentencePiece alone."""

from __future__ import annotations

import shutil

import pytest

from i2v.families.t5 import t5_tokenizer
from i2v.messages import UserError
from tests.checkpoints import CORPUS
from tests.ltx_checkpoints import ltx_tokenizer, pieces, write_pieces


def test_both_files_read_alike(tmp_path):
    for name in ("both", "pieces"):
        ltx_tokenizer().save_pretrained(tmp_path / name)
        write_pieces(tmp_path / name / "spiece.model", pieces())
    (tmp_path / "pieces" / "tokenizer.json").unlink()
    one, other = (t5_tokenizer(tmp_path / name) for name in ("both", "pieces"))
    for text in (*CORPUS, "", "  lake \n", "a lakes' \u00e9", "lake " * 300):
        assert (
            one(text, max_length=128, truncation=True).input_ids
            == other(text, max_length=128, truncation=True).input_ids
        )
    assert one("lake").input_ids[-1] == other.eos_token_id == 1


@pytest.mark.parametrize("content", [b"\x0a\x05\x0a", b"\xff\xff", b"\x0b\x01"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(UserError) as refused:
        t5_tokenizer(tmp_path)
    assert refused.value.message.id == "models.tokenizer_broken"
    assert refused.value.message.params["folder"] == str(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    shutil.rmtree(tmp_path, ignore_errors=True)
    with pytest.raises(UserError):
        t5_tokenizer(tmp_path)
