/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * godwit resolve: settles what a crash or a cut has left undecided, and lets programs go on that a dump has left stopped.
 *
 * The exit status is 0 if nothing is left undecided, 1 on failure, 2 for a wrong command line, 3 if something is.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/connections.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "migrate/settle.h"
#include "task/leftovers.h"
#include "util/alloc.h"
#include "util/descendants.h"
#include "util/procfs.h"

struct resolve_command {
	struct common_options common; /* first: setters of common options are given this */
	const char *state_dir, *forgotten;
	bool is_list;
	pid_t thawed, taken_back, unlocked;
};

static struct error *set_list(void *options, const char *value)
{
	(void)value;
	((struct resolve_command *)options)->is_list = true;
	return NULL;
}

static struct error *set_thaw(void *options, const char *value)
{
	return parse_pid(value, &((struct resolve_command *)options)->thawed);
}

static struct error *set_take_back(void *options, const char *value)
{
	return parse_pid(value, &((struct resolve_command *)options)->taken_back);
}

static struct error *set_unlock(void *options, const char *value)
{
	return parse_pid(value, &((struct resolve_command *)options)->unlocked);
}

static struct error *set_forget(void *options, const char *value)
{
	((struct resolve_command *)options)->forgotten = value;
	return NULL;
}

static struct error *set_state_dir(void *options, const char *value)
{
	((struct resolve_command *)options)->state_dir = value;
	return *value ? NULL : error_new(0, "empty");
}

static const struct option_spec resolve_table[] = {
	{"list", 0, NULL, "only tell what is undecided, and which network locks are kept", set_list},
	{"thaw", 0, "PID", "let a program go on that dump --leave-stopped has left", set_thaw},
	{"take-back", 0, "PID", "let it go on here without asking: the other host is gone for good", set_take_back},
	{"unlock", 0, "PID", "remove the lock of a program that was saved and ended", set_unlock},
	{"forget", 0, "MIGRATION", "at a destination: its source is gone for good", set_forget},
	{"state-dir", 0, "DIR", "folder of the journal (default: /var/lib/godwit)", set_state_dir},
	{"json", 0, NULL, "tell the end as JSON on standard output", set_json},
	{0},
};

/* ---- Telling ---- */

static char *time_text(time_t time)
{
	char text[32] = "?";
	struct tm parts;

	if (time && localtime_r(&time, &parts))
		strftime(text, sizeof(text), "%F %T", &parts);
	return xformat("%s", text);
}

static char *program_name(pid_t pid)
{
	char *comm = NULL;

	if (procfs_read(pid, "comm", &comm, NULL) < 0)
		return xformat("gone");
	comm[strcspn(comm, "\n")] = '\0';
	return comm;
}

static void add_text(struct json_object *object, const char *name, const char *value)
{
	json_object_object_add(object, name, value ? json_object_new_string(value) : NULL);
}

static struct json_object *record_json(const struct journal_record *record, const char *result)
{
	struct json_object *object = json_object_new_object();
	auto_free char *since = time_text(record->began_s);

	add_text(object, "migration", record->migration);
	add_text(object, "side", record->is_source ? "source" : "destination");
	add_text(object, "state", journal_state_name(record->state));
	json_object_object_add(object, "pid", json_object_new_int(record->pid));
	add_text(object, "program", record->program);
	add_text(object, "since", since);
	add_text(object, "destination", record->is_source ? record->destination : NULL);
	json_object_object_add(object, "under_way", json_object_new_boolean(record->is_busy));
	add_text(object, "result", result);
	return object;
}

static void print_record(const struct journal_record *record, const char *result)
{
	auto_free char *since = time_text(record->began_s);

	printf("migration %s of process %d (%s)%s%s, begun %s: %s\n", record->migration, record->pid,
	       *record->program ? record->program : "-", record->is_source ? " to " : " to this host",
	       record->destination, since, result);
}

/* What resolve would find and do. */
static const char *record_text(const struct journal_record *record)
{
	if (record->is_busy)
		return "under way";
	switch (record->state) {
	case JOURNAL_BEGUN:
		return "cut off before anything was decided; godwit resolve clears it away";
	case JOURNAL_COMMITTED:
		return "undecided: the copy here stands still; godwit resolve asks the destination";
	case JOURNAL_GOING:
		return "cut off while it was let go; godwit resolve looks for the program";
	case JOURNAL_RUNS:
		return "it runs here; the source doesn't know yet and will ask";
	}
	return "";
}

