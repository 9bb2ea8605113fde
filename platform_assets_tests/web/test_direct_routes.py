"""Direct routes bypass FastAPI's handler. Test which routes are direct, and that they answer as FastAPI does."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, Form, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import BaseModel

from platform_assets.web.direct_routes import direct_app
from platform_assets.web.problems import invalid, problem_response


class Sent(BaseModel):
    """Body of a request."""

    word: str
    number: int = 0


async def answer(item: Annotated[int, Path(ge=0, alias="id")], sent: Sent, request: Request) -> Response:
    return Response(f"{item} {sent.word} {sent.number} {request.url.path}")


async def answer_without_body(item: Annotated[int, Path(alias="id")]) -> Response:
    return Response(f"{item}")


async def answer_with_query(item: Annotated[int, Path(alias="id")], page: int = 0) -> Response:
    return Response(f"{item} {page}")


async def answer_with_form(item: Annotated[int, Path(alias="id")], word: Annotated[str, Form()]) -> Response:
    return Response(f"{item} {word}")


async def answer_with_optional_body(item: Annotated[int, Path(alias="id")], sent: Sent | None = None) -> Response:
    return Response(f"{item} {sent}")


async def answer_with_a_model(item: Annotated[int, Path(alias="id")]) -> Sent:
    return Sent(word=str(item))


def answer_in_a_thread(item: Annotated[int, Path(alias="id")]) -> Response:
    return Response(f"{item}")


def route_of(endpoint: Any) -> APIRoute:
    routes = APIRouter()
    routes.post("/things/{id}")(endpoint)
    [route] = routes.routes
    assert isinstance(route, APIRoute)
    return route


def client_of(route: APIRoute) -> TestClient:
    app = FastAPI()
    app.router.routes.append(route)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(invalid(error.errors()), request.url.path, "r-1")

    app.add_exception_handler(RequestValidationError, refused)
    return TestClient(app)


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/things/7", b'{"word": "one", "number": 2}', 200),
        ("/things/7", b'{"word": 1, "number": "two"}', 422),
        ("/things/-7", b'{"word": "one"}', 422),
        ("/things/seven", b'{"number": "two"}', 422),
        ("/things/7", b"[]", 422),
        ("/things/7", b"null", 422),
        ("/things/seven", b"", 422),
    ],
)
def test_a_direct_route_answers_like_fastapi(path: str, body: bytes, status: int) -> None:
    by_fastapi, direct = route_of(answer), route_of(answer)
    application = direct_app(direct)
    assert application is not None
    direct.app = application
    one, other = (
        client_of(route).post(path, content=body, headers={"Content-Type": "application/json"})
        for route in (by_fastapi, direct)
    )
    assert (one.status_code, one.content) == (status, other.content)
    assert other.status_code == status


def test_a_route_that_needs_fastapis_handler_is_not_direct() -> None:
    assert direct_app(route_of(answer_without_body)) is not None
    others = (answer_with_query, answer_with_form, answer_with_optional_body, answer_with_a_model, answer_in_a_thread)
    assert [endpoint.__name__ for endpoint in others if direct_app(route_of(endpoint)) is not None] == []
