"""A model comes back from its file as it was stored, or it does not come back."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import re
import threading
import timeit
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from platform_assets.base.errors import ArtefactError
from platform_assets.models import artefacts
from platform_assets.models.artefacts import (
    GOLDEN_ROWS,
    ArtefactStore,
    FittedModel,
    dump,
    library_versions,
)
from platform_assets.models.calibration import CalibratedEstimator, raw_scores
from platform_assets.models.number_estimators import NumberColumns
from platform_assets.serving.live_models import LiveModel
from platform_assets_tests.object_store import SECRET, ObjectStore, running_object_store
from platform_assets_tests.requirements import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NUMBERS = ("amount", "age")
ABSENT = "0" * 64


@cache
def training_rows() -> pd.DataFrame:
    """Three hundred rows of every kind of column that models are trained on, nulls included."""
    random = np.random.default_rng(7)
    amount = random.normal(size=300)
    rows = pd.DataFrame(
        {
            "amount": amount,
            "age": random.normal(size=300),
            "children": pd.array(random.integers(0, 5, 300), dtype="Int64"),
            "house": random.choice(np.array(["own", "rent", None], dtype=object), 300),
            "has_car": amount + random.normal(size=300) > 0,
            "words": random.choice(["late payment", "new client", "late client"], 300),
        }
    )
    rows["income"] = rows["amount"].mask(rows.index % 7 == 0)
    rows.loc[::11, "children"] = pd.NA
    return rows


def labels() -> np.ndarray[Any, Any]:
    return (training_rows()["amount"] + training_rows()["has_car"] > 0.5).to_numpy()


def fitted(estimator: Any, features: Sequence[str] = NUMBERS) -> FittedModel:
    """A model with golden rows whose scores are its own."""
    rows = training_rows()[list(features)]
    estimator.fit(rows, labels())
    golden = rows.head(GOLDEN_ROWS)
    model = FittedModel(estimator, tuple(features), golden, np.zeros(len(golden)), library_versions())
    return dataclasses.replace(model, golden_scores=model.scores(golden))


@cache
def a_model() -> FittedModel:
    return fitted(LogisticRegression())


def mixed() -> Any:
    """A pipeline over columns of every kind."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["income", "children"]),
            ("names", OneHotEncoder(handle_unknown="ignore"), ["house"]),
            ("rest", "passthrough", ["has_car"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression())


def text() -> Any:
    words = FeatureUnion(
        [("words", TfidfVectorizer(ngram_range=(1, 2))), ("parts", TfidfVectorizer(analyzer="char_wb"))]
    )
    return make_pipeline(ColumnTransformer([("text", words, "words")]), ComplementNB())


def gaussian(kernel: Any) -> Any:
    return GaussianProcessClassifier(kernel, optimizer=None, random_state=0)


# Every family that a model of the platform may be chosen from.
FAMILIES: Mapping[str, tuple[Callable[[], Any], Sequence[str]]] = {
    "pipeline": (mixed, ("income", "children", "house", "has_car")),
    "text": (text, ("words",)),
    "logistic": (LogisticRegression, NUMBERS),
    "forest": (lambda: RandomForestClassifier(10, random_state=0), NUMBERS),
    "extra_trees": (lambda: ExtraTreesClassifier(10, random_state=0), NUMBERS),
    "tree": (lambda: DecisionTreeClassifier(random_state=0), NUMBERS),
    "histograms": (lambda: HistGradientBoostingClassifier(max_iter=10, random_state=0), ("income", "age")),
    "boosting": (lambda: GradientBoostingClassifier(n_estimators=5, random_state=0), NUMBERS),
    "gaussian_rbf": (lambda: gaussian(ConstantKernel() * RBF() + WhiteKernel()), NUMBERS),
    "gaussian_matern": (lambda: gaussian(Matern(nu=1.5)), NUMBERS),
    "neighbours": (KNeighborsClassifier, NUMBERS),
    "nystroem": (lambda: make_pipeline(Nystroem(n_components=20, random_state=0), LogisticRegression()), NUMBERS),
}


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtefactStore:
    if request.param == "folder":
        return ArtefactStore(str(tmp_path / "lake"))
    server: ObjectStore = request.getfixturevalue("object_store")
    return ArtefactStore(server.lake(), server.options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "models"


@pytest.fixture
def local(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(str(tmp_path / "lake"))


# What comes back


@pytest.mark.requirement("PRO-1", "PLT-7")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_estimators_comes_back_with_equal_scores(local: ArtefactStore, family: str) -> None:
    estimator, features = FAMILIES[family]
    model = fitted(estimator(), features)
    loaded = local.load(local.save(model))
    rows = training_rows()
    np.testing.assert_array_equal(loaded.scores(rows), model.scores(rows))
    assert 0 <= loaded.scores(rows).min() < loaded.scores(rows).max() <= 1
    assert loaded.features == tuple(features)
    assert loaded.libraries == library_versions()
    pd.testing.assert_frame_equal(loaded.golden_rows, model.golden_rows)
    np.testing.assert_array_equal(loaded.golden_scores, model.golden_scores)


@pytest.mark.parametrize("estimator", [SVC(random_state=0), RandomForestClassifier(5, random_state=0)])
@pytest.mark.parametrize(("slope", "intercept"), [(2.5, -1.0), (0.0, -1.0)])
def test_a_calibrated_estimator_comes_back_and_keeps_the_order(
    local: ArtefactStore, estimator: Any, slope: float, intercept: float
) -> None:
    rows = training_rows()[list(NUMBERS)]
    raw = raw_scores(estimator.fit(rows, labels()), rows)
    calibrated = CalibratedEstimator(estimator, slope, intercept)
    golden = rows.head(GOLDEN_ROWS)
    model = FittedModel(calibrated, NUMBERS, golden, calibrated.predict_proba(golden)[:, 1], library_versions())
    scores = local.load(local.save(model)).scores(rows)
    np.testing.assert_array_equal(scores, calibrated.predict_proba(rows)[:, 1])
    assert (np.diff(scores[np.argsort(raw, kind="stable")]) >= 0).all()


def test_what_cannot_be_scored_is_told() -> None:
    model = fitted(text(), ["words"])
    for words in (None, float("nan")):
        with pytest.raises(ArtefactError, match="the model cannot score these rows"):
            model.scores(pd.DataFrame({"words": ["a", words]}))
    with pytest.raises(ArtefactError, match="a value does not fit its feature's type"):
        a_model().scores(pd.DataFrame({"amount": ["much"], "age": [1]}))


class Counting(LogisticRegression):  # type: ignore[misc]
    """Says what it is asked, and how many rows of what type."""

    feature_names_in_ = np.array(NUMBERS)

    def predict_proba(self, X: pd.DataFrame) -> Any:  # noqa: N803 - scikit-learn's name
        self.asked_ = X
        X.iloc[0, 0] = 99.0
        return np.column_stack([X["amount"], X["age"]])


COLUMNS: Mapping[str, pd.Series[Any]] = {
    "floats": pd.Series([1.5, None, -0.0, 1e300, float("inf")]),
    "single": pd.Series([0.1, None], dtype="float32"),
    "whole": pd.Series([2**62 + 1, -1]),
    "small": pd.Series([1, 255], dtype="uint8"),
    "whole_with_nulls": pd.Series([2**62 + 1, None, -1], dtype="Int64"),
    "no_whole": pd.Series([None, None], dtype="Int64"),
    "masked_floats": pd.Series([0.5, None], dtype="Float64"),
    "masked_booleans": pd.Series([True, None], dtype="boolean"),
    "booleans": pd.Series([True, False]),
    "strings": pd.Series(["a", None, "", "Ünï\nc😀de\0"]),
    "nullable_strings": pd.Series(["a", None], dtype="string"),
    "no_strings": pd.Series([None, None], dtype="str"),
    "objects": pd.Series(["a", None, True, 0.5], dtype=object),
}


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("kind", COLUMNS)
def test_golden_rows_come_back_exactly(kind: str) -> None:
    column = COLUMNS[kind].rename("x")
    stored = skops.io.loads(skops.io.dumps([artefacts._column("x", column)]), trusted=["numpy.dtype"])
    pd.testing.assert_frame_equal(artefacts._frame(stored), column.to_frame(), check_exact=True)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), st.lists(st.none() | st.text()))
def test_any_nullable_column_comes_back_exactly(numbers: list[int | None], texts: list[str | None]) -> None:
    for column in (pd.Series(numbers, dtype="Int64"), pd.Series(texts, dtype="str")):
        (back,) = (artefacts._frame([artefacts._column("x", column)])[name] for name in ["x"])
        pd.testing.assert_series_equal(back, column.rename("x"), check_exact=True)


@pytest.mark.parametrize(
    "column", [pd.Series(pd.to_datetime(["2020-01-01"])), pd.Series(["a"], dtype="category"), pd.Series([[1]])]
)
def test_a_column_that_could_not_come_back_is_refused(local: ArtefactStore, column: pd.Series[Any]) -> None:
    golden = a_model().golden_rows.head(1).assign(age=column)
    with pytest.raises(ArtefactError, match=re.escape(f"column age of the golden rows is of type {column.dtype}")):
        local.save(dataclasses.replace(a_model(), golden_rows=golden))
    assert local.digests() == []


# Scores


def test_columns_are_bound_by_name() -> None:
    rows = training_rows()
    expected = a_model().scores(rows)
    turned = rows[["age", "words", "amount"]]
    np.testing.assert_array_equal(a_model().scores(turned), expected)
    assert expected.dtype == np.float64
    assert expected.shape == (300,)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ArtefactError, match=r"the columns \['age'\] are missing; the model needs \['amount', 'age'\]"):
        a_model().scores(training_rows()[["amount", "words"]])


