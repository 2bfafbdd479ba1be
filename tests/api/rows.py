"""What the product's own audit says of a test's rows."""

from alto.api.alto.routes import read_state
from alto.plan.audit import audit
from tests.api.cloud import Cloud


def sound(cloud: Cloud) -> list[str]:
    """Sentences about what is wrong now, and would be wrong at any time."""
    found = cloud.store.read(lambda reader: audit(read_state(reader)))
    return [one.sentence for one in found if one.grace_s == 0]
