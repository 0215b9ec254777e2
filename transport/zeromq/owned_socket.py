"""ZeroMQ sockets under Trio: one task owns a socket, drains it, and sleeps on its file descriptor.

The descriptor of a ZeroMQ socket is edge-triggered: a send, a receive, and even a look at EVENTS consume the
edge (zmq_getsockopt(3), ZMQ_FD).  A task that slept on it while another one sends would sleep forever.  So

    - one task receives; it sleeps only after a receive found nothing *and* EVENTS said so;
    - every sender calls `poke` afterwards, which looks at EVENTS and wakes that task if necessary;
    - the task lets others run after every batch, so a flood stalls no other task.

Everything here runs on the loop's thread: no other thread may touch a ZeroMQ socket.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

import trio
import zmq

BATCH = 64  # messages between two checkpoints; at 30 us each, others wait 2 ms at most
PASS_MAX = 32  # batches after which `on_dry` is called even though more keeps coming

# As plain integers: on the hot path an enum costs more than the call it is passed to.
NOBLOCK = int(zmq.NOBLOCK)
SNDMORE = int(zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)

_MONITOR_EVENT = struct.Struct("=Hi")  # event, value; zmq_socket_monitor(3)


class OwnedSocket:
    """A socket and the task that drains it.

    Args:
        take: receives one message with NOBLOCK and acts on it; False when there is none.
        on_dry: called each time nothing is left to receive (under a flood: now and then).
        rest_s: how long to let messages gather when they come thick and fast.  To wake up for each of them
            costs more than what it says.
        batch: messages between two checkpoints.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        take: Callable[[], bool],
        *,
        on_dry: Callable[[], None] | None = None,
        rest_s: float = 0.0,
        batch: int = BATCH,
    ) -> None:
        self._socket = socket
        self._take = take
        self._on_dry = on_dry
        self._rest_s = rest_s
        self._batch = batch
        self._sleep: trio.CancelScope | None = None

    async def run(self) -> None:
        descriptor = int(self._socket.getsockopt(zmq.FD))
        drained_s = 0.0
        while True:
            if self._rest_s and trio.current_time() - drained_s < 2 * self._rest_s:
                await trio.sleep(self._rest_s)
            await self._drain()
            drained_s = trio.current_time()
            # From here to the registration of the descriptor nothing else runs, so no edge gets lost.
            with trio.CancelScope() as self._sleep:
                await trio.lowlevel.wait_readable(descriptor)
            self._sleep = None

    def poke(self) -> None:
        """Look for what arrived during a send; call it after every send."""
        if self._sleep is not None and has_message(self._socket):
            self.wake()

    def wake(self) -> None:
        """Have the owner drain once more, soon."""
        if self._sleep is not None:
            self._sleep.cancel()
            self._sleep = None

    async def _drain(self) -> None:
        take, batches = self._take, 0
        while True:
            for _ in range(self._batch):
                if not take():
                    break
            else:
                batches += 1
                if self._on_dry is not None and batches % PASS_MAX == 0:
                    self._on_dry()
                await trio.lowlevel.checkpoint()
                continue
            if self._on_dry is not None:
                self._on_dry()
            if not has_message(self._socket):
                return
            await trio.lowlevel.checkpoint()


def has_message(socket: zmq.Socket[bytes]) -> bool:
    """Is there something to receive?  Also has libzmq take note of connections that came or ended."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)


def watch_with_tcp(socket: zmq.Socket[bytes], *, timeout_s: float) -> None:
    """Have the kernel end a connection whose other end acknowledges nothing for `timeout_s`.

    That is the unplugged machine.  A frozen process still has a kernel that acknowledges.
    """
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = max(1, int(timeout_s / 2))  # seconds without traffic until it is asked
    socket.tcp_keepalive_intvl = 1
    socket.tcp_keepalive_cnt = max(1, int(timeout_s / 2))
    socket.tcp_maxrt = int(timeout_s * 1000)


def open_monitor(
    context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], events: int
) -> zmq.Socket[bytes]:
    """Open the receiving end of a socket's events; the caller closes it.

    `Socket.get_monitor_socket` will not do: its queue is bounded, and a full one stops the I/O thread, so
    that 768 connections of a port scanner made a ROUTER deaf until its process ended.
    """
    address = f"inproc://monitor-{id(socket):x}"
    socket.monitor(address, events)
    monitor = context.socket(zmq.PAIR)
    monitor.linger = 0
    monitor.rcvhwm = 0  # before connecting: the queue between the two is made then
    monitor.connect(address)
    return monitor


def close_monitored(socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
    with suppress(zmq.ZMQError):  # already stopped
        socket.disable_monitor()
    monitor.close(linger=0)
    socket.close(linger=0)


def receive_event(monitor: zmq.Socket[bytes]) -> tuple[int, int] | None:
    """Receive one event and its value (a descriptor or a code), None when there is none."""
    try:
        parts = monitor.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None
    event, value = _MONITOR_EVENT.unpack(parts[0])
    return event, value
