"""Copies of the heads of the ledger's hash chains, in the lake next to the artifacts.

A hash chain reveals altered and missing rows, except at its end, because a chain without its last rows is still valid.
A copy of the newest heads outside the database reveals that the last rows are missing. The copy is written after each
event, so after a crash it can be older than the ledger, but never newer. It is not overwritten if the ledger no longer
contains the copied heads.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from platform_assets.approval.hash_chain import CHAINS
from platform_assets.base.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.approval.ledger_queries import LedgerQueries
    from platform_assets.models.artefact_store import ArtefactStore

HEADS_FILE = "ledger_heads.json"
"""Name of the file in the folder `models/` of the lake."""
_HEAD = re.compile("[0-9]{1,18}:[0-9a-f]{64}")
_log = logging.getLogger(__name__)


class KeptHeads:
    """Writes and reads the copies of the heads.

    Parameters
    ----------
    artefacts
        Function that returns the store in which the copies are kept.
    ledger
        The ledger whose heads are copied.
    """

    def __init__(self, artefacts: Callable[[], ArtefactStore], ledger: LedgerQueries) -> None:
        self._artefacts = artefacts
        self._ledger = ledger

    def keep(self) -> None:
        """Write the current heads. A failure is only logged, because the next event triggers another attempt."""
        try:
            kept = self.read()
            heads = self._ledger.heads()
            if not self._ledger.contains(kept):
                _log.error("the ledger does not contain the chain heads in %s; run `platform-assets audit`", HEADS_FILE)
            elif heads != kept:
                self._artefacts().write_note(HEADS_FILE, json.dumps(heads).encode())
        except ArtefactError as error:
            _log.warning("the ledger's heads were not copied to the lake (%s); the next event writes them", error)

    def read(self) -> dict[str, str]:
        """Return the copied heads of the chains `events` and `journal`, each as `sequence:hash`; empty if none exist.

        Raises
        ------
        ArtefactError
            The store cannot be read.
        """
        data = self._artefacts().read_note(HEADS_FILE)
        try:
            found = json.loads(data or b"{}")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(_is_head(*one) for one in found.items()):
            # Return a head that matches no event, so that the audit reports the file.
            return {"events": "an unreadable file"}
        return found


def _is_head(chain: str, head: Any) -> bool:
    return chain in CHAINS and isinstance(head, str) and _HEAD.fullmatch(head) is not None