def linear_steps() -> list[Any]:
    return [SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression()]


@cache
def model_of(kind: str) -> FittedModel:
    if kind == "numbers":
        numbers = make_pipeline(*linear_steps())
        return fitted(numbers, ("income", "amount", "age"))
    if kind == "matrix":
        return fitted(make_pipeline(NumberColumns(), *linear_steps()), ("income", "amount", "age"))
    return fitted(text(), ("words",)) if kind == "text" else fitted(mixed(), ("income", "children", "house", "has_car"))


@pytest.mark.requirement("CRE-5")
@pytest.mark.parametrize("kind", ["numbers", "matrix", "text", "mixed"])
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_rows_of_a_service_give_the_vectors_and_scores_of_a_table_bit_for_bit(kind: str, count: int) -> None:
    model = model_of(kind)
    table = training_rows().head(count)
    plain = table.astype(object).where(table.notna(), None)
    rows = [dict(row) for _, row in plain.iterrows()]
    of_table, of_rows = model.vectors(table), model.vectors(rows)
    assert type(of_table) is type(of_rows) is (np.ndarray if kind == "matrix" else pd.DataFrame)
    pd.testing.assert_frame_equal(pd.DataFrame(of_table), pd.DataFrame(of_rows), check_exact=True)
    assert np.asarray(of_rows).flags.f_contiguous == np.asarray(of_table).flags.f_contiguous
    assert model.scores(rows).tobytes() == model.scores(table).tobytes()


