"""TLS: sockets that encrypt, for both ends of the data plane.

A `TlsSocket` has the manners of a plain non-blocking socket: it raises BlockingIOError when a call would
block, and sends as much as it can.  So `channel` and all above it work the same with both, and a plain
connection pays nothing for the other kind.  OpenSSL reads from the socket and writes to it directly.

    server    `ServerTls` holds the certificate.  A new one counts for new connections
    client    `ClientTls` holds the authorities that the client trusts: nobody else, and never the system's

There is no task and no time limit for a handshake of its own on the server: OpenSSL shakes hands while we
try to read the first request, so the handshake is a part of that wait (`header_s`), and a stranger who never
ends it is one of many silent strangers (`admission`).  Until its first byte, a connection has no TLS state.

OpenSSL decrypts whole records.  What a caller did not ask for stays inside OpenSSL, where no selector can see
it, so a `TlsChannel` takes the rest of each record over at once.

Sources: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 9325 (how to use both).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from warehouse.errors import CertificateBad, CertificateRefused, LinkDown
from warehouse.transport.http.channel import BODY_RECEIVE_SIZE, Channel
from warehouse.transport.seldom import Seldom

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

log = logging.getLogger(__name__)

RECORD_SIZE = 16 * 1024  # the longest plaintext of one record: RFC 8446, 5.1
PROTOCOLS = ["http/1.1"]  # RFC 7301: clients that can talk HTTP/2 hear that we do not


class TlsSocket(ssl.SSLSocket):
    """A non-blocking socket that speaks TLS; contexts of this module make it."""

    has_goodbye = True  # it tells the peer that nothing more follows; otherwise what came was cut

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive up to `buflen` bytes of one record; with flags, of what has come as it is."""
        if flags:
            return socket.socket.recv(self, buflen, flags)
        try:
            return super().recv(buflen)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise _would_block() from None

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Fill the buffer with the records that have come, up to `BODY_RECEIVE_SIZE` bytes."""
        view = memoryview(buffer)[:BODY_RECEIVE_SIZE]
        count = 0
        while count < len(view):
            try:
                size = super().recv_into(view[count:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not count:
                    raise _would_block() from None
                break
            count += size
            if size < RECORD_SIZE:  # it is short: what follows has hardly come yet, or the stream has ended
                break
        return count

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send as many records as can be sent now.

        A record that OpenSSL could not send to its end is sent again: the next call must begin with the same
        bytes.
        """
        view = memoryview(data)
        sent = 0
        try:
            while sent < len(view):
                sent += super().send(view[sent : sent + RECORD_SIZE])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not sent:
                raise _would_block() from None
        return sent

    def sendmsg(self, buffers: object, *arguments: object) -> int:  # type: ignore[override]
        """Send as much as can be sent now of a head and a body."""
        assert isinstance(buffers, list)
        head, body = buffers
        sent = self.send(head)
        if sent == len(head):
            with suppress(BlockingIOError):
                sent += self.send(body)
        return sent

    def shutdown(self, how: int) -> None:
        self._say_goodbye()
        super().shutdown(how)  # from now on, receiving gives what comes as it is

    def close(self) -> None:
        self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        """Tell the peer that nothing more follows, so that it can tell an end from a cut: RFC 8446, 6.1."""
        if self.has_goodbye and self.fileno() >= 0 and self.version() is not None:
            with suppress(OSError, ValueError):  # it would block, or the peer has left
                self.unwrap()


def _would_block() -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class TlsChannel(Channel):
    """What differs for a channel whose socket is a `TlsSocket`: records, where a plain one has bytes."""

    __slots__ = ()

    async def receive_into(self, view: memoryview) -> int:
        count = await super().receive_into(view)
        self._take_rest_of_record()
        return count

    async def receive(self, size: int) -> bytes:
        piece = await super().receive(size)
        self._take_rest_of_record()
        return piece

    def _take_rest_of_record(self) -> None:
        sock = self._sock
        if isinstance(sock, TlsSocket) and (size := sock.pending()):
            self._data = sock.recv(size)
            self._position = 0


