"""The SYN filter: a program drops the SYNs of its addresses, and nothing else."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.transport.endpoints import origin_of
from warehouse.transport.syn_filter import ADDRESSES_MAX, program_of

SYN, SYN_ACK, ACK, RST = 0x02, 0x12, 0x10, 0x04
PASS, DROP = 0xFFFFFFFF, 0
INSTRUCTIONS_MAX = 4096  # BPF_MAXINSNS


def passes(program: bytes, source: str, flags: int = SYN) -> bool:
    """Run a program as the kernel does, on a packet from this address."""
    address = ip_address(source)
    if isinstance(address, IPv4Address):
        ip_header = bytes([0x45]) + bytes(11) + address.packed + bytes(4)
    else:
        ip_header = bytes([0x60]) + bytes(7) + address.packed + bytes(16)
    tcp_header = bytes(13) + bytes([flags]) + bytes(6)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        source_bytes, offset = (
            (ip_header, constant - 0xFFF00000) if constant >= 0xFFF00000 else (tcp_header, constant)
        )
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("!I", source_bytes, offset)
            case 0x30:
                accumulator = source_bytes[offset]
            case 0x54:
                accumulator &= constant
            case 0x74:
                accumulator >>= constant
            case 0x05:
                at += constant
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x06:
                assert constant in (PASS, DROP)
                return constant == PASS
            case _:
                raise AssertionError(hex(operation))


ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).filter(lambda address: int(address) >> 64 != 0).map(str),  # ::1 counts alone
    st.integers(0, 40).map(lambda number: f"192.0.2.{number}"),
    st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda two: f"2001:db8:0:{two[0]}::{two[1]}"),
    st.sampled_from(["::1", "127.0.0.1", "fe80::1", "::ffff:192.0.2.7"]),
)


@given(barred=st.lists(ADDRESSES, max_size=30), sources=st.lists(ADDRESSES, min_size=1, max_size=10))
def test_the_syns_of_the_barred_are_dropped_and_no_other(barred: list[str], sources: list[str]) -> None:
    origins = dict.fromkeys(map(origin_of, barred))
    program = program_of(origins)
    for source in (*sources, *barred):
        on_wire = ip_address(source)
        if isinstance(on_wire, IPv6Address) and on_wire.ipv4_mapped is not None:
            on_wire = on_wire.ipv4_mapped  # that is how it comes
        assert passes(program, str(on_wire)) == (origin_of(source) not in origins)
        for flags in (SYN_ACK, ACK, RST, ACK | RST):
            assert passes(program, str(on_wire), flags), "a connection that is open goes on"


def test_a_program_for_as_many_addresses_as_there_may_be_is_short_enough() -> None:
    names = [f"2001:db8::{number:x}" for number in range(ADDRESSES_MAX)]
    for some in (
        names,
        [f"{name}/64" for name in names],
        [f"10.0.0.{n % 256}" for n in range(ADDRESSES_MAX)],
    ):
        assert len(program_of(some)) / 8 <= INSTRUCTIONS_MAX
    assert passes(program_of(names), "2001:db8::fff")
    assert not passes(program_of(names), "2001:db8::ff")


@pytest.mark.parametrize("name", ["fe80::1%eth0", "2001:db8::/64", "192.0.2.1"])
def test_every_name_of_an_address_has_a_program(name: str) -> None:
    assert not passes(program_of([name]), str(ip_interface(name.partition("%")[0]).ip))