def test_numbers_of_a_service_may_come_in_any_form() -> None:
    model = model_of("numbers")
    forms = [1, 1.0, True, np.int8(1), np.float32(1)]
    rows = [{"income": None, "amount": one, "age": 2**53 + 1, "more": "ignored"} for one in forms]
    vectors = model.vectors(rows)
    assert isinstance(vectors, pd.DataFrame)
    assert vectors.to_numpy().tolist() == [[pytest.approx(float("nan"), nan_ok=True), 1.0, 2.0**53]] * 5
    assert list(vectors.columns) == ["income", "amount", "age"]


def test_names_that_are_bound_once_change_no_score() -> None:
    rows = training_rows()
    assert model_of("matrix").scores(rows).tolist() == model_of("numbers").scores(rows).tolist()
    turned = rows[["age", "amount", "income"]]
    assert model_of("matrix").scores(turned).tolist() == model_of("numbers").scores(rows).tolist()


@pytest.mark.parametrize("kind", ["numbers", "matrix", "mixed"])
def test_a_missing_feature_of_a_row_is_named(kind: str) -> None:
    whole = {"income": 1.0, "amount": 1.0, "age": 1.0, "children": 1, "house": "own", "has_car": True}
    without = {name: value for name, value in whole.items() if name != "income"}
    with pytest.raises(ArtefactError, match=r"the columns \['income'\] are missing; the model needs \['income', "):
        model_of(kind).scores([whole, without])


