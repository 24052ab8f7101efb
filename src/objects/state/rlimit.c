/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Resource limits: getrlimit(2). Asked by the process itself, since prlimit(2) on a task of another user wants
 * CAP_SYS_RESOURCE.
 *
 * Without that privilege no hard limit can be raised, and that of open files never above fs.nr_open: proc(5). Where a hard
 * limit can't be had, the program gets the highest that can, unless it is one that it may depend on, and its soft limit is
 * higher: that is refused beforehand.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "objects/rlimits.h"
#include "objects/state.h"
#include "util/alloc.h"
#include "util/procfs.h"

struct answers {
	struct arg limits[RLIM_NLIMITS];
};

static TaskRlimitsEntry *entry_of(const struct rlimit limits[RLIM_NLIMITS])
{
	TaskRlimitsEntry *all = xalloc(sizeof(*all));

	task_rlimits_entry__init(all);
	all->n_rlimits = RLIM_NLIMITS;
	all->rlimits = xalloc(RLIM_NLIMITS * sizeof(RlimitEntry *));
	for (size_t i = 0; i < RLIM_NLIMITS; i++) {
		RlimitEntry *entry = xalloc(sizeof(*entry));

		rlimit_entry__init(entry);
		entry->cur = limits[i].rlim_cur;
		entry->max = limits[i].rlim_max;
		all->rlimits[i] = entry;
	}
	return all;
}

TaskRlimitsEntry *rlimits_read(pid_t pid)
{
	struct rlimit limits[RLIM_NLIMITS];

	for (size_t i = 0; i < RLIM_NLIMITS; i++)
		if (prlimit(pid, (__rlimit_resource_t)i, NULL, &limits[i]) < 0)
			return NULL;
	return entry_of(limits);
}

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
	struct rlimit limits[RLIM_NLIMITS];

	(void)collected;
	for (size_t i = 0; i < RLIM_NLIMITS; i++)
		memcpy(&limits[i], batch_output(batch, answers->limits[i]), sizeof(limits[i]));
	state->core->tc->rlimits = entry_of(limits);
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

static uint64_t open_files_max(void)
{
	auto_free char *text = NULL;

	return procfs_read(getpid(), "../sys/fs/nr_open", &text, NULL) == 0 ? strtoull(text, NULL, 10) : RLIM_INFINITY;
}

/* The highest hard limits that a task may get which has these now. */
static void highest_limits(const uint64_t now[RLIM_NLIMITS], uint64_t ret_highest[RLIM_NLIMITS])
{
	bool is_bounded = !may_raise();
	uint64_t nr_open = open_files_max();

	for (size_t i = 0; i < RLIM_NLIMITS; i++)
		ret_highest[i] = is_bounded ? now[i] : RLIM_INFINITY;
	if (ret_highest[RLIMIT_NOFILE] > nr_open)
		ret_highest[RLIMIT_NOFILE] = nr_open;
}

static struct error *check_count(const TaskRlimitsEntry *limits)
{
	return limits && limits->n_rlimits > RLIM_NLIMITS ? error_new(EBADMSG, "%zu resource limits", limits->n_rlimits)
	                                                  : NULL;
}

static const char *hint_for(int kind)
{
	return kind == RLIMIT_NOFILE && may_raise()
	               ? "raise the sysctl fs.nr_open there, or lower the limit of the program: prlimit(1)"
	               : "run godwit with CAP_SYS_RESOURCE or with a higher hard limit, or lower that of the "
	                 "program: prlimit(1)";
}

struct error *rlimits_check(const TaskRlimitsEntry *limits)
{
	uint64_t own[RLIM_NLIMITS];
	uint64_t highest[RLIM_NLIMITS];
	struct error *error = NULL;

	TRY(check_count(limits));
	for (size_t i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit here = {0};

		if (getrlimit((__rlimit_resource_t)i, &here) < 0)
			return error_new(errno, "getrlimit(%zu)", i);
		own[i] = here.rlim_max;
	}
	highest_limits(own, highest);
	for (size_t i = 0; limits && i < sizeof(needed) / sizeof(needed[0]); i++) {
		size_t kind = (size_t)needed[i].kind;

		if (kind >= limits->n_rlimits || limits->rlimits[kind]->cur <= highest[kind])
			continue;
		struct error *one =
			error_new(EPERM, "its limit of %s is %" PRIu64 ", and godwit may give it %" PRIu64 " at most",
		                  needed[i].name, limits->rlimits[kind]->cur, highest[kind]);
		error = error_join(error, error_hint(one, "%s", hint_for(needed[i].kind)));
	}
	return error;
}

static struct error *rlimit_preflight(const struct state_restore *state)
{
	return rlimits_check(state->core->tc->rlimits);
}

/* A limit that is as it should be isn't set: raising the hard one may be forbidden here. */
static struct error *rlimit_restore(const struct state_restore *state, struct batch *batch)
{
	const TaskRlimitsEntry *limits = state->core->tc->rlimits;
	struct rlimit now[RLIM_NLIMITS];
	uint64_t hard[RLIM_NLIMITS];
	uint64_t highest[RLIM_NLIMITS];

	TRY(check_count(limits));
	for (size_t i = 0; i < RLIM_NLIMITS; i++) {
		if (prlimit(state->pid, (__rlimit_resource_t)i, NULL, &now[i]) < 0)
			return error_new(errno, "prlimit(%d, %zu)", state->pid, i);
		hard[i] = now[i].rlim_max;
	}
	highest_limits(hard, highest);
	for (size_t i = 0; limits && i < limits->n_rlimits; i++) {
		struct rlimit limit = {.rlim_cur = limits->rlimits[i]->cur, .rlim_max = limits->rlimits[i]->max};

		if (limit.rlim_max > highest[i])
			limit.rlim_max = highest[i];
		if (limit.rlim_cur > limit.rlim_max)
			limit.rlim_cur = limit.rlim_max;
		if (memcmp(&now[i], &limit, sizeof(limit)) != 0)
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
