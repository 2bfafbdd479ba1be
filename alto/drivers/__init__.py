"""One Protocol per kind of thing outside this process, one module or folder per make, and a fake that can be told to fail."""