static const char *lock_text(const struct kept_lock *lock)
{
	if (!lock->holder.start_time)
		return "saved and ended: kept until it is restored here, or godwit resolve --unlock PID";
	return lock->is_stale ? "its program is gone"
	                      : "left without its network: godwit resolve --thaw PID lets it go on";
}

static void tell_lock(const struct kept_lock *lock, bool is_json, struct json_object *list)
{
	auto_free char *name = program_name(lock->holder.pid);
	auto_free char *since = time_text(lock->made_s);

	if (!is_json) {
		printf("network lock of process %d (%s), since %s, %" PRIu64 " packets dropped: %s\n", lock->holder.pid,
		       lock->holder.start_time ? name : "saved", since, lock->dropped_packets, lock_text(lock));
		return;
	}
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "pid", json_object_new_int(lock->holder.pid));
	add_text(object, "program", lock->holder.start_time ? name : NULL);
	add_text(object, "since", since);
	json_object_object_add(object, "dropped_packets", json_object_new_int64((int64_t)lock->dropped_packets));
	add_text(object, "meaning", lock_text(lock));
	json_object_array_add(list, object);
}

/* ---- What is there ---- */

static bool is_undecided(const struct journal_record *record)
{
	return record->is_busy || record->state != JOURNAL_RUNS;
}

static struct error *list_records(const struct resolve_command *resolve, struct json_object *list, bool *ret_undecided)
{
	auto_free struct journal_record *records = NULL;
	size_t count;

	TRY(journal_list(resolve->state_dir, &records, &count));
	for (size_t i = 0; i < count; i++) {
		*ret_undecided |= is_undecided(&records[i]);
		if (resolve->common.is_json)
			json_object_array_add(list, record_json(&records[i], record_text(&records[i])));
		else
			print_record(&records[i], record_text(&records[i]));
	}
	return NULL;
}

static struct error *list_locks(const struct resolve_command *resolve, struct json_object *list)
{
	auto_free struct kept_lock *locks = NULL;
	size_t count;

	TRY(kept_locks_list(&locks, &count));
	for (size_t i = 0; i < count; i++)
		tell_lock(&locks[i], resolve->common.is_json, list);
	return NULL;
}

static struct error *list(const struct resolve_command *resolve, struct report *report, bool *ret_undecided)
{
	struct json_object *records = json_object_new_array();
	struct json_object *locks = json_object_new_array();
	struct error *error = list_records(resolve, records, ret_undecided);

	error = error_join(error, list_locks(resolve, locks));
	report_json(report, "migrations", records);
	report_json(report, "locks", locks);
	return error;
}

/* ---- Settling ---- */

static const char *settled_text(enum settled settled)
{
	switch (settled) {
	case SETTLED_HERE:
		return "it runs on here";
	case SETTLED_THERE:
		return "it runs at the destination; the copy here has been ended";
	case SETTLED_GONE:
		return "nothing is left of it here";
	case SETTLED_WAITS:
		return "it runs here; the source doesn't know yet and will ask";
	}
	return "";
}

/* False: it stays undecided. */
static bool settle_one(const struct resolve_command *resolve, const struct journal_record *record,
                       struct json_object *list)
{
	enum settled settled = SETTLED_GONE;
	auto_error struct error *error = settle_record(resolve->state_dir, record, &settled);
	bool is_gone = error && error_errnum(error) == ENOENT && !journal_is_program_there(record);
	auto_free char *line = error && !is_gone ? error_line(error) : NULL;
	auto_free char *result = line ? xformat("still undecided: %s", line) : xformat("%s", settled_text(settled));

	if (resolve->common.is_json)
		json_object_array_add(list, record_json(record, result));
	else
		print_record(record, result);
	return !line;
}

static struct error *settle_all(const struct resolve_command *resolve, struct report *report, bool *ret_undecided)
{
	auto_free struct journal_record *records = NULL;
	struct json_object *list = json_object_new_array();
	size_t count = 0;
	struct error *error = journal_list(resolve->state_dir, &records, &count);

	for (size_t i = 0; i < count; i++)
		*ret_undecided |= !settle_one(resolve, &records[i], list);
	report_json(report, "migrations", list);
	return error;
}

/* ---- One program ---- */

