"""The one way from a request to who sent it, whichever signature it bears."""

from collections.abc import Callable

from alto.api.auth.sigv2 import OldClaim, is_old, read_old_claim, verify_old
from alto.api.auth.sigv4 import Claim, Key, Principal, is_signed, read_claim, verify
from alto.api.wire.http import HttpRequest

AnyClaim = Claim | OldClaim


def claim_of(request: HttpRequest) -> AnyClaim:
    """What the request says of itself, not yet believed. Raises: Refused (anonymous, incomplete)."""
    if not is_signed(request) and is_old(request):
        return read_old_claim(request)
    return read_claim(request)


def prove(claim: AnyClaim, request: HttpRequest, *, now: float, key_of: Callable[[str], Key | None]) -> Principal:
    """Raises: Refused, in the words of the service that the claim names."""
    if isinstance(claim, OldClaim):
        return verify_old(claim, request, now=now, key_of=key_of)
    return verify(claim, request, now=now, key_of=key_of)
