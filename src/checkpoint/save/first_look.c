/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <unistd.h>

#include "checkpoint/save/first_look.h"
#include "util/test_stop.h"

enum {
	LOOKS = 20,
	LOOKS_AT_LASTING = 5, /* at what doesn't pass by itself */
	BETWEEN_LOOKS_US = 2000,
};

/* A child that was born after the wait has copies of all descriptors, and is in the way in many places. */
static bool is_for_a_child(struct children_wait *wait)
{
	return children_are_there(wait->pid) && children_again(wait);
}

/* Leaves in *lasting what is in the way now and always was; *ret_saver stays NULL where that is something. */
static struct error *look(struct children_wait *wait, const struct carry_options *options, bool is_first,
                          struct problems *lasting, struct saver **ret_saver)
{
	auto_saver struct saver *saver = NULL;
	auto_problems struct problems found = {0};

	(void)children_wait(wait);
	TRY(saver_new(wait->pid, options, &saver));
	saver_check(saver, &found);
	if (!is_first)
		problems_keep_common(&found, lasting);
	problems_free(lasting);
	*lasting = found;
	found = (struct problems){0};
	if (lasting->count == 0)
		*ret_saver = take(saver);
	return NULL;
}

/*
 * The program runs while it is looked at: a file may be closed, a connection end, a child be born between two questions,
 * and what was true of each of them is nonsense for both. So only what is in the way in every look is told. What has come
 * since the last one is seen in the freeze.
 */
struct error *first_look(struct children_wait *wait, const struct carry_options *options, struct saver **ret_saver)
{
	auto_problems struct problems lasting = {0};
	bool is_first = true;

	*ret_saver = NULL;
	for (int looks = 1;; is_first = false) {
		TRY(look(wait, options, is_first, &lasting, ret_saver));
		if (*ret_saver)
			return NULL;
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
