/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "task/calls.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/procfs.h"

enum {
	NS_PER_MS = 1000 * 1000,
	NS_PER_SECOND = 1000 * 1000 * 1000,
	LIBC_RANGES_MAX = 8,
	CPUS_MAX = 4096,
	CALIBRATIONS = 3,
};

/* A thread that slept in a system call when it was looked at. */
struct note {
	pid_t tid;
	long number; /* ARCH_CALL_NONE: nobody knows */
	uint64_t arguments[ARCH_CALL_ARGUMENTS];
	uint64_t stack_pointer, instruction_pointer;
	uint64_t timeout_ns;     /* 0: none, or not known; then what follows isn't, either */
	uint64_t sleeps;         /* how often it had gone to sleep */
	uint64_t cpu, asleep_ns; /* when it did, by the clock of that processor's scheduler */
	uint64_t deadline_ns;    /* of CLOCK_MONOTONIC here; 0: not known */
};

struct calls {
	struct note *notes; /* owned; ascending by tid */
	size_t count;
	struct procfs_range libc[LIBC_RANGES_MAX]; /* its code */
	size_t libc_count;
	int64_t *
		clock_offsets_ns; /* owned; by processor: CLOCK_MONOTONIC minus the scheduler's clock; 0: not known now */
};

struct calls *calls_new(void)
{
	struct calls *calls = xalloc(sizeof(*calls));

	calls->clock_offsets_ns = xalloc(CPUS_MAX * sizeof(*calls->clock_offsets_ns));
	return calls;
}

void calls_free(struct calls *calls)
{
	if (!calls)
		return;
	free(calls->notes);
	free(calls->clock_offsets_ns);
	free(calls);
}

static int compare_notes(const void *left, const void *right)
{
	const struct note *a = left;
	const struct note *b = right;

	return (a->tid > b->tid) - (a->tid < b->tid);
}

static const struct note *find_note(const struct calls *calls, pid_t tid)
{
	const struct note key = {.tid = tid};

	return calls->count ? bsearch(&key, calls->notes, calls->count, sizeof(key), compare_notes) : NULL;
}

static bool is_same_call(const struct note *note, const struct note *other)
{
	return memcmp(note->arguments, other->arguments, sizeof(note->arguments)) == 0 &&
	       note->stack_pointer == other->stack_pointer && note->instruction_pointer == other->instruction_pointer;
}

/* ---- Time-outs ---- */

static bool read_timespec(const struct process *process, uint64_t address, uint64_t *ret_ns)
{
	struct timespec time;
	uint64_t ns;

	if (!address || pread(process->mem_fd, &time, sizeof(time), (off_t)address) != sizeof(time) ||
	    time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= NS_PER_SECOND ||
	    __builtin_mul_overflow((uint64_t)time.tv_sec, NS_PER_SECOND, &ns) ||
	    __builtin_add_overflow(ns, (uint64_t)time.tv_nsec, &ns))
		return false;
	*ret_ns = ns;
	return true;
}

/* poll(2) and epoll_wait(2): 0 and less is no time-out that one waits for. */
static bool take_milliseconds(uint64_t argument, uint64_t *ret_ns)
{
	int ms = (int)argument;

	if (ms <= 0)
		return false;
	*ret_ns = (uint64_t)ms * NS_PER_MS;
	return true;
}

/* Those that go on while a thread sleeps; the clocks of processors' time don't. */
static bool is_clock_of_time(uint64_t clock)
{
	return clock <= CLOCK_TAI && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID;
}

/* The time-out of a call that says how long, not until when; false: it has none. */
static bool read_timeout(const struct process *process, const struct note *note, uint64_t *ret_ns)
{
	const uint64_t *arguments = note->arguments;

	switch (note->number) {
	case SYS_nanosleep:
		return read_timespec(process, arguments[0], ret_ns);
	case SYS_clock_nanosleep:
		return is_clock_of_time(arguments[0]) && !(arguments[1] & TIMER_ABSTIME) &&
		       read_timespec(process, arguments[2], ret_ns);
	case SYS_poll:
		return take_milliseconds(arguments[2], ret_ns);
	case SYS_futex:
		return (arguments[1] & FUTEX_CMD_MASK) == FUTEX_WAIT && read_timespec(process, arguments[3], ret_ns);
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		return take_milliseconds(arguments[3], ret_ns);
	case SYS_epoll_pwait2:
		return read_timespec(process, arguments[3], ret_ns);
	default:
		return false;
	}
}

