/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkpoint/alive.h"
#include "checkpoint/connections.h"
#include "checkpoint/sysv_leave.h"
#include "migrate/frames.h"
#include "migrate/identity.h"
#include "migrate/moving.h"
#include "migrate/settle.h"
#include "task/leftovers.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/test_stop.h"

enum {
	ASK_FOR_S = 600,
	ASK_AGAIN_S_MAX = 30,
	DONE_MS = 2000,
	DEATH_MS = 10000,  /* that the death of a process may take */
	ANSWER_MS = 20000, /* that one which is at work on a record may take until it gives up */
};

/* ---- Asking ---- */

struct error *settle_ask(const struct asking *asking, struct channel **ret_channel, bool *ret_is_going)
{
	GodwitSettle settle = GODWIT_SETTLE__INIT;
	auto_free char *text = NULL;
	auto_channel struct channel *channel = NULL;

	TRY(route_connect(asking->route, &channel));
	settle.version = MIGRATE_VERSION;
	settle.migration = (char *)(uintptr_t)asking->migration;
	TRY(frame_send_message(channel, FRAME_SETTLE, &settle.base));
	TRY(frame_receive_answer(channel, ANSWER_MS + CHANNEL_PATIENCE_MS, &text));
	*ret_is_going = strcmp(text, "going") == 0;
	*ret_channel = take(channel);
	return NULL;
}

/* False: SIGQUIT has come. */
static bool wait_s(unsigned seconds)
{
	const struct timespec timeout = {.tv_sec = seconds};
	sigset_t quit;

	sigemptyset(&quit);
	sigaddset(&quit, SIGQUIT);
	return sigtimedwait(&quit, NULL, &timeout) != SIGQUIT;
}

struct error *settle_keep_asking(const struct asking *asking, struct channel **ret_channel, bool *ret_is_going)
{
	uint64_t end_ns = clock_now_ns() + (uint64_t)ASK_FOR_S * 1000000000;

	for (unsigned next_s = 1;; next_s = next_s * 2 < ASK_AGAIN_S_MAX ? next_s * 2 : ASK_AGAIN_S_MAX) {
		auto_error struct error *error = settle_ask(asking, ret_channel, ret_is_going);

		if (!error || clock_now_ns() > end_ns)
			return take(error);
		if (asking->tell)
			asking->tell(asking, error, next_s);
		if (!wait_s(next_s))
			return error_wrap(error_new(EINTR, "stopped by SIGQUIT"), "ask the other side");
	}
}

static struct error *say_done(struct channel *channel)
{
	TRY(frame_send(channel, FRAME_DONE, NULL, 0));
	return frame_receive_answer(channel, DONE_MS, NULL);
}

void settle_done(const struct asking *asking, struct channel *channel)
{
	auto_error struct error *error = say_done(channel);
	auto_channel struct channel *again = NULL;
	bool is_going = false;

	/* Whoever was to hear it may just have died. */
	if (!error)
		return;
	auto_error struct error *second = settle_ask(asking, &again, &is_going);
	if (!second && is_going)
		error_free(say_done(again));
}

/* ---- The source's record ---- */

static struct lock_holder holder_of(const struct journal_record *record)
{
	return (struct lock_holder){.pid = record->pid, .start_time = record->start_time};
}

static struct error *put_addresses_back(const struct journal *journal)
{
	auto_free uint8_t *bytes = NULL;
	size_t size_bytes;
	struct moving *moving;

	TRY(journal_read_bytes(journal, &bytes, &size_bytes));
	TRY(moving_from_bytes(bytes, size_bytes, &moving));
	moving_put_back(moving);
	moving_free(moving);
	return NULL;
}

/* As if nothing had been. The connections first: the program must not find them dead. */
static struct error *take_back(struct journal *journal, const struct journal_record *record)
{
	const struct lock_holder holder = holder_of(record);
	bool is_there = journal_is_program_there(record);

