/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Threads that each wait in one system call, with a look at how long it took and how it ended. They have waited for
 * BEFORE_MS when the subject is ready, so that a call that begins anew is told from one that goes on.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "subject.h"

enum { FULL_MS = 9000, BEFORE_MS = 6000 };

struct wait {
	const char *name;
	long (*wait)(const struct timespec *full); /* what the call returned */
	long expected;
	int expected_errno; /* if that is -1 */
	long result;
	int result_errno;
	int64_t took_ms;
	pthread_t thread;
};

static inline int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void *wait_in_thread(void *context)
{
	const struct timespec full = {.tv_sec = FULL_MS / 1000};
	struct wait *wait = context;
	int64_t start_ms = now_ms();

	errno = 0;
	wait->result = wait->wait(&full);
	wait->result_errno = errno;
	wait->took_ms = now_ms() - start_ms;
	return NULL;
}

static inline void waits_start(const struct subject *subject, struct wait *waits, size_t count)
{
	int64_t start_ms = now_ms();

	for (size_t i = 0; i < count; i++)
		if (pthread_create(&waits[i].thread, NULL, wait_in_thread, &waits[i]) != 0)
			subject_fail(subject, "%s: pthread_create", waits[i].name);
	while (now_ms() - start_ms < BEFORE_MS)
		usleep(10 * 1000);
}

/* most_ms: what is too long */
static inline void waits_check(const struct subject *subject, const struct wait *waits, size_t count, int64_t most_ms)
{
	for (size_t i = 0; i < count; i++) {
		const struct wait *wait = &waits[i];

		pthread_join(wait->thread, NULL);
		if (wait->result != wait->expected || (wait->result < 0 && wait->result_errno != wait->expected_errno))
			subject_fail(subject, "%s: returned %ld, errno %d, after %jd ms", wait->name, wait->result,
			             wait->result_errno, (intmax_t)wait->took_ms);
		if (wait->took_ms < FULL_MS || wait->took_ms >= most_ms)
			subject_fail(subject, "%s: took %jd ms", wait->name, (intmax_t)wait->took_ms);
	}
}
