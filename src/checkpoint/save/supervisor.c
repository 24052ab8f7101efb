/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/save/supervisor.h"
#include "util/alloc.h"
#include "util/own.h"
#include "util/procfs.h"
#include "util/run.h"

#define ENDING ".service"
#define PROPERTIES \
	"--property=Restart,MainPID,SuccessExitStatus,RestartForceExitStatus,RestartPreventExitStatus,TriggeredBy"

enum { SYSTEMCTL_MS = 5000, ENDING_LENGTH = sizeof(ENDING) - 1 };

void supervisor_free(struct supervisor *supervisor)
{
	free(supervisor->unit);
	free(supervisor->text);
}

/* How the copy ends, for people. */
static char *end_text(int exit_status)
{
	return exit_status < 0 ? xformat("by SIGKILL") : xformat("with status %d", exit_status);
}

/* ---- systemd ---- */

/* The path of a process in version 2, or in systemd's hierarchy of version 1: proc_pid_cgroup(5). The caller frees. */
static char *group_path(pid_t pid)
{
	static const char *const prefixes[] = {":name=systemd:", "0::"};
	auto_free char *text = NULL;

	if (procfs_read(pid, "cgroup", &text, NULL) < 0)
		return NULL;
	/* Where both are mounted, version 2 may hold nobody. */
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		const char *found = strstr(text, prefixes[i]);
		const char *path = found ? found + strlen(prefixes[i]) : "";
		size_t length = strcspn(path, "\n");

		if (length > 1)
			return xformat("%.*s", (int)length, path);
	}
	return NULL;
}

/* The last part of a path that names a service: what is below it, the service has made. The caller frees; NULL: none. */
static char *service_of(const char *path)
{
	char *service = NULL;

	for (const char *part = path; *part; part += strcspn(part, "/")) {
		part += strspn(part, "/");
		size_t length = strcspn(part, "/");
		const char *end = part + length - (length < ENDING_LENGTH ? length : ENDING_LENGTH);

		if (length <= ENDING_LENGTH || strncmp(end, ENDING, ENDING_LENGTH) != 0)
			continue;
		free(service);
		service = xformat("%.*s", (int)length, part);
	}
	return service;
}

/* A line "NAME=VALUE" of systemctl's; "" where there is none. The caller frees. */
static char *setting(const char *output, const char *name)
{
	auto_free char *start = xformat("%s=", name);
	const char *found = output;

	while (found && strncmp(found, start, strlen(start)) != 0) {
		found = strchr(found, '\n');
		found += found != NULL;
	}
	const char *value = found ? found + strlen(start) : "";
	return xformat("%.*s", (int)strcspn(value, "\n"), value);
}

