/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Resource limits: getrlimit(2). Asked by the process itself, since prlimit(2) on a task of another user wants
 * CAP_SYS_RESOURCE.
 *
 * Without that privilege no hard limit can be raised: where godwit has a lower one than the program, the program gets that,
 * unless it is one that it may depend on, and its soft limit is higher.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "objects/state.h"
#include "util/alloc.h"
#include "util/procfs.h"

struct answers {
	struct arg limits[RLIM_NLIMITS];
};

static void *rlimit_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	for (uint64_t i = 0; i < RLIM_NLIMITS; i++) {
		answers->limits[i] = batch_space(batch, sizeof(struct rlimit));
		batch_call(batch, getrlimit, val(i), answers->limits[i]);
	}
	return answers;
}

static struct error *rlimit_save(const struct state_save *state, const void *collected, const void *asked,
                                 const struct batch *batch)
{
	const struct answers *answers = asked;
	TaskRlimitsEntry *limits = xalloc(sizeof(*limits));

	(void)collected;
	task_rlimits_entry__init(limits);
	limits->n_rlimits = RLIM_NLIMITS;
	limits->rlimits = xalloc(RLIM_NLIMITS * sizeof(RlimitEntry *));
	for (size_t i = 0; i < RLIM_NLIMITS; i++) {
		RlimitEntry *entry = xalloc(sizeof(*entry));
		struct rlimit limit;

		memcpy(&limit, batch_output(batch, answers->limits[i]), sizeof(limit));
		rlimit_entry__init(entry);
		entry->cur = limit.rlim_cur;
		entry->max = limit.rlim_max;
		limits->rlimits[i] = entry;
	}
	state->core->tc->rlimits = limits;
	return NULL;
}

/* ---- Restoring ---- */

/* What a program may depend on: without it, calls would fail that worked before. The others are bounds for the worst case,
 * and some of them the kernel derives from the size of the memory: a host that has less has lower ones. */
static const struct {
	int kind;
	const char *name;
} needed[] = {
	{RLIMIT_NOFILE, "open files"}, {RLIMIT_MEMLOCK, "locked memory"},
	{RLIMIT_STACK, "stack"},       {RLIMIT_AS, "address space"},
	{RLIMIT_DATA, "data"},         {RLIMIT_RTPRIO, "real-time priority"},
	{RLIMIT_FSIZE, "file size"},   {RLIMIT_CPU, "processor time"},
};

/* May the task raise a hard limit? It has the privileges of this process until it gets those of the program. */
static bool may_raise(void)
{
	auto_free char *status = NULL;
	uint64_t effective;

	return procfs_read(getpid(), "status", &status, NULL) == 0 &&
	       procfs_number(status, "CapEff", 16, &effective) == 0 && (effective & (UINT64_C(1) << CAP_SYS_RESOURCE));
}

static struct error *check_count(const TaskRlimitsEntry *limits)
{
	return limits && limits->n_rlimits > RLIM_NLIMITS ? error_new(EBADMSG, "%zu resource limits", limits->n_rlimits)
	                                                  : NULL;
}

static struct error *rlimit_preflight(const struct state_restore *state)
{
	const TaskRlimitsEntry *limits = state->core->tc->rlimits;

	TRY(check_count(limits));
	if (!limits || may_raise())
		return NULL;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		size_t kind = (size_t)needed[i].kind;
		struct rlimit here;

		if (kind >= limits->n_rlimits || getrlimit((__rlimit_resource_t)kind, &here) < 0 ||
		    limits->rlimits[kind]->cur <= here.rlim_max)
			continue;
		return error_hint(error_new(EPERM, "its limit of %s is %" PRIu64 ", and godwit may give it %ju at most",
		                            needed[i].name, limits->rlimits[kind]->cur, (uintmax_t)here.rlim_max),
		                  "run godwit with CAP_SYS_RESOURCE or with a higher hard limit, or lower that of the "
		                  "program: prlimit(1)");
	}
	return NULL;
}

/* A limit that is as it should be isn't set: raising the hard one may be forbidden here. */
static struct error *rlimit_restore(const struct state_restore *state, struct batch *batch)
{
	const TaskRlimitsEntry *limits = state->core->tc->rlimits;
	bool is_bounded = !may_raise();

	TRY(check_count(limits));
	for (size_t i = 0; limits && i < limits->n_rlimits; i++) {
		struct rlimit limit = {.rlim_cur = limits->rlimits[i]->cur, .rlim_max = limits->rlimits[i]->max};
		struct rlimit now;

		if (prlimit(state->pid, (__rlimit_resource_t)i, NULL, &now) < 0)
			return error_new(errno, "prlimit(%d, %zu)", state->pid, i);
		if (is_bounded && limit.rlim_max > now.rlim_max)
			limit.rlim_max = now.rlim_max;
		if (is_bounded && limit.rlim_cur > now.rlim_max)
			limit.rlim_cur = now.rlim_max;
		if (memcmp(&now, &limit, sizeof(now)) != 0)
			batch_call(batch, setrlimit, val(i), batch_bytes(batch, &limit, sizeof(limit)));
	}
	return NULL;
}

const struct state_ops rlimit_ops = {
	.name = "rlimit",
	.scope = STATE_PROCESS,
	.ask = rlimit_ask,
	.save = rlimit_save,
	.preflight = rlimit_preflight,
	.restore = rlimit_restore,
};
