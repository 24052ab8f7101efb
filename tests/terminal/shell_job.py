#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""A job of a shell in one terminal becomes a job of a shell in another one, as a person sees it."""
import os
import signal
import subprocess
import sys

from terminal import Terminal

HERE = os.path.dirname(os.path.abspath(__file__))
GODWIT = os.environ["GODWIT"]
SHARED = os.environ["SHARED"]
JOB = "/usr/bin/python3 -S " + os.path.join(HERE, "job.py")


def check(holds, what):
    if not holds:
        raise SystemExit(f"FAIL: {what}")


def start_job(terminal):
    terminal.expect("shell> ")
    terminal.run(JOB)
    terminal.expect("ready pid=")
    pid = int(terminal.expect(" "))
    state = terminal.expect("\r\n")
    check(state == "foreground raw erase=5 24x80", f"the job itself is not as it should be: {state!r}")
    return pid


def dump(pid, images, *options):
    os.makedirs(images, exist_ok=True)
    return subprocess.run([GODWIT, "dump", "--tree", str(pid), "--images-dir", images, *options],
                          capture_output=True, text=True, check=False)


def save(terminal, images):
    pid = start_job(terminal)
    result = dump(pid, images, "--shell-job")
    check(result.returncode == 0, "dump: " + result.stderr)
    terminal.expect("Killed")
    return pid


def test_without_the_option_it_is_told_what_to_do():
    terminal = Terminal(24, 80)
    pid = start_job(terminal)
    result = dump(pid, SHARED + "/refused")
    check(result.returncode == 1, "it was not refused")
    for text in ("setsid -f PROG", "--shell-job", "The program runs on"):
        check(text in result.stderr, f"no {text!r} in: {result.stderr}")
    terminal.type("a")
    terminal.expect("key a foreground raw")
    terminal.type("q")
    terminal.close_shell()


def test_a_job_comes_back_in_the_foreground_of_another_terminal():
    images = SHARED + "/foreground"
    old = Terminal(24, 80)
    save(old, images)
    new = Terminal(50, 132)
    new.expect("shell> ")
    new.run(f"{GODWIT} restore --images-dir {images} --shell-job")
    new.expect("resized foreground raw erase=5 50x132")
    new.type("a")
    new.expect("key a foreground raw erase=5 50x132")
    new.type("t")
    new.expect("by /dev/tty")
    new.type("\x03")
    new.expect("interrupted foreground raw")
    new.type("\x1a")
    new.expect("Stopped")
    new.expect("shell> ")
    new.run("echo the shell has the terminal")
    new.expect("\nthe shell has the terminal")
    new.run("fg")
    new.expect("continued foreground raw")
    new.type("b")
    new.expect("key b foreground")
    new.type("q")
    new.expect("shell> ")
    new.run("echo status=$?.")
    new.expect("\nstatus=7.")
    old.close_shell()
    new.close_shell()


def test_detached_it_is_in_the_foreground_until_the_shell_takes_that():
    images = SHARED + "/detached"
    old = Terminal(24, 80)
    pid = save(old, images)
    # No shell that takes the terminal back: the program keeps it.
    new = Terminal(24, 80, ("/bin/sh", "-c",
                            f"{GODWIT} restore --images-dir {images} --shell-job -d; echo returned; "
                            f"while kill -0 {pid}; do read -t 1 x </dev/null; sleep 0.05; done"))
    new.expect("returned")
    new.type("c")
    new.expect("key c foreground raw")
    new.type("q")
    old.close_shell()
    new.close()


def test_without_a_terminal_nothing_is_restored():
    images = SHARED + "/detached"
    result = subprocess.run([GODWIT, "restore", "--images-dir", images, "--shell-job", "-d"], text=True,
                            stdin=subprocess.DEVNULL, capture_output=True, check=False)
    check(result.returncode == 1, "it was restored without a terminal")
    check("standard input here is none" in result.stderr, result.stderr)


def test_without_the_option_it_is_not_restored():
    images = SHARED + "/detached"
    new = Terminal(24, 80)
    new.expect("shell> ")
    new.run(f"{GODWIT} restore --images-dir {images}")
    new.expect("the program had a terminal")
    new.expect("--shell-job")
    new.expect("Nothing was restored.")
    new.close_shell()


def test_an_editor_goes_on():
    images = SHARED + "/editor"
    text = SHARED + "/text"
    old = Terminal(24, 80)
    old.expect("shell> ")
    old.run(f"vim -u NONE -i NONE -n {text}; true")
    old.expect("[New")
    old.type("igodwits fly")
    old.expect("godwits fly")
    pid = int(subprocess.run(["pgrep", "-f", f"^vim.*{text}"], capture_output=True, text=True, check=True).stdout)
    result = dump(pid, images, "--shell-job")
    check(result.returncode == 0, "dump: " + result.stderr)
    new = Terminal(30, 100)
    new.expect("shell> ")
    new.run(f"{GODWIT} restore --images-dir {images} --shell-job")
    new.expect("godwits fly")
    new.type(" far\x1b:wq\r")
    old.close_shell()
    new.close_shell()
    with open(text, encoding="utf-8") as file:
        check(file.read() == "godwits fly far\n", "the editor lost the text")


def main():
    signal.alarm(240)
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            test()
            print("ok", name[5:].replace("_", " "))


if __name__ == "__main__":
    sys.exit(main())
