/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "task/scope.h"
#include "util/alloc.h"
#include "util/own.h"
#include "util/procfs.h"
#include "util/run.h"

enum { BUSCTL_MS = 2000, MOVE_MS = 1000 };

/* sd_booted(3). A container may see that folder of its host, but then its PIDs are others, as its process 1 is. */
bool scope_can_be(void)
{
	auto_free char *name = NULL;

	return access("/run/systemd/system", F_OK) == 0 && procfs_read(1, "comm", &name, NULL) == 0 &&
	       strcmp(name, "systemd\n") == 0;
}

static bool is_inside(pid_t pid, const char *name)
{
	auto_free char *cgroups = NULL;
	auto_free char *end = xformat("/%s\n", name);

	return procfs_read(pid, "cgroup", &cgroups, NULL) == 0 && strstr(cgroups, end);
}

struct error *scope_make(pid_t pid, pid_t companion, const char *name)
{
	auto_free char *pid_text = xformat("%d", pid);
	auto_free char *second_text = xformat("%d", companion ? companion : pid); /* one that is named twice is one */
	const char *const argv[] = {"busctl", "call", "--quiet", "org.freedesktop.systemd1",
	                            "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
	                            "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail",
	                            /* Its properties, the first number says how many; no other units. */
	                            "3", "Description", "s", "Program restored by godwit", "PIDs", "au", "2", pid_text,
	                            second_text, "CollectMode", "s", "inactive-or-failed", "0", NULL};

	TRY(run_program(argv, BUSCTL_MS, NULL));
	/* The answer is that of a job that has only been begun. */
	for (int waited_ms = 0; waited_ms < MOVE_MS; waited_ms++) {
		if (is_inside(pid, name))
			return NULL;
		usleep(1000);
	}
	return error_new(ETIMEDOUT, "systemd has made %s, but the process isn't in it", name);
}
