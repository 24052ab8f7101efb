/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/needs.h"
#include "checkpoint/restore/build.h"
#include "checkpoint/restore/incoming.h"
#include "image/pages.h"
#include "migrate/destination.h"
#include "migrate/frames.h"
#include "migrate/identity.h"
#include "migrate/journal.h"
#include "migrate/moving.h"
#include "migrate/settle.h"
#include "task/keeper.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/procfs.h"
#include "util/test_stop.h"

enum { LOCKS_WAIT_MS = 10000 }; /* for the source's copy to end */
enum { GO_PATIENCE_MS = 5000 }; /* behind "ready" the source has nothing more to do than to say GO */

struct destination {
	const struct receive_options *options;
	struct channel *channel; /* borrowed */
	struct frame frame;      /* owned */
	GodwitHello *hello;      /* owned */
	struct carry_options carry;
	struct clocks clocks;             /* of the program, ahead of ours */
	bool needs_clocks;                /* it does not use the host's */
	uint64_t answered_ns;             /* when we spoke last */
	struct interface_address *places; /* owned: where addresses will be */
	struct announcer **announcers;    /* owned, both: to tell of them */
	size_t announcer_count;
	struct image_store *draft; /* owned: what it began with, or begun again */
	char *begun; /* owned: own PIDs of what was begun anew by a BEGIN that isn't the first; NULL: nothing */
	struct image_store *images; /* owned: those that come in now */
	struct ranges gone;         /* owned: comes before REMAP */
	pid_t gone_pid;             /* whose */
	struct incoming *incoming;  /* owned */
	struct build *build;        /* owned */
	struct image_store *final;  /* owned: the build borrows it */
	struct journal *journal;    /* owned */
	struct keeper *keeper;      /* owned */
	struct settle_keep keep;
	struct journal_record record;
	bool is_told; /* the source, that it runs */
};

static void destination_free(struct destination *destination)
{
	build_free(destination->build);
	incoming_free(destination->incoming);
	image_store_free(destination->draft);
	free(destination->begun);
	image_store_free(destination->images);
	image_store_free(destination->final);
	ranges_free(&destination->gone);
	frame_free(&destination->frame);
	free(destination->places);
	for (size_t i = 0; i < destination->announcer_count; i++)
		announcer_free(destination->announcers[i]);
	free(destination->announcers);
	if (destination->hello)
		godwit_hello__free_unpacked(destination->hello, NULL);
	if (destination->journal && destination->record.state == JOURNAL_BEGUN)
		journal_remove(destination->journal);
	journal_free(destination->journal);
	keeper_stop(destination->keeper);
}

/* ---- Hello ---- */

/* Taken when a question could have come and gone at most so long ago: the program's clocks are ahead of it by less. */
static struct error *take_clocks(struct destination *destination)
{
	const struct frame *frame = &destination->frame;
	uint64_t round_trip_ns = clock_now_ns() - destination->answered_ns;
	GodwitClocksEntry *entry = godwit_clocks_entry__unpack(NULL, frame->size_bytes, frame->bytes);

	if (!entry)
		return error_new(EPROTO, "clocks that make no sense");
	destination->needs_clocks = clocks_needed_by(entry, round_trip_ns, &destination->clocks);
	godwit_clocks_entry__free_unpacked(entry, NULL);
	return NULL;
}

static struct error *find_places(struct destination *destination)
{
	const GodwitHello *hello = destination->hello;

	destination->places = xalloc((hello->n_addresses + 1) * sizeof(*destination->places));
	destination->announcers = xalloc((hello->n_addresses + 1) * sizeof(struct announcer *));
	for (size_t i = 0; i < hello->n_addresses; i++) {
		TRY(arriving_place(hello->addresses[i], &destination->places[i]));
		TRY(announcer_new(&destination->places[i], &destination->announcers[i]));
		destination->announcer_count++;
	}
	return NULL;
}

/* The keeper first: what has no record yet is nothing to it. */
static struct error *open_journal(struct destination *destination)
{
	const char *state_dir = destination->options->state_dir;
	const GodwitHello *hello = destination->hello;
	struct keeper_undo undo;
	uint32_t id;

	snprintf(destination->record.migration, sizeof(destination->record.migration), "%s", hello->migration);
	destination->record.began_s = time(NULL);
	TRY(settle_undo(state_dir, &destination->record, &destination->keep, &undo));
	TRY(keeper_start(&destination->keeper));
	TRY(keeper_add(destination->keeper, &undo, &id));
	TRY(journal_create(state_dir, &destination->record, destination->places,
	                   hello->n_addresses * sizeof(*destination->places), &destination->journal));
	test_stop("destination-begun");
	return NULL;
}

static struct error *take_hello(struct destination *destination)
{
	const GodwitHello *hello = godwit_hello__unpack(NULL, destination->frame.size_bytes, destination->frame.bytes);

