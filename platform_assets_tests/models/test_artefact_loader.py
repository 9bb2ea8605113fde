"""Artefacts are loaded with unchanged scores, or refused with the reason."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from platform_assets.base.errors import ArtefactError
from platform_assets.base.moved_modules import MOVED
from platform_assets.models import trusted_types
from platform_assets.models.artefact_format import dump
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.calibration import CalibratedEstimator, raw_scores
from platform_assets.models.fitted_model import GOLDEN_ROWS, FittedModel, library_versions
from platform_assets_tests.models.small_models import (
    NUMBERS,
    a_model,
    fitted,
    labels,
    mixed,
    text,
    training_rows,
)
from platform_assets_tests.requirements import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def gaussian(kernel: Any) -> Any:
    return GaussianProcessClassifier(kernel, optimizer=None, random_state=0)


# One estimator of each family that a model's candidates can use.
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


@pytest.mark.requirement("PRO-1", "PLT-7")
@pytest.mark.parametrize("family", FAMILIES)
def test_each_kind_of_estimator_round_trips_with_equal_scores(local: ArtefactStore, family: str) -> None:
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
def test_a_calibrated_estimator_round_trips_and_keeps_the_ranking(
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


@pytest.mark.requirement("SEN-8")
@pytest.mark.parametrize("ranges", [None, {}, {"amount": (-2.25, 1e300), "age": (0.1, 0.1)}])
def test_training_ranges_round_trip(local: ArtefactStore, ranges: Mapping[str, tuple[float, float]] | None) -> None:
    model = dataclasses.replace(a_model(), training_ranges=ranges)
    assert local.load(local.save(model)).training_ranges == ranges


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.mark.requirement("PRO-1")
def test_a_pickle_is_never_opened(local: ArtefactStore, tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    data = pickle.dumps(Bomb(trace))
    digest = local.add(data)
    with pytest.raises(ArtefactError, match=r"is not a skops file \(it may be a pickle\) and was not opened"):
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
        (b"", "is not a skops file"),
        (b"PK\x03\x04 and more", "is not a skops file"),
        (packed(other="x"), "is not a skops file"),
        (packed(schema_json="not JSON"), "is not a skops file"),
        (packed(schema_json="[]"), "is not a skops file"),
        (packed(schema_json="{}"), "cannot be read by skops"),
        (packed(schema_json=json.dumps({"protocol": 999})), "cannot be read by skops"),
        (skops.io.dumps([1]), "is not a model of the platform"),
        (skops.io.dumps({"estimator": None}), "is not a model of the platform"),
    ],
    # The content cannot be the id, because skops writes ids of objects, which differ between test processes.
    ids=["empty", "not a zip file", "no schema", "no JSON", "a list", "no keys", "unknown protocol", "list", "dict"],
)
def test_data_that_are_not_an_artefact_are_refused(local: ArtefactStore, data: bytes, said: str) -> None:
    with pytest.raises(ArtefactError, match=f"{said}.*train the model again"):
        local.load(local.add(data))


def shout(values: Any) -> Any:
    return values


@pytest.mark.requirement("PRO-1")
def test_an_artefact_with_untrusted_types_is_refused_and_the_types_are_named(local: ArtefactStore) -> None:
    model = fitted(make_pipeline(FunctionTransformer(shout), LogisticRegression()))
    said = r"contains types that the platform does not trust: \['.*_loader.shout'\]; build the model without them"
    with pytest.raises(ArtefactError, match=f"the fitted model cannot be stored: it {said}"):
        local.save(model)
    assert local.digests() == []
    digest = local.add(dump(model))
    with pytest.raises(ArtefactError, match=said):
        local.load(digest)


OLD_CREDIT_MODEL = "9b6d3f646ee520c9f3b4eace0b83eee16ffabcda89fd1521c53aec99ab6961f4"
"""Digest of an artefact from an older release, in which the classes were in `platform_assets.core.*`."""
FEATURES = ("nb_previous_loans", "avg_amount_loans_previous", "age", "years_on_the_job", "flag_own_car")


@pytest.mark.requirement("PLT-14")
def test_an_artefact_with_old_module_paths_still_gives_the_same_scores() -> None:
    model = ArtefactStore(str(Path(__file__).with_name("artefacts"))).load(OLD_CREDIT_MODEL)
    clients = [(0, None, 31, 4, 0), (14, 123.25, 38, 9, 1), (3, 90.5, 64, None, 0)]
    scores = model.scores([dict(zip(FEATURES, client, strict=True)) for client in clients])
    assert model.training_ranges is None
    assert scores.tolist() == pytest.approx([0.1853093956374852, 0.026230096599734274, 0.03262724071153192], abs=1e-12)


@pytest.mark.requirement("PLT-14")
def test_the_model_in_the_container_image_still_gives_the_same_scores() -> None:
    store = ArtefactStore(str(ROOT / "docker" / "sentence_relevance"))
    (digest,) = store.digests()
    scores = store.load(digest).scores(
        [{"text": "Forest fire near La Ronge Sask. Canada"}, {"text": "My new song is fire"}]
    )
    assert scores.tolist() == pytest.approx([0.2178399528444317, 0.01090234889264887], abs=1e-12)


def test_the_platforms_trusted_classes_are_in_stable_modules() -> None:
    ours = {name for name in trusted_types.TRUSTED_TYPES if name.startswith("platform_assets.")}
    modules = {name.rpartition(".")[0] for name in ours}
    assert modules == set(trusted_types.STABLE_MODULES)
    assert set(MOVED.values()) <= modules


def test_trusted_types_are_classes_and_never_builtins() -> None:
    for name in trusted_types.TRUSTED_TYPES:
        module, _, kind = name.rpartition(".")
        assert isinstance(getattr(__import__(module, fromlist=[kind]), kind), type), name
    assert not [name for name in trusted_types.TRUSTED_TYPES if name.startswith(("builtins", "functools", "operator"))]


@pytest.mark.requirement("PLT-7", "PRO-1")
@pytest.mark.parametrize(
    ("moved", "said"), [(1e-6, "by up to 1e-06"), (-0.25, "by up to 0.25"), (float("nan"), "by up to nan")]
)
def test_an_artefact_whose_golden_scores_differ_is_refused(local: ArtefactStore, moved: float, said: str) -> None:
    scores = a_model().golden_scores.copy()
    scores[3] += moved
    other = dataclasses.replace(a_model(), golden_scores=scores, libraries={"scikit-learn": "0.1"})
    now = library_versions()["scikit-learn"]
    with pytest.raises(ArtefactError, match=rf"{said} .*trained with scikit-learn 0.1, .*loaded.*scikit-learn {now}"):
        local.load(local.add(dump(other)))
    with pytest.raises(ArtefactError, match=f"the fitted model cannot be stored: it does not predict as.*{said}"):
        local.save(other)


def test_a_rounding_difference_of_golden_scores_is_accepted(local: ArtefactStore) -> None:
    near = dataclasses.replace(a_model(), golden_scores=a_model().golden_scores + 1e-12)
    assert local.load(local.save(near)).features == NUMBERS


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((GOLDEN_ROWS, 2, 1))])
def test_golden_scores_of_the_wrong_shape_are_refused(local: ArtefactStore, scores: Any) -> None:
    with pytest.raises(ArtefactError, match="train the model again"):
        local.load(local.add(dump(dataclasses.replace(a_model(), golden_scores=scores))))
