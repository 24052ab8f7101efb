#!/usr/bin/python3 -S
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""slow_ssh.py HOSTS COUNT ARG...: hosts ssh, over a link that takes 64 KB in 10 ms at most. The file COUNT says how many
bytes went over it."""
import subprocess
import sys
import time

CHUNK_BYTES = 64 << 10
SECONDS_EACH = 0.01

sent_bytes = 0
with (
    subprocess.Popen([sys.argv[1], "ssh", *sys.argv[3:]], stdin=subprocess.PIPE, bufsize=0) as ssh,
    open(sys.argv[2], "w", buffering=1) as count,
):
    while chunk := sys.stdin.buffer.raw.read(CHUNK_BYTES):
        try:
            view = memoryview(chunk)
            while view:
                view = view[ssh.stdin.write(view):]
        except BrokenPipeError:
            break
        sent_bytes += len(chunk)
        count.seek(0)
        print(sent_bytes, file=count)
        time.sleep(SECONDS_EACH * len(chunk) / CHUNK_BYTES)
    ssh.stdin.close()
sys.exit(ssh.returncode)
