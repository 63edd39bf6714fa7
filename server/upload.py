"""What a client sends in pieces: one announced upload at a time, in memory, bounded."""

from worldsim.server import protocol as wire
from worldsim.server.game import Refused


class UploadSlot:
    """The newest announced upload; a new announcement discards the one before."""

    def __init__(self) -> None:
        self._announced: wire.Upload | None = None
        self._data = bytearray()

    def announce(self, upload: wire.Upload) -> None:
        """Binary messages belong to `upload` from now on."""
        self._announced, self._data = upload, bytearray()

    def expects_more(self) -> bool:
        """Whether a binary message has anywhere to go."""
        return self._announced is not None and len(self._data) < self._announced.size

    def take(self, chunk: bytes) -> wire.Uploaded | None:
        """Append a chunk; the answer once everything is here. Refused if it is too much."""
        assert self._announced is not None
        self._data += chunk
        number, size = self._announced.id, self._announced.size
        if len(self._data) > size:
            self._announced = None
            raise Refused("bad_upload", f"upload {number} is longer than its {size} bytes")
        return wire.Uploaded(id=number, size=size) if len(self._data) == size else None

    def kind(self, number: int) -> str:
        """What the complete upload `number` is; Refused if there is none."""
        upload = self._announced
        if upload is None or upload.id != number or self.expects_more():
            raise Refused("not_found", f"there is no complete upload {number}")
        return upload.kind

    def find(self, number: int, kind: str) -> bytes:
        """The bytes of a complete upload of that kind; Refused if there is none."""
        is_kind = self.kind(number)
        if is_kind != kind:
            raise Refused("bad_upload", f"upload {number} is a {is_kind}, not a {kind}")
        return bytes(self._data)
