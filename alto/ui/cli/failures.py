"""How the command line says no: three lines (what, why, what next) and an exit code that programs can tell apart.

The codes are a promise (docs: `alto --help`): 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 conflict,
quota or capacity, 6 timed out, 7 the cloud can not be reached, 130 interrupted.
"""

import enum


class Exit(enum.IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    TIMEOUT = 6
    UNREACHABLE = 7
    INTERRUPTED = 130


class Failure(Exception):
    """What a person reads when a command fails. `hint` is a command, or what to do, in a few words."""

    def __init__(self, what: str, *, why: str = "", hint: str = "", exit: Exit = Exit.FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.exit = exit

    def lines(self) -> list[str]:
        lines = [f"error: {self.what}"]
        if self.why:
            lines.append(f"  {self.why}")
        if self.hint:
            lines.append(f"try: {self.hint}")
        return lines


_DENIED = {
    "AuthFailure",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "AccessDenied",
    "RequestExpired",
    "MissingAuthenticationToken",
    "IncompleteSignature",
    "OptInRequired",
}
_CONFLICT_ENDINGS = ("LimitExceeded", ".Duplicate", "AlreadyExists", "Capacity", "InUse")


def exit_for(code: str, status: int) -> Exit:
    """The exit code for an error that the API answered."""
    if code in _DENIED or status in (401, 403):
        return Exit.DENIED
    if ".NotFound" in code or code.endswith("NotFound") or status == 404:
        return Exit.NOT_FOUND
    if code.startswith(("IncorrectState", "IncorrectInstanceState")) or code.endswith(_CONFLICT_ENDINGS) or status == 409:
        return Exit.CONFLICT
    return Exit.FAILED
