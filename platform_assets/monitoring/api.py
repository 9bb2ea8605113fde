"""HTTP routes for labels (observed outcomes of predictions) and for `trace`, and the monitoring pages."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON
from platform_assets.monitoring.labels import LONGEST_SUBJECT, Filed, Label, fault, subject_fault
from platform_assets.monitoring.pages import PageSources, pages
from platform_assets.monitoring.trace.example import EXAMPLE
from platform_assets.monitoring.trace.results import Trace, trace_as_json
from platform_assets.web.one_or_many import (
    LARGEST_FLOAT,
    MOST_AT_ONCE,
    Example,
    Key,
    OneOrMany,
    UpTo1000,
    documentation,
)
from platform_assets.web.paging import ItemsPerPage, Page, PageNumber
from platform_assets.web.problems import Problem, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.services import Services
    from platform_assets.training.model_spec import ModelSpec

_NOW = "2026-01-31T12:00:00Z"
_MODEL = "credit_risk_model"
_REQUEST = "3f2a8c0de1b94a7f9d5c6b7a8e9f0a1b"
_STANDING = (
    "`current`: the label is used. `superseded`: another label of the same prediction, or of the same subject and "
    "time, was observed later. `contradictory`: another label of the same prediction, or of the same subject "
    "and time, was observed at the same moment with a different value; neither label is used."
)
ModelName = Annotated[str, Path(description="Name of the registered model.", examples=[_MODEL])]

AnswerId = Annotated[
    str,
    Path(
        max_length=200,
        description="`X-Request-ID` of a response, or the id of a stored answer, `<file digest>:<line>`.",
        examples=[_REQUEST],
    ),
]
AnswerNumber = Annotated[
    int | None,
    Query(
        ge=1,
        le=MOST_AT_ONCE,
        description="Number of the answer to trace, from 1. Default: the first ten answers.",
        examples=[None],
    ),
]


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("Send the time as text in ISO 8601 format.")  # noqa: TRY004 - pydantic reports ValueError only
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"Send the time in ISO 8601 format, such as {_NOW}.") from None
    if time.tzinfo is None:
        raise ValueError("The time has no time zone; add Z or an offset such as +01:00.")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"The time is out of range; send one such as {_NOW}.") from None


def _subject(value: Any) -> Any:
    # Accept numbers: client ids are numbers in prediction requests, but text in the prediction log.
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_FLOAT:
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Time = Annotated[
    datetime,
    BeforeValidator(_time, json_schema_input_type=str),
    Field(json_schema_extra={"format": "date-time"}, examples=[_NOW]),
]
ObservedAt = Annotated[Time, Field(description="When the label was observed, with time zone.")]
Value = Annotated[
    float,
    Field(
        description="For a classifier, 0 or 1, where 1 is the positive class. For a regression model, the true value.",
        examples=[1],
    ),
]
RequestId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.:-]{1,128}$",
        description="Id of the prediction request: the header X-Request-ID of its response.",
        examples=[_REQUEST],
    ),
]
PlaceOf = Annotated[
    Key,
    Field(
        ge=0,
        lt=MOST_AT_ONCE,
        description="Index of the prediction in the request, from 0. Required if the request has several predictions "
        "without a subject.",
        examples=[0],
    ),
]
Subject = Annotated[
    str,
    BeforeValidator(_subject, json_schema_input_type=str | int),
    Field(
        min_length=1,
        max_length=LONGEST_SUBJECT,
        description="Id of the labelled item, such as a client. If a request id is also given, the "
        "subject selects one of the request's predictions.",
        examples=["5008804"],
    ),
]
At = Annotated[
    Time,
    Field(
        description="Time to which the label of a subject applies. The label belongs to the newest prediction about "
        "the subject at or before this time."
    ),
]


class SentLabel(BaseModel):
    """A label of a logged prediction (`request_id`), or of a subject at a time (`subject`, `at`)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    label: Value
    observed_at: ObservedAt
    request_id: RequestId | None = None
    place: PlaceOf | None = None
    subject: Subject | None = None
    at: At | None = None


