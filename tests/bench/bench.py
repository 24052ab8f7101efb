#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors
"""hosts run bench.py [NAME]...: measures what users wait for, beside what was promised.

Each number is a pause as the program itself or its slowest client saw it, a whole command, or a ratio to a limit of
this machine that is measured in the same run. Machines are noisy: each thing is done several times, the median counts
and the best is shown beside it. Nothing here fails for being slow; it fails where something is wrong.

HOSTS, SHARED, GODWIT and TOOLS are as for the other scripts (tests/lib/hosts.sh).
"""
import json
import os
import statistics
import subprocess
import sys
import time

HOSTS, SHARED, GODWIT, TOOLS = (os.environ[name] for name in ("HOSTS", "SHARED", "GODWIT", "TOOLS"))
SERVICE = "10.77.0.100"
HERE = os.path.dirname(os.path.abspath(__file__))

# What a command costs is timed on the host itself: to get there costs more than the command.
TIMED = """
import subprocess, sys, time
start = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
print(time.monotonic() - start)
print(done.stdout)
sys.exit(done.returncode)
"""


def on(host, *words, check=True):
    done = subprocess.run([HOSTS, "on", host, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode:
        sys.exit(f"{' '.join(words)} on {host}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def timed_on(host, *words):
    """Milliseconds that a command takes there."""
    return float(on(host, "python3", "-c", TIMED, *words).split("\n", 1)[0]) * 1000


def start_on(host, log, *words):
    out = subprocess.run([HOSTS, "start", host, log, *words], stdout=subprocess.PIPE, check=True, text=True)
    return out.stdout.strip()


def wait_for(path, seconds=60):
    subprocess.run([HOSTS, "wait", path, str(seconds)], check=True)


def wait_until(condition, what):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    sys.exit(f"never came true: {what}")


def fresh_dir(name):
    path = os.path.join(SHARED, name)
    subprocess.run(["rm", "-rf", path], check=True)
    os.makedirs(path)
    return path


class Ticker:
    """ticker (tests/bench/ticker.c): a program that feels its pauses. Where it is: host."""

    count = 0

    def __init__(self, *options):
        Ticker.count += 1
        self.dir = fresh_dir(f"ticker-{Ticker.count}")
        self.images = fresh_dir(f"images-{Ticker.count}")
        self.host = "a"
        self.reports = 0
        self.pid = start_on("a", self.dir + "/log", os.path.join(TOOLS, "ticker"), *options, self.dir)
        wait_for(self.dir + "/ready")

    def report(self, checks_memory=False):
        on(self.host, "kill", "-USR2" if checks_memory else "-USR1", self.pid)
        self.reports += 1
        path = f"{self.dir}/report-{self.reports}"
        wait_for(path)
        with open(path, encoding="ascii") as file:
            return json.load(file)

    def pause_ms(self, act):
        """Its longest pause while act() is done."""
        self.report()
        act()
        return self.report()["slowest_us"] / 1000

    def dump(self, *options):
        images = fresh_dir(os.path.basename(self.images))
        return timed_on(self.host, GODWIT, "dump", "--tree", self.pid, "--images-dir", images, "--tcp-established",
                        *options)

    def restore(self):
        return timed_on(self.host, GODWIT, "restore", "--images-dir", self.images, "--restore-detached",
                        "--tcp-established")

    def migrate(self):
        to = "b" if self.host == "a" else "a"
        out = migrate(self.host, to, self.pid)
        self.host = to
        return out

    def end(self):
        report = self.report(checks_memory=True)
        if report["corrupt_pages"]:
            sys.exit(f"{report['corrupt_pages']} pages of memory are not what was written")
        on(self.host, "kill", "-KILL", self.pid)
        subprocess.run([HOSTS, "on", self.host, HOSTS, "gone", self.pid, "30"], check=True)
        subprocess.run(["rm", "-rf", self.images, self.dir], check=True)


def migrate(host, to, pid, *options):
    """What godwit says of it, as JSON."""
    done = subprocess.run([HOSTS, "on", host, GODWIT, "migrate", pid, to, "--ssh", HOSTS + " ssh", "--remote-path",
                           GODWIT, "--json", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"migrate: {done.stdout}{done.stderr}")
    subprocess.run([HOSTS, "on", host, HOSTS, "gone", pid, "30"], check=True)
    return json.loads(done.stdout)


# ---- The table ----

ROWS = []


def row(what, values, unit, limit, is_least=False):
    """One line: the median of values counts."""
    median = statistics.median(values)
    best = max(values) if is_least else min(values)
    is_met = median >= limit if is_least else median <= limit
    ROWS.append((what, median, best, unit, ("at least " if is_least else "at most ") + f"{limit:g}", is_met))
    print(f"{what}: {median:.2f} {unit} (best {best:.2f}, {ROWS[-1][4]}): {'met' if is_met else 'MISSED'}", flush=True)
    return median


def print_table():
    print("\n| work | median | best | promised | |\n|---|---|---|---|---|")
    for what, median, best, unit, promise, is_met in ROWS:
        print(f"| {what} | {median:.2f} {unit} | {best:.2f} | {promise} | {'met' if is_met else '**missed**'} |")


# ---- What is measured ----


def moved_pauses(megabytes, rate):
    ticker = Ticker("-m", str(megabytes), "-d", str(rate))
    ticker.migrate()  # the hosts' memory is fresh the first time
    pauses = [ticker.pause_ms(ticker.migrate) for _ in range(6)]
    ticker.end()
    return pauses


def bench_pause():
    small = row("migrate 64 MB that dirties 20 MB/s: pause", moved_pauses(64, 20), "ms", 40)
    large = row("migrate 1 GB that dirties 20 MB/s: pause", moved_pauses(1024, 20), "ms", 40)
    row("pause of 1 GB over that of 64 MB", [large / small], "", 1.5)


def redis_slowest(megabytes):
    """Slowest replies, in ms, of a client that increments every ms, one for each of six moves."""
    fresh_dir("redis")
    on("a", "ip", "addr", "add", SERVICE + "/24", "dev", "eth0")
    pid = start_on("a", SHARED + "/redis.log", "redis-server", "--bind", SERVICE, "--port", "6379",
                   "--protected-mode", "no", "--enable-debug-command", "yes", "--save", "", "--dir", SHARED + "/redis")
    wait_until(lambda: "PONG" in on("client", "redis-cli", "-h", SERVICE, "ping", check=False), "redis answers")
    on("client", "redis-cli", "-h", SERVICE, "debug", "populate", str(megabytes * 1000), "key", "900")
    report = SHARED + "/counter.json"
    client = start_on("client", SHARED + "/counter.log", TOOLS + "/counter_client", "-h", SERVICE, "-r", report)
    wait_for(report)

    def ask(signal):
        if os.path.exists(report):
            os.unlink(report)
        on("client", "kill", signal, client)
        wait_for(report)
        with open(report, encoding="ascii") as file:
            return json.load(file)

    slowest = []
    host = "a"
    for _ in range(7):
        to = "b" if host == "a" else "a"
        ask("-USR1")
        migrate(host, to, pid, "--move-address", SERVICE + "/24")
        host = to
        time.sleep(0.3)
        slowest.append(ask("-USR1")["slowest_us"] / 1000)
    last = ask("-TERM")
    if last["errors"] or last["lost"] or last["doubled"]:
        sys.exit(f"a client of redis saw: {last}")
    on(host, "kill", "-KILL", pid)
    on(host, "ip", "addr", "del", SERVICE + "/24", "dev", "eth0")
    return slowest[1:]  # the hosts' memory is fresh the first time


def bench_redis():
    row("redis of 100 MB: slowest reply", redis_slowest(100), "ms", 60)
    row("redis of 1 GB: slowest reply", redis_slowest(1000), "ms", 80)


def bench_small():
    ticker = Ticker("-m", "1")
    row("freeze of a small program with 2 threads",
        [ticker.pause_ms(lambda: ticker.dump("--leave-running")) for _ in range(15)], "ms", 2)
    dumps = []
    restores = []
    for _ in range(15):
        dumps.append(ticker.dump())
        restores.append(ticker.restore())
    ticker.end()
    row("dump of it, whole command", dumps, "ms", 20)
    row("restore of it, whole command", restores, "ms", 20)


def slope(points):
    """Least squares, of (count, ms): microseconds for each."""
    mean_x = statistics.mean(x for x, _ in points)
    mean_y = statistics.mean(y for _, y in points)
    return 1000 * sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def bench_slopes():
    for what, option, limit in (("thread", "-t", 30), ("area (VMA)", "-a", 1), ("descriptor", "-f", 10),
                                ("TCP connection", "-c", 50)):
        if option == "-f" and 1000 > int(on("a", "sh", "-c", "ulimit -Hn")):
            continue
        points = []
        for count in (1, 250, 500, 1000):
            ticker = Ticker("-m", "1", option, str(count))
            pauses = [ticker.pause_ms(lambda t=ticker: t.dump("--leave-running")) for _ in range(9)]
            points.append((count * (2 if option == "-c" else 1), statistics.median(pauses)))
            ticker.end()
        print("   ", ", ".join(f"{count}: {ms:.2f} ms" for count, ms in points))
        row(f"frozen for each {what}", [slope(points)], "us", limit)


BENCHES = {"small": bench_small, "slopes": bench_slopes, "pause": bench_pause, "redis": bench_redis}


def main():
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()
    print_table()


main()
