# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""redis_clients.py ADDRESS READY END: connections to a redis with a state of their own each: subscribed, blocked, in the
middle of a transaction, watching, and busy with scripts. Makes READY, works until END is there, and fails unless every
answer was right, over the connections that it began with."""

import itertools
import os
import socket
import sys
import threading
import time

address, ready, end = sys.argv[1:]
PASSWORD = "geheim"
SCRIPT = "local s = 0; for i = 1, 100000 do s = s + i end; redis.call('incr', 'scripts'); return s"


class Client:
    def __init__(self):
        connection = socket.create_connection((address, 6379), 60)
        self.file = connection.makefile("rwb")
        self.expect("OK", "AUTH", PASSWORD)

    def send(self, *words):
        self.file.write(f"*{len(words)}\r\n".encode())
        for word in words:
            self.file.write(f"${len(str(word))}\r\n{word}\r\n".encode())
        self.file.flush()

    def read(self):
        line = self.file.readline()
        assert line.endswith(b"\r\n"), "the connection has ended"
        kind, value = chr(line[0]), line[1:-2].decode()
        if kind == "*":
            return [self.read() for _ in range(int(value))]
        if kind == "$":
            return self.file.read(int(value) + 2)[:-2].decode()
        return int(value) if kind == ":" else value

    def expect(self, answer, *words):
        if words:
            self.send(*words)
        got = self.read()
        assert got == answer, f"{words}: {got!r} instead of {answer!r}"


def listen(client, messages):
    while True:
        messages.append(client.read()[2])


subscribed, blocked, busy, publisher = Client(), Client(), Client(), Client()
transaction, watching, undisturbed = Client(), Client(), Client()
messages = []
subscribed.expect(["subscribe", "news", 1], "SUBSCRIBE", "news")
threading.Thread(target=listen, args=(subscribed, messages), daemon=True).start()
blocked.send("BLPOP", "queue", "0")
transaction.expect("OK", "MULTI")
transaction.expect("QUEUED", "INCR", "steps")
for client, key in ((watching, "disturbed"), (undisturbed, "calm")):
    client.expect("OK", "WATCH", key)

for number in itertools.count():
    publisher.expect(1, "PUBLISH", "news", number)
    busy.expect(5000050000, "EVAL", SCRIPT, "0")
    if number == 10:
        open(ready, "w", encoding="ascii").close()
    if os.path.exists(end):
        break

publisher.expect(1, "RPUSH", "queue", "job")
blocked.expect(["queue", "job"])
transaction.expect("QUEUED", "INCR", "steps")
transaction.expect([1, 2], "EXEC")
publisher.expect("OK", "SET", "disturbed", "1")
for client, answer in ((watching, "*-1"), (undisturbed, ["OK"])):
    client.expect("OK", "MULTI")
    client.expect("QUEUED", "SET", "done", "1")
    if answer == "*-1":
        client.send("EXEC")
        assert client.file.readline() == b"*-1\r\n", "EXEC went ahead although the key was written"
    else:
        client.expect(answer, "EXEC")
busy.expect(str(number + 1), "GET", "scripts")
while len(messages) <= number:
    time.sleep(0.01)
assert messages == [str(n) for n in range(number + 1)], "messages were lost, doubled or in another order"
publisher.expect(1, "WAIT", 1, 60000)
print(f"pass: {number + 1} messages and scripts")
