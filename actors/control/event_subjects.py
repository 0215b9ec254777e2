"""Event subjects: what of the cluster an event has changed, for those who show it.  Pure.

A page that shows disks, nodes or jobs looks again when it hears of them (`changes.py`).  An event that is not
named here counts as one about disks: a look too many does no harm.
"""

from __future__ import annotations

DISKS, NODES, JOBS = SUBJECTS = ("disks", "nodes", "jobs")

# What tells of no disk, node or job; who shows how far a job is asks for that while the job runs.
_OF_NOTHING = frozenset(
    ("bucket_created", "bucket_deleted", "quota_set", "uploads_expired", "logins_failed")
    + ("compaction_progress", "verification_progress")
)
_OF_BOTH = frozenset(("disk_online", "disk_offline", "disk_removed"))
_OF_NODES = ("node_", "join_token_", "compactor_")
_OF_JOBS = ("compaction_", "verification_", "jobs_", "job_")


def subjects_of(event: str) -> tuple[str, ...]:
    """
    Args:
        event: its name, as `events.py` lists them.
    """
    if event in _OF_NOTHING:
        return ()
    if event in _OF_BOTH:
        return DISKS, NODES
    if event.startswith(_OF_NODES):
        return (NODES,)
    if event.startswith(_OF_JOBS):
        return (JOBS,)
    return (DISKS,)
