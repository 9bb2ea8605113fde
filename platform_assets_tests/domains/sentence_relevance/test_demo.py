"""The sample archive is reproducible, resembles the real archive, and contains a learnable signal."""

from __future__ import annotations

import gzip
import io
import sqlite3
import tarfile
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.base.text_cleaning import clean
from platform_assets.domains.sentence_relevance.demo import MEMBER, TOPICS, generate
from platform_assets.domains.sentence_relevance.features import counts, label
from platform_assets.domains.sentence_relevance.schemas import LABELS
from platform_assets.landing.archives import Unpacking

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.base.frames import Frame

ROWS = 6_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("demo") / "sentences.tar.gz", ROWS)


def rows_of(archive: Path, folder: Path) -> list[tuple[Any, ...]]:
    file = Unpacking(1 << 26, "").unpack(archive, folder, "the demo")
    with closing(sqlite3.connect(file)) as database:
        database.text_factory = bytes
        return database.execute('SELECT "index", text, choose_one, class_label FROM data NOT INDEXED').fetchall()


@pytest.fixture(scope="module")
def rows(path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    return rows_of(path, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="module")
def good(rows: list[tuple[Any, ...]]) -> Frame:
    import pandas as pd

    found = pd.DataFrame(rows, columns=["index", "text", "choose_one", "class_label"]).dropna()
    found = found.drop_duplicates("index", keep=False).astype({"index": int})
    found["choose_one"] = found["choose_one"].str.decode("utf-8")
    found["text"] = found["text"].str.decode("utf-8", errors="ignore")
    return found[found["choose_one"].map(LABELS).eq(found["class_label"])]


def test_the_same_number_of_rows_and_seed_give_the_same_file(tmp_path: Path, path: Path) -> None:
    assert generate(tmp_path / "again.tar.gz", ROWS).read_bytes() == path.read_bytes()
    assert generate(tmp_path / "other.tar.gz", ROWS, seed=1).read_bytes() != path.read_bytes()


@pytest.mark.requirement("REL-1")
def test_the_sample_is_packed_in_the_same_way_as_the_real_archive(path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes()))) as archive:
        [member] = archive.getmembers()
        packed = archive.extractfile(member)
        assert packed is not None
        lines = packed.read().splitlines()
    assert member.name == MEMBER
    assert MEMBER.count("/") == 3
    assert {len(line) for line in lines[:-1]} == {76}


@pytest.mark.parametrize("rows", [1, 2, 100, 1_200])
def test_an_archive_has_the_requested_number_of_rows(tmp_path: Path, rows: int) -> None:
    archive = generate(tmp_path / "new folder" / "sentences.tar.gz", rows)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    assert len(rows_of(archive, tmp_path)) == rows


def test_zero_rows_are_rejected_and_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 is needed"):
        generate(tmp_path / "sentences.tar.gz", 0)
    (tmp_path / "sentences.tar.gz").mkdir()
    with pytest.raises(IsADirectoryError):
        generate(tmp_path / "sentences.tar.gz", 100)
    assert [entry.name for entry in tmp_path.iterdir()] == ["sentences.tar.gz"]


@pytest.mark.requirement("PLT-6")
def test_one_row_in_two_hundred_is_bad_and_each_kind_of_error_occurs(rows: list[tuple[Any, ...]]) -> None:
    numbers = {name.encode(): number for name, number in LABELS.items()}
    found = {
        "no text": sum(not text.strip() for _, text, *_ in rows),
        "unknown label": sum(chosen == b"Maybe" for _, _, chosen, _ in rows),
        "contradiction": sum(numbers.get(chosen, number) != number for *_, chosen, number in rows),
        "no number": sum(index is None for index, *_ in rows),
        "a number twice": sum(
            count - 1 for index, count in Counter(row[0] for row in rows).items() if index is not None
        ),
        "no text but bytes": sum(b"\xff" in text for _, text, *_ in rows),
    }
    assert found == dict.fromkeys(found, 5)


@pytest.mark.requirement("REL-2")
def test_the_sample_has_the_irregularities_of_the_real_archive(good: Frame) -> None:
    told = counts(label(good))
    assert 0.35 < (good["choose_one"] == "Relevant").mean() < 0.5
    assert 5 <= told["set_aside_undecided"] <= 10
    assert 0.04 < told["set_aside_repeat"] / ROWS < 0.07
    assert 0.005 < told["set_aside_conflicting_labels"] / ROWS < 0.03
    assert 0.07 < told["rows_in_these_groups"] / ROWS < 0.15
    texts = good["text"].map(clean)
    assert (texts != good["text"].str.strip()).mean() > 0.2
    assert good["text"].str.contains("\n").any()
    topics = TOPICS.split()
    order = [topics.index(word) for text in texts for word in text.split() if word in topics]
    assert len(order) > 0.95 * len(texts)
    assert order == sorted(order)


@pytest.mark.requirement("REL-2")
def test_the_sample_is_about_as_hard_to_learn_as_the_real_archive(good: Frame) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    learned = label(good)
    learned = learned[learned["set_aside"].isna()]
    labels = learned["relevant"].astype(int)
    model = make_pipeline(TfidfVectorizer(preprocessor=clean, token_pattern=r"\S+"), LogisticRegression(C=2))
    found = cross_val_predict(model, learned["text"], labels, groups=learned["near_duplicates"], cv=GroupKFold(4))
    assert 0.7 < f1_score(labels, found) < 0.85