/* ---- When a thread went to sleep ---- */

/* What follows "name :" in /proc/TID/sched; NULL: there is no such line. */
static const char *value_of(const char *text, const char *name)
{
	const char *line = strstr(text, name);
	const char *colon = line ? strchr(line, ':') : NULL;

	return colon ? colon + 1 : NULL;
}

/* The scheduler's clock, in ms with 6 digits behind the point; and how often the thread has gone to sleep. */
static bool read_scheduler(pid_t pid, pid_t tid, uint64_t *ret_start_ns, uint64_t *ret_sleeps)
{
	auto_free char *name = xformat("task/%d/sched", tid);
	auto_free char *text = NULL;
	char *point;
	char *end;

	if (procfs_read(pid, name, &text, NULL) < 0)
		return false;
	const char *start = value_of(text, "se.exec_start");
	const char *sleeps = value_of(text, "nr_voluntary_switches");
	if (!start || !sleeps)
		return false;
	*ret_start_ns = strtoull(start, &point, 10) * NS_PER_MS;
	if (*point != '.')
		return false;
	*ret_start_ns += strtoull(point + 1, &end, 10);
	*ret_sleeps = strtoull(sleeps, NULL, 10);
	return end - point == 7;
}

/*
 * Each processor's scheduler has a clock of its own, which stands still while the processor is taken away from a virtual
 * machine. This thread sleeps for a moment, there: then its own exec_start is as of just now. What has passed since, and
 * that the other thread went to sleep before, makes the result too high, so that nothing ends too early.
 */
static bool calibrate_here(int64_t *ret_offset_ns)
{
	const struct timespec moment = {.tv_nsec = 1};
	bool is_known = false;

	for (int i = 0; i < CALIBRATIONS; i++) {
		uint64_t start_ns;
		uint64_t unused;

		nanosleep(&moment, NULL);
		if (!read_scheduler(getpid(), gettid(), &start_ns, &unused))
			return false;
		int64_t offset_ns = (int64_t)(clock_now_ns() - start_ns);
		if (!is_known || offset_ns < *ret_offset_ns)
			*ret_offset_ns = offset_ns;
		is_known = true;
	}
	return true;
}

static bool calibrate(struct calls *calls, uint64_t cpu)
{
	cpu_set_t former;
	cpu_set_t only;

	if (cpu >= CPU_SETSIZE || cpu >= CPUS_MAX)
		return false;
	if (calls->clock_offsets_ns[cpu])
		return true;
	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	if (sched_getaffinity(0, sizeof(former), &former) < 0 || sched_setaffinity(0, sizeof(only), &only) < 0)
		return false;
	bool is_done = calibrate_here(&calls->clock_offsets_ns[cpu]);
	return sched_setaffinity(0, sizeof(former), &former) == 0 && is_done;
}

/* ---- Looking ---- */

/* Linux's Documentation/filesystems/proc: number, six arguments, stack pointer, instruction pointer. False: it runs, or
 * sleeps in no call. */
static bool read_call(pid_t pid, pid_t tid, struct note *note)
{
	auto_free char *name = xformat("task/%d/syscall", tid);
	auto_free char *text = NULL;
	uint64_t words[ARCH_CALL_ARGUMENTS + 2];
	char *end;

	if (procfs_read(pid, name, &text, NULL) < 0)
		return false;
	note->number = strtol(text, &end, 10);
	if (end == text || note->number < 0)
		return false;
	for (size_t i = 0; i < ARCH_CALL_ARGUMENTS + 2; i++) {
		const char *word = end;

		words[i] = strtoull(word, &end, 16);
		if (end == word)
			return false;
	}
	memcpy(note->arguments, words, sizeof(note->arguments));
	note->stack_pointer = words[ARCH_CALL_ARGUMENTS];
	note->instruction_pointer = words[ARCH_CALL_ARGUMENTS + 1];
	return true;
}

/* Where in the kernel a thread sleeps that goes on with an interrupted call: proc_pid_wchan(5). */
static long number_by_place(const struct note *note, const char *place)
{
	if (strstr(place, "futex"))
		return SYS_futex;
	if (strstr(place, "poll"))
		return SYS_poll;
	/* All that is left is the sleeps, of which the kernel shows no name; a clock's number, or a pointer. */
	if (strcmp(place, "0") != 0)
		return note->arguments[0] <= CLOCK_TAI ? SYS_clock_nanosleep : SYS_nanosleep;
	return ARCH_CALL_NONE;
}

