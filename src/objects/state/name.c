/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The name of a thread, PR_SET_NAME of prctl(2), and the personality(2) and oom_score_adj of its process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "objects/state.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { NAME_BYTES = 16 };

/* These two from /proc: once for the process. */
static struct error *read_process(pid_t pid, TaskCoreEntry *tc)
{
	auto_free char *score = NULL;
	auto_free char *personality = NULL;

	int r = procfs_read(pid, "oom_score_adj", &score, NULL);
	if (r >= 0)
		r = procfs_read(pid, "personality", &personality, NULL);
	if (r < 0)
		return error_new(-r, "oom_score_adj and personality of process %d", pid);
	tc->has_oom_score_adj = true;
	tc->oom_score_adj = (int32_t)strtol(score, NULL, 10);
	tc->personality = (uint32_t)strtoul(personality, NULL, 16);
	return NULL;
}

static void *name_ask(const struct state_save *state, struct batch *batch)
{
	struct arg *answer = xalloc(sizeof(*answer));

	(void)state;
	*answer = batch_space(batch, NAME_BYTES);
	batch_call(batch, prctl, val(PR_GET_NAME), *answer);
	return answer;
}

static struct error *name_save(const struct state_save *state, const void *collected, const void *asked,
                               const struct batch *batch)
{
	const struct arg *answer = asked;

	(void)collected;
	char *comm = xformat("%.*s", NAME_BYTES - 1, (const char *)batch_output(batch, *answer));
	state->core->thread_core->comm = comm;
	if (!state->core->tc)
		return NULL;
	state->core->tc->comm = xformat("%s", comm);
	return read_process(state->process->pid, state->core->tc);
}

static struct error *write_score(pid_t pid, int32_t score)
{
	auto_free char *path = xformat("/proc/%d/oom_score_adj", pid);
	auto_free char *text = xformat("%d", score);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return error_new(errno, "%s: %d", path, score);
	return NULL;
}

static struct error *restore_process(const struct state_restore *state, struct batch *batch)
{
	const TaskCoreEntry *tc = state->core->tc;
	TaskCoreEntry now = TASK_CORE_ENTRY__INIT;
	TaskCoreEntry wanted = TASK_CORE_ENTRY__INIT;

	TRY(read_process(state->pid, &now));
	/* While it was built it was the first to go when memory runs out (build.c): images without a score mean ours. */
	if (tc->has_oom_score_adj)
		wanted.oom_score_adj = tc->oom_score_adj;
	else
		TRY(read_process(getpid(), &wanted));
	if (wanted.oom_score_adj != now.oom_score_adj)
		TRY(write_score(state->pid, wanted.oom_score_adj)); /* lowering it takes a privilege */
	batch_call(batch, personality, val(tc->personality));
	return NULL;
}

static struct error *name_restore(const struct state_restore *state, struct batch *batch)
{
	const char *comm = state->core->thread_core->comm;
	char name[NAME_BYTES] = "";

	if (!comm && state->core->tc)
		comm = state->core->tc->comm;
	if (comm) {
		snprintf(name, sizeof(name), "%s", comm);
		batch_call(batch, prctl, val(PR_SET_NAME), batch_bytes(batch, name, sizeof(name)), val(0), val(0),
		           val(0));
	}
	return state->core->tc ? restore_process(state, batch) : NULL;
}

const struct state_ops name_ops = {
	.name = "name",
	.scope = STATE_THREAD,
	.ask = name_ask,
	.save = name_save,
	.restore = name_restore,
};
