/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "checkpoint/save/first_look.h"

static struct error *look(pid_t pid, const struct carry_options *options, struct saver **ret_saver)
{
	auto_problems struct problems problems = {0};
	auto_saver struct saver *saver = NULL;

	TRY(saver_new(pid, options, &saver));
	saver_check(saver, &problems);
	TRY(problems_error(&problems, "process %d can't be carried:", pid));
	*ret_saver = take(saver);
	return NULL;
}

/*
 * A child that was born after the wait has copies of all descriptors, and is in the way in many places. If it has ended by
 * now, nobody can tell whether it was the cause: one more look does.
 */
struct error *first_look(struct children_wait *wait, const struct carry_options *options, struct saver **ret_saver)
{
	for (bool is_certain = false;;) {
		(void)children_wait(wait);
		auto_error struct error *error = look(wait->pid, options, ret_saver);

		if (!error || is_certain || !children_again(wait))
			return take(error);
		is_certain = !children_are_there(wait->pid);
	}
}
