/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * seccomp(2): strict mode, and chains of filters, of each thread its own. Each filter goes into the image once, with the one
 * that was there before it; that threads share filters isn't told, but equal chains look like it.
 *
 * Traps: installing a filter takes CAP_SYS_ADMIN or no_new_privs, so it comes before the credentials, and all calls behind
 * it are made with seccomp suspended (PTRACE_O_SUSPEND_SECCOMP). What all threads have in common is installed in all at
 * once (SECCOMP_FILTER_FLAG_TSYNC): then they share it, and the program may itself do so again.
 */
#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "objects/state.h"
#include "seccomp.pb-c.h"
#include "util/alloc.h"

enum { CHAIN_MAX = 1024 }; /* the kernel has room for 32768 instructions in all */

/* ---- Saving ---- */

static struct error *seccomp_check(pid_t pid, pid_t tid, const struct carry_options *options)
{
	(void)options;
	if (seccomp_mode(pid, tid) == SECCOMP_IS_OFF || seccomp_can_suspend())
		return NULL;
	return error_hint(error_new(EPERM, "it has restricted its system calls, and godwit may not suspend that"),
	                  "run godwit with CAP_SYS_ADMIN, and outside of containers that restrict it itself");
}

/* A filter that asks another process what is to be done: that process has a descriptor, which would be lost. */
static bool asks_somebody(const struct seccomp_filter_code *filter)
{
	const struct sock_filter *code = filter->code;

	for (size_t i = 0; i < filter->size_bytes / sizeof(*code); i++)
		if (code[i].code == (BPF_RET | BPF_K) &&
		    (code[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF)
			return true;
	return false;
}

/* All filters of all threads, with the leader. The message borrows from the process. */
static struct error *put_filters(const struct process *process, struct image_store *store)
{
	SeccompEntry entry = SECCOMP_ENTRY__INIT;
	size_t count = process->filters.count;
	auto_free SeccompFilter *filters = xalloc(count * sizeof(*filters));
	auto_free SeccompFilter **pointers = xalloc(count * sizeof(SeccompFilter *));

	for (size_t i = 0; i < count; i++) {
		const struct seccomp_filter_code *filter = &process->filters.list[i];

		if (asks_somebody(filter))
			return error_hint(error_new(ENOTSUP,
			                            "seccomp filter %zu asks another process "
			                            "(SECCOMP_RET_USER_NOTIF)",
			                            i),
			                  "run the program without that supervisor");
		seccomp_filter__init(&filters[i]);
		filters[i].filter = (ProtobufCBinaryData){.len = filter->size_bytes, .data = filter->code};
		filters[i].has_flags = true;
		filters[i].flags = filter->flags;
		filters[i].has_prev = filter->previous >= 0;
		filters[i].prev = (uint32_t)filter->previous;
		pointers[i] = &filters[i];
	}
	entry.n_seccomp_filters = count;
	entry.seccomp_filters = pointers;
	if (count)
		image_put(store, IMAGE_SECCOMP, 0, &entry.base);
	return NULL;
}

static struct error *seccomp_save(const struct state_save *state, const void *collected, const void *asked,
                                  const struct batch *batch)
{
	const struct thread *thread = state->thread;
	ThreadCoreEntry *core = state->core->thread_core;

	(void)collected;
	(void)asked;
	(void)batch;
	core->has_seccomp_mode = true;
	core->seccomp_mode = (SeccompMode)thread->seccomp;
	core->has_seccomp_filter = thread->seccomp == SECCOMP_IS_FILTER;
	core->seccomp_filter = (uint32_t)thread->last_filter;
	return state->core->tc ? put_filters(state->process, state->store) : NULL;
}

/* ---- Restoring ---- */

/* The filters of a thread, the oldest first. */
struct chain {
	uint32_t filters[CHAIN_MAX];
	size_t count;
};

struct restorer {
	const struct state_restore *state;
	SeccompEntry *image;    /* owned; NULL: there is none */
	struct chain common;    /* what all threads begin with */
	uint64_t code_address;  /* in the task: room for the longest filter */
	size_t code_room_bytes; /* 0: no filters */
};

static void restorer_free(struct restorer *restorer)
{
	if (restorer->image)
		seccomp_entry__free_unpacked(restorer->image, NULL);
}

/* In images that are older than CRIU 3.14 the process has it, not the thread. */
static SeccompMode mode_of(const struct state_restore *state, size_t thread, bool *ret_has_filter, uint32_t *ret_last)
{
	const ThreadCoreEntry *core = state->cores[thread]->thread_core;

	assert(state->cores[0]); /* the leader is always there */
	const TaskCoreEntry *tc = state->cores[0]->tc;
	*ret_has_filter = core->has_seccomp_mode ? core->has_seccomp_filter : tc->has_old_seccomp_filter;
	*ret_last = core->has_seccomp_mode ? core->seccomp_filter : tc->old_seccomp_filter;
	return core->has_seccomp_mode     ? core->seccomp_mode
	       : tc->has_old_seccomp_mode ? tc->old_seccomp_mode
	                                  : SECCOMP_MODE__disabled;
}

static struct error *read_chain(const struct restorer *restorer, size_t thread, struct chain *ret_chain)
{
	const SeccompEntry *image = restorer->image;
	bool has_filter;
	uint32_t index;

	ret_chain->count = 0;
	if (mode_of(restorer->state, thread, &has_filter, &index) != SECCOMP_MODE__filter)
		return NULL;
	while (has_filter) {
		if (!image || index >= image->n_seccomp_filters || ret_chain->count == CHAIN_MAX)
			return error_new(EBADMSG, "seccomp filter %u of thread %zu", index, thread);
		ret_chain->filters[ret_chain->count++] = index;
		has_filter = image->seccomp_filters[index]->has_prev;
		index = image->seccomp_filters[index]->prev;
	}
	for (size_t i = 0; i < ret_chain->count / 2; i++) {
		uint32_t other = ret_chain->filters[ret_chain->count - 1 - i];

		ret_chain->filters[ret_chain->count - 1 - i] = ret_chain->filters[i];
		ret_chain->filters[i] = other;
	}
	return NULL;
}

static struct error *find_common(struct restorer *restorer)
{
	struct chain *common = &restorer->common;

	TRY(read_chain(restorer, 0, common));
	for (size_t i = 1; i < restorer->state->core_count && common->count; i++) {
		struct chain chain;
		size_t same = 0;

		if (!restorer->state->cores[i])
			continue;
		TRY(read_chain(restorer, i, &chain));
		while (same < common->count && same < chain.count && common->filters[same] == chain.filters[same])
			same++;
		common->count = same;
	}
	return NULL;
}

static struct error *open_image(struct restorer *restorer)
{
	ProtobufCMessage *message;

	if (image_count(restorer->state->store, IMAGE_SECCOMP, 0) == 0)
		return NULL;
	TRY(image_get(restorer->state->store, IMAGE_SECCOMP, 0, 0, &message));
	restorer->image = (SeccompEntry *)message;
	for (size_t i = 0; i < restorer->image->n_seccomp_filters; i++) {
		size_t size_bytes = restorer->image->seccomp_filters[i]->filter.len;

		if (size_bytes == 0 || size_bytes % sizeof(struct sock_filter) ||
		    size_bytes > BPF_MAXINSNS * sizeof(struct sock_filter))
			return error_new(EBADMSG, "seccomp filter %zu of %zu bytes", i, size_bytes);
		if (size_bytes > restorer->code_room_bytes)
			restorer->code_room_bytes = size_bytes;
	}
	return NULL;
}

static bool is_any_restricted(const struct state_restore *state)
{
	bool has_filter;
	uint32_t last;

	for (size_t i = 0; i < state->core_count; i++)
		if (state->cores[i] && mode_of(state, i, &has_filter, &last) != SECCOMP_MODE__disabled)
			return true;
	return false;
}

static struct error *seccomp_preflight(const struct state_restore *state)
{
	__attribute__((cleanup(restorer_free))) struct restorer restorer = {.state = state};

	if (state->thread != 0 || !is_any_restricted(state))
		return NULL;
	TRY(open_image(&restorer));
	TRY(find_common(&restorer));
	if (!seccomp_can_suspend())
		return error_hint(
			error_new(EPERM, "it has restricted its system calls, and godwit may not suspend that"),
			"run godwit with CAP_SYS_ADMIN, and outside of containers that restrict it itself");
	return NULL;
}

/* A filter may be larger than the data of a batch. */
static struct error *make_room(struct restorer *restorer)
{
	struct process *process = restorer->state->process;
	auto_batch struct batch *batch = process_batch(process, 0);

	struct arg address =
		batch_call(batch, mmap, val(0), val(restorer->code_room_bytes), val(PROT_READ | PROT_WRITE),
	                   val(MAP_PRIVATE | MAP_ANONYMOUS), val(UINT64_MAX), val(0));
	TRY(process_run(process, batch));
	restorer->code_address = (uint64_t)batch_result(batch, address);
	return NULL;
}

static struct error *remove_room(const struct restorer *restorer)
{
	auto_batch struct batch *batch = process_batch(restorer->state->process, 0);

	batch_call(batch, munmap, val(restorer->code_address), val(restorer->code_room_bytes));
	return process_run(restorer->state->process, batch);
}

static struct error *install(const struct restorer *restorer, size_t thread, uint32_t index, uint64_t flags)
{
	const SeccompFilter *filter = restorer->image->seccomp_filters[index];
	struct process *process = restorer->state->process;
	auto_batch struct batch *batch = process_batch(process, thread);
	/* struct sock_fprog, with an address in the task. */
	const uint64_t program[2] = {filter->filter.len / sizeof(struct sock_filter), restorer->code_address};

	if (pwrite(process->mem_fd, filter->filter.data, filter->filter.len, (off_t)restorer->code_address) !=
	    (ssize_t)filter->filter.len)
		return error_new(errno, "seccomp filter %u", index);
	if (filter->has_flags)
		flags |= filter->flags & SECCOMP_FILTER_FLAG_LOG;
	batch_about(batch, "seccomp filter", index);
	struct arg call = batch_call(batch, seccomp, val(SECCOMP_SET_MODE_FILTER), val(flags),
	                             batch_bytes(batch, program, sizeof(program)));
	TRY(process_run(process, batch));
	/* With TSYNC the TID of a thread that can't follow is no error: seccomp(2). */
	if (batch_result(batch, call) != 0)
		return error_new(EBUSY, "seccomp filter %u: thread %d doesn't follow", index,
		                 (int)batch_result(batch, call));
	return NULL;
}

static struct error *set_strict(const struct restorer *restorer, size_t thread)
{
	auto_batch struct batch *batch = process_batch(restorer->state->process, thread);

	batch_call(batch, prctl, val(PR_SET_SECCOMP), val(SECCOMP_MODE_STRICT));
	return process_run(restorer->state->process, batch);
}

static struct error *restrict_thread(const struct restorer *restorer, size_t thread)
{
	bool has_filter;
	uint32_t last;
	struct chain chain;

	if (mode_of(restorer->state, thread, &has_filter, &last) == SECCOMP_MODE__strict)
		return set_strict(restorer, thread);
	TRY(read_chain(restorer, thread, &chain));
	for (size_t i = restorer->common.count; i < chain.count; i++)
		TRY(install(restorer, thread, chain.filters[i], 0));
	return NULL;
}

/* All threads at once, with the leader: see above. */
static struct error *seccomp_restore(const struct state_restore *state, struct batch *batch)
{
	__attribute__((cleanup(restorer_free))) struct restorer restorer = {.state = state};

	(void)batch;
	if (state->thread != 0 || !is_any_restricted(state))
		return NULL;
	TRY(open_image(&restorer));
	TRY(find_common(&restorer));
	if (restorer.code_room_bytes)
		TRY(make_room(&restorer));
	for (size_t i = 0; i < restorer.common.count; i++)
		TRY(install(&restorer, 0, restorer.common.filters[i],
		            state->core_count > 1 ? SECCOMP_FILTER_FLAG_TSYNC : 0));
	for (size_t i = 0; i < state->core_count; i++)
		if (state->cores[i])
			TRY(restrict_thread(&restorer, i), "thread %zu", i);
	return restorer.code_room_bytes ? remove_room(&restorer) : NULL;
}

const struct state_ops seccomp_ops = {
	.name = "seccomp",
	.scope = STATE_THREAD,
	.check = seccomp_check,
	.save = seccomp_save,
	.preflight = seccomp_preflight,
	.restore = seccomp_restore,
};
