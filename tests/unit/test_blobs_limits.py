"""What one device may take of the blob process."""

from __future__ import annotations

import pytest

from assay.controller.blobs.limits import DailyQuota, TransferSlots
from assay.core.errors import DiskFull, Unreachable

DAY_NS = 86_400 * 10**9


def test_a_device_sends_so_much_a_day_and_no_more() -> None:
    now_ns = 5 * DAY_NS
    quota = DailyQuota(100, lambda: now_ns)
    quota.take("one", 60)
    with pytest.raises(DiskFull, match="sent 60 bytes today; its quota is 100"):
        quota.take("one", 41)
    quota.take("one", 40)
    quota.take("other", 100)


def test_the_next_day_the_quota_starts_over() -> None:
    clock = [5 * DAY_NS]
    quota = DailyQuota(100, lambda: clock[0])
    quota.take("one", 100)
    clock[0] += DAY_NS
    quota.take("one", 100)


def test_a_slot_is_free_again_when_the_transfer_ends_however_it_ends() -> None:
    slots = TransferSlots(1)
    with pytest.raises(ConnectionError), slots.one("one"):
        raise ConnectionError
    with slots.one("one"):
        with pytest.raises(Unreachable), slots.one("one"):
            pass
        with slots.one("other"):
            pass
    with slots.one("one"):
        pass
