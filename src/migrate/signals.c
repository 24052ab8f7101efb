/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "migrate/signals.h"

static const int stops[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static sigset_t stop_set(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		sigaddset(&set, stops[i]);
	return set;
}

void signals_block(void)
{
	const sigset_t set = stop_set();

	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

struct error *signals_watch(int *ret_fd)
{
	const sigset_t set = stop_set();
	int fd = signalfd(-1, &set, SFD_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "signalfd");
	*ret_fd = fd;
	return NULL;
}

struct error *signals_check(void)
{
	sigset_t pending;

	sigpending(&pending);
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		if (sigismember(&pending, stops[i]))
			return error_new(EINTR, "stopped by SIG%s", sigabbrev_np(stops[i]));
	return NULL;
}