@pytest.mark.parametrize("strange", ["much", 10**400, pd.NA, [1.0], {}, b"x", float("inf"), pd.Timestamp(0), 1j])
def test_a_value_that_is_no_number_is_refused(strange: Any) -> None:
    with pytest.raises(ArtefactError, match=r"a value does not fit its feature's type|cannot score these rows"):
        a_model().scores([{"amount": strange, "age": 1.0}])


def test_a_single_row_costs_less_than_it_is_scored_in() -> None:
    model = model_of("numbers")
    row = {"income": 1.0, "amount": None, "age": 3}

    def seconds(work: Callable[[], object]) -> float:
        return min(timeit.repeat(work, number=5, repeat=20))

    assert seconds(lambda: model.vectors([row])) < seconds(lambda: model.estimator.predict_proba(model.golden_rows)) / 4


def test_an_estimator_that_writes_into_its_input_does_not_reach_the_frame() -> None:
    rows = training_rows().head(3).copy()
    before = rows.copy()
    model = dataclasses.replace(a_model(), estimator=Counting())
    assert model.scores(rows).tolist() == rows["age"].tolist()
    assert list(model.estimator.asked_.columns) == ["amount", "age"]
    pd.testing.assert_frame_equal(rows, before)


class Looking:
    """Its scores are whether scikit-learn's steps look for missing and infinite numbers."""

    def predict_proba(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        return np.full((len(X), 2), float(not sklearn.get_config()["assume_finite"]))


@pytest.mark.parametrize(("amount", "looks"), [(1.0, 0.0), (None, 1.0), (float("inf"), 1.0), (1e39, 1.0)])
def test_numbers_are_looked_through_once_and_by_every_step_if_some_are_not_finite(
    amount: float | None, looks: float
) -> None:
    model = dataclasses.replace(a_model(), estimator=Looking())
    assert model.scores([{"amount": amount, "age": 2.0}]).tolist() == [looks]
    assert not sklearn.get_config()["assume_finite"]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("strange", [1e39, -1e39])
def test_a_number_that_becomes_infinite_on_its_way_is_refused_whoever_else_is_asked_for(strange: float) -> None:
    rows = training_rows()[list(NUMBERS)]
    forest = make_pipeline(NumberColumns(), RandomForestClassifier(5, random_state=0)).fit(rows, labels())
    model = dataclasses.replace(a_model(), estimator=forest)
    for others in ([], [{"amount": None, "age": 1.0}]):
        with pytest.raises(ArtefactError, match="the model cannot score these rows: ValueError"):
            model.scores([{"amount": strange, "age": 2.0}, *others])


def test_features_in_another_order_than_the_model_learned_are_refused() -> None:
    learned = make_pipeline(NumberColumns(), LogisticRegression()).fit(training_rows()[["amount", "age"]], labels())
    model = FittedModel(learned, ("age", "amount"), training_rows()[["age", "amount"]], np.zeros(300), {})
    with pytest.raises(ArtefactError, match=r"the columns have to be \['amount', 'age'\], in this order"):
        model.scores([{"amount": 1.0, "age": 2.0}])


class Threads:
    """Its scores are the threads that libraries may use; OpenMP's alone, for BLAS obeys one thread of a process."""

    def predict_proba(self, X: pd.DataFrame) -> Any:  # noqa: N803 - scikit-learn's name
        import threadpoolctl

        of_openmp = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp"]
        return np.full((len(X), 2), max(of_openmp))


def test_scoring_takes_one_thread() -> None:
    model = dataclasses.replace(a_model(), estimator=Threads())
    with threadpool_limits(2):
        assert model.scores(training_rows().head(1)).tolist() == [1]


def test_a_live_model_takes_one_thread_whoever_asks() -> None:
    model = dataclasses.replace(a_model(), estimator=Threads())
    live = LiveModel("risk", 1, ABSENT, 0.5, 1, {}, demo=True, model=model, loaded_at=datetime.now(UTC))
    with threadpool_limits(2), ThreadPoolExecutor(1) as threads:
        assert threads.submit(live.scores, [{"amount": 1.0, "age": 2.0}]).result().tolist() == [1]


# The store


@pytest.mark.requirement("PRO-1")
def test_a_model_is_stored_once_under_its_digest(store: ArtefactStore) -> None:
    assert store.digests() == []
    digest = store.save(a_model())
    data = store.read(digest)
    assert hashlib.sha256(data).hexdigest() == digest
    assert store.exists(digest)
    assert not store.exists(ABSENT)
    assert store.size(digest) == len(data)
    other = store.add(dump(fitted(DecisionTreeClassifier(random_state=0))))
    assert store.digests() == sorted([digest, other])
    np.testing.assert_array_equal(store.load(digest).golden_scores, a_model().golden_scores)
    assert store.add(data) == digest
    assert len(store.digests()) == 2


def test_the_file_lies_where_the_page_says(local: ArtefactStore, folder: Path) -> None:
    digest = local.save(a_model())
    assert [path.name for path in folder.iterdir()] == [f"{digest}.skops"]
    written = (folder / f"{digest}.skops").stat()
    local.add(local.read(digest))
    again = (folder / f"{digest}.skops").stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert ArtefactStore(f"file://{folder.parent}").digests() == [digest]


def test_writers_of_the_same_bytes_do_not_disturb_each_other(store: ArtefactStore) -> None:
    data = dump(a_model())
    together, found, errors = threading.Barrier(6), [], []

    def write() -> None:
        together.wait()
        try:
            found.append(store.add(data))
            store.load(found[-1])
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(found) == set(store.digests()) == {hashlib.sha256(data).hexdigest()}


def test_a_half_written_file_is_no_model(local: ArtefactStore, folder: Path) -> None:
    data = dump(a_model())
    digest = hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True)
    (folder / f".{digest}.skops.0123").write_bytes(data[:100])
    assert local.digests() == []
    assert not local.exists(digest)
    assert local.add(data) == digest
    assert local.digests() == [digest]


