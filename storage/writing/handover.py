r"""Handover: what a switch asks of the volume that it switches to its next generation.

begin  -->  tail_and_open_extents(), round by round  -->  with held(): take_over()
  \________________ any failure: cancel() ________________/
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from warehouse.errors import VolumeBusy
from warehouse.storage.extent import Extent
from warehouse.storage.generation import Generation
from warehouse.storage.writing.state import VolumeState
from warehouse.storage.writing.syncing import Syncing


class Handover:
    """The side of a volume that its next generation sees.  Any thread."""

    __slots__ = ("_state", "_syncing")

    def __init__(self, state: VolumeState, syncing: Syncing) -> None:
        self._state = state
        self._syncing = syncing

    def begin(self) -> Generation:
        """Note that a switch reads along: until it ends, nothing is cut off the tail.

        Returns:
            The present generation.
        Raises:
            VolumeBusy: another switch is under way.
        """
        state = self._state
        with state.owner:
            if state.is_switching:
                raise VolumeBusy(f"volume {state.volume_id} is being switched to its next generation already")
            state.is_switching = True
            return state.generation

    def cancel(self) -> None:
        """Note that the switch was given up."""
        with self._state.owner:
            self._state.is_switching = False

    def tail_and_open_extents(self) -> tuple[int, dict[int, Extent]]:
        """Where the last record ends, and which records are still being filled, by offset."""
        with self._state.lock:
            return self._state.tail, dict(self._state.in_flight)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the owner, and every sync, waiting for as long as the block lasts."""
        with self._state.owner, self._syncing.alone():
            yield

    def take_over(self, following: VolumeState, in_flight: dict[int, Extent]) -> None:
        """Go on with the files and counters of the next generation, which ends the switch.  While held.

        Args:
            in_flight: the open extents, by their offset in the next generation.
        """
        generation = following.generation
        state = self._state
        generation.report_to(state.note_damage)
        with state.lock:
            state.identity = following.identity
            state.generation, before = generation, state.generation
            before.retire()
            state.tally = following.tally
            state.tail = following.tail
            state.durable = following.durable
            state.sequence = following.sequence
            state.checkpoint = following.checkpoint
            state.in_flight = in_flight
            state.reserved_ids = {extent.needle_id for extent in in_flight.values()}
            state.damages = following.damages
            state.is_switching = False
