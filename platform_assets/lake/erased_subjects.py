"""Leave out the rows of erased persons when a source that still contains them is loaded again.

An erased id is recorded as a keyed hash. The hash is not personal data, and the ids of later loads can be compared with
it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import psycopg

_BETWEEN_WORDS = "[^0-9A-Za-z_-]+"
"""Pattern of the characters between the words of a text."""


@dataclass(frozen=True)
class ErasedSubjects:
    """The erased subjects of one kind.

    Attributes
    ----------
    kind
        Kind of subject that a table's schema declares, such as `client`.
    key
        Secret key of the hashes.
    hashes
        Result of `hash_of` for each erased subject.
    """

    kind: str
    key: str
    hashes: frozenset[str]

    def hash_of(self, subject: str) -> str:
        """Return the keyed hash of a subject's id."""
        return hashlib.sha256(f"{self.key}:{self.kind}:{subject}".encode()).hexdigest()

    def has(self, subject: ir.StringValue) -> ir.BooleanValue:
        """Return whether the subject with this id was erased. The id must be text."""
        import ibis

        hashed = (ibis.literal(f"{self.key}:{self.kind}:") + subject).hexdigest("sha256")
        return hashed.isin(sorted(self.hashes)).fill_null(False)  # noqa: FBT003 - Ibis takes no keyword

    def rows_without(self, rows: ir.Table, column: str) -> ir.Table:
        """Return the rows that are not about an erased subject."""
        return rows.filter(~self.has(rows[column].cast("string"))) if self.hashes else rows

    def texts_without(self, rows: ir.Table, column: str, key: str) -> ir.Table:
        """Return the rows whose text does not contain the id of an erased subject as a word.

        Parameters
        ----------
        rows
            The rows to filter.
        column
            Column of the text.
        key
            Column that identifies a row.
        """
        if not self.hashes:
            return rows
        # Put each word in its own row, because Ibis cannot compile a function over array elements for DuckDB 2.
        words = rows.select(key, word=rows[column].re_split(_BETWEEN_WORDS).unnest())
        return rows.anti_join(words.filter(self.has(words.word)), key)


def erased_subjects(connection: psycopg.Connection[Any], kind: str) -> ErasedSubjects:
    """Return the erased subjects of a kind. The key is the same for all kinds, and empty if nobody was erased."""
    rows = connection.execute("select key, kind, hash from platform.erasures").fetchall()
    hashes = frozenset(digest for _, found, digest in rows if found == kind)
    return ErasedSubjects(kind, next((key for key, _, _ in rows), ""), hashes)
