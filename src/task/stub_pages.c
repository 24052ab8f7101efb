/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stub/stub.h"
#include "task/held.h"
#include "task/leftovers.h"
#include "task/remote.h"
#include "task/stops.h"
#include "task/stub_pages_parts.h"
#include "util/alloc.h"

enum {
	HELD_MAX = 2000,   /* processes: the kernel looks at 2048 entries, ROBUST_LIST_LIMIT of Linux's futex.h */
	CODE_BYTES = 4096, /* of the stub itself; tests/lint/stub.sh looks at its size */
};

/* The stub as linked into this program: src/stub/stub.c has a section of its own. */
extern const uint8_t stub_code_start[] __asm__("__start_stub_code");
extern const uint8_t stub_code_end[] __asm__("__stop_stub_code");

/* ---- The pages ---- */

static uint64_t place_address(const struct stub_pages *stub, size_t thread)
{
	return stub->session_address + sizeof(struct stub_session) + thread * sizeof(struct stub_place);
}

bool stub_pages_has_small(const struct stub_pages *stub, size_t thread)
{
	return !stub->is_roomy && thread != 0 && thread != stub->caller;
}

size_t stub_pages_control_offset(const struct stub_pages *stub, size_t thread)
{
	size_t start = sizeof(struct stub_session) + stub->room * sizeof(struct stub_place);

	if (stub->is_roomy)
		return start + thread * sizeof(struct stub_control);
	if (stub_pages_has_small(stub, thread))
		return start + 2 * sizeof(struct stub_control) + thread * STUB_SMALL_BYTES;
	return start + (thread != 0) * sizeof(struct stub_control);
}

struct stub_control *stub_pages_control(const struct stub_pages *stub, size_t thread)
{
	return (struct stub_control *)(void *)((uint8_t *)stub->session + stub_pages_control_offset(stub, thread));
}

static uint64_t trampoline_address(const struct stub_pages *stub, size_t thread)
{
	return stub->code_address + CODE_BYTES + thread * ARCH_GUARDED_BYTES;
}

/* The same here. One that waits for us takes the most room. */
static uint8_t *trampoline(const struct stub_pages *stub, size_t thread)
{
	return &stub->code[CODE_BYTES + thread * ARCH_GUARDED_BYTES];
}

static struct error *remote_map(struct process *process, uint64_t at, size_t size_bytes, int protection,
                                uint64_t *ret_address)
{
	const uint64_t flags = MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE | MAP_FIXED_NOREPLACE;
	const struct remote_request request = {
		.name = "mmap",
		.number = SYS_mmap,
		.arguments = {at, size_bytes, (uint64_t)protection, flags, UINT64_MAX, 0},
	};
	int64_t result;

	TRY(remote_call(process, &process->threads[process_caller(process)], &request, &result));
	if (result < 0 && result >= -4095)
		return error_new((int)-result, "mmap(%#" PRIx64 ", %zu) in process %d", at, size_bytes, process->pid);
	*ret_address = (uint64_t)result;
	return NULL;
}

static struct error *remote_unmap(struct process *process, struct thread *thread, uint64_t address, size_t size_bytes)
{
	const struct remote_request request = {
		.name = "munmap",
		.number = SYS_munmap,
		.arguments = {address, size_bytes},
	};
	int64_t result;

	TRY(remote_call(process, thread, &request, &result));
	if (result < 0)
		return error_new((int)-result, "munmap(%#" PRIx64 ", %zu) in process %d", address, size_bytes,
		                 process->pid);
	return NULL;
}

/* The same pages here, writable whatever they are there. */
static struct error *map_here(const struct process *process, uint64_t address, size_t size_bytes, void *at,
                              void **ret_pages)
{
	auto_free char *path =
		xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, process->pid, address, address + size_bytes);
	auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return error_hint(error_new(errno, "open(%s)", path),
		                  "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN is needed for this");
	void *pages =
		mmap(at, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE | (at ? MAP_FIXED : 0), fd, 0);
	if (pages == MAP_FAILED)
		return error_new(errno, "mmap(%s)", path);
	*ret_pages = pages;
	return NULL;
}

static struct error *map_pages_here(const struct process *process, struct stub_pages *stub)
{
	void *code;
	void *data;

	TRY(map_here(process, stub->code_address, stub->code_bytes, NULL, &code));
	stub->code = code;
	void *reserved = mmap(NULL, sizeof(struct robust_page) + stub->data_bytes, PROT_READ | PROT_WRITE,
	                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reserved == MAP_FAILED)
		return error_new(errno, "mmap(%zu)", stub->data_bytes);
	stub->reserved = reserved;
	TRY(map_here(process, stub->session_address, stub->data_bytes, stub->reserved + 1, &data));
	stub->session = data;
	stub->places = (struct stub_place *)(stub->session + 1);
	return NULL;
}

