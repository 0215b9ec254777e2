"""Epochs: whether a disk and a catalog have seen the same registrations.

A disk that is rolled back to a snapshot, a copy of it that runs in another place, a catalog that comes from a
copy: each looks sound by itself, and is older than what was acknowledged since.  So both sides count the
registrations of a disk, durably, and compare (as Ceph does with the epochs of its maps): whoever is behind is
told so, and nothing is written in its name.

    disk.json  epoch, offered_epoch: a number and a mark each, 0 for none; catalog_id
    catalog    the epoch of each disk, and its own id, which a rebuilt or restored catalog does not share

A registration takes three durable steps, and a crash between any two of them is made up for by the next one:

    1  the disk writes down what it offers: its number + 1, with a random mark
    2  the catalog takes the offer, if the disk's epoch is the one that it knows
    3  the disk makes the offer its epoch

After a crash between 2 and 3 the catalog knows what the disk has written down as its offer, so that is as
good as its epoch.  The mark tells this disk from a copy of it, which has the same number and offers another
mark.

Pure: what was read goes in, a verdict comes out.

Source: Weil et al., "Ceph: a scalable, high-performance distributed file system", OSDI 2006, section 5.
"""

from __future__ import annotations

import enum
import secrets
from typing import NamedTuple

MARK_BITS = 62


class Epoch(NamedTuple):
    """How often a disk was registered, and a mark that no other registration has."""

    number: int = 0
    mark: int = 0


NEVER = Epoch()


class Known(NamedTuple):
    """What a catalog knows of a disk."""

    epoch: Epoch
    catalog_id: int  # that the disk names; 0: the catalog's own
    stamp_max: int  # the greatest stamp that this catalog holds durably


class Claim(NamedTuple):
    """What a disk says of itself."""

    epoch: Epoch
    offer: Epoch  # what it has written down to become; NEVER: it cannot write
    catalog_id: int  # of the catalog that it was registered with; 0: none
    heard_stamp: int  # the greatest stamp that it knows this catalog to have held durably


class Verdict(enum.Enum):
    RAISE = "raise"  # the two agree: the catalog takes the offer
    AGREE = "agree"  # the two agree, and there is nothing to take
    DISK_BEHIND = "disk_behind"
    CATALOG_BEHIND = "catalog_behind"
    DISK_UNKNOWN = "disk_unknown"  # it names another catalog, and this one has never heard of it


def next_offer(epoch: Epoch, pending: Epoch) -> Epoch:
    """What a disk offers: what it has offered already and got no answer to, or a new one."""
    if pending.number > epoch.number:
        return pending
    return Epoch(epoch.number + 1, secrets.randbits(MARK_BITS) or 1)


def judge(known: Known, claim: Claim, *, catalog_id: int) -> Verdict:
    """Compare a disk that registers with what the catalog knows of it.

    Args:
        catalog_id: the catalog's own.
    """
    expected_id = known.catalog_id or catalog_id
    if known.epoch == NEVER and claim.epoch == NEVER and claim.catalog_id in (0, expected_id):
        # Neither was ever counted: a new disk, or one of a release that did not count.
        return Verdict.RAISE if claim.offer != NEVER else Verdict.AGREE
    if known.epoch not in (claim.epoch, claim.offer):
        # A number that both have with different marks: two were one, and the catalog knows the other.
        return Verdict.CATALOG_BEHIND if claim.epoch.number > known.epoch.number else Verdict.DISK_BEHIND
    if claim.catalog_id not in (0, expected_id, catalog_id):
        return Verdict.CATALOG_BEHIND
    if claim.catalog_id == catalog_id and claim.heard_stamp > known.stamp_max:
        return Verdict.CATALOG_BEHIND
    return Verdict.RAISE if claim.offer not in (NEVER, known.epoch) else Verdict.AGREE
