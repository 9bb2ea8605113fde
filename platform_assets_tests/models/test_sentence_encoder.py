"""Sentence encoders: the vectors of texts, models with an encoder, and damaged files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.base.errors import ArtefactError
from platform_assets.models import sentence_encoder
from platform_assets.models.artefact_loader import open_artefact
from platform_assets.models.sentence_encoder import SentenceEncoder, missing_libraries, open_encoder, pack
from platform_assets_tests.models import tiny_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.fitted_model import FittedModel

NEEDED = pytest.mark.skipif(bool(missing_libraries()), reason="needs the extra encoder: make test EXTRAS=encoder")
pytestmark = [NEEDED, pytest.mark.requirement("REL-2")]
WORDS = ("fire", "flood", "love", "party")


@pytest.fixture(autouse=True)
def no_open_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without an open encoder, as in a new process."""
    monkeypatch.setattr(sentence_encoder, "_OPEN", {})


@pytest.fixture(scope="module")
def packed() -> bytes:
    return pack(tiny_encoder.graph(len(WORDS)), tiny_encoder.tokenizer(WORDS))


@pytest.fixture
def encoder(packed: bytes) -> SentenceEncoder:
    return SentenceEncoder(packed, "the encoder")


def table() -> Any:
    """Return the vectors of the tiny encoder's words; row 0 stands for an unknown word."""
    return np.random.default_rng(0).normal(size=(len(WORDS) + 1, tiny_encoder.WIDTH)).astype(np.float32)


def test_a_vector_is_the_normalised_mean_of_the_token_vectors_without_padding(encoder: SentenceEncoder) -> None:
    found = encoder.encode(["fire love", "flood song flood", ""])
    means = [table()[[1, 3]].mean(axis=0), table()[[2, 0, 2]].mean(axis=0), table()[0]]
    expected = np.array([mean / np.linalg.norm(mean) for mean in means])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    assert encoder.encode([]).shape == (0, tiny_encoder.WIDTH)


def test_a_text_has_the_same_vector_alone_and_with_other_texts(encoder: SentenceEncoder) -> None:
    texts = [f"{one} {other}" for one in WORDS for other in WORDS]
    together = encoder.encode(texts)
    np.testing.assert_array_equal(together, np.vstack([encoder.encode([text]) for text in texts]))


def test_the_vector_of_a_text_is_cached(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    session = encoder._session

    class Counted:
        def run(self, *arguments: Any) -> Any:
            runs.append(arguments)
            return session.run(*arguments)

    monkeypatch.setattr(encoder, "_session", Counted())
    encoder.encode(["fire", "flood"])
    encoder.encode(["flood", "fire", "love"])
    assert len(runs) == 3


def test_an_encoder_without_the_optional_inputs_is_accepted() -> None:
    graph = tiny_encoder.graph(len(WORDS), inputs=("input_ids",))
    assert SentenceEncoder(pack(graph, tiny_encoder.tokenizer(WORDS)), "it").encode(["fire"]).shape == (1, 8)


def test_equal_files_are_packed_into_equal_bytes(packed: bytes) -> None:
    assert pack(tiny_encoder.graph(len(WORDS)), tiny_encoder.tokenizer(WORDS)) == packed


@pytest.mark.parametrize(
    ("model", "tokenizer", "told"),
    [
        (b"no graph", None, r"model.onnx of the encoder cannot be read as an ONNX model"),
        (tiny_encoder.graph(4)[:-40], None, r"model.onnx of the encoder cannot be read as an ONNX model"),
        (
            tiny_encoder.graph(4, inputs=("input_ids", "pixels")),
            None,
            r"has the inputs \['input_ids', 'pixels'\]; it needs input_ids, and may have \['attention_mask', 'token",
        ),
        (None, b"{}", r"tokenizer.json of the encoder cannot be read as a tokenizer"),
        (tiny_encoder.graph(0), None, "the encoder cannot encode a text"),
    ],
    ids=["no model", "cut off", "unknown input", "no tokenizer", "fewer words than the tokenizer"],
)
def test_the_error_names_the_invalid_file(model: bytes | None, tokenizer: bytes | None, told: str) -> None:
    whole = tiny_encoder.graph(len(WORDS)), tiny_encoder.tokenizer(["a", *WORDS])
    with pytest.raises(ArtefactError, match=told):
        SentenceEncoder(pack(model or whole[0], tokenizer or whole[1]), "the encoder")


def test_bytes_that_are_not_a_packed_encoder_are_refused() -> None:
    with pytest.raises(ArtefactError, match="the encoder is not a packed sentence encoder"):
        SentenceEncoder(b"PK and more", "the encoder")


def test_the_error_for_missing_libraries_names_the_extra(packed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_encoder, "find_spec", lambda _: None)
    with pytest.raises(
        ArtefactError, match=r"needs the libraries onnxruntime and tokenizers; install platform-assets\[encoder\]"
    ):
        SentenceEncoder(packed, "the encoder")


# Models with an encoder


@pytest.fixture
def digest(local: ArtefactStore, packed: bytes) -> str:
    return local.add_encoder(packed)


@pytest.fixture
def model(local: ArtefactStore, digest: str) -> FittedModel:
    open_encoder(digest, local.read_encoder, "the encoder")
    return tiny_encoder.classifier(digest)


@pytest.mark.requirement("PRO-1")
def test_a_model_finds_its_encoder_next_to_its_artefact(
    local: ArtefactStore, model: FittedModel, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = local.save(model)
    assert digest.encode() in local_schema(local, saved)
    monkeypatch.setattr(sentence_encoder, "_OPEN", {})
    np.testing.assert_array_equal(local.load(saved).scores([{"text": "fire"}]), model.scores([{"text": "fire"}]))
    assert local.digests() == [saved]


def local_schema(store: ArtefactStore, digest: str) -> bytes:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(store.read(digest))) as archive:
        return archive.read("schema.json")


def test_the_error_for_an_altered_or_missing_encoder_names_its_file(
    local: ArtefactStore, model: FittedModel, digest: str, packed: bytes, folder: Path
) -> None:
    saved, file = local.save(model), folder / f"{digest}.encoder"
    file.write_bytes(pack(tiny_encoder.graph(len(WORDS), seed=1), tiny_encoder.tokenizer(WORDS)))
    # The model is refused, although the unaltered encoder is still open in this process.
    with pytest.raises(ArtefactError, match=f"the sentence encoder's file {digest}.encoder in .* was altered"):
        local.load(saved)
    # Adding the encoder again, as the next training run does, replaces the altered file.
    assert local.add_encoder(packed) == digest
    assert local.load(saved).features == ("text",)
    file.unlink()
    with pytest.raises(ArtefactError, match=f"the sentence encoder's file {digest}.encoder in .* is missing"):
        local.load(saved)


def test_a_model_with_an_encoder_cannot_be_opened_from_the_model_file_alone(
    local: ArtefactStore, model: FittedModel
) -> None:
    data = local.read(local.save(model))
    with pytest.raises(ArtefactError, match="the sentence encoder .* is not part of the model file"):
        open_artefact(data, "it")