def test_a_folder_that_cannot_be_written_is_told(local: ArtefactStore, folder: Path) -> None:
    folder.parent.write_text("a file where the lake should be")
    with pytest.raises(ArtefactError, match=f"was not stored, in {folder}"):
        local.save(a_model())


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", ABSENT[1:], ABSENT.upper().replace("0", "A")])
def test_what_is_no_digest_is_no_path(local: ArtefactStore, digest: str) -> None:
    for ask in (local.load, local.read, local.exists, local.size):
        with pytest.raises(ArtefactError, match="is no digest of a model"):
            ask(digest)


@pytest.mark.requirement("PLT-8")
def test_an_object_store_that_cannot_be_used_is_told_without_secrets(object_store: ObjectStore) -> None:
    nowhere = ArtefactStore("s3://never-made/lake", object_store.options)
    with pytest.raises(
        ArtefactError, match="cannot be looked for, in s3://never-made/lake/models: .*NoSuchB"
    ) as caught:
        nowhere.save(a_model())
    assert SECRET not in str(caught.value)
    lake = object_store.lake()
    with (
        running_object_store(behind=object_store.endpoint, refused=".skops") as bad_line,
        pytest.raises(ArtefactError, match=f"was not stored, in {lake}/models: .*AccessDenied"),
    ):
        ArtefactStore(lake, bad_line.options).save(a_model())
    assert ArtefactStore(lake, object_store.options).digests() == []


