# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# log_services.py FOLDER [SOCKET...]: listens as the journal of systemd and syslog do, where they do (or at the sockets
# named instead), and writes what it hears: FOLDER/stream-N, of connection number N, and FOLDER/messages. As the journal
# does, it notes beside the journal's socket what the first lines of a stream say. FOLDER/ready says that it listens.
import os
import selectors
import socket
import sys

STDOUT = "/run/systemd/journal/stdout"
NAMES = ("IDENTIFIER", "UNIT", "PRIORITY", "LEVEL_PREFIX", "FORWARD_TO_SYSLOG", "FORWARD_TO_KMSG", "FORWARD_TO_CONSOLE")
folder = sys.argv[1]
paths = sys.argv[2:] or [STDOUT, "/run/systemd/journal/dev-log"]
selector = selectors.DefaultSelector()


def append(name, data):
    with open(os.path.join(folder, name), "ab") as file:
        file.write(data)


def listen(path, kind):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(path)
    os.chmod(path, 0o666)
    return made


class Stream:
    count = 0

    def __init__(self, connection):
        Stream.count += 1
        self.name = f"stream-{Stream.count}"
        self.connection, self.head = connection, b""
        append(self.name, b"")

    def hear(self):
        data = self.connection.recv(65536)
        if not data:
            selector.unregister(self.connection)
            append(self.name, b"END\n")
            return
        append(self.name, data)
        if self.head.count(b"\n") < len(NAMES):
            self.head += data
            self.note()

    def note(self):
        lines = self.head.decode().split("\n")
        if len(lines) <= len(NAMES):
            return
        stat = os.fstat(self.connection.fileno())
        os.makedirs("/run/systemd/journal/streams", exist_ok=True)
        with open(f"/run/systemd/journal/streams/{stat.st_dev}:{stat.st_ino}", "w") as file:
            file.write("# This is private data. Do not parse\n")
            file.writelines(f"{name}={line}\n" for name, line in zip(NAMES, lines) if line)


def accept(listener):
    stream = Stream(listener.accept()[0])
    selector.register(stream.connection, selectors.EVENT_READ, stream.hear)


for path in paths:
    if path == STDOUT:
        streams = listen(path, socket.SOCK_STREAM)
        streams.listen(16)
        selector.register(streams, selectors.EVENT_READ, lambda: accept(streams))
    else:
        messages = listen(path, socket.SOCK_DGRAM)
        selector.register(messages, selectors.EVENT_READ, lambda: append("messages", messages.recv(65536) + b"\n"))
append("ready", b"")
while True:
    for key, _ in selector.select():
        key.data()
