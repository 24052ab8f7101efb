/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The first process of a host in a lab (lab.h): reaps orphans, and starts programs on request. The requests come over
 * a socket in the shared folder, which is found through the file system and so crosses network namespaces. A program
 * started so is an ordinary child of the host's init: no setns, no parent outside of its PID namespace.
 *
 * A request is one message of strings, each with its final NUL: kind, folder, count of arguments, the arguments, the
 * environment. With it come the three standard descriptors. The answers are `struct agent_answer`.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

enum agent_kind {
	AGENT_RUN = 'r',   /* answers with the PID, then with the wait status; SIGHUP when the asker goes away */
	AGENT_START = 's', /* in a session of its own for good; answers with the PID only */
};

struct agent_answer {
	pid_t pid;       /* in the host's PID namespace */
	int wait_status; /* of waitpid(2); in the second answer only */
};

/* Serves the host named name for ever, on the socket that agent_listen() made. */
_Noreturn void agent_serve(int listener);

/* Makes the socket of a host in the shared folder. */
int agent_listen(const char *name);

/* Asks the agent of a host. Returns the connection, from which the answers can be read. */
int agent_ask(const char *name, enum agent_kind kind, char **argv, const int fds[3]);

/* False at the end of the connection. */
bool agent_answer(int connection, struct agent_answer *ret_answer);
