"""What the admin listener answers where it does not do what was asked."""

from __future__ import annotations

from gateway.errors import SluiceError


class RefusedError(SluiceError):
    """An answer other than 200. title: what; detail: why, and how to mend it."""

    def __init__(self, status: int, title: str, detail: str = "") -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status, self.title, self.detail = status, title, detail
