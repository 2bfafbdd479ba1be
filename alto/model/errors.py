"""Every way in which Alto says no; as small as what callers tell apart.

`str(error)` may be shown to the tenant: what is wrong, why, and what to do next. Paths, hosts and stderr travel as
`__cause__` and go to the log. `api/ec2/errors.py` has the one table from `code` to EC2's codes.
"""

from typing import ClassVar


class AltoError(Exception):
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class NotFound(AltoError):
    """No such record for this account; `more` are others of the same request."""

    code = "not-found"

    def __init__(self, kind: str, id: str, *more: str) -> None:
        super().__init__(f"The {kind} '{id}' does not exist")
        self.kind = kind
        self.id = id
        self.ids = (id, *more)


class AlreadyExists(AltoError):
    """A unique key is taken; `key` names it."""

    code = "already-exists"

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"A {kind} with this {key} already exists")
        self.kind = kind
        self.key = key


class Conflict(AltoError):
    """The record changed since it was read: read and decide again."""

    code = "conflict"
    retryable = True


class CapacityExceeded(AltoError):
    """A guarded number would pass its limit; the transaction changed nothing."""

    code = "capacity-exceeded"


class NoCapacity(AltoError):
    """No host fits, or no address is left; the message says what each lacked."""

    code = "no-capacity"


class Refused(AltoError):
    """A request that AWS refuses too: `aws_code` is AWS's own (InvalidParameterValue...), `status` the HTTP status."""

    code = "refused"

    def __init__(self, aws_code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.aws_code = aws_code
        self.status = status


class DriverFault(AltoError):
    """The outside did not do what it was asked; worth another try."""

    code = "driver-fault"
    retryable = True


class Impossible(AltoError):
    """The outside will never do what it was asked (a broken image, say): no use trying again."""

    code = "impossible"


class Unavailable(AltoError):
    """A part of Alto itself cannot do this now (its disk failed or is full); nothing is promised about this request."""

    code = "unavailable"
    retryable = True