# What is refused


def test_a_missing_file_is_told(store: ArtefactStore) -> None:
    for ask in (store.load, store.read, store.size):
        with pytest.raises(ArtefactError, match=f"{ABSENT}.skops in .*/models is not there; .*train the model again"):
            ask(ABSENT)


@pytest.mark.requirement("PRO-1")
@pytest.mark.parametrize("change", ["one byte", "cut off", "emptied", "longer"])
def test_an_altered_file_is_refused(local: ArtefactStore, folder: Path, change: str) -> None:
    digest = local.save(a_model())
    path = folder / f"{digest}.skops"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 1
    changed = {"one byte": bytes(data), "cut off": bytes(data[:middle]), "emptied": b"", "longer": bytes(data) + b"\0"}[
        change
    ]
    path.write_bytes(changed)
    with pytest.raises(ArtefactError, match=f"{digest}.skops in {folder} was altered: .*train the model again"):
        local.load(digest)


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.mark.requirement("PRO-1")
def test_a_pickle_is_never_opened(local: ArtefactStore, tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    data = pickle.dumps(Bomb(trace))
    digest = local.add(data)
    with pytest.raises(ArtefactError, match="is no skops file: a pickle or something else is in its place"):
        local.load(digest)
    assert not trace.exists()
    pickle.loads(data).close()
    assert trace.exists()


def packed(**files: str) -> bytes:
    with zipfile.ZipFile(packing := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_json", ".json"), content)
    return packing.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no skops file"),
        (b"PK\x03\x04 and more", "is no skops file"),
        (packed(other="x"), "is no skops file"),
        (packed(schema_json="not JSON"), "is no skops file"),
        (packed(schema_json="[]"), "is no skops file"),
        (packed(schema_json="{}"), "cannot be read by skops"),
        (packed(schema_json=json.dumps({"protocol": 999})), "cannot be read by skops"),
        (skops.io.dumps([1]), "holds no model of the platform"),
        (skops.io.dumps({"estimator": None}), "holds no model of the platform"),
    ],
)
def test_something_else_in_its_place_is_refused(local: ArtefactStore, data: bytes, said: str) -> None:
    with pytest.raises(ArtefactError, match=f"{said}.*train the model again"):
        local.load(local.add(data))


def shout(values: Any) -> Any:
    return values


@pytest.mark.requirement("PRO-1")
def test_types_of_others_are_refused_by_name(local: ArtefactStore) -> None:
    model = fitted(make_pipeline(FunctionTransformer(shout), LogisticRegression()))
    said = r"holds types that the platform does not trust: \['.*test_artefacts.shout'\]; build the model without them"
    with pytest.raises(ArtefactError, match=f"the fitted model cannot be stored: it {said}"):
        local.save(model)
    assert local.digests() == []
    digest = local.add(dump(model))
    with pytest.raises(ArtefactError, match=said):
        local.load(digest)


OLD_CREDIT_MODEL = "9b6d3f646ee520c9f3b4eace0b83eee16ffabcda89fd1521c53aec99ab6961f4"
"""Trained on sample data by the version that named its classes `platform_assets.core.*`."""
FEATURES = ("nb_previous_loans", "avg_amount_loans_previous", "age", "years_on_the_job", "flag_own_car")