static bool has_status(const char *list, int exit_status)
{
	auto_free char *wanted = exit_status < 0 ? xformat("KILL") : xformat("%d", exit_status);
	auto_free char *copy = xformat("%s", list);
	char *rest = NULL;

	for (const char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		if (strcmp(word, wanted) == 0)
			return true;
	return false;
}

/* systemd.service(5), the table of Restart=. */
static bool restarts(const char *output, int exit_status)
{
	auto_free char *restart = setting(output, "Restart");
	auto_free char *forced = setting(output, "RestartForceExitStatus");
	auto_free char *prevented = setting(output, "RestartPreventExitStatus");
	auto_free char *success = setting(output, "SuccessExitStatus");
	bool is_clean = exit_status == 0 || has_status(success, exit_status);

	if (has_status(prevented, exit_status))
		return false;
	if (has_status(forced, exit_status) || strcmp(restart, "always") == 0)
		return true;
	if (strcmp(restart, "on-success") == 0)
		return is_clean;
	if (strcmp(restart, "on-failure") == 0)
		return !is_clean;
	return (strcmp(restart, "on-abnormal") == 0 || strcmp(restart, "on-abort") == 0) && exit_status < 0 &&
	       !is_clean;
}

/* What systemd does, for people. */
static char *systemd_text(pid_t pid, const char *output, struct supervisor *supervisor, const char *end)
{
	auto_free char *restart = setting(output, "Restart");
	auto_free char *main_pid = setting(output, "MainPID");
	auto_free char *triggers = setting(output, "TriggeredBy");

	if (strtol(main_pid, NULL, 10) != pid) {
		supervisor->starts_again = false;
		return xformat("it is in the unit %s of systemd, whose main process is another one (%s)",
		               supervisor->unit, main_pid);
	}
	return xformat("the unit %s of systemd will see its copy here end %s, and Restart=%s %s%s%s", supervisor->unit,
	               end, restart, supervisor->starts_again ? "starts it again here" : "leaves it at that",
	               *triggers ? "; what starts the unit by itself: " : "", triggers);
}

static void look_at_unit(pid_t pid, int exit_status, const char *path, struct supervisor *supervisor)
{
	auto_free char *end = end_text(exit_status);
	const char *const argv[] = {"systemctl", "show", PROPERTIES, "--", supervisor->unit, NULL};
	auto_free char *output = NULL;

	if (strstr(path, "/user@") && strncmp(supervisor->unit, "user@", 5) != 0) {
		supervisor->text =
			xformat("the unit %s of a user's own systemd will see its copy here end %s; what it does "
		                "then is told by: systemctl --user show -p Restart %s",
		                supervisor->unit, end, supervisor->unit);
		free(take(supervisor->unit));
		return;
	}
	auto_error struct error *error = run_program(argv, SYSTEMCTL_MS, &output);
	if (error) {
		auto_free char *line = error_line(error);
		supervisor->text =
			xformat("the unit %s of systemd will see its copy here end %s; what it does then can't be "
		                "asked: %s",
		                supervisor->unit, end, line);
		return;
	}
	supervisor->starts_again = restarts(output, exit_status);
	supervisor->text = systemd_text(pid, output, supervisor, end);
}

/* ---- Other parents ---- */

/* By the name that the kernel shows: proc_pid_comm(5). */
static const struct {
	const char *name;
	bool starts_again;
	const char *text;
} parents[] = {
	{"runsv", true, "starts it again here; `sv once` forbids that"},
	{"s6-supervise", true, "starts it again here; `s6-svc -O` forbids that"},
	{"supervise", true, "starts it again here; `svc -o` forbids that"},
	{"supervise-daemo", true, "starts it again here (OpenRC)"},
	{"supervisord", false, "starts it again here with autorestart=true, or if that status isn't in its exitcodes"},
	{"monit", false, "starts it again here if it watches it"},
	{"sh", false, "has it as its job"},
	{"bash", false, "has it as its job"},
	{"dash", false, "has it as its job"},
	{"zsh", false, "has it as its job"},
	{"fish", false, "has it as its job"},
};

static void look_at_parent(pid_t pid, int exit_status, struct supervisor *supervisor)
{
	auto_free char *end = end_text(exit_status);
	auto_free char *name = NULL;
	uint64_t parent = 0;
	const char *text = NULL;

	/* Field 4 of proc_pid_stat(5); 0: outside of this PID namespace. */
	if (procfs_stat_field(pid, 4, &parent) < 0 || parent <= 1 ||
	    procfs_read((pid_t)parent, "comm", &name, NULL) < 0)
		return;
	name[strcspn(name, "\n")] = '\0';
	for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++)
		if (strcmp(name, parents[i].name) == 0) {
			supervisor->starts_again = parents[i].starts_again;
			text = parents[i].text;
		}
	supervisor->text = xformat("its parent, process %d (%s), will see its copy here end %s%s%s", (int)parent, name,
	                           end, text ? ", and " : "", text ? text : "");
}

/* ---- All of it ---- */

void supervisor_look(pid_t pid, int exit_status, struct supervisor *ret_supervisor)
{
	auto_free char *path = group_path(pid);

	*ret_supervisor = (struct supervisor){.unit = path ? service_of(path) : NULL};
	if (path && ret_supervisor->unit)
		look_at_unit(pid, exit_status, path, ret_supervisor);
	else
		look_at_parent(pid, exit_status, ret_supervisor);
}

char *supervisor_stop(const char *unit)
{
	const char *const argv[] = {"systemctl", "stop", "--no-block", "--", unit, NULL};

	if (!unit)
		return NULL;
	auto_error struct error *error = run_program(argv, SYSTEMCTL_MS, NULL);
	auto_free char *line = error ? error_line(error) : NULL;
	return line ? xformat("the unit %s could not be stopped, and may start the program again here: %s", unit, line)
	            : NULL;
}
