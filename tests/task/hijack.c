/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * hijack PID COUNT [PAUSE_MS [alone]]: clears what a killed one has left in a process; then stops it, runs batches in all
 * its threads and lets it go, COUNT times (0: for ever). For tests that kill it at any instant, with a keeper or alone, and
 * for looking at how long each step takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "task/calls.h"
#include "task/keeper.h"
#include "task/leftovers.h"
#include "task/process.h"

struct times {
	double stop_ms, enter_ms, batch_ms, thaw_ms;
};

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* NOLINTBEGIN(clang-analyzer-unix.Malloc): it doesn't see that auto_free frees calls */
static struct error *ask_everybody(struct process *process)
{
	auto_free struct batch **batches = calloc(process->thread_count, sizeof(struct batch *));
	auto_free struct arg *calls = calloc(process->thread_count, sizeof(struct arg));
	struct error *error = NULL;

	for (size_t i = 0; i < process->thread_count; i++) {
		batches[i] = process_batch(process, i);
		calls[i] = batch_call(batches[i], gettid, val(0));
		batch_call(batches[i], getpid, val(0));
	}
	error = process_run_all(process, batches);
	for (size_t i = 0; i < process->thread_count; i++) {
		if (!error && batch_result(batches[i], calls[i]) != process->threads[i].tid)
			error = error_new(0, "thread %d says it is %ld", process->threads[i].tid,
			                  (long)batch_result(batches[i], calls[i]));
		batch_free(batches[i]);
	}
	return error;
}
/* NOLINTEND(clang-analyzer-unix.Malloc) */

static struct error *hijack(pid_t pid, struct calls *calls, struct times *ret_times, size_t *ret_threads)
{
	auto_process struct process *process = NULL;
	double start = now_ms();

	TRY(process_seize(pid, &process));
	process->calls = calls;
	process_look(process);
	TRY(process_stop(process));
	double stopped = now_ms();
	TRY(process_enter(process, 0, 0));
	double entered = now_ms();
	*ret_threads = process->thread_count;
	TRY(ask_everybody(process));
	double asked = now_ms();
	TRY(process_thaw(process));
	*ret_times = (struct times){stopped - start, entered - stopped, asked - entered, now_ms() - asked};
	return NULL;
}

static struct error *run(pid_t pid, bool has_keeper, long count, long pause_ms)
{
	auto_keeper struct keeper *keeper = NULL;
	auto_calls struct calls *calls = calls_new();

	if (has_keeper) {
		TRY(keeper_start(&keeper));
		TRY(leftovers_tell_keeper(keeper, pid));
	}
	TRY(leftovers_clear(pid));
	for (long i = 0; count == 0 || i < count; i++) {
		struct times times;
		size_t threads;

		TRY(hijack(pid, calls, &times, &threads));
		if (count)
			printf("%zu threads: stop %.3f, enter %.3f, batch %.3f, thaw %.3f ms\n", threads, times.stop_ms,
			       times.enter_ms, times.batch_ms, times.thaw_ms);
		usleep((useconds_t)pause_ms * 1000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: %s PID COUNT [PAUSE_MS [alone]]\n", argv[0]);
		return 2;
	}
	auto_error struct error *error =
		run((pid_t)strtol(argv[1], NULL, 10),
	            argc<5, strtol(argv[2], NULL, 10), argc> 3 ? strtol(argv[3], NULL, 10) : 0);
	if (error)
		error_print(error, stderr);
	return error ? 1 : 0;
}
