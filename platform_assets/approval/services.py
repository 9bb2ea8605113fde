"""Services of `approval`: the ledger, and the keys of the people who decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.opened import opened
from platform_assets.lake.services import LakeServices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from platform_assets.approval.kept_heads import KeptHeads
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.promotion import Promoter
    from platform_assets.approval.shadows import ShadowLedger
    from platform_assets.web.api_keys import Keys
    from platform_assets.web.key_ring import KeyRing
    from platform_assets.web.sign_in import SignIn


class ApprovalServices(LakeServices):
    """The ledger, and the keys of the people who decide."""

    @opened
    def ledger(self) -> Ledger:
        """The ledger of approval requests and decisions."""
        from platform_assets.approval.ledger import Ledger
        from platform_assets.database.opening import owner_for_rules

        owner = self._owner_connection if owner_for_rules(self.settings) else None
        address = self.settings.service_url
        if not address and self.settings.env == "development":
            address = f"http://localhost:{self.settings.service_port}"
        pages = f"{address}/approvals" if address else ""
        return Ledger(self._connection, owner=owner, keep_heads=self._keep_heads, pages=pages)

    def _keep_heads(self) -> None:
        # Do not write copies to a lake in memory, because it is lost when this process ends.
        if not self.settings.lake_is_memory:
            self.kept_heads.keep()

    def _read_heads(self) -> Callable[[], Mapping[str, str]] | None:
        return None if self.settings.lake_is_memory else self.kept_heads.read

    @opened
    def kept_heads(self) -> KeptHeads:
        """The copies of the ledger's chain heads in the lake."""
        from platform_assets.approval.kept_heads import KeptHeads
        from platform_assets.approval.ledger_queries import LedgerQueries

        return KeptHeads(lambda: self.artefacts, LedgerQueries(self._connection))

    @opened
    def keys(self) -> KeyRing:
        """The API keys: those in the database, or those of the settings if there is no database."""
        from platform_assets.database.opening import owner_of
        from platform_assets.web.api_keys import Keys
        from platform_assets.web.setting_keys import open_keys

        owner = self._owner_connection if owner_of(self.settings) else None
        keep = self._keep_heads
        return open_keys(
            self.settings, lambda: Keys(self._connection, self._rows, self._async_rows, owner=owner, keep_heads=keep)
        )

    @opened
    def sign_in(self) -> SignIn:
        """The ways in which people sign in without keys."""
        from platform_assets.web.sign_in import open_sign_in

        return open_sign_in(self.settings, self.keys_in_database)

    def keys_in_database(self) -> Keys:
        """Return the keys in the database.

        Raises
        ------
        KeysError
            The keys come from PLATFORM_API_KEYS.
        """
        from platform_assets.web.api_keys import Keys
        from platform_assets.web.key_errors import KeysError

        if not isinstance(self.keys, Keys):
            raise KeysError("sign-in needs keys in the database, but the keys come from PLATFORM_API_KEYS; unset it")
        return self.keys

    @opened
    def shadow_ledger(self) -> ShadowLedger:
        """Starts and stops shadows, and records reports about them."""
        from platform_assets.approval.shadows import ShadowLedger

        return ShadowLedger(self.ledger)

    @opened
    def promoter(self) -> Promoter:
        """Promotes and rolls back models, and keeps the registry consistent with the ledger."""
        from platform_assets.approval.promotion import Promoter

        return Promoter(self.ledger, self.registry, self.artefacts, self._lock, self._read_heads())
