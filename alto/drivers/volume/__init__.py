"""Where the bytes of volumes and snapshots are."""
