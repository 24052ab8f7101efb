#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors
"""Images that a villain would make: well-formed, but wrong.

crafted.py list                   a line each: number, what it is, what the error must name
crafted.py make NUMBER DIR PID    changes the images in DIR

Debian's crit takes the images apart and puts them together again.
"""
import json
import subprocess
import sys


def first(entries, kind=None):
    """The first entry, or the first of files.img of that kind."""
    return next(entry for entry in entries if kind is None or kind in entry)


def set_in(path, value, kind=None):
    def change(entries):
        entry = first(entries, kind)
        for step in path[:-1]:
            entry = entry[step]
        entry[path[-1]] = value

    return change


def every_file(value):
    def change(entries):
        for entry in entries:
            if "reg" in entry:
                entry["reg"]["name"] = value

    return change


def twice(entries):
    entries.append(entries[0])


def many_threads(entries):
    entries[0]["threads"] = list(range(1000, 1000 + 100000))


def area_overlap(entries):
    areas = entries[0]["vmas"]
    areas[1]["start"] = areas[0]["start"]


def area_over_all(entries):
    entries[0]["vmas"][0]["start"] = "0x0"
    entries[0]["vmas"][-1]["end"] = "0xfffffffffffff000"


def many_limits(entries):
    limits = entries[0]["tc"]["rlimits"]["rlimits"]
    limits.extend(limits[:1] * 64)


CASES = [
    ("images of a later version", "inventory.img", set_in(["img_version"], 99), "version"),
    ("no process", "pstree.img", lambda entries: entries.clear(), "pstree"),
    ("two processes", "pstree.img", twice, "pstree|process"),
    ("a PID of 0", "pstree.img", set_in(["pid"], 0), "PID 0"),
    ("a PID beyond all", "pstree.img", set_in(["pid"], 2147483647), "2147483647"),
    ("threads without an image", "pstree.img", many_threads, "core-|threads"),
    ("a thread twice", "pstree.img", set_in(["threads"], ["PID", "PID"]), "thread"),
    ("a path out of the root", "files.img", every_file("../../../../etc/shadow"), "etc/shadow|path"),
    ("an empty path", "files.img", every_file(""), "path|name|missing|different"),
    ("a folder in place of a file", "files.img", every_file("/etc"), "/etc"),
    ("a file of no type", "files.img", set_in(["type"], "UND"), "type|file"),
    ("a file id of nobody", "fdinfo-1.img", set_in(["id"], 4242), "0x1092"),
    ("a descriptor beyond all", "fdinfo-1.img", set_in(["fd"], 2147483647), "2147483647"),
    ("a descriptor twice", "fdinfo-1.img", twice, "fd|descriptor"),
    ("areas that overlap", "mm-PID.img", area_overlap, "area|mm-"),
    ("areas from end to end", "mm-PID.img", area_over_all, "area|mm-"),
    ("a break below the heap", "mm-PID.img", set_in(["mm_brk"], "0x10"), "brk|heap|limits|PR_SET_MM"),
    ("an executable that isn't there", "mm-PID.img", set_in(["exe_file_id"], 4242), "0x1092"),
    ("a root folder that isn't there", "fs-PID.img", set_in(["root_id"], 4242), "0x1092"),
    ("a kernel's instruction pointer", "core-PID.img",
     set_in(["thread_info", "gpregs", "ip"], "0xffffffff81000000"), "register|instruction|thread"),
    ("a data segment of nobody", "core-PID.img", set_in(["thread_info", "gpregs", "cs"], "0x10"),
     "register|segment|thread"),
    ("another processor", "core-PID.img", set_in(["mtype"], "AARCH64"), "core|AARCH64|processor"),
    ("a limit of a kind that there isn't", "core-PID.img", many_limits, "rlimit|limit"),
]


def replace_pid(value, pid):
    return json.loads(json.dumps(value).replace('"PID"', str(pid)))


def make(number, folder, pid):
    _, name, change, _ = CASES[number]
    path = f"{folder}/{name.replace('PID', str(pid))}"
    image = json.loads(subprocess.run(["crit", "decode", "-i", path], check=True, capture_output=True).stdout)
    change(image["entries"])
    image = replace_pid(image, pid)
    subprocess.run(["crit", "encode", "-o", path], check=True, input=json.dumps(image).encode())


if sys.argv[1] == "list":
    for index, (what, _, _, words) in enumerate(CASES):
        print(index, what, words, sep="\t")
else:
    make(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
