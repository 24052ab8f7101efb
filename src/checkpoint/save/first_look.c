/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "checkpoint/save/first_look.h"

enum { LOOKS_WITH = 10, LOOKS_WITHOUT = 2 };

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
 * now, nobody can tell whether it was the cause: more looks do, the more of them if the program is one that has children.
 */
struct error *first_look(struct children_wait *wait, const struct carry_options *options, struct saver **ret_saver)
{
	bool has_had_some = false;

	for (int unexplained = 0;;) {
		has_had_some = children_wait(wait) || has_had_some;
		auto_error struct error *error = look(wait->pid, options, ret_saver);
		if (!error)
			return NULL;
		bool are_there = children_are_there(wait->pid);
		has_had_some = has_had_some || are_there;
		unexplained = are_there ? 0 : unexplained + 1;
		if (unexplained == (has_had_some ? LOOKS_WITH : LOOKS_WITHOUT) || !children_again(wait))
			return take(error);
	}
}
