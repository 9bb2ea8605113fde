"""Sentence encoder: an ONNX model and its tokenizer, which turn a text into a vector.

The two files are packed into one file, which is stored next to the artefacts under its digest. An artefact contains
only this digest.
onnxruntime and tokenizers are optional: `pip install platform-assets[encoder]`.
"""

from __future__ import annotations

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

MODEL_FILE = "model.onnx"
"""ONNX graph with the inputs `input_ids` and, optionally, `attention_mask` and `token_type_ids`, int64 (texts, tokens).

The encoder uses the output `last_hidden_state`, or the first output if there is none with this name. The output is
float32 (texts, tokens, width).
"""
TOKENIZER_FILE = "tokenizer.json"
"""Tokenizer in the JSON format of the library `tokenizers`."""
LIBRARIES = ("onnxruntime", "tokenizers")
"""The optional libraries."""
THREADS = min(2, os.cpu_count() or 1)
"""Number of threads of an encoder. Each thread encodes one text at a time."""
CACHED_TEXTS = 16_384
"""Number of vectors that an encoder caches. With 384 numbers per vector, they take 25 MB.

With the cache, training encodes each text once instead of once per fold. If there are more texts than this, some are
encoded several times.
"""
MOST_TOKENS = 256
"""Number of tokens after which a text is truncated if the tokenizer sets no limit."""
_LAST_STATE = "last_hidden_state"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Fixed timestamp of the packed files, so that equal files give equal archives. A zip file cannot store an earlier one.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_OPEN: dict[str, SentenceEncoder] = {}
_OPENING = Lock()


def missing_libraries() -> list[str]:
    """Return the optional libraries that are not installed."""
    return [name for name in LIBRARIES if find_spec(name) is None]


def pack(model: bytes, tokenizer: bytes) -> bytes:
    """Pack an encoder's two files into one zip file and return its bytes. Equal files give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in ((MODEL_FILE, model), (TOKENIZER_FILE, tokenizer)):
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), data)
    return packed.getvalue()


class SentenceEncoder:
    """An encoder in memory. Several threads can use it concurrently.

    Each text is encoded alone. A quantised model scales its activations by the whole batch, so the vector of a text in
    a batch would depend on the other texts. With the 8-bit model all-MiniLM-L6-v2, the vector of a text encoded alone
    and its vector from a batch had a cosine similarity of only 0.99.

    Parameters
    ----------
    packed
        The encoder's files, as `pack` returns them.
    called
        Name of the encoder in error messages.

    Raises
    ------
    ArtefactError
        A library is missing, or a file is damaged or is not part of a sentence encoder.
    """

    def __init__(self, packed: bytes, called: str) -> None:
        if missing := missing_libraries():
            raise ArtefactError(
                f"{called} needs the libraries {' and '.join(missing)}; install platform-assets[encoder]"
            )
        try:
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                model, tokenizer = archive.read(MODEL_FILE), archive.read(TOKENIZER_FILE)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ArtefactError(f"{called} is not a packed sentence encoder: {first_line(error)}") from None
        self._session, self._inputs = _session(model, f"{MODEL_FILE} of {called}")
        self._tokenizer = _tokenizer(tokenizer, f"{TOKENIZER_FILE} of {called}")
        names = [output.name for output in self._session.get_outputs()]
        self._output = _LAST_STATE if _LAST_STATE in names else names[0]
        self._vector = lru_cache(maxsize=CACHED_TEXTS)(self._encoded)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sentence-encoder")
        try:
            self._vector("a")
        except Exception as error:  # noqa: BLE001 - onnxruntime raises any error of a graph
            raise ArtefactError(f"{called} cannot encode a text: {first_line(error)}") from None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, (texts, width) float32: the normalised mean of its token vectors."""
        import numpy as np

        if len(texts) > 1:
            return np.stack(list(self._threads.map(self._vector, texts)))
        return np.array([self._vector(text) for text in texts], dtype=np.float32).reshape(-1, self.width)

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return len(self._vector("a"))

    def _encoded(self, text: str) -> NDArray[np.float32]:
        import numpy as np

        tokens = self._tokenizer.encode(text)
        # Use token 0 if there are no tokens. A tokenizer without special tokens returns none for an empty text, but
        # some graphs need at least one.
        ids = np.array([tokens.ids or [0]], dtype=np.int64)
        given = dict(zip(_INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))
        [states] = self._session.run([self._output], {name: given[name] for name in self._inputs})
        mean = np.asarray(states[0], dtype=np.float32).mean(axis=0)
        vector: NDArray[np.float32] = mean / (np.linalg.norm(mean) or np.float32(1))
        return vector


def open_encoder(digest: str, read: Callable[[str], bytes], called: str) -> SentenceEncoder:
    """Return the encoder with a digest.

    Every call reads and verifies the packed file. Only the first call in a process creates the encoder from it.

    Parameters
    ----------
    digest
        SHA-256 of the packed files, 64 hexadecimal digits.
    read
        Function that takes a digest and returns the packed files. It raises `ArtefactError` if their digest differs.
    called
        Name of the encoder in error messages.

    Raises
    ------
    ArtefactError
        The file is missing or was altered, or `SentenceEncoder` refuses it.
    """
    packed = read(digest)
    with _OPENING:
        if digest not in _OPEN:
            _OPEN[digest] = SentenceEncoder(packed, called)
        return _OPEN[digest]


def opened_encoder(digest: str) -> SentenceEncoder:
    """Return an encoder that `open_encoder` opened in this process.

    Raises
    ------
    ArtefactError
        `open_encoder` has not opened the encoder in this process.
    """
    if digest not in _OPEN:
        raise ArtefactError(
            f"the sentence encoder {digest} is not open in this process; load the model from the platform's artefacts"
        )
    return _OPEN[digest]


def _session(model: bytes, called: str) -> tuple[Any, list[str]]:
    """Return an inference session and the names of its inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime raises many classes for a damaged graph
        raise ArtefactError(f"{called} cannot be read as an ONNX model: {first_line(error)}") from None
    inputs = [one.name for one in session.get_inputs()]
    if "input_ids" not in inputs or not set(inputs) <= set(_INPUTS):
        raise ArtefactError(f"{called} has the inputs {inputs}; it needs input_ids, and may have {list(_INPUTS[1:])}")
    return session, inputs


def _tokenizer(described: bytes, called: str) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(described)
    except Exception as error:  # noqa: BLE001 - tokenizers raises plain `Exception`
        raise ArtefactError(f"{called} cannot be read as a tokenizer: {first_line(error)}") from None
    # Disable padding. Padding tokens would change the mean, and are not needed because each text is encoded alone.
    tokenizer.no_padding()
    if tokenizer.truncation is None:
        tokenizer.enable_truncation(MOST_TOKENS)
    return tokenizer
