/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdbool.h>
#include <sys/stat.h>

#include "checkpoint/hooks.h"
#include "util/alloc.h"

struct error *hooks_run(struct hooks *hooks, const char *point, pid_t pid, int limit_ms)
{
	return hooks ? hooks->run(hooks, point, pid, limit_ms) : NULL;
}

static bool has_own_network(pid_t pid)
{
	auto_free char *path = xformat("/proc/%d/ns/net", pid);
	struct stat own;
	struct stat first;

	return stat(path, &own) == 0 && stat("/proc/1/ns/net", &first) == 0 && own.st_ino != first.st_ino;
}

struct error *hooks_run_network(struct hooks *hooks, const char *point, pid_t pid, int limit_ms)
{
	return hooks && has_own_network(pid) ? hooks->run(hooks, point, pid, limit_ms) : NULL;
}