/* *ret_found: a record of a source that has not ended well, for that program. */
static struct error *find_record(const struct resolve_command *resolve, pid_t pid, struct journal_record *ret_record,
                                 bool *ret_found)
{
	auto_free struct journal_record *records = NULL;
	size_t count;

	*ret_found = false;
	TRY(journal_list(resolve->state_dir, &records, &count));
	for (size_t i = 0; i < count && !*ret_found; i++)
		if (records[i].is_source && records[i].pid == pid && journal_is_program_there(&records[i])) {
			*ret_record = records[i];
			*ret_found = true;
		}
	return NULL;
}

static struct error *thaw(const struct resolve_command *resolve, pid_t pid)
{
	struct lock_holder holder = {.pid = pid};
	struct journal_record record;
	bool is_migrating;

	TRY(check_program(pid));
	TRY(find_record(resolve, pid, &record, &is_migrating));
	if (is_migrating)
		return error_hint(error_new(EBUSY, "process %d is on its way to %s", pid, record.destination),
		                  "godwit resolve asks where it runs; --take-back %d is for when that host is gone",
		                  pid);
	int r = procfs_start_time(pid, &holder.start_time);
	if (r < 0)
		return error_new(-r, "process %d", pid);
	TRY(connections_revive(&holder));
	TRY(leftovers_release(pid));
	r = descendants_signal(pid, SIGCONT);
	return r < 0 ? error_new(-r, "SIGCONT to process %d", pid) : NULL;
}

static struct error *take_back(const struct resolve_command *resolve, pid_t pid)
{
	struct journal_record record;
	bool is_found;

	TRY(find_record(resolve, pid, &record, &is_found));
	if (!is_found)
		return error_hint(error_new(ENOENT, "no migration of process %d is undecided here", pid),
		                  "godwit resolve --list tells which are");
	return settle_take_back(resolve->state_dir, &record);
}

static struct error *unlock(pid_t pid)
{
	auto_free struct kept_lock *locks = NULL;
	size_t count;

	TRY(kept_locks_list(&locks, &count));
	for (size_t i = 0; i < count; i++)
		if (locks[i].holder.pid == pid && !locks[i].holder.start_time)
			return kept_lock_remove(&locks[i].holder);
	return error_hint(error_new(ENOENT, "no network lock is kept for a program %d that was saved and ended", pid),
	                  "godwit resolve --list tells which are");
}

/* ---- The command ---- */

static struct error *check_options(const void *options)
{
	const struct resolve_command *resolve = options;
	int count = resolve->is_list + (resolve->thawed > 0) + (resolve->taken_back > 0) + (resolve->unlocked > 0) +
	            (resolve->forgotten != NULL);

	return count > 1 ? error_new(0, "one of --list, --thaw, --take-back, --unlock and --forget at a time") : NULL;
}

static struct error *act(const struct resolve_command *resolve, struct report *report, bool *ret_undecided)
{
	size_t removed;

	if (resolve->thawed)
		return thaw(resolve, resolve->thawed);
	if (resolve->taken_back)
		return take_back(resolve, resolve->taken_back);
	if (resolve->unlocked)
		return unlock(resolve->unlocked);
	if (resolve->forgotten)
		return settle_forget(resolve->state_dir, resolve->forgotten);
	if (resolve->is_list)
		return list(resolve, report, ret_undecided);
	struct error *error = settle_all(resolve, report, ret_undecided);
	return error_join(error, kept_locks_sweep(&removed));
}

static const char *outcome_text(const struct resolve_command *resolve, const struct error *error, bool is_undecided)
{
	if (error && (resolve->unlocked || resolve->forgotten))
		return "Nothing was changed.";
	if (error)
		return resolve->thawed || resolve->taken_back ? "The program may still stand still."
		                                              : "Not all could be settled.";
	if (resolve->thawed || resolve->taken_back)
		return "The program runs.";
	return is_undecided ? "Something is undecided." : "Nothing is undecided.";
}

static int run_resolve(const struct command *command, int argc, char **argv)
{
	struct resolve_command resolve = {.common = common_defaults, .state_dir = "/var/lib/godwit"};
	auto_report struct report *report = NULL;
	bool is_undecided = false;
	int status;

	if (!common_begin(command, argc, argv, &resolve, &report, &status))
		return status;
	struct error *error = act(&resolve, report, &is_undecided);
	const char *outcome = outcome_text(&resolve, error, is_undecided);
	status = report_end(report, error, outcome);
	return status == EXIT_SUCCESS && is_undecided ? EXIT_UNDECIDED : status;
}

const struct command resolve_command = {
	.name = "resolve",
	.summary = "Settles what a crash or a cut has left undecided, by asking the other side.",
	.options = resolve_table,
	.check = check_options,
	.run = run_resolve,
};
