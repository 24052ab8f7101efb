/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * refused KIND FILE: sets up a state that godwit doesn't carry, makes FILE when it has it, and counts in FILE how often it
 * was sent SIGUSR1, so that a refusal can be seen to have done no harm.
 */
#include <asm/ldt.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void have_dispatch(void)
{
	enum { SET_SYSCALL_USER_DISPATCH = 59, ON = 1 };

	/* The whole of the program is exempt. */
	if (prctl(SET_SYSCALL_USER_DISPATCH, ON, 0, -4096L, NULL) != 0)
		err(77, "PR_SET_SYSCALL_USER_DISPATCH");
}

static void have_segment(void)
{
	const struct user_desc segment = {.entry_number = 3, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1};

	if (syscall(SYS_modify_ldt, 1, &segment, sizeof(segment)) != 0)
		err(77, "modify_ldt");
}

static void have_ports(void)
{
	if (ioperm(0x378, 3, 1) != 0)
		err(77, "ioperm");
}

static void have_thread_clock(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
	timer_t timer;

	if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) != 0)
		err(1, "timer_create");
}

static const struct {
	const char *name;
	void (*set_up)(void);
} kinds[] = {
	{"dispatch", have_dispatch},
	{"ldt", have_segment},
	{"ports", have_ports},
	{"thread-clock", have_thread_clock},
};

static void write_count(const char *path, int count)
{
	char draft[4096];

	snprintf(draft, sizeof(draft), "%s.new", path);
	FILE *file = fopen(draft, "we");
	if (!file || fprintf(file, "%d\n", count) < 0 || fclose(file) != 0 || rename(draft, path) != 0)
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 0; argc == 3 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, argv[1]) == 0)
			kinds[i].set_up();
	if (argc != 3)
		errx(2, "usage: %s KIND FILE", argv[0]);
	for (int count = 0;; count++) {
		write_count(argv[2], count);
		if (sigwaitinfo(&set, NULL) < 0)
			err(1, "sigwaitinfo");
	}
}
