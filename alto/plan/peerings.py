"""What time makes of a VPC peering connection: when its request has expired, and how long its end stays visible. Pure.

Source: "VPC peering connection lifecycle" in the VPC peering guide. Not here: who may do what (`api/ec2/peerings.py`).
"""

from alto.model.routing import PeeringState, VpcPeering

EXPIRES_S = 7 * 24 * 3600.0
_SHORTLY_S, _LONGER_S = 2 * 3600.0, 48 * 3600.0


def peering_state(peering: VpcPeering, now: float) -> PeeringState:
    """What nobody answered for a week has expired; no clock needs to write that down."""
    if peering.state is PeeringState.PENDING and now >= peering.expires_at:
        return PeeringState.EXPIRED
    return peering.state


def is_visible(peering: VpcPeering, account: str, now: float) -> bool:
    """Whether `account`, one of its two, still sees it: who ended it for two hours, the other for two days."""
    state = peering_state(peering, now)
    ended_at = peering.expires_at if state is PeeringState.EXPIRED else peering.ended_at
    return ended_at is None or now - ended_at < _shown_s(peering, state, account)


def _shown_s(peering: VpcPeering, state: PeeringState, account: str) -> float:
    match state:
        case PeeringState.EXPIRED:
            return _LONGER_S
        case PeeringState.FAILED:
            return _SHORTLY_S if account == peering.account else 0.0  # it never came to the other
        case PeeringState.REJECTED:
            ended_by = peering.accepter_account
        case _:
            ended_by = peering.message
    return _SHORTLY_S if account == ended_by or peering.account == peering.accepter_account else _LONGER_S