	destination->hello = (GodwitHello *)(uintptr_t)hello;
	if (!hello)
		return error_new(EPROTO, "a greeting that makes no sense");
	if (hello->version != MIGRATE_VERSION)
		return error_hint(error_new(EPROTONOSUPPORT, "this is godwit %s, the other side has %s",
		                            identity_release(), hello->release),
		                  "install the same release on both hosts");
	destination->carry = (struct carry_options){
		.shell_job = hello->shell_job,
		.tcp_established = hello->tcp_established,
		.ghost_limit_bytes = hello->ghost_limit_bytes,
	};
	TRY(find_places(destination));
	return open_journal(destination);
}

/* Before the program is stopped for the first time. */
static struct error *take_needs(struct destination *destination)
{
	auto_needs GodwitNeeds *needs =
		godwit_needs__unpack(NULL, destination->frame.size_bytes, destination->frame.bytes);
	auto_image_store struct image_store *sketch = take(destination->images);
	auto_problems struct problems problems = {0};

	destination->images = image_store_new();
	if (!needs)
		return error_new(EPROTO, "needs that make no sense");
	bool is_elsewhere = needs_check(needs, &problems);
	struct error *error = problems_error(&problems, "the program can't run there:");
	return is_elsewhere ? error_join(error, build_preflight_sketch(sketch, &destination->carry)) : error;
}

/* ---- Building ---- */

/* The program has other processes by now. */
static struct error *begin_again(struct destination *destination)
{
	struct image_store *former = take(destination->draft);

	destination->draft = take(destination->images);
	destination->images = image_store_new();
	free(take(destination->begun));
	struct error *error = build_follow(destination->build, destination->draft, &destination->begun);
	image_store_free(former);
	return error;
}

static struct error *begin(struct destination *destination)
{
	const struct build_options options = {
		.carry = &destination->carry,
		.keeper = destination->keeper,
		.log = destination->options->log,
		.is_on_record = true,
		.program_runs = true,
		.new_pids = destination->hello->new_pids,
		.clocks = destination->needs_clocks ? &destination->clocks : NULL,
	};

	if (destination->build)
		return begin_again(destination);
	destination->draft = take(destination->images);
	destination->images = image_store_new();
	TRY(build_preflight(destination->draft, &options));
	TRY(hooks_run(destination->options->hooks, "pre-restore", 0, HOOK_LIMIT_MS));
	TRY(build_new(destination->draft, &options, &destination->build));
	pid_t pid = build_pid(destination->build);
	log_line(destination->options->log, LOG_PHASES, "process %d is there, with its areas", pid);
	TRY(hooks_run(destination->options->hooks, "setup-namespaces", pid, HOOK_LIMIT_MS));
	TRY(hooks_run(destination->options->hooks, "post-setup-namespaces", pid, HOOK_LIMIT_MS));
	test_stop("destination-prepared");
	return NULL;
}

static struct error *remap(struct destination *destination)
{
	pid_t pid;

	TRY(frame_take_pid(&destination->frame, &pid));
	if (pid != destination->gone_pid)
		return error_new(EPROTO, "what process %d has unmapped, before the areas of %d", destination->gone_pid,
		                 pid);
	TRY(build_remap(destination->build, pid, destination->images, &destination->gone));
	ranges_free(&destination->gone);
	image_store_free(take(destination->images));
	destination->images = image_store_new();
	return NULL;
}

static struct error *memory_of(const struct destination *destination, pid_t pid, struct memory **ret_memory)
{
	*ret_memory = build_memory(destination->build, pid);
	return *ret_memory ? NULL : error_new(EPROTO, "memory of process %d", pid);
}

static struct error *fill(struct destination *destination)
{
	struct page_frame pages;
	struct memory *memory;

	TRY(frame_take_pages(&destination->frame, &pages));
	if (pages.shared_id)
		return shared_build_fill(build_shared(destination->build), pages.shared_id, pages.address, pages.bytes,
		                         pages.page_count);
	TRY(memory_of(destination, pages.pid, &memory));
	return build_forgive(destination->build, pages.pid,
	                     memory_fill(memory, pages.address, pages.bytes, pages.page_count));
}

static struct error *drop(struct destination *destination)
{
	struct page_frame pages;
	struct memory *memory;

	TRY(frame_take_drop(&destination->frame, &pages));
	if (pages.shared_id)
		return shared_build_drop(build_shared(destination->build), pages.shared_id, pages.address,
		                         pages.page_count);
	TRY(memory_of(destination, pages.pid, &memory));
	return build_forgive(destination->build, pages.pid, memory_drop(memory, pages.address, pages.page_count));
}

