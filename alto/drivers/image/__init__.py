"""Images: what an AMI id is on this host's disk; builds the tiny image."""
