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


# ---- The memory path, against the limits that limits.c measures in the same run ----


def limit(host, *words):
    """MB per second."""
    return float(on(host, TOOLS + "/machine_limits", *words))


def bench_restore_rate():
    """Alternating, since other load comes and goes. Both get memory that the host has just had in use."""
    ticker = Ticker("-m", "1024")
    ratios = []
    for _ in range(6):
        ticker.dump()
        limit("a", "copy", "1024")
        at_best = limit("a", "copy", "1024")
        ratios.append(1024 * 1.048576 / (ticker.restore() / 1000) / at_best)
    ticker.end()
    row("restore of 1 GB over UFFDIO_COPY", ratios[1:], "", 0.5, is_least=True)


# A command with the most memory it ever had, in kB, behind its output.
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
sys.stdout.write(done.stdout)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.stderr.write(done.stderr)
sys.exit(done.returncode)
"""
ADDRESSES = {"a": "10.77.0.1", "b": "10.77.0.2"}


def listens(host, port):
    return str(port) in on(host, "ss", "-Hltn", f"sport = :{port}")


def migrate_tls(ticker):
    """By TLS. Returns what godwit says of it, and the most memory of both sides, in MB."""
    key = SHARED + "/key"
    if not os.path.exists(key):
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(os.urandom(32).hex())
    to = "b" if ticker.host == "a" else "a"
    with subprocess.Popen([HOSTS, "on", to, "python3", "-c", MEASURED, GODWIT, "receive", "--listen",
                           ADDRESSES[to] + ":7000", "--key", key, "--once"],
                          stdout=subprocess.PIPE, text=True) as receiver:
        wait_until(lambda: listens(to, 7000), "receive listens")
        out = on(ticker.host, "python3", "-c", MEASURED, GODWIT, "migrate", ticker.pid,
                 f"tls://{ADDRESSES[to]}:7000", "--key", key, "--json")
        received = receiver.communicate()[0]
    subprocess.run([HOSTS, "on", ticker.host, HOSTS, "gone", ticker.pid, "30"], check=True)
    ticker.host = to
    end = out.rindex("}") + 1
    memory = (int(out[end:].split()[0]) / 1024, int(received.split()[-1]) / 1024)
    return json.loads(out[out.index("{"):end]), memory


def stream_rate(host, to, megabytes):
    with subprocess.Popen([HOSTS, "on", to, TOOLS + "/machine_limits", "receive", ADDRESSES[to], "7001"],
                          stdout=subprocess.DEVNULL):
        wait_until(lambda: listens(to, 7001), "the stream's other end listens")
        return limit(host, "send", ADDRESSES[to], "7001", str(megabytes))


def bench_transfer_rate():
    ticker = Ticker("-m", "1024", "-d", "1")
    ratios = []
    for _ in range(6):
        host = ticker.host
        told, _ = migrate_tls(ticker)
        rate = told["sent_bytes"] / 1e6 / (told["rounds_ms"] / 1000)
        ratios.append(rate / stream_rate(host, ticker.host, 1024))
    ticker.end()
    row("transfer by TLS over one TCP stream", ratios[1:], "", 0.5, is_least=True)


def bench_own_memory():
    ticker = Ticker("-m", "4096", "-d", "20")
    _, (sender, receiver) = migrate_tls(ticker)
    ticker.end()
    row("memory of godwit migrate, for 4 GB", [sender], "MB", 64)
    row("memory of godwit receive, for 4 GB", [receiver], "MB", 64)


def cpu_s(ticker):
    fields = on(ticker.host, "cat", f"/proc/{ticker.pid}/stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def writes_per_cpu_s(ticker, act):
    """Of the program alone: what it has to share the processors with is another matter."""
    ticker.report()
    before = cpu_s(ticker)
    act()
    after = cpu_s(ticker)
    return ticker.report()["written_pages"] / (after - before)


def bench_slow_down():
    """While rounds are made that lead nowhere: chains of pre-dumps, which protect memory as a migration does."""
    ticker = Ticker("-m", "512", "-o", "100")
    ratios = []
    for step in range(4):
        fresh_dir(f"chain-{step}-0")
        alone = writes_per_cpu_s(ticker, lambda: time.sleep(2))

        def rounds(step=step):
            for number in range(4):
                images = fresh_dir(f"chain-{step}-{number}")
                on(ticker.host, GODWIT, "pre-dump", "--tree", ticker.pid, "--images-dir", images,
                   *(["--prev-images-dir", f"../chain-{step}-{number - 1}"] if number else []))

        ratios.append(writes_per_cpu_s(ticker, rounds) / alone)
        for number in range(4):
            fresh_dir(f"chain-{step}-{number}")
    ticker.end()
    row("work of a program during rounds over that without, 10,000 pages/s", ratios, "", 0.7, is_least=True)


def bench_memory():
    bench_restore_rate()
    bench_transfer_rate()
    bench_own_memory()
    bench_slow_down()


BENCHES = {"small": bench_small, "slopes": bench_slopes, "pause": bench_pause, "redis": bench_redis,
           "memory": bench_memory}


def main():
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()
    print_table()


main()
