"""SYN filter: the kernel drops the first packet of a connection that comes from certain addresses.

A server can shut a connection only after the kernel has made it.  Whoever is shut at once comes back at once,
and costs the server some of its processor each time.  A socket filter sees the packet that asks for the
connection.  To drop it costs about a microsecond, and the client sends it again a second later: it waits, and
nothing tells it why.

A filter is a program for the classic Berkeley packet filter, and a socket needs no privilege for one.  The
connections that a socket accepts inherit its filter, so the program looks at nothing but a SYN.

Linux only; elsewhere `attach` says that it cannot.

Sources: socket(7), SO_ATTACH_FILTER; Linux, Documentation/networking/filter.rst.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface

ADDRESSES_MAX = 256  # at once: a program may have 4,096 instructions, and an address takes up to nine

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, constant
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog

# Codes, linux/filter.h.  A jump counts the instructions that it skips.
_LOAD_WORD, _LOAD_BYTE, _AND, _SHIFT_RIGHT, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x30, 0x54, 0x74, 0x15, 0x06
_IP_HEADER = 0xFFF00000  # SKF_NET_OFF
_TCP_FLAGS_AT, _SYN, _SYN_OR_ACK = 13, 0x02, 0x12
_IPV4_SOURCE_AT, _IPV6_SOURCE_AT = _IP_HEADER + 12, _IP_HEADER + 8
_PASS, _DROP = 0xFFFFFFFF, 0


def program_of(addresses: Iterable[str]) -> bytes:
    """Return the program that drops each SYN from one of these addresses or IPv6 networks.

    Args:
        addresses: as `origin_of` names them; an IPv6 network is one of /64, /32 or /128.
    """
    ipv4: list[bytes] = []
    ipv6: list[bytes] = []
    for text in addresses:
        interface = ip_interface(text.partition("%")[0])
        address = interface.ip
        if isinstance(address, IPv4Address):
            ipv4.append(_drop_if([(_IPV4_SOURCE_AT, int(address))]))
        else:
            ipv6.append(_drop_if(_words_of(address, interface.network.prefixlen)))
    return b"".join(
        [
            _instruction(_LOAD_BYTE, _TCP_FLAGS_AT),
            _instruction(_AND, _SYN_OR_ACK),
            _instruction(_JUMP_IF_EQUAL, _SYN, if_true=1),
            _instruction(_RETURN, _PASS),
            _instruction(_LOAD_BYTE, _IP_HEADER),
            _instruction(_SHIFT_RIGHT, 4),
            *_if_version(4, ipv4),
            *_if_version(6, ipv6),
            _instruction(_RETURN, _PASS),
        ]
    )


def _if_version(version: int, rules: list[bytes]) -> list[bytes]:
    """Rules for packets of this IP version, which the accumulator holds."""
    if not rules:
        return []
    size = sum(map(len, rules)) // _INSTRUCTION.size + 1
    # A conditional jump reaches 255 instructions, so an unconditional one skips the rules.
    skip = _instruction(0x05, size)
    return [
        _instruction(_JUMP_IF_EQUAL, version, if_true=1),
        skip,
        *rules,
        _instruction(_RETURN, _PASS),
    ]


def _words_of(address: IPv6Address, prefix: int) -> list[tuple[int, int]]:
    assert prefix % 32 == 0, "only whole words are compared"
    words = struct.unpack("!4I", address.packed)[: prefix // 32]
    return [(_IPV6_SOURCE_AT + 4 * index, word) for index, word in enumerate(words)]


def _drop_if(words: list[tuple[int, int]]) -> bytes:
    """Drop the packet if each of these words of it has this value."""
    code: list[bytes] = []
    for index, (offset, value) in enumerate(words):
        left = 2 * (len(words) - index - 1) + 1  # instructions after this comparison, the last one drops
        code += [_instruction(_LOAD_WORD, offset), _instruction(_JUMP_IF_EQUAL, value, if_false=left)]
    return b"".join([*code, _instruction(_RETURN, _DROP)])


def _instruction(code: int, constant: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, constant)


def attach(listener: socket.socket, program: bytes) -> bool:
    """Have a socket that listens filter what comes from now on; False: this system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    held = ctypes.create_string_buffer(program)  # the kernel copies it
    count = len(program) // _INSTRUCTION.size
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(count, ctypes.addressof(held))
        )
    except OSError:
        return False
    return True
