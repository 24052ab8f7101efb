#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

"""coverage.py SOURCE BUILD [--write]: tests/COVERAGE.md, made from the tests that Meson knows, the subjects' own words about
what they look at, and docs/limits.md. Fails if the file isn't what it would be."""

import json
import re
import subprocess
import sys

CARRIERS = ["restore", "leave-running", "restore-twice", "predump", "migrate", "migrate-rounds", "migrate-hash", "migrate-pids"]
HEAD = """# What is covered

Made by tests/lint/coverage.py from the tests themselves; `make coverage` makes it anew, and a test fails if it is out of date.
A **+** is a test that has to pass; those of the carriers restore and migrate-rounds run with each `make test`, the others with
one run of ten and all of them with `make test-all`. A **-** is a combination that makes no sense, or that the kernel bars:
tests/meson.build says why. tests/README.md says with which break of the code each subject was seen to fail.

"""


def tests_of(build):
    out = subprocess.run(["meson", "introspect", "--tests", build], check=True, capture_output=True, text=True).stdout
    return {test["name"] for test in json.loads(out)}


def sources_of(source):
    text = open(f"{source}/tests/meson.build").read()
    listed = re.search(r"other_subjects = \[(.*?)\]", text, re.S).group(1)
    paths = {path.replace("/", "-"): f"subjects/{path}.c" for path in re.findall(r"'([^']+)'", listed)}
    types = re.findall(r"'(\w+)'", re.search(r"object_types = \[(.*?)\]", open(f"{source}/src/objects/meson.build").read(), re.S).group(1))
    paths |= {name: f"subjects/{name}.c" for name in types}
    return paths | {"goroutines": "real/goroutines.c", "many-threads": "real/many_threads.cc"}


def states_of(path):
    """The comment at the head of a subject, as one line."""
    text = re.sub(r"(?:^//.*\n)+", lambda m: "/*" + m.group().replace("//", "") + "*/\n", open(path).read(), flags=re.M)
    comments = re.findall(r"/\*(.*?)\*/", text, re.S)
    words = next(c for c in comments if "SPDX" not in c)
    return " ".join(re.sub(r"^\s*\* ?", "", line) for line in words.splitlines()).strip()


def cell(text):
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def subjects_table(source, names):
    lines = ["## Subjects", "", "| object | state | " + " | ".join(CARRIERS) + " |", "|---" * (len(CARRIERS) + 2) + "|"]
    for name, path in sorted(sources_of(source).items()):
        marks = ["+" if f"{name}-{carrier}" in names else "-" for carrier in CARRIERS]
        shown = re.sub(r"^subjects/|\.c+$", "", path)
        lines.append(f"| {shown} | {cell(states_of(f'{source}/tests/{path}'))} | " + " | ".join(marks) + " |")
    return lines


def programs_table(names):
    programs = sorted({name.removesuffix("-restore") for name in names if name.endswith("-restore")})
    lines = ["", "## Real programs, between two hosts and under load", "", "| program | restore | migrate |", "|---|---|---|"]
    for name in programs:
        lines.append(f"| {name} | + | " + ("+" if f"{name}-migrate" in names else "-") + " |")
    return lines


def refused_table(source):
    rows = [line for line in open(f"{source}/docs/limits.md") if line.startswith("| ")][1:]
    lines = ["", "## Not carried: docs/limits.md", "", "| what | what happens |", "|---|---|"]
    for row in rows:
        columns = re.split(r"(?<!\\)\|", row)
        lines.append(f"|{columns[1]}|{columns[2]}|")
    return lines


def main():
    source, build = sys.argv[1:3]
    names = tests_of(build)
    real = names - {f"{name}-{carrier}" for name in sources_of(source) for carrier in CARRIERS}
    text = HEAD + "\n".join(subjects_table(source, names) + programs_table(real) + refused_table(source)) + "\n"
    path = f"{source}/tests/COVERAGE.md"
    if "--write" in sys.argv:
        open(path, "w").write(text)
    elif open(path).read() != text:
        sys.exit("tests/COVERAGE.md is out of date: make coverage")


if __name__ == "__main__":
    main()
