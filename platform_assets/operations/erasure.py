"""Erase one person's data from all stores of the platform, and keep only a keyed hash of the id.

The order matters. The hash is recorded first, so that a load during the erasure cannot add the person again. The rows
are then erased from the tables, upstream tables first. Predictions, labels, logs and histories follow. If an erasure
was interrupted, erasing the same person again continues it.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets import domains
from platform_assets.base.errors import PlatformError
from platform_assets.database.opening import open_owner
from platform_assets.lake.erased_rows import Renumbered, SubjectColumn, erase_rows, subjects_in_files, versions_with
from platform_assets.lake.erased_subjects import ErasedSubjects, erased_subjects
from platform_assets.lake.lineage import Lineage
from platform_assets.models.registry import ERASED_TAG
from platform_assets.operations import erased_places
from platform_assets.operations.backup_erasures import note_in_backups
from platform_assets.operations.backup_record import UPKEEP_LOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import psycopg

    from platform_assets.database.connections import Database
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.services import Services

QUARANTINED_ROW = "source_row"
"""Column of a quarantine table that contains the raw row of the source."""


class ErasureError(PlatformError):
    """A person cannot be erased, because the kind is unknown or the id has the wrong type."""


@dataclass
class Erasure:
    """Outcome of an erasure. It names no person.

    Attributes
    ----------
    number
        Number of the erasure in `platform.erasures`.
    rows
        Number of erased rows or texts by place.
    models
        Model versions that were trained on the person's data, as `<model> version <number>`.
    possible_models
        Model versions whose training data cannot be searched any more, because an earlier erasure removed the data.
    backups
        Descriptions of the backups, which may contain the person.
    remains
        Places in which the id is still found.
    """

    number: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    possible_models: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    remains: list[str] = field(default_factory=list)

    def add(self, place: str, rows: int) -> None:
        """Count erased rows."""
        if rows:
            self.rows[place] = self.rows.get(place, 0) + rows

    def found(self) -> dict[str, Any]:
        """Return the erasure as it is recorded in the database."""
        return {
            "rows": self.rows,
            "models": self.models,
            "possible_models": self.possible_models,
            "backups": self.backups,
            "remains": self.remains,
        }


def erase(services: Services, kind: str, subject: str) -> Erasure:
    """Erase a person.

    Parameters
    ----------
    services
        The platform's objects.
    kind
        Kind of person, as the schemas of a domain declare it.
    subject
        The person's id.

    Raises
    ------
    ErasureError
        No domain declares the kind, or the id has the wrong type.
    PlatformError
        A store does not respond. Erase again to continue.
    """
    schemas = _schemas(kind)
    subject = _canonical(schemas, subject)
    with _owner(services) as owner, services.database.lock(UPKEEP_LOCK):
        erasure = Erasure(_record(owner, kind, subject))
        # Mark the models first, because the next steps remove the files that show which table versions contained the
        # person.
        _mark_models(services, schemas, subject, erasure)
        _record_models(owner, erasure)
        _erase_tables(services, schemas, subject, erasure)
        _erase_predictions(owner, schemas, subject, erasure)
        for place, rows in erased_places.erase_texts(services, owner, subject).items():
            erasure.add(place, rows)
        erasure.backups = note_in_backups(services.database)
        erased_places.compact(owner)
        erasure.remains = erased_places.search(services, owner, subject)
        _complete_record(owner, erasure)
    return erasure


def _schemas(kind: str) -> list[TableSchema]:
    """Return the tables with rows about persons of one kind, such as `client`: sources first, online tables last."""
    # A module may import another domain's module, so the same schema can be found in two modules.
    all_of_them = {schema.name: schema for schema in domains.table_schemas() if schema.subject}.values()
    found = [schema for schema in all_of_them if schema.subject and schema.subject.kind == kind]
    if not found:
        kinds = sorted({schema.subject.kind for schema in all_of_them if schema.subject})
        raise ErasureError(f"no domain declares the kind of person {kind!r}; choose one of: {', '.join(kinds)}")
    return sorted(found, key=lambda schema: (schema.store == "online", not schema.source))


def _canonical(schemas: Sequence[TableSchema], subject: str) -> str:
    subject_of = schemas[0].subject
    assert subject_of is not None  # noqa: S101 - `_schemas` returns only such
    type_ = next(column.type for column in schemas[0].columns if column.name == subject_of.column)
    if type_.startswith("int"):
        if not subject.strip().isdecimal():
            raise ErasureError(f"the id of a {subject_of.kind} is a whole number, not {subject!r}")
        return str(int(subject))
    if not subject.strip():
        raise ErasureError(f"the id of a {subject_of.kind} is empty")
    return subject


@contextmanager
def _owner(services: Services) -> Iterator[Database]:
    settings = services.settings
    url = settings.migration_database_url.get_secret_value() or settings.database_url.get_secret_value()
    with closing(open_owner(url, settings.home)) as owner:
        yield owner


def _record(owner: Database, kind: str, subject: str) -> int:
    with closing(owner.connect("platform")) as connection:
        known = erased_subjects(connection, kind)
        erased = ErasedSubjects(kind, known.key or secrets.token_hex(32), known.hashes)
        [[number]] = connection.execute(
            "insert into platform.erasures (kind, key, hash) values (%s, %s, %s)"
            " on conflict (kind, hash) do update set kind = excluded.kind returning id",
            [kind, erased.key, erased.hash_of(subject)],
        ).fetchall()
    return int(number)


def _record_models(owner: Database, erasure: Erasure) -> None:
    """Store the marked models, together with those that an interrupted erasure of the same person stored."""
    with closing(owner.connect("platform")) as connection:
        earlier = _found_earlier(connection, erasure)
        models = {*earlier.get("models", []), *erasure.models}
        possible = {*earlier.get("possible_models", []), *erasure.possible_models}
        erasure.models, erasure.possible_models = sorted(models), sorted(possible - models)
        found = {**earlier, "models": erasure.models, "possible_models": erasure.possible_models}
        connection.execute("update platform.erasures set found = %s where id = %s", [json.dumps(found), erasure.number])


def _found_earlier(connection: psycopg.Connection[Any], erasure: Erasure) -> dict[str, Any]:
    query = "select found from platform.erasures where id = %s"
    [[found]] = connection.execute(query, [erasure.number]).fetchall()
    return dict(found)


def _complete_record(owner: Database, erasure: Erasure) -> None:
    """Store the result of an erasure. Its row counts include those of earlier erasures of the same person."""
    with closing(owner.connect("platform")) as connection:
        rows = Counter(_found_earlier(connection, erasure).get("rows", {})) + Counter(erasure.rows)
        found = {**erasure.found(), "rows": rows}
        connection.execute("update platform.erasures set found = %s where id = %s", [json.dumps(found), erasure.number])


def _places(schema: TableSchema) -> list[SubjectColumn]:
    """Return the columns that contain a person's id, in a table of the lake and in the table's quarantine."""
    assert schema.subject is not None  # noqa: S101 - `_schemas` returns only such
    places = [SubjectColumn(schema.name, schema.subject.column)]
    if schema.source:
        places.append(SubjectColumn(schema.quarantine, QUARANTINED_ROW, is_text=True))
    return places


def _erase_tables(services: Services, schemas: Sequence[TableSchema], subject: str, erasure: Erasure) -> None:
    inputs: dict[str, Renumbered] = {}
    for schema in schemas:
        if schema.store == "online":
            erasure.add(schema.name, _erase_online(services, schema, subject, inputs))
            continue
        for place in _places(schema):
            done = erase_rows(services.tables, services.engine, place, subject, inputs)
            erasure.add(place.table, done.rows)
            if done.renumbered:
                inputs[place.table] = done.renumbered


def _erase_online(services: Services, schema: TableSchema, subject: str, inputs: dict[str, Renumbered]) -> int:
    assert schema.subject is not None  # noqa: S101 - `_schemas` returns only such
    current = services.online.current(schema.name)
    if current is None:
        return 0
    place = SubjectColumn(schema.name, schema.subject.column)
    rows = services.engine.as_expression(services.online.read(schema.name))
    with services.engine.stage(place.others(rows, subject)) as staged:
        if staged.rows == current.rows:
            return 0
        new = {name: after for name, (before, after) in inputs.items() if current.inputs.get(name) == before}
        lineage = Lineage(new, current, lambda name: new[name].version if name in new else None) if new else None
        services.online.publish(schema.name, staged, schema.key, lineage=lineage)
        return current.rows - staged.rows


def _erase_predictions(owner: Database, schemas: Sequence[TableSchema], subject: str, erasure: Erasure) -> None:
    models = [spec.name for spec in domains.model_specs() if spec.domain in {schema.domain for schema in schemas}]
    with closing(owner.connect("platform")) as connection, connection.transaction():
        # Disable the trigger that makes labels append-only, because an erasure must delete labels.
        connection.execute(b"alter table platform.labels disable trigger append_only")
        labels = connection.execute(
            "delete from platform.labels where model = any(%(models)s) and (subject = %(subject)s or (batch, place) in"
            " (select batch, place from platform.predictions where model = any(%(models)s) and subject = %(subject)s))",
            {"models": models, "subject": subject},
        ).rowcount
        connection.execute(b"alter table platform.labels enable trigger append_only")
        predictions = connection.execute(
            "delete from platform.predictions where model = any(%s) and subject = %s", [models, subject]
        ).rowcount
        in_shadow = connection.execute(
            "delete from platform.shadow_predictions where model = any(%s) and subject = %s", [models, subject]
        ).rowcount
    erasure.add("platform.labels", labels)
    erasure.add("platform.predictions", predictions)
    erasure.add("platform.shadow_predictions", in_shadow)


def _mark_models(services: Services, schemas: Sequence[TableSchema], subject: str, erasure: Erasure) -> None:
    """Tag the model versions that were trained on the person's data.

    `reproduce`, `audit` and `readiness` read the tag.
    """
    in_lake = [place for schema in schemas if schema.store == "lake" for place in _places(schema)]
    versions = {place.table: versions_with(services.tables, place, subject) for place in in_lake}
    if not any(found.is_found for found in versions.values()):
        return
    tag = f"erasure {erasure.number} of {datetime.now(UTC):%Y-%m-%d}"
    for name in services.registry.names():
        for version in services.registry.versions(name):
            read = [(versions[table], number) for table, number in version.tables.items() if table in versions]
            if any(number in found.numbers for found, number in read):
                services.registry.set_tags(name, version.version, {ERASED_TAG: tag})
                erasure.models.append(f"{name} version {version.version}")
            elif any(number in found.unknown for found, number in read):
                erasure.possible_models.append(f"{name} version {version.version}")


def erase_again(services: Services, erasures: Sequence[Mapping[str, str]], say: Callable[[str], None]) -> None:
    """Repeat erasures on a restored platform whose backup is older than the erasures.

    Parameters
    ----------
    services
        The restored platform.
    erasures
        Kind, key and hash of each erasure.
    say
        Callback that receives progress messages.
    """
    if not erasures:
        return
    with _owner(services) as owner, closing(owner.connect("platform")) as connection:
        connection.cursor().executemany(
            "insert into platform.erasures (kind, key, hash) values (%(kind)s, %(key)s, %(hash)s)"
            " on conflict (kind, hash) do nothing",
            list(erasures),
        )
        kinds = {one["kind"]: erased_subjects(connection, one["kind"]) for one in erasures}
    for kind, erased in kinds.items():
        for subject in sorted(_subjects(services, kind)):
            if erased.hash_of(subject) in erased.hashes:
                done = erase(services, kind, subject)
                say(f"erasure {done.number} was repeated: {sum(done.rows.values())} rows")


def _subjects(services: Services, kind: str) -> set[str]:
    """Return the ids of all persons of a kind in the lake's files, online tables, logged predictions and labels."""
    found: set[str] = set()
    for schema in _schemas(kind):
        assert schema.subject is not None  # noqa: S101 - `_schemas` returns only such
        if schema.store == "lake":
            found |= subjects_in_files(services.tables, schema.name, schema.subject.column)
        elif services.online.current(schema.name):
            found |= {str(one) for one in services.online.read(schema.name)[schema.subject.column].to_pylist()}
    with closing(services.database.connect("platform")) as connection:
        rows = connection.execute(
            "select subject from platform.predictions where subject is not null"
            " union select subject from platform.labels where subject is not null"
            " union select subject from platform.shadow_predictions where subject is not null"
        )
        return found | {subject for (subject,) in rows}
