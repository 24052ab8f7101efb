/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Threads that seccomp(2) leaves hardly any call: one in strict mode, and one whose filter kills it for nearly any call,
 * that is also for those by which godwit looks at other threads.
 */
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>

#include "crew.h"
#include "filter.h"

/* A thread that does nothing but answer: by what it is restricted it could do little else. */
struct servant {
	pthread_t thread;
	bool is_strict;
	int question[2], answer[2];
	int tid;
};

static void *serve(void *arg)
{
	struct servant *servant = arg;
	char letter = 0;

	servant->tid = (int)gettid();
	if (servant->is_strict)
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	else
		filter_all(SECCOMP_RET_KILL_THREAD);
	while (read(servant->question[0], &letter, 1) == 1 && letter != 'x') {
		letter++;
		if (write(servant->answer[1], &letter, 1) != 1)
			break;
	}
	/* Forbidden: the end of it. */
	syscall(SYS_getppid);
	letter = '!';
	if (write(servant->answer[1], &letter, 1) == 1)
		for (;;)
			syscall(SYS_read, -1, NULL, 0);
	return NULL;
}

static char ask(const struct subject *subject, const struct servant *servant, char letter)
{
	if (write(servant->question[1], &letter, 1) != 1 || read(servant->answer[0], &letter, 1) != 1)
		subject_fail(subject, "thread %d doesn't answer", servant->tid);
	return letter;
}

static void start(const struct subject *subject, struct servant *servant)
{
	if (pipe(servant->question) != 0 || pipe(servant->answer) != 0 ||
	    pthread_create(&servant->thread, NULL, serve, servant) != 0)
		subject_fail(subject, "servant: errno %d", errno);
	if (ask(subject, servant, 'a') != 'b')
		subject_fail(subject, "servant: no answer");
}

static int has_answered(const struct servant *servant)
{
	struct pollfd poll_answer = {.fd = servant->answer[0], .events = POLLIN};

	return poll(&poll_answer, 1, 0) > 0;
}

/* It must answer, and then die of what is forbidden. */
static void check_servant(const struct subject *subject, struct servant *servant)
{
	char task[64];
	const char last = 'x';

	if (ask(subject, servant, 'g') != 'h')
		subject_fail(subject, "thread %d: wrong answer", servant->tid);
	snprintf(task, sizeof(task), "/proc/self/task/%d", servant->tid);
	if (write(servant->question[1], &last, 1) != 1)
		subject_fail(subject, "thread %d: errno %d", servant->tid, errno);
	struct stat unused;
	while (stat(task, &unused) == 0 && !has_answered(servant))
		sched_yield();
	if (has_answered(servant))
		subject_fail(subject, "thread %d isn't restricted any more", servant->tid);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct servant strict = {.is_strict = true};
	struct servant narrow = {.is_strict = false};

	start(&subject, &strict);
	start(&subject, &narrow);

	subject_ready(&subject);

	check_servant(&subject, &strict);
	check_servant(&subject, &narrow);
	return subject_pass(&subject);
}
