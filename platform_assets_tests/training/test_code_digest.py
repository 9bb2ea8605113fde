"""The digest of training code: which changes to the code alter the digest, and which do not."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from platform_assets.training.code_digest import code_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PACKAGE = "somewhere_else"
FILES = {
    "__init__": "",
    "model": '''
"""A model."""

from __future__ import annotations

from somewhere_else import schemas
from somewhere_else.features import double

def examples(table):
    """Make the examples."""
    return double(table)[schemas.NAMES]

def build(seed: int) -> object:
    from sklearn.linear_model import LogisticRegression
    from somewhere_else.steps import Step

    progress(f"building with {seed}")
    return Step(LogisticRegression(random_state=seed), description="A step.")
''',
    "features": '''
from typing import TYPE_CHECKING

FACTOR = 2
FACTOR += 1
FLAG = True

if FLAG:
    OFFSET = 4

if TYPE_CHECKING:
    SCALE = 5

try:
    SCALE = 6
except ImportError:
    pass

def double(table):
    """Double it."""
    if table is None:
        raise ValueError("there is no table")
    table.validate()
    LOG.info("doubling")
    return FACTOR * table * SCALE + OFFSET

def unused(table):
    return -table
''',
    "schemas": """
from somewhere_else.steps import Column, Metric

NAMES = [column.name for column in (Column("heat", "float64", "How hot it is.", "degrees", "nullable"),)]
NAMES += [Metric("Recall", "Share found.", "positive rows")]
OTHER = 1
""",
    "steps": """
class Step:
    def __init__(self, estimator, description):
        self.estimator = estimator

class Column:
    def __init__(self, name, type, description, unit, nulls):
        self.name = name

class Metric:
    def __init__(self, label, description, needs):
        self.needs = needs
""",
    "defs": "WIRING = 1\n",
}


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mapping[str, str]], str]]:
    """Return a function that writes the files of a package and returns the digest of its model."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / PACKAGE).mkdir()

    def of(files: Mapping[str, str]) -> str:
        for name, text in files.items():
            (tmp_path / PACKAGE / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        model = importlib.import_module(f"{PACKAGE}.model")
        return code_digest([model.examples, model.build])

    yield of
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("model", "double(table)", "double(-table)"),
        ("model", "random_state=seed", "random_state=1"),
        ("features", "FACTOR = 2", "FACTOR = 3"),
        ("features", "FACTOR += 1", "FACTOR += 2"),
        ("features", "OFFSET = 4", "OFFSET = 3"),
        ("features", "SCALE = 6", "SCALE = 7"),
        ("features", "table.validate()", "table.repair()"),
        ("features", "table.validate()", "pass"),
        ("features", "table is None", "table is FACTOR"),
        ("features", "ValueError", "TypeError"),
        ("schemas", '"heat"', '"noise"'),
        ("schemas", '"float64"', '"int64"'),
        ("schemas", '"nullable"', '"required"'),
        ("schemas", '"positive rows"', '"rows"'),
        ("steps", "self.estimator = estimator", "self.estimator = None"),
    ],
)
def test_changes_to_code_change_the_digest(
    digest: Callable[[Mapping[str, str]], str], file: str, before: str, after: str
) -> None:
    assert before in FILES[file]
    assert digest(FILES) != digest({**FILES, file: FILES[file].replace(before, after)})


@pytest.mark.requirement("PLT-14")
@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("model", '"""Make the examples."""', '"""Build training examples."""'),
        ("model", '"""Make the examples."""\n    ', ""),
        ("model", "building with", "with the seed"),
        ("model", '"A step."', '"One step of two."'),
        ("model", "seed: int) -> object", "seed)"),
        ("model", "def examples", "import os\n\n# A comment.\ndef examples"),
        ("features", "there is no table", "the table is missing"),
        ("features", 'LOG.info("doubling")', 'LOG.debug("%s", table)'),
        ("features", "SCALE = 5", "SCALE = 8"),
        ("features", "return -table", "return table"),
        ("features", "FACTOR = 2\n", "import math\n\nFACTOR = 2\n"),
        ("schemas", "How hot it is.", "Temperature."),
        ("schemas", '"degrees"', '"°C"'),
        ("schemas", '"Recall"', '"Sensitivity"'),
        ("schemas", '"Share found."', '"Share of positive rows found."'),
        ("schemas", "OTHER = 1", "OTHER = 2"),
        ("defs", "WIRING = 1", "WIRING = 2"),
    ],
)
def test_changes_to_descriptions_messages_and_unused_code_keep_the_digest(
    digest: Callable[[Mapping[str, str]], str], file: str, before: str, after: str
) -> None:
    assert before in FILES[file]
    assert digest(FILES) == digest({**FILES, file: FILES[file].replace(before, after)})


@pytest.mark.requirement("PLT-14")
def test_moving_code_to_other_modules_keeps_the_digest(digest: Callable[[Mapping[str, str]], str]) -> None:
    before = digest(FILES)
    moved = {
        **{name: text.replace("somewhere_else.steps", "somewhere_else.parts") for name, text in FILES.items()},
        "parts": FILES["steps"],
        "tables": FILES["schemas"].replace("somewhere_else.steps", "somewhere_else.parts"),
        "numbers": "FACTOR = 2\nFACTOR += 1\n",
        "features": FILES["features"].replace("FACTOR = 2\nFACTOR += 1", "from somewhere_else.numbers import FACTOR"),
    }
    moved["model"] = moved["model"].replace("import schemas", "import tables").replace("schemas.NAMES", "tables.NAMES")
    for gone in ("steps", "schemas"):
        moved[gone] = ""
    assert digest(moved) == before


def test_changes_to_excluded_functions_keep_the_digest(digest: Callable[[Mapping[str, str]], str]) -> None:
    digest(FILES)
    model, features = (importlib.import_module(f"{PACKAGE}.{name}") for name in ("model", "features"))
    whole, part = code_digest([model.examples]), code_digest([model.examples], without=[features.double])
    assert whole != part
    digest({**FILES, "features": FILES["features"].replace("FACTOR = 2", "FACTOR = 3")})
    model, features = (importlib.import_module(f"{PACKAGE}.{name}") for name in ("model", "features"))
    assert code_digest([model.examples], without=[features.double]) == part
