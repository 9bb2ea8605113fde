"""A tiny sentence encoder in the format of real encoders: a table of random word vectors, as an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from platform_assets.models.fitted_model import FittedModel

WIDTH = 8
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_FLOAT, _INT64 = 1, 7
_LENGTH_DELIMITED = 2


def tokenizer(words: Sequence[str]) -> bytes:
    """Return a tokenizer that splits at whitespace. Token 0 stands for unknown words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    found = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Pad like published encoders. The padding must not change a vector.
    found.enable_padding(length=32, pad_id=0, pad_token="[UNK]")
    return found.to_str().encode()


def graph(words: int, seed: int = 0, inputs: Sequence[str] = INPUTS) -> bytes:
    """Return an ONNX graph that looks up the vector of each token. The field numbers are from onnx.proto."""
    table = np.random.default_rng(seed).normal(size=(words + 1, WIDTH)).astype(np.float32)
    node = _text(1, "table") + _text(1, "input_ids") + _text(2, "last_hidden_state") + _text(4, "Gather")
    tensor = b"".join(_number(1, size) for size in table.shape)
    tensor += _number(2, _FLOAT) + _text(8, "table") + _message(9, table.tobytes())
    declared = b"".join(_message(11, _value(name, _INT64, 2)) for name in inputs)
    result = _message(12, _value("last_hidden_state", _FLOAT, 3))
    body = _message(1, node) + _text(2, "tiny") + _message(5, tensor) + declared + result
    return _number(1, 8) + _message(7, body) + _message(8, _number(2, 13))


def write(folder: Path, words: Sequence[str], seed: int = 0) -> Path:
    """Write the encoder's two files into a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph(len(words), seed))
    (folder / "tokenizer.json").write_bytes(tokenizer(words))
    return folder


def classifier(digest: str) -> FittedModel:
    """Return a classifier that separates texts about fires from texts about love.

    The encoder must already be open in this process.
    """
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from platform_assets.models.fitted_model import FittedModel, library_versions
    from platform_assets.models.text_estimators import SentenceVectors, TextCleaner

    rows = pd.DataFrame({"text": ["fire", "fire flood", "love", "party love"] * 5}, dtype="str")
    estimator = make_pipeline(TextCleaner(), SentenceVectors(digest), LogisticRegression()).fit(rows, [1, 1, 0, 0] * 5)
    return FittedModel(estimator, ("text",), rows, estimator.predict_proba(rows)[:, 1], library_versions())


def _value(name: str, kind: int, rank: int) -> bytes:
    shape = b"".join(_message(1, _text(2, f"size_{axis}")) for axis in range(rank))
    return _text(1, name) + _message(2, _message(1, _number(1, kind) + _message(2, shape)))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())