/* For whoever finishes what we had begun: how many processes there have to be, and who is not to go on. */
static struct error *remember_tree(struct destination *destination)
{
	auto_free pid_t *stopped = build_stopped(destination->build, &destination->record.stopped);

	destination->record.processes = build_count(destination->build);
	if (destination->record.stopped == 0)
		return NULL;
	return journal_add_bytes(destination->journal, stopped, destination->record.stopped * sizeof(*stopped));
}

static struct error *complete(struct destination *destination)
{
	destination->final = take(destination->images);
	destination->images = image_store_new();
	TRY(build_renew(destination->build, destination->final));
	TRY(incoming_lock(destination->final, &destination->incoming));
	TRY(build_complete(destination->build));
	destination->record.pid = build_pid(destination->build);
	TRY(remember_tree(destination));
	log_line(destination->options->log, LOG_PHASES, "it is complete");
	TRY(hooks_run(destination->options->hooks, "post-restore", destination->record.pid, HOOK_LIMIT_MS));
	TRY(journal_set_program(&destination->record));
	test_stop("destination-ready");
	return NULL;
}

/* ---- GO ---- */

static struct error *announce(const struct destination *destination)
{
	struct error *error = NULL;

	for (size_t i = 0; i < destination->hello->n_addresses; i++) {
		error = error_join(error, address_add(&destination->places[i]));
		error = error_join(error, announcer_send(destination->announcers[i]));
	}
	return error;
}

/* Nobody stops us in the middle of it: when ssh dies, or the terminal it came from. */
static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* The record is durable before anything can outlive us: who asks looks whether the program is there. */
static struct error *begin_to_go(struct destination *destination)
{
	destination->record.state = JOURNAL_GOING;
	struct error *error = journal_write(destination->journal, &destination->record);

	test_stop("destination-going");
	if (!error)
		error = build_outlive(destination->build);
	if (error)
		destination->record.state = JOURNAL_BEGUN; /* it dies with us */
	return error;
}

/*
 * The source's copy has locks that the program needs, so it has to end before the program goes on. It will go on, since
 * that is in the journal: the source is told so now.
 */
static struct error *take_locks(struct destination *destination)
{
	destination->is_told = true;
	/* One that can't be told asks, and learns the same from the journal. */
	error_free(frame_send_runs(destination->channel, destination->record.pid, ""));
	journal_unlock(destination->journal);
	return build_take_locks(destination->build, LOCKS_WAIT_MS);
}

/*
 * The only copy of the program: from here on everything is tried, and what fails is told, but nothing ends it.
 */
static struct error *go(struct destination *destination, struct received *ret_received)
{
	struct hooks *hooks = destination->options->hooks;

	block_signals();
	TRY(begin_to_go(destination));
	test_stop("destination-outlives");
	struct error *error = announce(destination);
	error = error_join(error, hooks_run_network(hooks, "network-unlock", destination->record.pid, HOOK_LIMIT_MS));
	error = error_join(error, hooks_run(hooks, "pre-resume", destination->record.pid, HOOK_LIMIT_MS));
	error = error_join(error, incoming_unlock(destination->incoming));
	test_stop("destination-unlocked");
	error = error_join(error, build_resume(destination->build));
	if (build_has_busy_locks(destination->build))
		error = error_join(error, take_locks(destination));
	error = error_join(error, build_release(destination->build));
	test_stop("destination-released");
	log_line(destination->options->log, LOG_PHASES, "it runs");
	ret_received->pid = destination->record.pid;
	destination->record.state = JOURNAL_RUNS;
	error = error_join(error, journal_write(destination->journal, &destination->record));
	test_stop("destination-runs");
	if (error)
		ret_received->warning = error_line(error);
	error_free(error);
	return NULL;
}

/* ---- Frames ---- */

static bool needs_build(enum frame_type type)
{
	return type == FRAME_REMAP || type == FRAME_PAGES || type == FRAME_DROP || type == FRAME_ROUND ||
	       type == FRAME_COMPLETE;
}

/* What the source waits for an answer to. */
static bool is_answered(enum frame_type type)
{
	return type == FRAME_HELLO || type == FRAME_NEEDS || type == FRAME_BEGIN || type == FRAME_ROUND ||
	       type == FRAME_COMPLETE || type == FRAME_GO;
}

static struct error *handle(struct destination *destination, struct received *ret_received)
{
	struct frame *frame = &destination->frame;

