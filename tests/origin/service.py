# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# service.py FOLDER: a service of systemd: its standard output and error are one stream to the journal, and it has a
# connection to syslog. It says to both what it is told in FOLDER/say, once that is there, and in FOLDER/verdict what of
# its sockets isn't as before.
import fcntl
import os
import socket
import sys
import time

folder = sys.argv[1]
SIZE = 123456


def there(name):
    return os.path.exists(os.path.join(folder, name))


def make(name, text=""):
    with open(os.path.join(folder, name + ".new"), "w") as file:
        file.write(text)
    os.rename(file.name, os.path.join(folder, name))


journal = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
journal.connect("/run/systemd/journal/stdout")
journal.shutdown(socket.SHUT_RD)
journal.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SIZE)
journal.sendall(b"the-name\nthe.service\n3\n0\n1\n0\n1\n")
os.dup2(journal.fileno(), 1)
os.dup2(journal.fileno(), 2)
journal.close()
syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
syslog.connect("/run/systemd/journal/dev-log")
syslog.setblocking(False)

os.write(1, b"before\n")
syslog.send(b"<30>before")
make("ready")
while not there("say"):
    time.sleep(0.005)

lost = []
if not os.path.sameopenfile(1, 2):
    lost.append("1 and 2 are two files")
output = socket.socket(fileno=os.dup(1))
if output.type != socket.SOCK_STREAM or output.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) != 2 * SIZE:
    lost.append("the stream's buffer has another size")
if output.recv(1, socket.MSG_DONTWAIT) != b"":
    lost.append("the stream isn't shut for reading")
if not fcntl.fcntl(syslog, fcntl.F_GETFL) & os.O_NONBLOCK:
    lost.append("the connection to syslog waits")
said = open(os.path.join(folder, "say")).read()
os.write(1, f"out {said}\n".encode())
os.write(2, f"error {said}\n".encode())
syslog.send(f"<30>{said}".encode())
make("verdict", ", ".join(lost) or "pass")
