/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdbool.h>
#include <unistd.h>

#include "checkpoint/alive.h"
#include "checkpoint/save/freeze.h"
#include "util/clock.h"
#include "util/procfs.h"

enum { LOOK_AGAIN_US = 5000 };

static bool is_gone(const struct lock_holder *process)
{
	uint64_t start_time;
	int r = procfs_start_time(process->pid, &start_time);

	return r == -ENOENT || r == -ESRCH || (r == 0 && start_time != process->start_time) ||
	       procfs_is_dead(process->pid);
}

static struct error *freeze_once(pid_t pid)
{
	auto_calls struct calls *calls = calls_new();
	auto_frozen struct frozen *frozen = NULL;

	TRY(freeze(pid, calls, 0, &frozen));
	return frozen_thaw(frozen);
}

struct error *alive_prove(const struct lock_holder *process, unsigned wait_ms, bool *ret_is_alive)
{
	uint64_t end_ns = clock_now_ns() + (uint64_t)wait_ms * 1000000;

	for (;;) {
		*ret_is_alive = false;
		if (is_gone(process))
			return NULL;
		auto_error struct error *error = freeze_once(process->pid);
		if (!error) {
			*ret_is_alive = true;
			return NULL;
		}
		if (clock_now_ns() > end_ns && !is_gone(process))
			return take(error);
		usleep(LOOK_AGAIN_US);
	}
}
