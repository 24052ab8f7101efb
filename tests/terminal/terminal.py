# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""A terminal with an interactive shell in it, for tests: what a person would type and see."""
import fcntl
import os
import pty
import select
import struct
import termios
import time

PATIENCE_S = 30


class Terminal:
    def __init__(self, rows, columns, argv=("/bin/bash", "--norc", "--noediting", "-i")):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # What is open in whoever runs the tests would end up in the program.
            os.closerange(3, 1024)
            os.environ["PS1"] = "shell> "
            os.environ["TERM"] = "xterm"
            os.execv(argv[0], argv)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def run(self, line):
        self.type(line + "\n")

    def expect(self, text):
        """Waits until text is on the screen, and forgets all up to it. Returns what was before it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise SystemExit(f"FAIL: {text!r} did not come; the terminal shows:\n{self.seen}")
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError as error:
                raise SystemExit(f"FAIL: the terminal closed before {text!r}; it showed:\n{self.seen}") from error
        before, self.seen = self.seen.split(text, 1)
        return before

    def close_shell(self):
        self.expect("shell> ")
        self.run("exit")
        self.close()

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)
