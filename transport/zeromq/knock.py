"""Knock: does the process behind an endpoint run, although its loop does not answer?

libzmq's I/O thread greets every new connection, whatever the loop of its process is doing (ZMTP 3.1, section
3.2: the first bytes of the greeting come before anything was received).  A frozen process does not greet, nor
does a machine that is gone.  So a greeting tells a busy master from a dead one.  Knocking also tells which of
the addresses of a name is the right one.
"""

from __future__ import annotations

import errno

import trio

from warehouse.transport.endpoints import host_and_port

RETRY_S = 0.5  # between attempts to find which address of a name answers


async def is_greeted(endpoint: str, *, timeout_s: float) -> bool:
    """Connect to `endpoint` and wait for the first byte of a greeting.

    Also True when this process has no descriptor left to knock with: that proves nothing of the other side.
    """
    with trio.move_on_after(timeout_s):
        try:
            host, port = host_and_port(endpoint)
            async with await trio.open_tcp_stream(host, port) as stream:
                return bool(await stream.receive_some(1))
        except OSError as error:
            causes = error.__context__ if isinstance(error.__context__, BaseExceptionGroup) else None
            return _lacks_descriptors(error) or (
                causes is not None and any(_lacks_descriptors(cause) for cause in causes.exceptions)
            )
        except trio.BrokenResourceError:
            return False
    return False


def _lacks_descriptors(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


async def needs_ipv6(endpoint: str) -> bool:
    """Whether to connect to `endpoint` over IPv6; libzmq has to be told, and then tries nothing else.

    A name may have addresses of both kinds, of which only one answers: try until one does.

    Raises:
        OSError: the name has no address (now).
    """
    try:
        host, port = host_and_port(endpoint)
    except ValueError:
        return False  # libzmq says what is wrong with it
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    while len(families) > 1:
        try:
            async with await trio.open_tcp_stream(host, port) as stream:
                return stream.socket.family == trio.socket.AF_INET6
        except OSError:
            await trio.sleep(RETRY_S)
    return families == {trio.socket.AF_INET6}
