# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# streams.py KIND FOLDER: a program whose standard streams are of others, who stay: pipes, a terminal that it has as the
# job of a shell, or that it leads its session on. FOLDER/pid has its PID; once FOLDER/say is there it says that on its
# output, and in FOLDER/report what it finds.
import os
import pty
import select
import signal
import sys
import time

kind, folder = sys.argv[1:]


def there(name):
    return os.path.exists(os.path.join(folder, name))


def make(name, text=""):
    with open(os.path.join(folder, name + ".new"), "w") as file:
        file.write(text)
    os.rename(file.name, os.path.join(folder, name))


def stay():
    """Whoever has the other ends."""
    while True:
        time.sleep(1000)


def use_pipes():
    wanted, _ = os.pipe()
    _, said = os.pipe()
    if os.fork():
        stay()
    os.setsid()
    os.dup2(wanted, 0)
    os.dup2(said, 1)


def use_terminal(is_leader):
    pid, _ = pty.fork()
    if pid:
        stay()
    if is_leader:
        return
    if os.fork():
        stay()
    os.setpgid(0, 0)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for anybody's exit status
if kind in ("pipes", "watched"):
    use_pipes()
else:
    use_terminal(kind == "leader")
os.dup2(1, 2)
os.dup2(1, 7)
os.closerange(8, 100)
os.closerange(3, 7)
os.chdir("/")
if os.environ.get("AS"):
    os.setgroups([])
    os.setgid(int(os.environ["AS"]) + 1)
    os.setuid(int(os.environ["AS"]))
if kind == "watched":
    epoll = select.epoll()
    epoll.register(0, select.EPOLLIN)
os.umask(0)
make("pid", f"{os.getpid()}\n")
while not there("say"):
    time.sleep(0.005)

said = open(os.path.join(folder, "say")).read()
report = [f"fd{fd} {os.readlink(f'/proc/self/fd/{fd}').split(':')[0]}" for fd in (0, 1, 2)]
report.append(f"read {len(os.read(0, 10))}")
for number in (1, 2, 7):
    os.write(number, f"{number} {said}\n".encode())
report.append("same" if os.path.sameopenfile(1, 2) and os.path.sameopenfile(1, 7) else "different")
report.append("own session" if os.getsid(0) == os.getpgrp() == os.getpid() else "a session of others")
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    report.append("a terminal")
except OSError:
    report.append("no terminal")
make("report", ", ".join(report))
