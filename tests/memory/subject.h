/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A process for tests of memory: a fork of the test that does what it is told, step by step, while the test looks at
 * it from outside. Step 0 sets up; what it returns is told to the test.
 */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "task/process.h"
#include "util/alloc.h"

typedef uint64_t subject_step(unsigned step, void *shared);

struct test_subject {
	pid_t pid;
	int to, from;
};

static inline struct test_subject subject_start(subject_step *run, void *shared)
{
	int to[2];
	int from[2];

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		unsigned step;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(to[0], &step, sizeof(step)) == sizeof(step)) {
			uint64_t answer = run(step, shared);

			if (write(from[1], &answer, sizeof(answer)) != sizeof(answer))
				break;
		}
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	return (struct test_subject){.pid = pid, .to = to[1], .from = from[0]};
}

/* Returns what the step returned. */
static inline uint64_t subject_do(const struct test_subject *subject, unsigned step)
{
	uint64_t answer;

	if (write(subject->to, &step, sizeof(step)) != sizeof(step) ||
	    read(subject->from, &answer, sizeof(answer)) != sizeof(answer))
		abort();
	return answer;
}

static inline void subject_end(const struct test_subject *subject)
{
	kill(subject->pid, SIGKILL);
	waitpid(subject->pid, NULL, 0);
	close(subject->to);
	close(subject->from);
}
#define auto_test_subject __attribute__((cleanup(subject_end)))

/* The descriptors of it that reading needs, without holding it. */
static inline struct process subject_process(const struct test_subject *subject)
{
	auto_free char *path = xformat("/proc/%d/mem", subject->pid);

	return (struct process){
		.pid = subject->pid,
		.pidfd = -1,
		.mem_fd = open(path, O_RDWR | O_CLOEXEC),
	};
}
