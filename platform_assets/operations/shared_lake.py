"""The identity of the lake, so that a step on a machine with another lake fails instead of writing there.

The lake has a file with its identity, and Dagster's database contains the identity of the platform's lake.
"""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.base.logs import shown

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from platform_assets.services import Services

IDENTITY_FILE = "lake_id.txt"
"""Name of the file in the folder `models/` of the lake."""
_KEY = "platform/lake"
_LOCK = "lake identity"


def demand_shared_lake(instance: DagsterInstance, services: Services) -> None:
    """Raise if the lake of this machine is not the platform's lake. The first lake seen becomes the platform's lake.

    Raises
    ------
    TableError
        This machine has another lake.
    ArtefactError
        The lake cannot be read or written.
    """
    with services.database.lock(_LOCK):
        wanted = instance.run_storage.get_cursor_values({_KEY}).get(_KEY)
        if wanted is None:
            wanted = _identity(services) or uuid.uuid4().hex
            services.artefacts.write_note(IDENTITY_FILE, wanted.encode())
            instance.run_storage.set_cursor_values({_KEY: wanted})
    if not is_shared(instance, services):
        raise TableError(
            f"the lake {shown(services.settings.lake)} of the machine {socket.gethostname()} is not the lake that the "
            "other machines use; give all machines the same PLATFORM_LAKE_URI, or a PLATFORM_HOME on a shared file "
            f"system. If you replaced the lake, copy the file models/{IDENTITY_FILE} from the old lake"
        )


def is_shared(instance: DagsterInstance, services: Services) -> bool:
    """Return whether the lake of this machine is the platform's lake; also True if no lake was seen yet.

    Raises
    ------
    ArtefactError
        The lake cannot be read.
    """
    wanted = instance.run_storage.get_cursor_values({_KEY}).get(_KEY)
    return wanted is None or _identity(services) == wanted


def _identity(services: Services) -> str:
    return (services.artefacts.read_note(IDENTITY_FILE) or b"").decode()
