"""Web pages may ask, from any origin, as EC2's API lets them ("Cross-origin resource sharing support", its API reference).

A browser adds nothing of its user's that would count here: what a page asks is signed, with a key that the page has. Not here:
what tells a page from other clients, and what AWS has no word for, which no page may ask (`gateway.py`).
"""

from alto.api.wire.http import HttpAnswer, HttpRequest

_AGAIN_S = 1800  # so long a browser need not ask again whether its page may ask


def preflight(request: HttpRequest, request_id: str) -> HttpAnswer | None:
    """The answer to a browser that asks first whether its page may; None to any other request."""
    if request.method != "OPTIONS" or request.header("access-control-request-method") is None:
        return None
    headers = [("access-control-allow-methods", "GET, POST"), ("access-control-max-age", str(_AGAIN_S))]
    wanted = request.header("access-control-request-headers")
    if wanted is not None and wanted.isascii():
        headers.append(("access-control-allow-headers", wanted))
    return HttpAnswer(200, b"", "text/plain", request_id, tuple(headers))


def shared(answer: HttpAnswer) -> HttpAnswer:
    """With leave to show it to the page that asked."""
    return answer._replace(headers=(*answer.headers, ("access-control-allow-origin", "*")))
