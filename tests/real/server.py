# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""Threads that hash, and an asyncio server: port 7000 echoes, port 7001 says whether all threads' sums are right."""

import asyncio
import hashlib
import sys
import threading
import time


class Chain(threading.Thread):
    """sha256 of sha256 of ...: a lost or doubled step, or a bit of state, changes all that follow."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.seed = b"chain %d" % number
        self.lock = threading.Lock()
        self.steps = 0
        self.digest = self.seed

    def run(self):
        while True:
            with self.lock:
                self.digest = hashlib.sha256(self.digest).digest()
                self.steps += 1
            time.sleep(0.002)

    def is_right(self):
        with self.lock:
            digest = self.seed
            for _ in range(self.steps):
                digest = hashlib.sha256(digest).digest()
            return self.steps > 0 and digest == self.digest


chains = [Chain(number) for number in range(20)]
ticks = 0


async def tick():
    global ticks
    while True:
        await asyncio.sleep(0.005)
        ticks += 1


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def verify(_reader, writer):
    before = ticks
    await asyncio.sleep(0.1)
    right = await asyncio.to_thread(lambda: sum(chain.is_right() for chain in chains))
    verdict = "pass" if right == len(chains) and ticks > before else "fail"
    writer.write(f"{verdict}: {right} of {len(chains)} chains right, {ticks} ticks\n".encode())
    await writer.drain()
    writer.close()


async def main():
    for chain in chains:
        chain.start()
    servers = [await asyncio.start_server(echo, sys.argv[1], 7000), await asyncio.start_server(verify, sys.argv[1], 7001)]
    await asyncio.gather(tick(), *(server.serve_forever() for server in servers))


asyncio.run(main())
