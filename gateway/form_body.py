"""Form body: a form of a browser as it arrives, its fields first and its file when somebody stores it.

    socket -> multipart/form-data (`s3/form.py`) -> fields, pieces of the file

Who has signed the form stands in its fields, and so does what the file may be.  So the fields are read before
it is known who asks, and they are few.  The rest of the form stays in the socket until somebody asks for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from warehouse.s3.failures import Failure
from warehouse.s3.form import FIELDS_SIZE_MAX, Form, FormDecoder
from warehouse.s3.post_policy import Policy
from warehouse.transport.http.exchange import Exchange

PIECE = 256 * 1024


class FormBody:
    """The form of one request."""

    def __init__(self, exchange: Exchange, content_type: bytes, file_max: int) -> None:
        """
        Args:
            content_type: of the request.
            file_max: bytes of the file, whatever its policy says.
        Raises:
            Failure: MalformedPOSTRequest: the Content-Type names no boundary.
        """
        self._exchange = exchange
        self._decoder = FormDecoder(content_type)
        self._file_max = file_max
        self._policy: Policy | None = None
        self._begun: list[memoryview] = []  # what came of the file together with the fields
        self._size = 0

    async def read_fields(self) -> Form:
        """What stands before the file.

        Raises:
            Failure: it cannot be read, is too long, or no file follows.
        """
        self._exchange.accept_body(self._file_max + 3 * FIELDS_SIZE_MAX)
        while self._decoder.form is None and (received := await self._exchange.read_piece(PIECE)):
            self._begun = self._decoder.feed(received)
        if self._decoder.form is None:
            self._decoder.finish()
            raise AssertionError("a form without a file is refused")
        return self._decoder.form

    @property
    def form(self) -> Form:
        """What `read_fields` has returned."""
        assert self._decoder.form is not None
        return self._decoder.form

    def limit(self, policy: Policy) -> None:
        """From now on the file must be as long as a policy says."""
        self._policy = policy

    async def pieces(self) -> AsyncGenerator[memoryview, None]:
        """The bytes of the file.  They are whole, and as many as they may be, when this ends.

        Raises:
            Failure: the form was cut off, cannot be read, or has a file that is too long or too short.
        """
        begun, self._begun = self._begun, []
        for piece in begun:
            yield self._counted(piece)
        while received := await self._exchange.read_piece(PIECE):
            for piece in self._decoder.feed(received):
                yield self._counted(piece)
        self._decoder.finish()
        if self._policy is not None:
            self._policy.check_size(self._size, is_whole=True)

    def _counted(self, piece: memoryview) -> memoryview:
        self._size += len(piece)
        if self._policy is not None:
            self._policy.check_size(self._size, is_whole=False)
        if self._size > self._file_max:
            raise Failure(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size.",
                {"MaxSizeAllowed": str(self._file_max)},
                closes=True,
            )
        return piece