/* ---- Our death ---- */

/* The head of this thread's list, if that is one of ours: no other list has this offset. */
static struct robust_list_head *own_head(struct robust_list_head **ret_other, size_t *ret_bytes)
{
	if (syscall(SYS_get_robust_list, 0, ret_other, ret_bytes) < 0) {
		*ret_other = NULL;
		return NULL;
	}
	return *ret_other && (*ret_other)->futex_offset == (long)sizeof(struct robust_page) ? *ret_other : NULL;
}

static struct robust_page *page_of(struct robust_list_head *head)
{
	return (struct robust_page *)(void *)((uint8_t *)head - offsetof(struct robust_page, head));
}

/* The kernel will mark session->owner when this thread ends in whatever way: get_robust_list(2). */
static struct error *own(struct stub_pages *stub)
{
	struct robust_page *page = stub->reserved;
	struct robust_list_head *head = own_head(&page->saved_head, &page->saved_bytes);

	stub->session->place_count = (uint32_t)stub->room;
	stub->session->magic = STUB_MAGIC;
	if (head) {
		if (page_of(head)->count == HELD_MAX)
			return error_new(ENOTSUP, "more than %d processes at once", HELD_MAX);
		page_of(head)->count++;
		page->entry.next = head->list.next;
		__atomic_store_n(&head->list.next, &page->entry, __ATOMIC_RELEASE);
	} else {
		page->count = 1;
		page->head.list.next = &page->entry;
		page->entry.next = &page->head.list;
		page->head.futex_offset = (long)sizeof(struct robust_page);
		if (syscall(SYS_set_robust_list, &page->head, sizeof(page->head)) < 0)
			return error_new(errno, "set_robust_list");
	}
	stub->is_owned = true;
	/* Last: if we died before, nobody would take our name away. */
	__atomic_store_n(&stub->session->owner, (uint32_t)gettid() | FUTEX_WAITERS, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * The head goes with its page: another one takes over. If we die on the way the kernel goes round through both heads, of
 * which neither looks as if it were a lock of ours, until it gives up; it has seen all entries then.
 */
static void hand_over_head(const struct robust_page *from)
{
	struct robust_page *to = (struct robust_page *)(void *)from->head.list.next;
	struct robust_list *last = &to->entry;

	to->head = from->head;
	to->saved_head = from->saved_head;
	to->saved_bytes = from->saved_bytes;
	to->count = from->count;
	while (last->next != &from->head.list)
		last = last->next;
	__atomic_store_n(&last->next, &to->head.list, __ATOMIC_RELEASE);
	syscall(SYS_set_robust_list, &to->head, sizeof(to->head));
}

static void disown(struct stub_pages *stub)
{
	struct robust_page *page = stub->reserved;
	struct robust_list_head *other;
	size_t unused;
	struct robust_list_head *head = stub->is_owned ? own_head(&other, &unused) : NULL;

	stub->is_owned = false;
	if (!head)
		return;
	struct robust_list *before = &head->list;
	while (before->next != &page->entry)
		before = before->next;
	__atomic_store_n(&before->next, page->entry.next, __ATOMIC_RELEASE);
	page_of(head)->count--;
	if (head != &page->head)
		return;
	if (head->list.next == &head->list)
		syscall(SYS_set_robust_list, page->saved_head, page->saved_bytes);
	else
		hand_over_head(page);
}

void stub_pages_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* ---- Entering ---- */

static void prepare_place(struct stub_pages *stub, const struct thread *thread, size_t index)
{
	struct stub_place *place = &stub->places[index];
	uint64_t left_address = place_address(stub, index) + offsetof(struct stub_place, left);
	struct arch_registers registers = thread->registers;

	arch_registers_rewind(&registers);
	/* A thread that has ended may have had it. */
	place->go = place->done = place->left = place->entered = 0;
	place->session_address = stub->session_address;
	place->control_address = stub->session_address + stub_pages_control_offset(stub, index);
	place->signal_mask = thread->signal_mask;
	arch_saved_set(&place->saved, &registers, trampoline_address(stub, index));
	arch_trampoline(trampoline(stub, index), &registers, left_address);
}

/*
 * Registers first, then the mask: a thread that loses us in between blocks the signals by itself, one that loses us
 * before goes on where it was. It doesn't run until it gets a batch: to be parked it is enough that it would come in if we
 * died, and each run costs a second stop.
 */
static struct error *send_in(const struct stub_pages *stub, struct thread *thread, size_t index)
{
	const uint64_t all = UINT64_MAX;
	struct arch_registers registers = thread->registers;
	uint64_t place = place_address(stub, index);
	uint64_t entry = stub->code_address + (uint64_t)((const uint8_t *)(uintptr_t)stub_main - stub_code_start);

	arch_registers_call(&registers, entry, place, place + sizeof(struct stub_place));
	int r = arch_registers_set(thread->tid, &registers);
	if (r < 0)
		return error_new(-r, "registers of thread %d", thread->tid);
	TRY(THREAD_PTRACE(thread, PTRACE_SETSIGMASK, sizeof(all), &all));
	thread->has_called = false;
	thread->batch_number = 0;
	return NULL;
}

static size_t whole_pages(size_t size_bytes)
{
	return (size_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static size_t code_bytes_for(size_t thread_room)
{
	return CODE_BYTES + whole_pages(thread_room * ARCH_GUARDED_BYTES);
}

static size_t data_bytes_for(size_t thread_room, bool is_roomy)
{
	size_t places = sizeof(struct stub_session) + thread_room * sizeof(struct stub_place);

	return whole_pages(is_roomy ? places + thread_room * sizeof(struct stub_control)
	                            : places + 2 * sizeof(struct stub_control) + thread_room * STUB_SMALL_BYTES);
}

size_t process_stub_bytes(size_t thread_room)
{
	return STUB_DATA_OFFSET + data_bytes_for(thread_room, true);
}

static struct error *map_at(struct process *process, uint64_t address, struct stub_pages *stub)
{
	uint64_t data_address = address + STUB_DATA_OFFSET;

	TRY(remote_map(process, data_address - stub->code_bytes, stub->code_bytes, PROT_READ | PROT_EXEC,
	               &stub->code_address));
	return remote_map(process, data_address, stub->data_bytes, PROT_READ | PROT_WRITE, &stub->session_address);
}

static struct error *map_at_any_place(struct process *process, struct stub_pages *stub)
{
	struct error *error = map_at(process, stub_pages_address(0), stub);

	/* A call that mapped pages for a godwit which was killed then has only now come to its end. */
	if (error && error_errnum(error) == EEXIST)
		TRY(leftovers_clear_held(process));
	for (unsigned i = 0; error && error_errnum(error) == EEXIST && i < STUB_PLACES; i++) {
		error_free(error);
		if (stub->code_address)
			TRY(remote_unmap(process, &process->threads[process_caller(process)], stub->code_address,
			                 stub->code_bytes));
		stub->code_address = 0;
		error = map_at(process, stub_pages_address(i), stub);
	}
	return error;
}

static struct error *make_pages(struct process *process, uint64_t at_address, struct stub_pages *stub)
{
	TRY(at_address ? map_at(process, at_address, stub) : map_at_any_place(process, stub));
	return map_pages_here(process, stub);
}

/* Parks one more stopped thread. */
static struct error *let_in(struct stub_pages *stub, struct thread *thread)
{
	prepare_place(stub, thread, thread->index);
	return send_in(stub, thread, thread->index);
}

struct error *process_enter(struct process *process, uint64_t at_address, size_t thread_room)
{
	struct stub_pages *stub = xalloc(sizeof(*stub));
	size_t stub_bytes = (size_t)(stub_code_end - stub_code_start);

	process->stub = stub;
	assert(stub_bytes <= CODE_BYTES);
	stub->room = thread_room ? thread_room : process->thread_count;
	stub->is_roomy = thread_room;
	stub->caller = process_caller(process);
	stub->code_bytes = code_bytes_for(stub->room);
	stub->data_bytes = data_bytes_for(stub->room, stub->is_roomy);
	TRY(remote_slot_find(process));
	TRY(make_pages(process, at_address, stub), "enter process %d", process->pid);
	memcpy(stub->code, stub_code_start, stub_bytes);
	TRY(own(stub));
	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_held)
			TRY(let_in(stub, &process->threads[i]), "enter process %d", process->pid);
	return NULL;
}

struct error *process_join(struct process *process, pid_t tid, pid_t own_tid)
{
	struct stub_pages *stub = process->stub;
	enum stop stop;

	struct thread *thread = process_take_place(process, tid);
	thread->own_tid = own_tid;
	assert(thread->index < stub->room);
	TRY(thread_wait_interrupted(thread, &stop));
	if (stop != STOP_INTERRUPTED)
		return error_new(ESRCH, "thread %d", tid);
	TRY(thread_read(process, thread));
	return let_in(stub, thread);
}

size_t process_caller(const struct process *process)
{
	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_held && !process->threads[i].is_gone)
			return i;
	for (size_t i = 0; i < process->thread_count; i++)
		if (seccomp_may_map(process, &process->threads[i]) && !process->threads[i].is_gone)
			return i;
	return 0;
}

size_t process_room(const struct process *process)
{
	return process->stub->room;
}

void process_stub_ranges(const struct process *process, struct procfs_range ret_ranges[STUB_RANGES])
{
	const struct stub_pages *stub = process->stub;

	ret_ranges[0].start = stub->code_address;
	ret_ranges[0].end = stub->code_address + stub->code_bytes;
	ret_ranges[1].start = stub->session_address;
	ret_ranges[1].end = stub->session_address + stub->data_bytes;
}

/* ---- Leaving ---- */

static bool has_held(const struct process *process)
{
	for (size_t i = 0; i < process->thread_count; i++)
		if (process->threads[i].is_held)
			return true;
	return false;
}

/*
 * A thread in a ptrace stop goes on when we die, unless a group stop is waiting for it. One that is parked takes the signal
 * that begins the group stop; if none is parked, the signal waits for the first that goes on, and that is enough.
 */
static struct error *begin_group_stop(struct process *process)
{
	if (!has_held(process) || process_is_in_group_stop(process))
		return NULL;
	process->stub->session->is_stopped = 1;
	process->is_stopped_for_good = true;
	if (syscall(SYS_pidfd_send_signal, process->pidfd, SIGSTOP, NULL, 0) < 0)
		return error_new(errno, "stop process %d", process->pid);
	return process_stop_again(process);
}

static struct error *end_group_stop(struct process *process)
{
	if (!process->is_stopped_for_good)
		return NULL;
	process->is_stopped_for_good = false;
	process->stub->session->is_stopped = 0;
	for (size_t i = 0; i < process->thread_count; i++)
		process->threads[i].stop_signal = 0;
	if (syscall(SYS_pidfd_send_signal, process->pidfd, SIGCONT, NULL, 0) < 0)
		return error_new(errno, "continue process %d", process->pid);
	return NULL;
}

struct error *process_set_stay(struct process *process, bool stay)
{
	__atomic_store_n(&process->stub->session->stay, stay, __ATOMIC_RELEASE);
	return stay ? begin_group_stop(process) : end_group_stop(process);
}

/* Tells the threads to leave by themselves. Our death means something to them until they have been told. */
static void leave(struct stub_pages *stub)
{
	__atomic_store_n(&stub->session->leave, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&stub->session->owner, 0, __ATOMIC_RELEASE);
	stub_pages_wake(&stub->session->owner);
	disown(stub);
}

/* As the kernel would if we died: threads that have been told so stay. */
static void leave_alone(struct stub_pages *stub)
{
	__atomic_store_n(&stub->session->owner, FUTEX_OWNER_DIED, __ATOMIC_RELEASE);
	stub_pages_wake(&stub->session->owner);
	disown(stub);
}

void stub_pages_set_left(struct stub_pages *stub, const struct thread *thread)
{
	if (stub->places) /* else making the pages failed, and nobody is in them */
		__atomic_store_n(&stub->places[thread->index].left, 1, __ATOMIC_RELEASE);
}

struct error *stub_pages_unmap(struct process *process, struct thread *thread)
{
	struct stub_pages *stub = process->stub;

	size_t size_bytes = stub->code_bytes + (stub->session_address ? stub->data_bytes : 0);

	/* The data come last, and are missing if making them failed. */
	if (stub->code_address) {
		TRY(remote_slot_find(process));
		TRY(remote_unmap(process, thread, stub->code_address, size_bytes));
	}
	remote_slot_clear(process);
	stub_pages_free(process->former_stub);
	process->former_stub = stub;
	process->stub = NULL;
	return NULL;
}

void stub_pages_free(struct stub_pages *stub)
{
	if (!stub)
		return;
	if (stub->session && stub->session->stay)
		leave_alone(stub);
	else if (stub->session)
		leave(stub);
	if (stub->code)
		munmap(stub->code, stub->code_bytes);
	if (stub->reserved)
		munmap(stub->reserved, sizeof(struct robust_page) + stub->data_bytes);
	free(stub);
}

struct held_place stub_pages_held_place(const struct stub_pages *stub, const struct thread *thread)
{
	uint64_t address = place_address(stub, thread->index);

	return (struct held_place){
		.code = trampoline(stub, thread->index),
		.code_address = trampoline_address(stub, thread->index),
		.place = &stub->places[thread->index],
		.control = stub_pages_control(stub, thread->index),
		.guard =
			{
				.owner = stub->session->owner,
				.owner_address = stub->session_address + offsetof(struct stub_session, owner),
				.result_address = address + offsetof(struct stub_place, held_result),
				.made_address = address + offsetof(struct stub_place, done),
			},
	};
}
