"""Tags in one transaction: what becomes of those that are not in the record of what they are on."""

from alto.model.tags import AddedTags
from alto.store.store import Tx


def forget_added_tags(tx: Tx, resource_id: str) -> None:
    """Of an image or a snapshot that goes."""
    for one in tx.where(AddedTags, resource_id=resource_id):
        tx.delete(AddedTags, one.id)
