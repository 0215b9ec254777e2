"""Owners: how accounts are named over S3.  Pure"""

from __future__ import annotations

from warehouse.s3.xml_out import Owner


def owner_of(account_id: str) -> Owner:
    """
    Args:
        account_id: of the account that a bucket or an object belongs to, 32 hexadecimal digits.
    """
    return Owner(account_id, account_id)