class SentLabels(OneOrMany):
    """One label, or up to 1,000."""

    optional: ClassVar[frozenset[str]] = frozenset({"request_id", "place", "subject", "at"})

    label: Value = 0
    observed_at: ObservedAt = datetime.min.replace(tzinfo=UTC)
    request_id: RequestId | None = None
    place: PlaceOf | None = None
    subject: Subject | None = None
    at: At | None = None
    labels: UpTo1000[SentLabel] = Field(default_factory=list)


Standing = Annotated[Literal["current", "superseded", "contradictory"], Field(description=_STANDING)]


class FiledLabel(BaseModel):
    """Result for one label."""

    outcome: Annotated[
        Literal["stored", "already_stored", "unknown", "refused"],
        Field(
            description="`stored`: the label was stored. `already_stored`: the same label was stored before. "
            "`unknown`: the prediction log does not contain the prediction. `refused`: see `reason`."
        ),
    ]
    standing: Annotated[Standing | None, Field(description=f"{_STANDING} Null if the label was not stored.")] = None
    reason: Annotated[
        str | None, Field(description="Why the label was not stored; null if it was.", examples=[None])
    ] = None


class FiledLabels(BaseModel):
    """Results for several labels, in the order of the request."""

    stored: Annotated[int, Field(description="Number of labels that this request stored.", examples=[1])]
    already_stored: Annotated[int, Field(description="Number of labels that were already stored.", examples=[0])]
    not_stored: Annotated[int, Field(description="Number of labels that were `unknown` or `refused`.", examples=[0])]
    labels: list[FiledLabel]


class KeptLabel(BaseModel):
    """A stored label."""

    request_id: Annotated[str | None, Field(examples=[_REQUEST])]
    subject: Annotated[str | None, Field(examples=[None])]
    at: Annotated[datetime | None, Field(examples=[None])]
    label: Annotated[float, Field(examples=[1])]
    observed_at: datetime
    arrived_at: Annotated[datetime, Field(description="When the label was stored.")]
    sender: Annotated[str, Field(description="Name of the API key or file that sent the label.", examples=["workshop"])]
    standing: Standing


_KEPT = TypeAdapter(list[KeptLabel])
_STORED = {"outcome": "stored", "standing": "current", "reason": None}
_OF_REQUEST = {"request_id": _REQUEST, "label": 1, "observed_at": _NOW}
_OF_SUBJECT = {"subject": "5008804", "at": "2025-06-30T09:00:00+02:00", "label": 0, "observed_at": _NOW}
_EXAMPLES = (
    Example("the prediction of a request", _OF_REQUEST, _STORED),
    Example("a subject at a time", _OF_SUBJECT, _STORED),
    Example(
        "several labels",
        {"labels": [_OF_SUBJECT, {"request_id": "r-1", "subject": "5008804", "label": 1, "observed_at": _NOW}]},
        {
            "stored": 1,
            "already_stored": 0,
            "not_stored": 1,
            "labels": [
                _STORED,
                {
                    "outcome": "unknown",
                    "standing": None,
                    "reason": f"the prediction log has no prediction of {_MODEL} with the request id r-1; a prediction "
                    "is logged shortly after its response, and deleted after PLATFORM_PREDICTIONS_DAYS",
                },
            ],
        },
    ),
)


def router(services: Services) -> APIRouter:
    """Return the routes; none for a service that runs from a bundle, because the routes need the database.

    Parameters
    ----------
    services
        The platform's services.
    """
    routes = APIRouter()
    if services.bundle is None:
        _add_labels(routes, services)
        routes.include_router(
            pages(
                PageSources(
                    services.settings,
                    lambda: services.tables,
                    lambda: services.ledger,
                    lambda: services.labels,
                    lambda: services.database,
                    lambda: services.incidents,
                    lambda: services.drift_history,
                )
            )
        )
        _add_trace(routes, services)
    return routes


