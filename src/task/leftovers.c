/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stub/stub.h"
#include "task/held.h"
#include "task/leftovers.h"
#include "task/process.h"
#include "task/remote.h"
#include "task/stub_pages.h"
#include "util/alloc.h"
#include "util/descendants.h"
#include "util/negative_errno.h"

enum {
	RANGES_MAX = 2 * STUB_PLACES,
	/* For a thread in a signal handler that began in the stub's last instructions; and for a killed godwit, whose
	 * ptrace lets go after its descriptors, by whose end the keeper knows of it, and later on a busy machine. */
	ATTEMPTS_MAX = 500,
	KEEPER_ATTEMPTS_MAX = 6000, /* nobody waits for it, and nobody comes behind it */
	ATTEMPT_US = 10 * 1000,
};

struct ranges {
	struct procfs_range list[RANGES_MAX];
	size_t count;
};

/* All who came in have left, and nobody who lives owns the pages. Who was about to come in shows in its registers. */
static bool is_left(int mem_fd, const struct procfs_range *range, const struct stub_session *session)
{
	bool is_dead = session->owner == 0 || (session->owner & FUTEX_OWNER_DIED);

	if (!is_dead || session->place_count > (range->end - range->start) / sizeof(struct stub_place))
		return false;
	for (uint32_t i = 0; i < session->place_count; i++) {
		uint64_t address = range->start + sizeof(*session) + i * sizeof(struct stub_place);
		uint32_t words[4]; /* go, done, left, entered */

		if (pread(mem_fd, words, sizeof(words), (off_t)address) != sizeof(words) || (words[3] && !words[2]))
			return false;
	}
	return true;
}

/* Nobody can be in pages that were never owned: we died before. */
static bool is_left_by_all(int mem_fd, const struct procfs_range *range)
{
	struct stub_session session;

	return pread(mem_fd, &session, sizeof(session), (off_t)range->start) == sizeof(session) &&
	       (session.magic == 0 || is_left(mem_fd, range, &session));
}

/* "start-end perms offset device inode path" of proc_pid_maps(5): shared anonymous memory, where only we put it. */
static bool parse_line(const char *line, struct procfs_range *ret_range, bool *ret_is_code)
{
	char *after;

	ret_range->start = strtoull(line, &after, 16);
	ret_range->end = strtoull(after + 1, &after, 16);
	*ret_is_code = strncmp(after, " r-xs", 5) == 0;
	if (!strstr(after, "/dev/zero (deleted)"))
		return false;
	return *ret_is_code ? stub_pages_is_data_address(ret_range->end)
	                    : strncmp(after, " rw-s", 5) == 0 && stub_pages_is_data_address(ret_range->start);
}

static struct error *find(pid_t pid, int mem_fd, struct ranges *ranges)
{
	auto_free char *maps = NULL;
	char *saved = NULL;
	bool is_in_use = false;

