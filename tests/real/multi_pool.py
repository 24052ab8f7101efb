# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# multi_pool.py FOLDER: a pool that squares numbers in processes which are renewed all the time, a queue with a producer and
# consumers, and shared counters, until FOLDER/stop is there. FOLDER/rounds counts on; FOLDER/verdict tells at the end whether
# any result was wrong.
import multiprocessing
import os
import sys
import time

folder = sys.argv[1]


def square(number):
    time.sleep(0.001)
    return number * number


def consume(queue, total, count):
    while (number := queue.get()) is not None:
        with total.get_lock():
            total.value += number
        with count.get_lock():
            count.value += 1


def one_round(pool, base):
    numbers = range(base, base + 100)
    return list(pool.imap(square, numbers)) == [n * n for n in numbers]


def main():
    queue = multiprocessing.Queue(50)
    total = multiprocessing.Value("q", 0)
    count = multiprocessing.Value("q", 0)
    consumers = [multiprocessing.Process(target=consume, args=(queue, total, count)) for _ in range(3)]
    for consumer in consumers:
        consumer.start()
    put = rounds = 0
    is_right = True
    with multiprocessing.Pool(4, maxtasksperchild=20) as pool:
        while not os.path.exists(folder + "/stop"):
            is_right = one_round(pool, rounds) and is_right
            for number in range(100):
                queue.put(number)
            put += 100
            rounds += 1
            with open(folder + "/rounds.new", "w") as out:
                out.write(f"{rounds}\n")
            os.rename(folder + "/rounds.new", folder + "/rounds")
    for _ in consumers:
        queue.put(None)
    for consumer in consumers:
        consumer.join()
    is_right = is_right and count.value == put and total.value == rounds * sum(range(100))
    statuses = [consumer.exitcode for consumer in consumers]
    with open(folder + "/verdict", "w") as out:
        out.write("pass\n" if is_right and statuses == [0, 0, 0] else f"{count.value} of {put}, {statuses}\n")


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
