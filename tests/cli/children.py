# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# children.py KIND FOLDER: a program with children, for children.sh. It says in FOLDER/alive that it still runs, and what
# of them it misses in FOLDER/lost.
import os
import select
import signal
import sys
import time

kind, folder = sys.argv[1:]


def there(name):
    return os.path.exists(os.path.join(folder, name))


def make(name):
    open(os.path.join(folder, name), "w").close()


def child():
    """Ends when FOLDER/end is there."""
    pid = os.fork()
    if pid == 0:
        while not there("end"):
            time.sleep(0.005)
        os._exit(7)
    return pid


def fetch(pid):
    """Its exit status is the program's to fetch, wherever it is by now."""
    try:
        if os.waitpid(pid, 0) != (pid, 7 << 8):
            make("lost")
    except ChildProcessError:
        make("lost")


def short_lived():
    """Most of the time there is a child."""
    pid = os.fork()
    if pid == 0:
        select.select([], [], [], 0.004)
        os._exit(7)
    fetch(pid)
    select.select([], [], [], 0.002)


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
pid = child() if kind in ("one", "unfetched") else 0
make("ready")
if kind == "one":
    fetch(pid)
if kind == "when-asked":
    signal.sigwait([signal.SIGUSR1])
    pid = child()
    make("born")
    fetch(pid)
if kind == "many":
    while not there("enough"):
        short_lived()
while not there("ask"):
    time.sleep(0.005)
make("alive")