	int r = procfs_read(pid, "maps", &maps, NULL);
	if (r < 0)
		return error_new(-r, "maps of process %d", pid);
	ranges->count = 0;
	for (char *line = strtok_r(maps, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
		struct procfs_range range;
		bool is_code;

		if (!parse_line(line, &range, &is_code))
			continue;
		is_in_use |= !is_code && !is_left_by_all(mem_fd, &range);
		ranges->list[ranges->count++] = range;
	}
	if (is_in_use)
		ranges->count = 0;
	return is_in_use ? error_new(EBUSY, "process %d: threads are still leaving the stub of a killed godwit", pid)
	                 : NULL;
}

static struct error *clear_one(pid_t pid);

/* ---- Threads that stay ---- */

/* The word that they wait for has to change, or one that is about to wait would sleep for ever. */
static struct error *tell_to_leave(pid_t pid, const struct procfs_range *range)
{
	auto_free char *path = xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, range->start, range->end);
	auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "open(%s)", path);
	struct stub_session *session = mmap(NULL, sizeof(*session), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (session == MAP_FAILED)
		return error_new(errno, "mmap(%s)", path);
	bool is_stopped = session->is_stopped;
	session->is_stopped = 0;
	__atomic_store_n(&session->leave, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&session->owner, 0, __ATOMIC_RELEASE);
	syscall(SYS_futex, &session->owner, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	munmap(session, sizeof(*session));
	if (is_stopped && kill(pid, SIGCONT) < 0)
		return error_new(errno, "continue process %d", pid);
	return NULL;
}

static bool is_owner_dead(int mem_fd, const struct procfs_range *range)
{
	struct stub_session session;

	return pread(mem_fd, &session, sizeof(session), (off_t)range->start) == sizeof(session) &&
	       session.magic == STUB_MAGIC && (session.owner == 0 || (session.owner & FUTEX_OWNER_DIED));
}

static struct error *release_one(pid_t pid)
{
	auto_free char *path = xformat("/proc/%d/mem", pid);
	auto_fd int mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	auto_free char *maps = NULL;
	char *saved = NULL;

	int r = mem_fd < 0 ? negative_errno() : procfs_read(pid, "maps", &maps, NULL);
	if (r < 0)
		return error_new(-r, "memory of process %d", pid);
	for (char *line = strtok_r(maps, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
		struct procfs_range range;
		bool is_code;

		if (parse_line(line, &range, &is_code) && !is_code && is_owner_dead(mem_fd, &range))
			TRY(tell_to_leave(pid, &range), "let process %d go on", pid);
	}
	return clear_one(pid);
}

/* Of one that has ended nothing is left. On its way there it has no memory any more, and isn't dead yet: ESRCH. */
static struct error *unless_ended(pid_t pid, struct error *error)
{
	if (!error || (error_errnum(error) != ESRCH && !procfs_is_dead(pid)))
		return error;
	error_free(error);
	return NULL;
}

/* Children first, which their parents don't see stand still. */
static struct error *each_descendant(pid_t pid, struct error *(*call)(pid_t pid))
{
	auto_descendants struct descendants all;
	struct error *error = NULL;

	descendants_list(pid, &all);
	for (size_t i = all.count; i-- > 1;)
		if (!procfs_is_dead(all.list[i].pid))
			error = error_join(error, unless_ended(all.list[i].pid, call(all.list[i].pid)));
	return error_join(error, call(pid));
}

struct error *leftovers_release(pid_t pid)
{
	return each_descendant(pid, release_one);
}

/* ---- Clearing ---- */

static bool is_inside(const struct process *process, const struct ranges *ranges)
{
	for (size_t t = 0; t < process->thread_count; t++)
		for (size_t i = 0; i < ranges->count; i++) {
			uint64_t ip = arch_instruction_pointer(&process->threads[t].registers);
			const struct procfs_range *range = &ranges->list[i];

			if (ip >= range->start && ip < range->end)
				return true;
		}
	return false;
}

static struct error *unmap(struct process *process, const struct ranges *ranges)
{
	TRY(remote_slot_find(process));
	for (size_t i = 0; i < ranges->count; i++) {
		const struct procfs_range *range = &ranges->list[i];
		const struct remote_request request = {
			.name = "munmap",
			.number = SYS_munmap,
			.arguments = {range->start, range->end - range->start},
		};
		int64_t result;

		TRY(remote_call(process, &process->threads[process_caller(process)], &request, &result));
		if (result < 0)
			return error_new((int)-result, "munmap(%#" PRIx64 ")", range->start);
	}
	return NULL;
}

struct error *leftovers_clear_held(struct process *process)
{
	auto_free struct ranges *ranges = xalloc(sizeof(*ranges));

	TRY(find(process->pid, process->mem_fd, ranges));
	return is_inside(process, ranges) ? NULL : unmap(process, ranges);
}

/* A call that a killed godwit has begun may be made only now, and map more. */
static struct error *try_clear(pid_t pid, struct ranges *ranges, bool *ret_is_done)
{
	auto_process struct process *process = NULL;

	TRY(process_seize(pid, &process));
	TRY(process_stop(process));
	TRY(remote_slot_find(process));
	TRY(find(pid, process->mem_fd, ranges));
	*ret_is_done = !is_inside(process, ranges);
	if (*ret_is_done) {
		TRY(unmap(process, ranges));
		remote_slot_clear(process);
	}
	return process_thaw(process);
}

static struct error *clear(pid_t pid, int attempts_max)
{
	auto_free struct ranges *ranges = xalloc(sizeof(*ranges));
	auto_free char *path = xformat("/proc/%d/mem", pid);
	auto_fd int mem_fd = open(path, O_RDONLY | O_CLOEXEC);

	if (mem_fd < 0)
		return error_new(errno, "open(%s)", path);
	for (int attempt = 0;; attempt++) {
		auto_error struct error *error = find(pid, mem_fd, ranges);
		bool is_done = false;

		if (!error && ranges->count == 0 && !remote_slot_is_left(pid, mem_fd))
			return NULL;
		if (!error)
			error = error_wrap(try_clear(pid, ranges, &is_done), "clear what a killed godwit left");
		if (is_done && !error)
			return NULL;
		if (attempt == attempts_max)
			return error ? take(error) : error_new(EBUSY, "process %d", pid);
		usleep(ATTEMPT_US);
	}
}

static struct error *clear_one(pid_t pid)
{
	return clear(pid, ATTEMPTS_MAX);
}

static struct error *clear_patiently(pid_t pid)
{
	return clear(pid, KEEPER_ATTEMPTS_MAX);
}

struct error *leftovers_clear(pid_t pid)
{
	return each_descendant(pid, clear_one);
}

static void undo(const void *bytes, const int *fds, size_t fd_count)
{
	(void)fds;
	(void)fd_count;
	error_free(each_descendant(*(const pid_t *)bytes, clear_patiently));
}

struct error *leftovers_tell_keeper(struct keeper *keeper, pid_t pid)
{
	const struct keeper_undo clear = {.undo = undo, .bytes = &pid, .size_bytes = sizeof(pid)};
	uint32_t id;

	return keeper_add(keeper, &clear, &id);
}

/* ---- Ending ---- */

static struct error *exit_by_itself(struct process *process, int status)
{
	TRY(process_stop(process));
	return held_exit(process, status);
}

static struct error *end_one(pid_t pid, int status)
{
	auto_process struct process *process = NULL;

	TRY(process_seize(pid, &process));
	auto_error struct error *error = status < 0 ? NULL : exit_by_itself(process, status);
	/* What can't end by itself must not go on, either. */
	return status < 0 || error ? process_end(process) : process_wait_gone(process);
}

struct error *leftovers_end(pid_t pid, int status)
{
	auto_descendants struct descendants all;

	descendants_list(pid, &all);
	for (size_t i = all.count; i-- > 1;)
		if (!procfs_is_dead(all.list[i].pid))
			TRY(unless_ended(all.list[i].pid, end_one(all.list[i].pid, -1)), "process %d", all.list[i].pid);
	return end_one(pid, status);
}
