# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# trees.py FOLDER: a process tree for trees.sh. Each of its processes counts in FOLDER/NAME as long as FOLDER/stop isn't
# there: the root, a child with a session of its own, a grandchild; and "storm", a child that has a new child all the time
# while FOLDER/storm is there. A zombie stays for the end, and its status goes into FOLDER/status.
import os
import sys
import time

folder = sys.argv[1]


def there(name):
    return os.path.exists(os.path.join(folder, name))


def write(name, text):
    path = os.path.join(folder, name)
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
    os.rename(path + ".new", path)


def count(name, work=lambda: None):
    number = 0
    while not there("stop"):
        write(name, f"{number}\n")
        number += 1
        work()
        time.sleep(0.01)


def storm():
    """Children that live for a moment, and execute a program."""
    for _ in range(20 if there("storm") else 0):
        pid = os.posix_spawn("/bin/true", ["true"], {})
        if os.waitpid(pid, 0) != (pid, 0):
            write("lost", "the end of a child\n")


def child():
    os.setsid()
    if os.fork() == 0:
        count("grandchild")
        os._exit(0)
    count("child")
    os.wait()
    os._exit(0)


dead = os.fork()
if dead == 0:
    os._exit(7)
children = [os.fork() or child()]
stormy = os.fork()
if stormy == 0:
    count("storm-child", storm)
    os._exit(0)
write("ready", "")
count("root")
write("status", str(os.waitpid(dead, 0)[1]))
