/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <unistd.h>

#include "checkpoint/save/first_look.h"
#include "util/procfs.h"
#include "util/test_stop.h"

enum {
	LOOKS = 20,
	LOOKS_AT_LASTING = 5, /* at what doesn't pass by itself */
	LOOKS_AT_CHANGES = 5, /* at processes that come and go meanwhile */
	BETWEEN_LOOKS_US = 2000,
};

/* A child that was born after the wait has copies of all descriptors, and is in the way in many places. */
static bool is_for_a_child(struct children_wait *wait)
{
	return wait->is_single && children_are_there(wait->pid) && children_again(wait);
}

/* A process of the tree has ended between two questions about it. */
static bool is_of_another_end(const struct children_wait *wait, const struct saver *saver, const struct error *error)
{
	int errnum = error_errnum(error);

	return saver_count(saver) > 1 && !procfs_is_dead(wait->pid) &&
	       (errnum == ESRCH || errnum == ENOENT || errnum == EAGAIN);
}

/* Not complete: it says nothing, and has to be made again. */
static struct error *look_once(const struct children_wait *wait, struct saver *saver, struct problems *found,
                               bool *ret_is_complete)
{
	auto_error struct error *error = saver_look(saver);

	*ret_is_complete = !error;
	if (error && !is_of_another_end(wait, saver, error))
		return take(error);
	if (error)
		return NULL;
	if (wait->is_single)
		problems_add(found, children_check(wait->pid));
	saver_check(saver, found);
	/* What is said of processes that have gone meanwhile, or by those that have come, is nonsense. */
	*ret_is_complete = found->count == 0 || live_tree_is_current(saver_live(saver));
	return NULL;
}

/* Leaves in *lasting what is in the way now and always was. */
static struct error *look(struct children_wait *wait, struct saver *saver, bool is_first, struct problems *lasting,
                          bool *ret_is_complete)
{
	auto_problems struct problems found = {0};

	(void)children_wait(wait);
	TRY(look_once(wait, saver, &found, ret_is_complete));
	if (!*ret_is_complete)
		return NULL;
	if (!is_first)
		problems_keep_common(&found, lasting);
	problems_free(lasting);
	*lasting = found;
	found = (struct problems){0};
	return NULL;
}

struct error *first_look_held(struct saver *saver)
{
	auto_problems struct problems found = {0};

	TRY(saver_look(saver));
	saver_check(saver, &found);
	if (found.count > 0 && problems_all_are(&found, EAGAIN))
		return error_new(EAGAIN, "process %d", saver_live(saver)->list[0].pid);
	problems_drop(&found, EAGAIN);
	return problems_error(&found, "process %d can't be carried:", saver_live(saver)->list[0].pid);
}

static struct error *look_held(void *context, const struct live_tree **ret_live)
{
	struct saver *saver = context;

	TRY(first_look_held(saver));
	*ret_live = saver_live(saver);
	return NULL;
}

/* Its processes come and go faster than they can be looked at. */
static struct error *hold_and_look(pid_t pid, struct tree_calls *calls, struct saver *saver,
                                   enum obstacle *ret_obstacle)
{
	auto_live_tree struct live_tree root = {0};
	auto_frozen struct frozen *frozen = NULL;
	const struct relook relook = {.look = look_held, .context = saver};
	const struct freeze_request request = {.live = &root, .calls = calls, .has_children = true, .relook = &relook};

	TRY(live_tree_read_root(pid, &root));
	TRY(freeze(&request, &frozen, ret_obstacle));
	return frozen_thaw(frozen);
}

/* What is in the way is told, or waited for once more. */
static struct error *judge(struct children_wait *wait, const struct problems *lasting, int *looks)
{
	bool passes = problems_all_are(lasting, EAGAIN);

	if (is_for_a_child(wait))
		return NULL;
	if (*looks == LOOKS || (!passes && *looks >= LOOKS_AT_LASTING))
		return problems_error(lasting, "process %d can't be carried:", wait->pid);
	if (passes)
		test_stop("unread");
	usleep(BETWEEN_LOOKS_US);
	(*looks)++;
	return NULL;
}

/* *ret_is_seen: all was seen while it stood still. */
static struct error *look_if_late(pid_t pid, struct tree_calls *calls, struct saver *saver, int looks,
                                  bool *ret_is_seen)
{
	enum obstacle obstacle;

	*ret_is_seen = false;
	if (looks < LOOKS_AT_CHANGES)
		return NULL;
	TRY(hold_and_look(pid, calls, saver, &obstacle));
	*ret_is_seen = obstacle == OBSTACLE_NONE;
	return looks == LOOKS ? obstacle_error(obstacle, pid) : NULL;
}

/*
 * The program runs while it is looked at: a file may be closed, a connection end, a child be born between two questions,
 * and what was true of each of them is nonsense for both. So only what is in the way in every look is told. What has come
 * since the last one is seen in the freeze.
 */
struct error *first_look_again(struct children_wait *wait, struct tree_calls *calls, struct saver *saver)
{
	auto_problems struct problems lasting = {0};
	bool is_first = true;
	bool is_seen = false;

	for (int looks = 1;;) {
		bool is_complete;

		TRY(look(wait, saver, is_first, &lasting, &is_complete));
		is_seen = is_complete && lasting.count == 0;
		if (!is_complete)
			TRY(look_if_late(wait->pid, calls, saver, looks, &is_seen));
		if (is_seen)
			return NULL;
		is_first &= !is_complete;
		TRY(judge(wait, &lasting, &looks));
	}
}

struct error *first_look(struct children_wait *wait, const struct carry_options *options, struct tree_calls *calls,
                         struct saver **ret_saver)
{
	auto_saver struct saver *saver = NULL;

	TRY(saver_new(wait->pid, options, &saver));
	TRY(first_look_again(wait, calls, saver));
	*ret_saver = take(saver);
	return NULL;
}
