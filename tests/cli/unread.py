#!/usr/bin/python3 -S
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""unread.py FOLDER: a program that watches FOLDER/watched. SIGUSR1 asks it to read its events (FOLDER/read says that it
has), SIGUSR2 to make one (FOLDER/made), SIGTERM to end, having said FOLDER/empty if no event is left."""
import ctypes
import os
import signal
import sys

IN_CREATE = 0x100

folder = sys.argv[1]
libc = ctypes.CDLL(None)
watches = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
assert libc.inotify_add_watch(watches, f"{folder}/watched".encode(), IN_CREATE) == 1
signals = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
made = 0


def touch(path):
    with open(path, "w", encoding="ascii"):
        pass


touch(f"{folder}/ready")
while (got := signal.sigwait(signals)) != signal.SIGTERM:
    if got == signal.SIGUSR1:
        os.read(watches, 4096)
        touch(f"{folder}/read")
    else:
        made += 1
        touch(f"{folder}/watched/{made}")
        touch(f"{folder}/made")
try:
    os.read(watches, 4096)
except BlockingIOError:
    touch(f"{folder}/empty")
