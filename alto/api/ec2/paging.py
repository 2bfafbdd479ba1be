"""Pages of a listing: `MaxResults` and `NextToken` as EC2 has them.

A token is opaque and holds the last id that was shown, so that it survives restarts, inserts and deletions: nothing is
shown twice, nothing that stays is missed. A page reads about as many rows as it shows, however many there are: rows come
in id order in batches. Invariant: no token on the last page.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from alto.model.errors import Refused
from alto.model.records import Record
from alto.store.store import Reader

R = TypeVar("R", bound=Record)
T = TypeVar("T")

BATCH_MAX = 1000  # rows read at once: what one page may need, and a bound on memory while a filter discards most
SCAN_MAX = 20_000  # rows that one page of a filtered listing may look at; then it ends short, as EC2's may


class Page(NamedTuple, Generic[T]):
    items: list[T]
    next_token: str | None


def check_page(
    max_results: int | None,
    ids: Sequence[str] | None = None,
    *,
    low: int = 5,
    high: int = 1000,
    ids_parameter: str = "instancesSet",
) -> None:
    """Raises: Refused: `max_results` is out of bounds, or given together with ids."""
    if max_results is None:
        return
    if ids:
        raise Refused(
            "InvalidParameterCombination",
            f"The parameter {ids_parameter} cannot be used with the parameter maxResults",
        )
    if not low <= max_results <= high:
        raise Refused(
            "InvalidParameterValue",
            f"Value ( {max_results} ) for parameter maxResults is invalid. Expecting a value between {low} and {high}.",
        )


def capped(max_results: int | None) -> int | None:
    """For the operations whose reference says that more than 1,000 means 1,000."""
    return max_results if max_results is None else min(max_results, BATCH_MAX)


def listing(name: str, items: Sequence[Any], next_token: str | None) -> dict[str, Any]:
    """A Describe operation's answer: no NextToken on the last page."""
    return {name: items} if next_token is None else {name: items, "NextToken": next_token}


def page_of_records(
    reader: Reader,
    kind: type[R],
    *,
    matches: Callable[[R], bool],
    max_results: int | None,
    next_token: str | None,
    **equals: object,
) -> Page[R]:
    """The records of `kind` with these field values that match, in id order, beginning after `next_token`.

    Without `max_results` everything that is left. Raises: Refused (the token is not one of ours).
    """
    after = _open(next_token, kind.KIND)
    if max_results is None:
        rows = reader.where(kind, after=after, limit=None, **equals)
        return Page([row for row in rows if matches(row)], None)

    shown: list[R] = []
    scanned = 0
    while True:
        # One more than needed, to know whether this page is the last.
        batch = min(max(max_results + 1 - len(shown), scanned), BATCH_MAX)
        rows = reader.where(kind, after=after, limit=batch, **equals)
        for row in rows:
            if not matches(row):
                continue
            if len(shown) == max_results:
                return Page(shown, _seal(shown[-1].id, kind.KIND))
            shown.append(row)
        if len(rows) < batch:
            return Page(shown, None)
        after = rows[-1].id
        scanned += len(rows)
        if scanned >= SCAN_MAX:
            return Page(shown, _seal(after, kind.KIND))


def page_of_list(
    items: Sequence[T],
    id_of: Callable[[T], str],
    *,
    scope: str,
    max_results: int | None,
    next_token: str | None,
) -> Page[T]:
    """The same over items that are already in memory; `scope` names the listing, so that no other's token fits."""
    after = _open(next_token, scope)
    rest = sorted((item for item in items if after is None or id_of(item) > after), key=id_of)
    if max_results is None or len(rest) <= max_results:
        return Page(rest, None)
    shown = rest[:max_results]
    return Page(shown, _seal(id_of(shown[-1]), scope))


def _seal(last: str, scope: str) -> str:
    return base64.urlsafe_b64encode(_mark(last, scope) + last.encode()).decode()


def _open(token: str | None, scope: str) -> str | None:
    if token is None:
        return None
    try:
        data = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        last = data[_MARK_BYTES:].decode()
    except (binascii.Error, UnicodeError):
        last, data = "", b""
    # Not a secret: a token only says where to go on within one's own rows. It tells slips from tokens.
    if not last or data[:_MARK_BYTES] != _mark(last, scope):
        raise Refused("InvalidParameterValue", f"Unable to parse pagination token '{token[:80]}'")
    return last


_MARK_BYTES = 6


def _mark(last: str, scope: str) -> bytes:
    return hashlib.blake2s(f"{scope}\0{last}".encode(), digest_size=_MARK_BYTES).digest()
