/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * stay hold PID        stops a process so that it stays so, and is killed
 * stay take-back PID   the same, but thinks better of it
 * stay release PID     lets one go that was held
 * stay end PID         ends it, with status 7
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "task/leftovers.h"
#include "task/process.h"

static struct error *hold(pid_t pid, bool is_taken_back)
{
	auto_process struct process *process = NULL;

	TRY(process_seize(pid, &process));
	TRY(process_stop(process));
	TRY(process_enter(process, 0, 0));
	TRY(process_set_stay(process, true));
	if (!is_taken_back)
		kill(getpid(), SIGKILL);
	TRY(process_set_stay(process, false));
	return process_thaw(process);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	pid_t pid = (pid_t)strtol(argv[2], NULL, 10);
	auto_error struct error *error = strcmp(argv[1], "release") == 0 ? leftovers_release(pid)
	                                 : strcmp(argv[1], "end") == 0   ? leftovers_end(pid, 7)
	                                                                 : hold(pid, strcmp(argv[1], "hold") != 0);

	if (error)
		error_print(error, stderr);
	return error ? 1 : 0;
}
