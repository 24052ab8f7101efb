/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Options of sockets, for subjects: what can't be set ends them. */
#pragma once

#include <errno.h>
#include <sys/socket.h>

#include "subject.h"

static inline void check(const struct subject *subject, int ok, const char *what)
{
	if (!ok)
		subject_fail(subject, "%s: errno %d", what, errno);
}

static inline void set(const struct subject *subject, int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)) != 0)
		subject_fail(subject, "setsockopt(%d, %d, %d): errno %d", level, name, value, errno);
}

static inline int get(int fd, int level, int name)
{
	int value = -1;
	socklen_t size = sizeof(value);

	getsockopt(fd, level, name, &value, &size);
	return value;
}
