"""Leases: who may do a thing until when, and under which epoch.

A lease alone is no lock: its holder may sleep past its end. So whatever the holder changes carries the epoch, and whoever
is told refuses a lower one. The epoch rises at each change of holder and never falls, a release included. `now` comes
from the caller's World and must be one clock for all who ask.
"""

from typing import ClassVar

from msgspec.structs import replace

from alto.model.errors import Conflict
from alto.model.records import Record
from alto.store.store import Tx


class Lease(Record, frozen=True, kw_only=True):
    """`id` names what is leased."""

    KIND: ClassVar[str] = "lease"

    holder: str | None
    epoch: int
    expires_at: float


def acquire(tx: Tx, name: str, holder: str, *, now: float, duration_s: float) -> Lease | None:
    """The lease, if it was free, had expired or is already the holder's; None while another holds it.

    A holder that comes back after its lease expired gets a new epoch: it cannot know what happened between.
    """
    lease = tx.find(Lease, name)
    if lease is None:
        return tx.put(Lease(id=name, holder=holder, epoch=1, expires_at=now + duration_s))
    if lease.holder is not None and now < lease.expires_at:
        return tx.put(replace(lease, expires_at=now + duration_s)) if lease.holder == holder else None
    return tx.put(replace(lease, holder=holder, epoch=lease.epoch + 1, expires_at=now + duration_s))


def renew(tx: Tx, lease: Lease, *, now: float, duration_s: float) -> Lease:
    """Raises: Conflict: it expired, or is another's by now; stop what it protects."""
    held = tx.find(Lease, lease.id)
    if held is None or (held.holder, held.epoch) != (lease.holder, lease.epoch) or now >= held.expires_at:
        raise Conflict(f"The lease '{lease.id}' of {lease.holder} is lost")
    return tx.put(replace(held, expires_at=now + duration_s))


def release(tx: Tx, lease: Lease) -> None:
    """Free at once. Idempotent; does nothing to a lease that is another's by now."""
    held = tx.find(Lease, lease.id)
    if held is not None and (held.holder, held.epoch) == (lease.holder, lease.epoch):
        tx.put(replace(held, holder=None))