@pytest.mark.requirement("PLT-14")
def test_an_artefact_that_names_classes_by_their_old_paths_gives_its_old_scores() -> None:
    model = ArtefactStore(str(Path(__file__).with_name("artefacts"))).load(OLD_CREDIT_MODEL)
    clients = [(0, None, 31, 4, 0), (14, 123.25, 38, 9, 1), (3, 90.5, 64, None, 0)]
    scores = model.scores([dict(zip(FEATURES, client, strict=True)) for client in clients])
    assert scores.tolist() == [0.1853093956374852, 0.026230096599734274, 0.03262724071153192]


@pytest.mark.requirement("PLT-14")
def test_the_model_in_the_image_gives_its_old_scores() -> None:
    store = ArtefactStore(str(ROOT / "docker" / "sentence_relevance"))
    (digest,) = store.digests()
    scores = store.load(digest).scores(
        [{"text": "Forest fire near La Ronge Sask. Canada"}, {"text": "My new song is fire"}]
    )
    assert scores.tolist() == [0.2178399528444317, 0.01090234889264887]


def test_a_class_that_artefacts_name_stands_in_a_stable_module() -> None:
    ours = {name for name in artefacts.TRUSTED_TYPES if name.startswith("platform_assets.")}
    assert set(artefacts.MOVED.values()) <= ours
    assert not ours & artefacts.MOVED.keys()
    assert {name.rpartition(".")[0] for name in ours} == set(artefacts.STABLE_MODULES)


def test_the_trusted_types_are_data_and_estimators() -> None:
    for name in artefacts.TRUSTED_TYPES:
        module, _, kind = name.rpartition(".")
        assert isinstance(getattr(__import__(module, fromlist=[kind]), kind), type), name
    assert not [name for name in artefacts.TRUSTED_TYPES if name.startswith(("builtins", "functools", "operator"))]


@pytest.mark.requirement("PLT-7", "PRO-1")
@pytest.mark.parametrize(
    ("moved", "said"), [(1e-6, "by up to 1e-06"), (-0.25, "by up to 0.25"), (float("nan"), "by up to nan")]
)
def test_scores_that_do_not_hold_any_more_are_refused(local: ArtefactStore, moved: float, said: str) -> None:
    scores = a_model().golden_scores.copy()
    scores[3] += moved
    other = dataclasses.replace(a_model(), golden_scores=scores, libraries={"scikit-learn": "0.1"})
    now = library_versions()["scikit-learn"]
    with pytest.raises(ArtefactError, match=rf"{said} .*trained with scikit-learn 0.1, .*loaded.*scikit-learn {now}"):
        local.load(local.add(dump(other)))
    with pytest.raises(ArtefactError, match=f"the fitted model cannot be stored: it is not the model.*{said}"):
        local.save(other)


def test_the_last_bits_of_a_score_may_differ(local: ArtefactStore) -> None:
    near = dataclasses.replace(a_model(), golden_scores=a_model().golden_scores + 1e-12)
    assert local.load(local.save(near)).features == NUMBERS


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((GOLDEN_ROWS, 2, 1))])
def test_scores_of_another_shape_are_refused(local: ArtefactStore, scores: Any) -> None:
    with pytest.raises(ArtefactError, match="train the model again"):
        local.load(local.add(dump(dataclasses.replace(a_model(), golden_scores=scores))))


@pytest.mark.requirement("CRE-5")
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 17])
def test_a_score_does_not_depend_on_the_rows_beside_it(size: int) -> None:
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.normal(size=(203, 5)), columns=list("abcde"))
    estimator = LogisticRegression().fit(rows, rows["a"] + rows["b"] > random.normal(size=len(rows)))
    model = FittedModel(estimator, tuple("abcde"), rows.head(20), np.zeros(20), library_versions())
    together = model.scores(rows)
    apart = [model.scores(rows.iloc[start : start + size]) for start in range(0, len(rows), size)]
    # To the last bit, not about.
    assert np.concatenate(apart).tolist() == together.tolist()