def _add_labels(routes: APIRouter, services: Services) -> None:
    @routes.post("/labels/{model}", tags=["labels"], **documentation(FiledLabel | FiledLabels, _EXAMPLES))
    def send_labels(model: ModelName, sent: SentLabels, request: Request) -> Response:
        """Store labels of predictions of a model: one label, or up to 1,000.

        If a label is invalid, the whole request is refused with 422. A label is not stored if its prediction is unknown
        or was made after the label was observed. The response then gives the reason, and the other labels in the list
        are stored. Sending a label again changes nothing. A label that was observed later supersedes an earlier one.
        """
        spec = _declared(request, model)
        labels = [_label(one) for one in sent.items]
        _demand_sound(labels, spec, many=sent.is_many)
        filed = services.labels.store(spec, labels, request.state.asked.caller)
        answer = _several(filed) if sent.is_many else _one(filed[0])
        return Response(answer.model_dump_json(), media_type=JSON)

    @routes.get("/labels/{model}", response_model=list[KeptLabel], tags=["labels"])
    def list_labels(
        model: ModelName,
        request: Request,
        request_id: Annotated[RequestId | None, Query()] = None,
        subject: Annotated[str | None, Query(max_length=LONGEST_SUBJECT, examples=[None])] = None,
        page: PageNumber = 0,
        items_per_page: ItemsPerPage = 50,
    ) -> Response:
        """List the labels of a request or of a subject, latest observation first, including superseded labels."""
        _declared(request, model)
        if (request_id is None) is (subject is None):
            raise invalid([{"loc": ["query", "request_id"], "msg": "Give either request_id or subject."}])
        if subject is not None and (problem := subject_fault(subject)):
            raise invalid([{"loc": ["query", "subject"], "msg": problem}])
        history = services.labels.history(model, request_id=request_id, subject=subject)
        shown = Page(page, items_per_page, len(history), request.url.path, request.query_params.multi_items())
        found = [KeptLabel.model_validate(one, from_attributes=True) for one in shown.of(history)]
        return Response(_KEPT.dump_json(found), media_type=JSON, headers=dict(shown.headers))


def _add_trace(routes: APIRouter, services: Services) -> None:
    @routes.get(
        "/trace/{request_id}",
        response_model=Trace,
        responses={200: {"content": {JSON: {"example": EXAMPLE}}}},
        tags=["trace"],
    )
    def trace_answer(request_id: AnswerId, answer: AnswerNumber = None) -> Response:
        """Trace an answer back to its source rows.

        The response contains:

        - the features of the answer
        - the source rows, with their files and lines
        - the table versions, with the runs that wrote them
        - the model version, with its approval and training
        - the parts that could not be traced
        """
        return Response(trace_as_json(services.tracer.trace(request_id, answer)), media_type=JSON)


def _declared(request: Request, model: str) -> ModelSpec:
    known: Mapping[str, ModelSpec] = request.app.state.models
    if model not in known:
        raise NotFound(f"There is no model with this name; the models are {', '.join(sorted(known))}.")
    return known[model]


def _label(sent: SentLabel | SentLabels) -> Label:
    return Label(sent.label, sent.observed_at, sent.request_id, sent.place, sent.subject, sent.at)


def _demand_sound(labels: Sequence[Label], spec: ModelSpec, *, many: bool) -> None:
    now = datetime.now(UTC)
    faults = [(number, why) for number, label in enumerate(labels) if (why := fault(label, now, spec.task))]
    if faults:
        raise invalid({"loc": ["body", *(["labels", number] if many else [])], "msg": why} for number, why in faults)


def _one(filed: Filed) -> FiledLabel:
    if filed.outcome == "unknown":
        raise NotFound(f"{filed.reason}.")
    if filed.outcome == "refused":
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{filed.reason}.", "invalid-request")
    return _filed(filed)


def _several(filed: Sequence[Filed]) -> FiledLabels:
    counted = {name: sum(one.outcome == name for one in filed) for name in ("stored", "already_stored")}
    return FiledLabels(**counted, not_stored=len(filed) - sum(counted.values()), labels=[_filed(one) for one in filed])


def _filed(filed: Filed) -> FiledLabel:
    return FiledLabel(outcome=filed.outcome, standing=filed.standing, reason=filed.reason)
