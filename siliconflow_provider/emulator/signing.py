"""Sign and check URLs of result files on the storage origin."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlencode


class Signer:
    """Makes signed URLs that are valid for `seconds`, and checks them."""

    def __init__(self, secret: bytes, seconds: float, clock: Callable[[], float]) -> None:
        self._secret = secret
        self._seconds = seconds
        self._clock = clock

    def url(self, origin: str, file_id: str) -> str:
        """Return a new signed URL of the file."""
        path = f"/results/{file_id}"
        expires = str(int(self._clock() + self._seconds))
        return f"{origin}{path}?" + urlencode({"Expires": expires, "Signature": self._sign(path, expires)})

    def fault(self, path: str, expires: str, signature: str) -> Literal["signature", "expired"] | None:
        """Return the fault of a URL's query, or None if it is valid."""
        if not hmac.compare_digest(self._sign(path, expires).encode(), signature.encode()):
            return "signature"
        return "expired" if self._clock() >= int(expires) else None

    def _sign(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