# --- contexts -------------------------------------------------------------------------------------


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(PROTOCOLS)
    context.sslsocket_class = TlsSocket
    return context


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of a server.

    Args:
        certificate: a file with the server's certificate, then those that lead to its authority (PEM).
        key: a file with the private key, not encrypted (PEM).
    Raises:
        CertificateBad: a file cannot be read, or the key is not that of the certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # clients keep connections; tickets would cost each handshake a message
    try:
        context.load_cert_chain(certificate, key, password="")  # without one, OpenSSL asks the terminal
    except ssl.SSLError as error:
        reason = (error.reason or "unknown error").lower().replace("_", " ")
        raise CertificateBad(f"{certificate} and {key} are no certificate and its key: {reason}") from error
    except OSError as error:
        raise CertificateBad(f"cannot read {certificate} and {key}: {error.strerror}") from error
    return context


def client_context(bundle: str) -> ssl.SSLContext:
    """Return the context of a client that trusts these authorities (PEM) and no other.

    Raises:
        CertificateBad: these are not certificates.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=bundle)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateBad(f"the certificates of the authorities cannot be read: {error}") from error
    return context


# --- the server -----------------------------------------------------------------------------------


class ServerTls:
    """The certificate that a server shows, and the handshakes that failed.

    Attributes:
        context: for new connections.  None: there is no certificate yet, and new connections are closed.
        ends_s: when the certificate ends, since 1970; 0: nobody has said.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.ends_s = 0.0
        self._failed = Seldom(log, "TLS handshakes failed")
        self._waiting = Seldom(log, "connections were closed: there is no certificate yet")

    def show(self, context: ssl.SSLContext, *, ends_s: float) -> None:
        """Show another certificate from now on."""
        self.context, self.ends_s = context, ends_s

    def wrap(self, sock: socket.socket, peer: str) -> TlsSocket:
        """Take a plain socket over.

        Raises:
            OSError: the peer has left, or there is no certificate yet; the socket may be closed.
        """
        if self.context is None:
            self._waiting.happened(peer=peer)
            raise OSError(errno.ENOPROTOOPT, "there is no certificate yet")
        sock.getpeername()
        try:
            wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except ValueError as error:
            raise OSError(errno.ENOTCONN, str(error)) from error
        assert isinstance(wrapped, TlsSocket)
        return wrapped

    def failed(self, peer: str, error: ssl.SSLError) -> None:
        """Note that a handshake, or a record, made no sense."""
        reason = (error.reason or error.strerror or "unknown error").lower().replace("_", " ")
        self._failed.happened(peer=peer, cause=reason)


# --- the client -----------------------------------------------------------------------------------


class ClientTls:
    """Whom a client trusts.  `trust` takes effect for new connections."""

    def __init__(self, bundle: str = "") -> None:
        self._bundle = ""
        self._context: ssl.SSLContext | None = None
        self.trust(bundle)

    def trust(self, bundle: str) -> None:
        """Trust these authorities (PEM) from now on, and no other; none for an empty text.

        Raises:
            CertificateBad: these are not certificates; nothing has changed.
        """
        if bundle != self._bundle:
            self._context = client_context(bundle) if bundle else None
            self._bundle = bundle

    async def shake_hands(self, sock: socket.socket, host: str, peer: str) -> TlsSocket:
        """Take a connected plain socket over, and make sure that the server is `host`.

        Raises:
            CertificateRefused: the server shows no certificate for `host` that we trust.
            LinkDown: the connection broke, or the server does not speak TLS.
        """
        if self._context is None:
            sock.close()
            raise CertificateRefused(
                f"{peer} speaks TLS, and no authority is known to check its certificate with: the profile"
                " lacks `authority`"
            )
        try:
            wrapped = self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            assert isinstance(wrapped, TlsSocket)
        except (OSError, ValueError) as error:  # it has left; or no name of a server looks like this one
            sock.close()
            raise LinkDown(f"no TLS with {peer}: {error}") from error
        try:
            await _shake_hands(wrapped)
        except ssl.SSLCertVerificationError as error:
            wrapped.close()
            raise CertificateRefused(
                f"{peer} shows a certificate that is not trusted: {error.verify_message}"
            ) from error
        except OSError as error:
            wrapped.close()
            raise LinkDown(f"no TLS with {peer}: {_in_words(error)}") from error
        except BaseException:
            wrapped.close()
            raise
        return wrapped


async def _shake_hands(wrapped: TlsSocket) -> None:
    while True:
        try:
            wrapped.do_handshake()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(wrapped)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(wrapped)
        else:
            return


def _in_words(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "it does not speak TLS; is its address http:// instead of https://?"
    return (error.reason or str(error)).lower().replace("_", " ")