/* Calls that the kernel restarts in this way. */
static bool has_block(long number)
{
	return number == SYS_nanosleep || number == SYS_clock_nanosleep || number == SYS_poll || number == SYS_futex;
}

static long number_by_code(const struct process *process, uint64_t end_address)
{
	uint8_t bytes[ARCH_CALL_BYTES + 2];
	off_t start = (off_t)(end_address - sizeof(bytes));

	if (pread(process->mem_fd, bytes, sizeof(bytes), start) != sizeof(bytes))
		return ARCH_CALL_NONE;
	long number = arch_call_in_code(bytes);
	return has_block(number) ? number : ARCH_CALL_NONE;
}

/* Which call it is that goes on by restart_syscall(2): the one that it was in when we stopped it before, or … */
static void find_restarted(const struct calls *calls, const struct process *process, struct note *note)
{
	const struct note *former = find_note(calls, note->tid);
	auto_free char *name = xformat("task/%d/wchan", note->tid);
	auto_free char *place = NULL;

	note->number = ARCH_CALL_NONE;
	if (former && is_same_call(former, note)) {
		note->number = former->number;
		note->deadline_ns = former->deadline_ns > clock_now_ns() ? former->deadline_ns : 0;
	}
	if (note->number == ARCH_CALL_NONE && procfs_read(process->pid, name, &place, NULL) == 0)
		note->number = number_by_place(note, place);
	if (note->number == ARCH_CALL_NONE)
		note->number = number_by_code(process, note->instruction_pointer);
}

/*
 * The time-out is read behind the rest: a thread that goes on meanwhile sleeps once more, and that shows. One that has used
 * more than its share stays in its processor's queue for a while as it falls asleep (Linux 6.12); if it is moved to
 * another processor in that while, the kernel forgets when it began (exec_start is 0).
 */
static void find_sleep(const struct process *process, struct note *note)
{
	enum { STAT_PROCESSOR = 39 };

	if (!read_timeout(process, note, &note->timeout_ns) ||
	    procfs_thread_stat_field(process->pid, note->tid, STAT_PROCESSOR, &note->cpu) < 0 ||
	    !read_scheduler(process->pid, note->tid, &note->asleep_ns, &note->sleeps) || note->asleep_ns == 0 ||
	    !read_timeout(process, note, &note->timeout_ns))
		note->timeout_ns = 0;
}

static void find_deadline(struct calls *calls, struct note *note)
{
	if (!note->timeout_ns || note->deadline_ns || !calibrate(calls, note->cpu))
		return;
	uint64_t start_ns = note->asleep_ns + (uint64_t)calls->clock_offsets_ns[note->cpu];
	if (__builtin_add_overflow(start_ns, note->timeout_ns, &note->deadline_ns))
		note->deadline_ns = 0;
}

static bool look_at(struct calls *calls, const struct process *process, pid_t tid, struct note *note)
{
	*note = (struct note){.tid = tid};
	if (!read_call(process->pid, tid, note))
		return false;
	if (note->number == SYS_restart_syscall)
		find_restarted(calls, process, note);
	find_sleep(process, note);
	return true;
}

/* "start-end perms offset device inode path" of proc_pid_maps(5): the code of a C library, by its usual names. */
static bool parse_libc(const char *line, const char *end, struct procfs_range *ret_range)
{
	static const char *const names[] = {"/libc.so", "/libc-2.", "/libpthread-2.", "/ld-musl-"};
	size_t length = (size_t)(end - line);
	char *after;

	if (!memmem(line, length, " r-xp ", strlen(" r-xp ")))
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!memmem(line, length, names[i], strlen(names[i])))
			continue;
		ret_range->start = strtoull(line, &after, 16);
		ret_range->end = strtoull(after + 1, NULL, 16);
		return true;
	}
	return false;
}

static bool is_epoll(long number)
{
	return number == SYS_epoll_wait || number == SYS_epoll_pwait || number == SYS_epoll_pwait2;
}

static void find_libc(struct calls *calls, pid_t pid)
{
	auto_free char *maps = NULL;
	bool is_needed = false;

	for (size_t i = 0; i < calls->count; i++)
		is_needed |= is_epoll(calls->notes[i].number);
	calls->libc_count = 0;
	if (!is_needed || procfs_read(pid, "maps", &maps, NULL) < 0)
		return;
	for (const char *line = maps; *line && calls->libc_count < LIBC_RANGES_MAX;) {
		const char *end = strchrnul(line, '\n');

		calls->libc_count += parse_libc(line, end, &calls->libc[calls->libc_count]);
		line = *end ? end + 1 : end;
	}
}

