/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>

#include "checkpoint/save/children.h"
#include "checkpoint/save/freeze.h"
#include "util/alloc.h"
#include "util/test_stop.h"

/* What is allocated in a freeze, roughly: for any program, and for each of its threads. */
enum { FIXED_ROOM_BYTES = 512 << 10, THREAD_ROOM_BYTES = 32 << 10 };

struct error *freeze(pid_t pid, struct calls *calls, size_t room_bytes, struct frozen **ret_frozen)
{
	auto_frozen struct frozen *frozen = xalloc(sizeof(*frozen));

	TRY(process_seize(pid, &frozen->process));
	alloc_warm(FIXED_ROOM_BYTES + frozen->process->thread_count * THREAD_ROOM_BYTES + room_bytes);
	frozen->process->calls = calls;
	TRY(process_stop(frozen->process));
	frozen->began_ns = frozen->process->stop_began_ns;
	TRY(process_read_rest(frozen->process));
	TRY(process_enter(frozen->process, 0, 0));
	*ret_frozen = take(frozen);
	return NULL;
}

struct error *frozen_thaw(struct frozen *frozen)
{
	struct error *error = process_thaw(frozen->process);

	process_free(take(frozen->process));
	return error;
}

struct error *frozen_leave_stopped(struct frozen *frozen)
{
	struct error *error = process_leave_stopped(frozen->process);

	process_free(take(frozen->process));
	return error;
}

struct error *obstacle_from(struct error *error, bool is_last_try, enum obstacle *ret_obstacle)
{
	*ret_obstacle = OBSTACLE_NONE;
	if (!error || is_last_try || error_errnum(error) != EAGAIN)
		return error;
	error_free(error);
	*ret_obstacle = OBSTACLE_UNREAD;
	return NULL;
}

void obstacle_log(enum obstacle obstacle, struct log *log)
{
	static const char *const texts[] = {
		[OBSTACLE_NONE] = "nothing is in the way",
		[OBSTACLE_CHILDREN] = "it has a child process by now",
		[OBSTACLE_CONNECTIONS] = "connections wait to be accepted",
		[OBSTACLE_UNREAD] = "something waits to be read",
	};

	log_line(log, LOG_PHASES, "it goes on once more: %s", texts[obstacle]);
	test_stop("again");
}

struct error *obstacle_error(enum obstacle obstacle, pid_t pid)
{
	struct error *children = NULL;

	switch (obstacle) {
	case OBSTACLE_CHILDREN:
		children = children_check(pid);
		return children ? children
		                : error_hint(error_new(EAGAIN, "it makes a child process again and again"),
		                             "try again later");
	case OBSTACLE_CONNECTIONS:
		return error_hint(
			error_new(EAGAIN, "connections wait to be accepted, and the program doesn't accept them"),
			"close the clients that wait, or try again later");
	case OBSTACLE_UNREAD: /* the last try has told what it is */
	case OBSTACLE_NONE:
		break;
	}
	return NULL;
}

void frozen_free(struct frozen *frozen)
{
	if (!frozen)
		return;
	/* On the way out of something that failed for a reason of its own, which is the one to tell. */
	if (frozen->process)
		error_free(frozen_thaw(frozen));
	free(frozen);
}
