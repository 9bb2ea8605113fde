"""Smoke test of a running service. `docker/deploy` runs it in the container `service`.

The script reads an API key with the scope `predict` from standard input. It checks that every champion is loaded, and
that every prediction route accepts the examples in its documentation. The exit code is 1 if a check fails.
"""

import json
import os
import sys
import urllib.error
import urllib.request

SERVICE = f"http://127.0.0.1:{os.environ['PORT']}"
SECONDS = 30


def ask(path: str, key: str = "", body: object = None) -> tuple[int, dict]:
    """Send a request; return the status and the JSON of the response."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    request = urllib.request.Request(SERVICE + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def examples(description: dict) -> list[tuple[str, object]]:
    """Return the path and body of each example request of the prediction routes in `/openapi.json`."""
    return [
        (path, example["value"])
        for path, methods in description["paths"].items()
        if path.startswith("/predictions/") and "post" in methods
        for example in methods["post"]["requestBody"]["content"]["application/json"]["examples"].values()
    ]


def is_answer(status: int, content: dict) -> bool:
    """Whether a response is acceptable: status 200, status 404 for an unknown id, or the problem `no-champion`."""
    return status in (200, 404) or content.get("type") == "urn:platform-assets:no-champion"


def problems(key: str) -> list[str]:
    """Run all checks, and return one line for each failure."""
    status, ready = ask("/health/ready")
    if status != 200:
        return [f"/health/ready: {status} {ready.get('detail')}"]
    found = [f"{model['model']}: {model['failure']}" for model in ready["models"] if model["failure"]]
    asked = examples(ask("/openapi.json")[1])
    if not asked:
        found.append("/openapi.json has no example of a prediction")
    for path, body in asked:
        status, content = ask(path, key, body)
        if not is_answer(status, content):
            found.append(f"{path}: {status} {content.get('detail')}")
    return found


if __name__ == "__main__":
    lines = problems(sys.stdin.read().strip())
    sys.stderr.writelines(f"{line}\n" for line in lines)
    sys.exit(bool(lines))