void calls_look(struct calls *calls, const struct process *process)
{
	struct note *notes = xalloc((process->thread_count + 1) * sizeof(*notes));
	size_t count = 0;

	for (size_t i = 0; i < process->thread_count; i++)
		count += look_at(calls, process, process->threads[i].tid, &notes[count]);
	qsort(notes, count, sizeof(*notes), compare_notes);
	memset(calls->clock_offsets_ns, 0, CPUS_MAX * sizeof(*calls->clock_offsets_ns));
	for (size_t i = 0; i < count; i++)
		find_deadline(calls, &notes[i]);
	free(calls->notes);
	calls->notes = notes;
	calls->count = count;
	find_libc(calls, process->pid);
}

/* ---- Settling ---- */

static bool is_noted(const struct note *note, const struct thread *thread)
{
	struct note now = {.stack_pointer = arch_stack_pointer(&thread->registers),
	                   .instruction_pointer = arch_instruction_pointer(&thread->registers)};

	for (unsigned i = 0; i < ARCH_CALL_ARGUMENTS; i++)
		now.arguments[i] = arch_call_argument(&thread->registers, i);
	return is_same_call(note, &now);
}

/* Where a sleep writes the time that is left when it is interrupted; 0: nowhere. */
static uint64_t remaining_address(const struct thread *thread)
{
	const struct arch_registers *registers = &thread->registers;

	if (arch_call_outcome(registers) != ARCH_CALL_FROM_BLOCK)
		return 0;
	return thread->call.number == SYS_nanosleep         ? arch_call_argument(registers, 1)
	       : thread->call.number == SYS_clock_nanosleep ? arch_call_argument(registers, 3)
	                                                    : 0;
}

static uint64_t time_left(const struct process *process, const struct note *note, const struct thread *thread)
{
	uint64_t left_ns;
	uint64_t start_ns;
	uint64_t sleeps;
	uint64_t now_ns = clock_now_ns();

	if (read_timespec(process, remaining_address(thread), &left_ns))
		return left_ns + 1;
	/* It sleeps in the stop by now. If there was another sleep, the call that was looked at has ended. */
	if (!note || !note->timeout_ns || !note->deadline_ns ||
	    !read_scheduler(process->pid, thread->tid, &start_ns, &sleeps) || sleeps != note->sleeps + 1)
		return 0;
	return note->deadline_ns > now_ns ? note->deadline_ns - now_ns : 1;
}

/*
 * The time-out of these is in an argument (for epoll_pwait2(2), it is another call that has it there). Whether somebody
 * reads that register when the call has returned is known only of the C library, which doesn't.
 */
static struct error *shorten(const struct calls *calls, struct thread *thread)
{
	enum { TIMEOUT_ARGUMENT = 3 };
	uint64_t address = arch_instruction_pointer(&thread->registers);
	uint64_t left_ms = (thread->call.left_ns + NS_PER_MS - 1) / NS_PER_MS;
	bool is_libc = false;

	for (size_t i = 0; i < calls->libc_count; i++)
		is_libc |= address >= calls->libc[i].start && address < calls->libc[i].end;
	if (!is_libc || left_ms > INT_MAX)
		return NULL;
	if (thread->call.number == SYS_epoll_pwait2)
		thread->call.number = SYS_epoll_pwait;
	arch_call_change(&thread->registers, thread->call.number, TIMEOUT_ARGUMENT, left_ms);
	int r = arch_registers_set(thread->tid, &thread->registers);
	return r < 0 ? error_new(-r, "registers of thread %d", thread->tid) : NULL;
}

struct error *calls_settle(struct calls *calls, const struct process *process, struct thread *thread)
{
	const struct note *note = find_note(calls, thread->tid);
	long number = arch_call_number(&thread->registers);

	if (number == ARCH_CALL_NONE)
		return NULL;
	if (note && !is_noted(note, thread))
		note = NULL;
	if (number == SYS_restart_syscall)
		thread->call.number =
			note ? note->number : number_by_code(process, arch_instruction_pointer(&thread->registers));
	bool has_timeout = arch_call_outcome(&thread->registers) == ARCH_CALL_FROM_BLOCK || is_epoll(number);
	if (has_timeout && thread->call.number != ARCH_CALL_NONE)
		thread->call.left_ns = time_left(process, note, thread);
	return is_epoll(number) && thread->call.left_ns ? shorten(calls, thread) : NULL;
}