	if (needs_build(frame->type) && !destination->build)
		return error_new(EPROTO, "frame of type %d before BEGIN", (int)frame->type);
	switch (frame->type) {
	case FRAME_HELLO:
		return destination->hello ? error_new(EPROTO, "HELLO twice") : take_hello(destination);
	case FRAME_CLOCKS:
		return take_clocks(destination);
	case FRAME_NEEDS:
		return take_needs(destination);
	case FRAME_IMAGE:
		return frame_take_image(frame, destination->images);
	case FRAME_BEGIN:
		return begin(destination);
	case FRAME_GONE:
		return frame_take_ranges(frame, &destination->gone_pid, &destination->gone);
	case FRAME_REMAP:
		return remap(destination);
	case FRAME_PAGES:
		return fill(destination);
	case FRAME_DROP:
		return drop(destination);
	case FRAME_ROUND:
		return NULL;
	case FRAME_COMPLETE:
		return complete(destination);
	case FRAME_GO:
		return destination->final ? go(destination, ret_received) : error_new(EPROTO, "GO before COMPLETE");
	case FRAME_ANSWER:
	case FRAME_DONE:
	case FRAME_SETTLE:
		break;
	}
	return error_new(EPROTO, "frame of type %d here", (int)frame->type);
}

static struct error *wait_for_done(struct destination *destination)
{
	TRY(frame_receive(destination->channel, CHANNEL_PATIENCE_MS, &destination->frame));
	return destination->frame.type == FRAME_DONE ? NULL : error_new(EPROTO, "no DONE");
}

/* The source will ask again if it doesn't hear us: the record stays until it says that it has. */
static void post_resume(struct destination *destination, struct received *received)
{
	auto_error struct error *error =
		hooks_run(destination->options->hooks, "post-resume", received->pid, HOOK_NO_LIMIT_MS);

	if (error && !received->warning)
		received->warning = error_line(error);
}

static struct error *finish(struct destination *destination, struct received *received)
{
	struct error *error = NULL;

	if (!destination->is_told)
		error = frame_send_runs(destination->channel, received->pid,
		                        received->warning ? received->warning : "");
	/* Questions about it can be answered from now on. */
	journal_unlock(destination->journal);
	error = error ? error : wait_for_done(destination);
	received->is_awaited = error != NULL;
	if (!error) {
		journal_remove(destination->journal);
		error = frame_send_answer(destination->channel, NULL, "");
	}
	error_free(error);
	post_resume(destination, received);
	return NULL;
}

/* ssh may log in as an ordinary user. */
static struct error *advise(struct error *error)
{
	int errnum = error_errnum(error);

	if (geteuid() == 0 || (errnum != EPERM && errnum != EACCES))
		return error;
	return error_hint(error_wrap(error, "godwit runs as user %d", (int)geteuid()),
	                  "it has to run as root there: --remote-path 'sudo godwit'");
}

/* What the source has to send whole. */
static const char *text_of(const struct destination *destination)
{
	return destination->frame.type == FRAME_BEGIN && destination->begun ? destination->begun : "";
}

static struct error *serve(struct destination *destination, struct received *ret_received)
{
	for (;;) {
		struct error *error = handle(destination, ret_received);

		if (ret_received->pid)
			return finish(destination, ret_received);
		if (error) {
			error = advise(error);
			/* The source wants to know why; that it can't be told isn't the reason. */
			auto_error struct error *silence = frame_send_answer(destination->channel, error, NULL);
			ret_received->is_told = !silence;
			channel_linger(destination->channel);
			return error;
		}
		if (is_answered(destination->frame.type))
			TRY(frame_send_answer(destination->channel, NULL, text_of(destination)));
		destination->answered_ns = clock_now_ns();
		int patience_ms = destination->final ? GO_PATIENCE_MS : CHANNEL_PATIENCE_MS;
		TRY(frame_receive(destination->channel, patience_ms, &destination->frame));
	}
}

/* ---- Questions ---- */

static struct error *settle(struct destination *destination)
{
	GodwitSettle *settle = godwit_settle__unpack(NULL, destination->frame.size_bytes, destination->frame.bytes);
	bool is_going = false;

	if (!settle)
		return error_new(EPROTO, "a question that makes no sense");
	struct error *error = settle_answer(destination->options->state_dir, settle->migration, &is_going);
	struct error *cut = frame_send_answer(destination->channel, error, is_going ? "going" : "never");
	/* The record stays until the source has nothing left to ask. */
	if (!error && !cut && is_going && (cut = wait_for_done(destination)) == NULL) {
		error = settle_forget(destination->options->state_dir, settle->migration);
		cut = frame_send_answer(destination->channel, error, "");
	}
	godwit_settle__free_unpacked(settle, NULL);
	error_free(cut);
	return error;
}

struct error *receive_run(struct channel *channel, const struct receive_options *options, struct received *ret_received)
{
	__attribute__((cleanup(destination_free))) struct destination destination = {
		.options = options,
		.channel = channel,
		.images = image_store_new(),
	};

	*ret_received = (struct received){0};
	TRY(frame_receive(channel, CHANNEL_PATIENCE_MS, &destination.frame));
	return destination.frame.type == FRAME_SETTLE ? settle(&destination) : serve(&destination, ret_received);
}
