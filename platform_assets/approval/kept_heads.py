"""The heads of the ledger's chains, kept in the lake beside the artifacts.

A chain reveals an altered or deleted row, but not that its last rows were deleted: what is left is a shorter chain. The
copy of the newest heads outside the database reveals that. It is written after each event, so after a crash it is one
event behind, and never ahead. It is never moved to a chain that lacks the kept head.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from platform_assets.base.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.approval.ledger_queries import LedgerQueries
    from platform_assets.models.artefact_store import ArtefactStore

HEADS_FILE = "ledger_heads.json"
"""File below `models/` in the lake."""
_log = logging.getLogger(__name__)


class KeptHeads:
    """Writes and reads the heads.

    Parameters
    ----------
    artefacts
        The store beside whose files they are kept.
    ledger
        The ledger whose heads they are.
    """

    def __init__(self, artefacts: Callable[[], ArtefactStore], ledger: LedgerQueries) -> None:
        self._artefacts = artefacts
        self._ledger = ledger

    def keep(self) -> None:
        """Write the current heads. A failure is logged: the event is recorded, and the next one writes the file."""
        try:
            kept = self.read()
            heads = self._ledger.heads()
            if not self._ledger.contains(kept):
                _log.error("the ledger lacks the heads kept in %s; run `platform-assets audit`", HEADS_FILE)
            elif heads != kept:
                self._artefacts().write_note(HEADS_FILE, json.dumps(heads).encode())
        except ArtefactError as error:
            _log.warning("the heads of the ledger were not kept (%s); the next event writes them", error)

    def read(self) -> dict[str, str]:
        """Return the kept heads by chain, `events` and `journal`, each `sequence:hash`; empty without a file.

        Raises
        ------
        ArtefactError
            The store cannot be read.
        """
        data = self._artefacts().read_note(HEADS_FILE)
        try:
            found = json.loads(data or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            # The audit reports it: no event is called this.
            return {"events": "an unreadable file"}
        return {str(chain): str(head) for chain, head in found.items()}
