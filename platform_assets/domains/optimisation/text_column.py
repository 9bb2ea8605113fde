"""Text columns: infer the type that the texts of a column represent.

A schema may declare the type. Otherwise it is inferred as in pandas, except where pandas would change a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.optimisation.forms import LARGEST_EXACT, SURE_ROWS, Facts, all_true, bits_of, is_text

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = ("", "#N/A", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
"""Texts that mean a missing value if the column is inferred as numeric. In a text column, only the empty text does."""
_WHOLE = r"^(0|-?[1-9][0-9]*)$"
_LEADING_ZERO = r"^[+-]?0[0-9]"
_TRUE, _FALSE = ("True", "true", "TRUE"), ("False", "false", "FALSE")


class TextColumn:
    """Infers the type of a text column incrementally. A repeated text costs only a look-up.

    Parameters
    ----------
    declared
        The type that a schema declares; None to infer it. The column stays text if a value does not fit.
    """

    def __init__(self, declared: pa.DataType | None = None) -> None:
        import pyarrow as pa

        guessed = (pa.bool_(), pa.int64(), pa.uint64(), pa.float64())
        kinds = guessed if declared is None else () if is_text(declared) else (declared,)
        self._possible = {kind: Facts(kind, remembers=False) for kind in (*kinds, pa.string())}
        self._words = MISSING if declared is None else ("",)
        self._has_words = False
        self._rows = self._nulls = self._missing = self._weight = 0
        self.seen: pa.Array | None = pa.array([], pa.string())
        """The distinct texts; None if they hardly repeat."""

    def add(self, texts: pa.Array) -> None:
        """Add the next texts, and rule out the types that they do not fit."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._rows += len(texts)
        self._nulls += texts.null_count
        self._weight += pc.sum(pc.binary_length(texts)).as_py() or 0
        new = self._new(texts)
        for kind in list(self._possible) if len(new) else ():
            values = parsed(new, kind, self._words)
            if values is None:
                del self._possible[kind]
            else:
                self._possible[kind].measure(values.drop_null())
        words = pa.array(self._words)
        if len(new) and not self._has_words:
            self._has_words = pc.is_in(new, words).true_count > 0
        if self._has_words:
            self._missing += pc.is_in(texts, words).true_count

    def _new(self, texts: pa.Array) -> pa.Array:
        """Return the distinct texts that were not seen before, or all distinct texts if texts hardly repeat."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.seen is None:
            return pc.unique(texts).drop_null()
        is_seen = pc.is_in(texts, self.seen)
        if is_seen.true_count == len(texts) - texts.null_count:
            return texts[:0]
        new = pc.unique(texts.filter(pc.invert(is_seen))).drop_null()
        self.seen = pa.concat_arrays([self.seen, new])
        if self._rows >= SURE_ROWS and 2 * len(self.seen) > self._rows - self._nulls:
            self.seen = None
        return new

    def facts(self) -> Facts:
        """Return the facts about the values, with the narrowest type that fits all of them."""
        kinds = list(self._possible)
        if self._rows == self._nulls:
            # A column without any value becomes a column of floats, as in pandas.
            kind = kinds[-2] if len(kinds) > 1 else kinds[-1]
        else:
            kind = next(kind for kind in kinds if is_text(kind) or self._rows > self._nulls + self._missing)
        found = self._possible[kind]
        found.rows, found.weight = self._rows, self._weight
        found.nulls = self._nulls if is_text(kind) else self._nulls + self._missing
        if self.seen is not None and (values := self.parse(self.seen, kind)) is not None:
            found.distinct = bits_of(values.drop_null()).unique()
        return found

    def parse(self, texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
        """Return texts as values of a type; None if some are not of that type."""
        return parsed(texts, kind, self._words)


def parsed(texts: pa.Array, kind: pa.DataType, missing: tuple[str, ...] = MISSING) -> pa.Array | None:
    """Return texts as values of a type; None if some are not of that type.

    Parameters
    ----------
    texts
        The texts to parse.
    kind
        Type of the result.
    missing
        Texts that mean a missing value, unless the type is text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if texts.type == kind:
        return texts
    texts = pc.if_else(pc.is_in(texts, pa.array(missing)), None, texts)
    if pa.types.is_boolean(kind):
        return _truths(texts)
    whole = pc.match_substring_regex(texts, _WHOLE)
    try:
        if pa.types.is_integer(kind):
            return texts.cast(kind) if all_true(whole) else None
        if not all_true(pc.invert(pc.match_substring_regex(texts, _LEADING_ZERO))):
            return None
        numbers = texts.cast(kind)
        beyond = pc.and_(whole, pc.greater_equal(pc.abs(numbers), float(LARGEST_EXACT)))
    except pa.ArrowInvalid:
        return None
    return numbers if all_true(pc.invert(beyond)) else None


def _truths(texts: pa.Array) -> pa.Array | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_true, is_false = (pc.is_in(texts, pa.array(words)) for words in (_TRUE, _FALSE))
    is_missing = texts.is_null()
    if not all_true(pc.or_(pc.or_(is_true, is_false), is_missing)):
        return None
    return pc.if_else(is_missing, pa.scalar(None, pa.bool_()), is_true)
