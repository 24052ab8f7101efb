/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A process whose threads notice any harm. Each goes round through what is hard to be stopped in: computing with all
 * kinds of registers, restartable sequences (rseq(2)) that count per processor, sleeps, poll(2), futex(2) and
 * epoll_wait(2) with time-outs, and a stack that is so small that something else lies right below it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { VICTIM_THREADS_MAX = 4096, VICTIM_CPUS_MAX = 1024, VICTIM_REASON_BYTES = 128 };

struct victim_thread {
	atomic_uint_fast64_t steps;     /* how often it has done the next thing */
	atomic_uint_fast64_t committed; /* restartable sequences that came to their end */
	atomic_uint_fast64_t aborted;   /* … and that did not */
	atomic_uint_fast64_t broken;    /* epoll_wait(2) that ended with EINTR */
};

/* One counter a line of the cache. */
struct victim_counter {
	int64_t count;
	uint8_t unused[56];
};

/* Shared with the victim. */
struct victim {
	pid_t pid;
	unsigned thread_count, wait_ms;
	atomic_bool is_over; /* set by others: all threads end */
	atomic_uint ended_threads;
	atomic_bool is_harmed; /* then reason says how */
	char reason[VICTIM_REASON_BYTES];
	struct victim_counter counters[VICTIM_CPUS_MAX]; /* of the sequences, by processor */
	struct victim_thread threads[VICTIM_THREADS_MAX];
};

/* Starts it as a child. */
struct victim *victim_start(unsigned thread_count);

/* Does nothing until every thread has done something. False: one doesn't, or has noticed harm. */
bool victim_goes_on(struct victim *victim);

/* Lets all threads end and looks at what they have counted together. False: that is wrong. */
bool victim_end(struct victim *victim);
