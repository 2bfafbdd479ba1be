"""A machine's place: holds a tap as QEMU would and carries its frames to another tap, which a guest namespace calls eth0."""

import os
import select
import sys
from contextlib import suppress


def main(left: int, right: int) -> None:
    other = {left: right, right: left}
    poll = select.poll()
    for fd in other:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    while True:
        for fd, event in poll.poll():
            if event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                return
            try:
                while True:
                    # Both taps speak the same virtio header before each frame, so it passes as it is.
                    frame = os.read(fd, 65600)
                    # A guest whose eth0 is not up yet takes nothing, and the router speaks first.
                    with suppress(BlockingIOError) if other[fd] == left else suppress(OSError):
                        os.write(other[fd], frame)
            except BlockingIOError:
                pass
            except OSError:
                return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
