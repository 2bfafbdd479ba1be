"""`alto demo`: one story told by a real cloud, with every claim checked."""
