#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""A program that belongs to a terminal: raw keys, a size, a group in the foreground. Tells what it gets."""
import os
import signal
import sys
import termios
import tty


def say(text):
    os.write(1, (text + "\n").encode())


def state():
    foreground = "foreground" if os.tcgetpgrp(0) == os.getpgrp() else "background"
    attributes = termios.tcgetattr(0)
    keys = "cooked" if attributes[3] & termios.ICANON else "raw"
    size = os.get_terminal_size(0)
    return f"{foreground} {keys} erase={ord(attributes[6][termios.VERASE])} {size.lines}x{size.columns}"


signal.signal(signal.SIGWINCH, lambda *_: say("resized " + state()))
signal.signal(signal.SIGINT, lambda *_: say("interrupted " + state()))
# The shell has the terminal while the job is stopped, and leaves it with its own settings.
signal.signal(signal.SIGCONT, lambda *_: (termios.tcsetattr(0, termios.TCSANOW, settings), say("continued " + state())))
tty.setcbreak(0)
settings = termios.tcgetattr(0)
settings[6][termios.VERASE] = b"\x05"
termios.tcsetattr(0, termios.TCSANOW, settings)
current = os.open("/dev/tty", os.O_RDWR)
say(f"ready pid={os.getpid()} {state()}")
while True:
    key = os.read(0, 1).decode()
    if key == "q":
        termios.tcsetattr(0, termios.TCSANOW, settings)
        sys.exit(7)
    if key == "t":
        os.write(current, b"by /dev/tty\r\n")
    say(f"key {key} {state()}")
