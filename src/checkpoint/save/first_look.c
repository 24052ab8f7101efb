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

static struct error *look_once(const struct children_wait *wait, struct saver *saver, struct problems *found,
                               bool *ret_is_whole)
{
	auto_error struct error *error = saver_look(saver);

	*ret_is_whole = !error;
	if (error && !is_of_another_end(wait, saver, error))
		return take(error);
	if (error) {
		problems_add(found, error_hint(error_new(EAGAIN, "processes come and go too fast in its tree"),
		                               "try again later"));
		return NULL;
	}
	if (wait->is_single)
		problems_add(found, children_check(wait->pid));
	saver_check(saver, found);
	return NULL;
}

/* Leaves in *lasting what is in the way now and always was; and nothing is known where the look wasn't whole. */
static struct error *look(struct children_wait *wait, struct saver *saver, bool is_first, struct problems *lasting,
                          bool *ret_is_whole)
{
	auto_problems struct problems found = {0};

	(void)children_wait(wait);
	TRY(look_once(wait, saver, &found, ret_is_whole));
	if (!*ret_is_whole) {
		problems_free(lasting);
		*lasting = found;
		found = (struct problems){0};
		return NULL;
	}
	if (!is_first)
		problems_keep_common(&found, lasting);
	problems_free(lasting);
	*lasting = found;
	found = (struct problems){0};
	return NULL;
}

/*
 * The program runs while it is looked at: a file may be closed, a connection end, a child be born between two questions,
 * and what was true of each of them is nonsense for both. So only what is in the way in every look is told. What has come
 * since the last one is seen in the freeze.
 */
struct error *first_look_again(struct children_wait *wait, struct saver *saver)
{
	auto_problems struct problems lasting = {0};
	bool is_first = true;

	for (int looks = 1;;) {
		bool is_whole;

		TRY(look(wait, saver, is_first, &lasting, &is_whole));
		if (lasting.count == 0)
			return NULL;
		is_first = !is_whole; /* what is told from then on was in the way in all whole looks */
		bool passes = problems_all_are(&lasting, EAGAIN);
		if (is_for_a_child(wait))
			continue;
		if (looks == LOOKS || (!passes && looks >= LOOKS_AT_LASTING))
			return problems_error(&lasting, "process %d can't be carried:", wait->pid);
		if (passes)
			test_stop("unread");
		usleep(BETWEEN_LOOKS_US);
		looks++;
	}
}

struct error *first_look(struct children_wait *wait, const struct carry_options *options, struct saver **ret_saver)
{
	auto_saver struct saver *saver = NULL;

	TRY(saver_new(wait->pid, options, &saver));
	TRY(first_look_again(wait, saver));
	*ret_saver = take(saver);
	return NULL;
}
