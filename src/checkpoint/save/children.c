/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/save/children.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/procfs.h"

enum {
	LOOK_AGAIN_MS = 100,
	REAP_MS = 5, /* the program is about to fetch an exit status */
	AGAIN_NS = 10 * 1000 * 1000,
};

struct children {
	pid_t *pids; /* owned */
	size_t count;
};

static void children_free(struct children *children)
{
	free(children->pids);
}
#define auto_children __attribute__((cleanup(children_free)))

static struct children list_children(pid_t pid)
{
	struct children children = {0};

	/* Of one that has ended there are none. */
	(void)procfs_children(pid, &children.pids, &children.count);
	return children;
}

bool children_are_there(pid_t pid)
{
	auto_children struct children children = list_children(pid);

	return children.count > 0;
}

/* ---- Waiting ---- */

static void spend(struct children_wait *wait, uint64_t time_ns)
{
	wait->left_ns -= time_ns < wait->left_ns ? time_ns : wait->left_ns;
}

static void wait_a_moment(const struct children *children, struct children_wait *wait)
{
	auto_fd int living = -1;
	uint64_t start_ns = clock_now_ns();

	for (size_t i = 0; i < children->count && living < 0; i++)
		if (!procfs_is_dead(children->pids[i]))
			living = procfs_open_pid(children->pids[i]);
	/* A negative descriptor is left out: poll(2). */
	struct pollfd fds[] = {{.fd = living, .events = POLLIN}, {.fd = wait->stop_fd, .events = POLLIN}};
	uint64_t limit_ms = living < 0 ? REAP_MS : LOOK_AGAIN_MS;
	uint64_t left_ms = wait->left_ns / 1000000 + 1;
	poll(fds, 2, (int)(left_ms < limit_ms ? left_ms : limit_ms));

	uint64_t waited_ns = clock_now_ns() - start_ns;
	spend(wait, fds[1].revents ? wait->left_ns : waited_ns);
}

bool children_wait(struct children_wait *wait)
{
	for (bool were_there = false;; were_there = true) {
		auto_children struct children children = list_children(wait->pid);

		if (children.count == 0)
			return were_there;
		if (wait->left_ns == 0)
			return true;
		wait_a_moment(&children, wait);
	}
}

bool children_again(struct children_wait *wait)
{
	spend(wait, AGAIN_NS);
	return wait->left_ns > 0;
}

/* ---- Telling ---- */

/* "812 (sh), 813 (sleep)"; NULL: none of them is that. The caller frees. */
static char *children_text(const struct children *children, bool is_dead)
{
	char *text = NULL;

	for (size_t i = 0; i < children->count; i++) {
		auto_free char *former = NULL;
		auto_free char *name = NULL;

		/* None at all by now? */
		if (procfs_is_dead(children->pids[i]) != is_dead ||
		    procfs_read(children->pids[i], "comm", &name, NULL) < 0)
			continue;
		name[strcspn(name, "\n")] = '\0';
		former = text;
		text = xformat("%s%s%d (%s)", former ? former : "", former ? ", " : "", children->pids[i], name);
	}
	return text;
}

struct error *children_check(pid_t pid)
{
	auto_children struct children children = list_children(pid);
	auto_free char *living = children_text(&children, false);
	auto_free char *dead = children_text(&children, true);
	struct error *error = NULL;

	if (living)
		error = error_hint(error_new(ENOTSUP, "it has child processes: %s", living),
		                   "end the children, or let godwit wait for their end: --wait-children SECONDS. "
		                   "godwit dump saves process trees, and migrate moves them; pre-dump can't yet");
	if (!dead)
		return error;
	struct error *waits =
		error_new(ENOTSUP, "it has children that have ended, but whose exit status waits: %s", dead);
	return error_join(error, error_hint(waits, "the program itself has to fetch it (wait(2)); where it never does, "
	                                           "it can't be carried"));
}

/* ---- In the freeze ---- */

struct error *children_ask(struct process *process, bool *ret_are_there)
{
	auto_batch struct batch *batch = process_batch(process, 0);

	/* ECHILD: none. WNOWAIT leaves what there is as it is: waitid(2). */
	struct arg answer = batch_call(batch, waitid, val(P_ALL), val(0), val(0),
	                               val(WEXITED | WNOHANG | WNOWAIT | __WALL), val(0));
	batch_may_fail(batch, answer);
	TRY(process_run(process, batch));
	*ret_are_there = batch_result(batch, answer) != -ECHILD;
	return NULL;
}
