"""The one way from a request to who sent it, whichever signature it bears."""

from collections.abc import Callable

from alto.api.auth.sigv2 import OldClaim, is_old, read_old_claim, verify_old
from alto.api.auth.sigv4 import Claim, Key, Principal, incomplete, is_signed, read_claim, verify
from alto.api.wire.http import HttpRequest

AnyClaim = Claim | OldClaim


def claim_of(request: HttpRequest, *, old: bool) -> AnyClaim:
    """What the request says of itself, not yet believed; `old`: signature version 2 is taken.

    Raises: Refused (anonymous, incomplete, too old).
    """
    if not is_signed(request) and is_old(request):
        if not old:
            raise incomplete("Signature version 2 is not taken here: sign with version 4, or start Alto with --old-signatures")
        return read_old_claim(request)
    return read_claim(request)


def prove(claim: AnyClaim, request: HttpRequest, *, now: float, key_of: Callable[[str], Key | None]) -> Principal:
    """Raises: Refused, in the words of the service that the claim names."""
    if isinstance(claim, OldClaim):
        return verify_old(claim, request, now=now, key_of=key_of)
    return verify(claim, request, now=now, key_of=key_of)