	struct error *error = record->state == JOURNAL_COMMITTED ? put_addresses_back(journal) : NULL;
	if (is_there) {
		error = error_join(error, connections_revive(&holder));
		error = error_join(error, leftovers_release(record->pid));
	} else if (record->pid) {
		error = error_join(error, kept_lock_remove(&holder));
	}
	if (!error)
		journal_remove(journal);
	return error;
}

/* It runs at the destination: what stands still here ends, unheard of. */
static struct error *end_copy(const struct journal_record *record)
{
	const struct lock_holder holder = holder_of(record);

	if (journal_is_program_there(record)) {
		sysv_leave(record->pid);
		TRY(leftovers_end(record->pid, record->exit_status));
	}
	return kept_lock_remove(&holder);
}

static struct error *ask_and_settle(struct journal *journal, const struct journal_record *record, bool is_patient,
                                    enum settled *ret_settled)
{
	const struct route route = journal_route(record);
	const struct asking asking = {.route = &route, .migration = record->migration};
	bool is_there = journal_is_program_there(record);
	auto_channel struct channel *channel = NULL;
	bool is_going = false;
	struct error *error = is_patient && is_there ? settle_keep_asking(&asking, &channel, &is_going)
	                                             : settle_ask(&asking, &channel, &is_going);

	/* Where there is no copy any more, the other side is asked so that it can forget, too. */
	if (error && is_there)
		return error;
	error_free(error);
	*ret_settled = is_going ? SETTLED_THERE : is_there ? SETTLED_HERE : SETTLED_GONE;
	if (!is_going && is_there)
		return take_back(journal, record);
	TRY(end_copy(record));
	if (is_going)
		settle_done(&asking, channel);
	journal_remove(journal);
	return NULL;
}

static struct error *settle_source(const char *state_dir, const char *migration, bool is_patient,
                                   enum settled *ret_settled)
{
	auto_journal struct journal *journal = NULL;
	struct journal_record record;

	TRY(journal_open(state_dir, migration, true, is_patient ? DEATH_MS : 0, &journal, &record));
	if (record.state == JOURNAL_COMMITTED)
		return ask_and_settle(journal, &record, is_patient, ret_settled);
	*ret_settled = journal_is_program_there(&record) ? SETTLED_HERE : SETTLED_GONE;
	return take_back(journal, &record);
}

/* ---- The destination's record ---- */

/* What is kept behind it: addresses, and then PIDs. */
struct going {
	const struct journal_record *record; /* borrowed */
	uint8_t *bytes;                      /* owned */
	size_t addresses_bytes;
};

static void going_free(struct going *going)
{
	free(going->bytes);
}

static struct error *read_going(const struct journal *journal, const struct journal_record *record,
                                struct going *ret_going)
{
	size_t size_bytes;

	*ret_going = (struct going){.record = record};
	TRY(journal_read_bytes(journal, &ret_going->bytes, &size_bytes));
	if (record->stopped > size_bytes / sizeof(pid_t))
		return error_new(EBADMSG, "%zu stopped processes in %zu bytes", record->stopped, size_bytes);
	ret_going->addresses_bytes = size_bytes - record->stopped * sizeof(pid_t);
	return NULL;
}

static struct error *add_addresses(const struct going *going)
{
	struct error *error = NULL;

	for (size_t i = 0; i + sizeof(struct interface_address) <= going->addresses_bytes;
	     i += sizeof(struct interface_address)) {
		struct interface_address place;

		memcpy(&place, going->bytes + i, sizeof(place));
		error = error_join(error, address_add(&place));
		error = error_join(error, address_announce(&place));
	}
	return error;
}

/* Does it run? Then what its maker had left to do is done. */
static struct error *finish(const struct going *going, bool *ret_is_going)
{
	auto_free pid_t *stopped = xalloc((going->record->stopped + 1) * sizeof(*stopped));
	const struct alive_tree tree = {
		.root = holder_of(going->record),
		.count = going->record->processes,
		.stopped = stopped,
		.stopped_count = going->record->stopped,
	};

	memcpy(stopped, going->bytes + going->addresses_bytes, tree.stopped_count * sizeof(*stopped));
	TRY(alive_prove_tree(&tree, DEATH_MS, ret_is_going));
	return *ret_is_going ? error_join(add_addresses(going), alive_go_on(&tree)) : NULL;
}

