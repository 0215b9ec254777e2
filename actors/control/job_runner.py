"""JobRunner: one attempt at a job, as one conversation of the master with the two actors of a disk.

    compaction                                          verification
    volume actor   DeleteNeedles ... (garbage)          compactor      StartVerify
                   DropGeneration (leftovers)                          PollTask ... until it is done
                   BeginCompaction                      volume actor   ListLive ... (cross-check)
    compactor      StartCopy                (copy)
                   PollTask ... until it is done
    volume actor   SwitchGeneration ... until it is done  (switch)

An attempt belongs to the two connections that it began with, and ends with either of them.  The next attempt
starts from the beginning (a compaction) or from the last saved progress (a verification).

Until the master asks for the switch, a failed attempt removes the copy, and the volume is as it was.  From
then on only the volume actor knows which generation is current, so the master no longer tells the compactor
to remove anything.
"""

from __future__ import annotations

from collections.abc import Callable

from warehouse.actors.control.compactor_calls import CompactorCalls
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.cross_check import CrossCheck
from warehouse.actors.control.damage import DamageRegistry
from warehouse.actors.control.fleet_state import VolumeState
from warehouse.actors.control.job_compaction import CompactionAttempts
from warehouse.actors.control.job_peers import JobPeers
from warehouse.actors.control.job_state import COMPACT, JobState
from warehouse.actors.control.job_verification import VerificationAttempts


class JobRunner:
    """
    Args:
        rate_of: bytes a second that a job may read and write now; 0: hold; None: unlimited.
    """

    def __init__(
        self,
        context: MasterContext,
        *,
        damage: DamageRegistry,
        cross_check: CrossCheck,
        rate_of: Callable[[JobState], int | None],
    ) -> None:
        self._compactors = CompactorCalls(context, rate_of=rate_of)
        self._compactions = CompactionAttempts(context, damage=damage, compactors=self._compactors)
        self._verifications = VerificationAttempts(
            context, damage=damage, cross_check=cross_check, compactors=self._compactors
        )

    async def attempt(self, job: JobState, volume: VolumeState, peers: JobPeers) -> None:
        """Make one attempt at a job, and note in the job what it achieved.

        Raises:
            LinkDown, VolumeOffline, ...: an actor went away: try again when the actor is back.
            StoreError: the attempt failed.
        """
        await self._compactors.stop_earlier(peers)
        if job.work == COMPACT:
            await self._compactions.attempt(job, volume, peers)
        else:
            await self._verifications.attempt(job, volume, peers)
