"""The process that makes sure no child outlives its parent. Run by path, with nothing but the standard library.

It leads a process group that every child joins as it is spawned, and sits on the read end of a pipe whose write end
only the parent has. However the parent ends, `kill -9` included, the kernel closes that end; the guardian then kills
the group: the children, what the children started, and itself. Its arguments are further groups to kill with it.
Its parent starts it with the signals that stop a process blocked: a supervisor that signals the group ends the
children, never the guardian.

Linux could do the same for direct children with PR_SET_PDEATHSIG, but not for theirs, and macOS has no such thing.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    while os.read(0, 1):
        pass
    for group in map(int, sys.argv[1:]):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