/* Died between "going" and "runs". */
static struct error *finish_going(struct journal *journal, struct journal_record *record, bool *ret_is_going)
{
	__attribute__((cleanup(going_free))) struct going going = {0};

	if (!journal_is_program_there(record))
		return NULL;
	TRY(read_going(journal, record, &going));
	struct error *error = finish(&going, ret_is_going);
	if (!*ret_is_going)
		return error;
	record->state = JOURNAL_RUNS;
	return error_join(error, journal_write(journal, record));
}

static struct error *settle_destination(const char *state_dir, const char *migration, unsigned wait_ms,
                                        bool *ret_is_going)
{
	auto_journal struct journal *journal = NULL;
	struct journal_record record;

	*ret_is_going = false;
	TRY(journal_open(state_dir, migration, false, wait_ms, &journal, &record));
	*ret_is_going = record.state == JOURNAL_RUNS;
	if (record.state == JOURNAL_GOING)
		TRY(finish_going(journal, &record, ret_is_going));
	/* Whoever would still want it to go has gone: the lock was theirs. */
	if (!*ret_is_going)
		journal_remove(journal);
	return NULL;
}

struct error *settle_answer(const char *state_dir, const char *migration, bool *ret_is_going)
{
	auto_error struct error *error = settle_destination(state_dir, migration, ANSWER_MS, ret_is_going);

	/* No record: it never came so far that it could go, for the record is made first. */
	return error && error_errnum(error) == ENOENT ? NULL : take(error);
}

struct error *settle_forget(const char *state_dir, const char *migration)
{
	auto_journal struct journal *journal = NULL;
	struct journal_record record;

	TRY(journal_open(state_dir, migration, false, ANSWER_MS, &journal, &record));
	journal_remove(journal);
	return NULL;
}

/* ---- Either ---- */

static struct error *settle(const char *state_dir, const char *migration, bool is_source, bool is_patient,
                            enum settled *ret_settled)
{
	bool is_going;

	if (is_source)
		return settle_source(state_dir, migration, is_patient, ret_settled);
	TRY(settle_destination(state_dir, migration, is_patient ? DEATH_MS : 0, &is_going));
	*ret_settled = is_going ? SETTLED_WAITS : SETTLED_GONE;
	return NULL;
}

struct error *settle_record(const char *state_dir, const struct journal_record *which, enum settled *ret_settled)
{
	return settle(state_dir, which->migration, which->is_source, false, ret_settled);
}

struct error *settle_take_back(const char *state_dir, const struct journal_record *which)
{
	auto_journal struct journal *journal = NULL;
	struct journal_record record;

	TRY(journal_open(state_dir, which->migration, true, 0, &journal, &record));
	return take_back(journal, &record);
}

static void settle_in_keeper(const void *bytes, const int *fds, size_t fd_count)
{
	struct settle_keep keep;
	enum settled settled;

	(void)fds;
	(void)fd_count;
	memcpy(&keep, bytes, sizeof(keep));
	error_free(settle(keep.state_dir, keep.migration, keep.is_source, true, &settled));
}

struct error *settle_undo(const char *state_dir, const struct journal_record *record, struct settle_keep *ret_keep,
                          struct keeper_undo *ret_undo)
{
	auto_free char *path = NULL;

	TRY(journal_folder(state_dir, &path));
	if (strlen(path) >= sizeof(ret_keep->state_dir))
		return error_new(ENAMETOOLONG, "state folder %s", path);
	*ret_keep = (struct settle_keep){.is_source = record->is_source};
	snprintf(ret_keep->state_dir, sizeof(ret_keep->state_dir), "%s", path);
	memcpy(ret_keep->migration, record->migration, sizeof(ret_keep->migration));
	*ret_undo = (struct keeper_undo){
		.undo = settle_in_keeper,
		.bytes = ret_keep,
		.size_bytes = sizeof(*ret_keep),
	};
	return NULL;
}
