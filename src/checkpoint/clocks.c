/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/clocks.h"
#include "timens.pb-c.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { NS_PER_SECOND = 1000 * 1000 * 1000, WAIT_MAX_NS = NS_PER_SECOND };

static int64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

/* ---- Looking ---- */

/* A line of /proc/PID/timens_offsets: "monotonic SECONDS NANOSECONDS". Where there is no such file, there are no time
 * namespaces. */
static int64_t offset_of(const char *text, const char *name)
{
	const char *line = text ? strstr(text, name) : NULL;
	char *end;

	if (!line)
		return 0;
	int64_t seconds = strtoll(line + strlen(name), &end, 10);
	return seconds * NS_PER_SECOND + strtoll(end, NULL, 10);
}

/* How much a program's clocks are ahead of ours. */
static struct error *offsets_of(pid_t pid, struct clocks *ret_offsets)
{
	auto_free char *its = NULL;
	auto_free char *ours = NULL;
	int r = procfs_read(pid, "timens_offsets", &its, NULL);

	if (r == 0)
		r = procfs_read(getpid(), "timens_offsets", &ours, NULL);
	if (r < 0 && r != -ENOENT)
		return error_new(-r, "timens_offsets of process %d", pid);
	ret_offsets->monotonic_ns = offset_of(its, "monotonic") - offset_of(ours, "monotonic");
	ret_offsets->boottime_ns = offset_of(its, "boottime") - offset_of(ours, "boottime");
	return NULL;
}

/* Names the time since this host has booted: proc_sys_kernel(5). Another time namespace than the first one's is as
 * another boot. */
static char *name_of_boot(void)
{
	char text[64] = "unknown";
	auto_file FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	struct stat own;

	if (file && fgets(text, sizeof(text), file))
		text[strcspn(text, "\n")] = '\0';
	return xformat("%s %ju", text, stat("/proc/self/ns/time", &own) == 0 ? (uintmax_t)own.st_ino : 0);
}

struct error *clocks_fill(pid_t pid, GodwitClocksEntry *ret_entry)
{
	struct clocks offsets = {0};

	TRY(offsets_of(pid, &offsets));
	godwit_clocks_entry__init(ret_entry);
	ret_entry->boot = name_of_boot();
	ret_entry->has_namespace = offsets.monotonic_ns || offsets.boottime_ns;
	ret_entry->monotonic_ns = now_ns(CLOCK_MONOTONIC) + offsets.monotonic_ns;
	ret_entry->boottime_ns = now_ns(CLOCK_BOOTTIME) + offsets.boottime_ns;
	return NULL;
}

struct error *clocks_save(pid_t pid, struct image_store *store)
{
	GodwitClocksEntry entry;

	TRY(clocks_fill(pid, &entry));
	image_put(store, IMAGE_GODWIT_CLOCKS, 0, &entry.base);
	free(entry.boot);
	return NULL;
}

/* ---- Going on ---- */

static struct error *read_clocks(const struct image_store *store, GodwitClocksEntry **ret_entry)
{
	ProtobufCMessage *message;

	*ret_entry = NULL;
	if (image_count(store, IMAGE_GODWIT_CLOCKS, 0) == 0)
		return NULL;
	TRY(image_get(store, IMAGE_GODWIT_CLOCKS, 0, 0, &message));
	*ret_entry = (GodwitClocksEntry *)message;
	return NULL;
}

/* Of CRIU: there it is what the clocks showed, too. */
static struct error *needed_by_timens(const struct image_store *store, bool *ret_is_needed, struct clocks *ret_offsets)
{
	ProtobufCMessage *message;

	*ret_is_needed = image_count(store, IMAGE_TIMENS, 0) > 0;
	if (!*ret_is_needed)
		return NULL;
	TRY(image_get(store, IMAGE_TIMENS, 0, 0, &message));
	TimensEntry *timens = (TimensEntry *)message;
	ret_offsets->monotonic_ns = (int64_t)(timens->monotonic->tv_sec * NS_PER_SECOND + timens->monotonic->tv_nsec) -
	                            now_ns(CLOCK_MONOTONIC);
	ret_offsets->boottime_ns = (int64_t)(timens->boottime->tv_sec * NS_PER_SECOND + timens->boottime->tv_nsec) -
	                           now_ns(CLOCK_BOOTTIME);
	timens_entry__free_unpacked(timens, NULL);
	return NULL;
}

bool clocks_needed_by(const GodwitClocksEntry *entry, uint64_t ahead_ns, struct clocks *ret_offsets)
{
	auto_free char *boot = name_of_boot();

	ret_offsets->monotonic_ns = entry->monotonic_ns - now_ns(CLOCK_MONOTONIC) + (int64_t)ahead_ns;
	ret_offsets->boottime_ns = entry->boottime_ns - now_ns(CLOCK_BOOTTIME) + (int64_t)ahead_ns;
	return entry->has_namespace || strcmp(entry->boot, boot) != 0;
}

struct error *clocks_needed(const struct image_store *store, bool *ret_is_needed, struct clocks *ret_offsets)
{
	GodwitClocksEntry *entry;

	TRY(read_clocks(store, &entry));
	if (!entry)
		return needed_by_timens(store, ret_is_needed, ret_offsets);
	*ret_is_needed = clocks_needed_by(entry, 0, ret_offsets);
	godwit_clocks_entry__free_unpacked(entry, NULL);
	return NULL;
}

/* Nanoseconds of the file are not negative. */
static char *format_offset(const char *name, int64_t offset_ns)
{
	int64_t ns = offset_ns % NS_PER_SECOND;
	int64_t seconds = offset_ns / NS_PER_SECOND;

	if (ns < 0) {
		ns += NS_PER_SECOND;
		seconds--;
	}
	return xformat("%s %" PRId64 " %" PRId64 "\n", name, seconds, ns);
}

/* They count from the first time namespace, not from ours. */
static struct error *write_offsets(const struct clocks *offsets)
{
	auto_free char *own = NULL;
	auto_fd int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);

	int r = procfs_read(getpid(), "timens_offsets", &own, NULL);
	if (r < 0)
		return error_new(-r, "timens_offsets");
	auto_free char *monotonic = format_offset("monotonic", offsets->monotonic_ns + offset_of(own, "monotonic"));
	auto_free char *boottime = format_offset("boottime", offsets->boottime_ns + offset_of(own, "boottime"));
	auto_free char *text = xformat("%s%s", monotonic, boottime);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return error_new(errno, "timens_offsets: %s", text);
	return NULL;
}

struct error *clocks_enter(const struct clocks *offsets, int *ret_former_fd)
{
	auto_fd int former = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);

	if (former < 0 || unshare(CLONE_NEWTIME) < 0)
		return error_hint(error_new(errno, "unshare(CLONE_NEWTIME)"),
		                  "the program's clocks would run backwards without a time namespace (Linux 5.6)");
	struct error *error = write_offsets(offsets);
	if (error)
		return error_join(error, clocks_leave(former));
	*ret_former_fd = take(former);
	return NULL;
}

struct error *clocks_leave(int former_fd)
{
	return setns(former_fd, CLONE_NEWTIME) < 0 ? error_new(errno, "setns to the time namespace of before") : NULL;
}

struct error *clocks_wait(const struct image_store *store, const struct clocks *offsets)
{
	GodwitClocksEntry *entry;

	TRY(read_clocks(store, &entry));
	if (!entry)
		return NULL;
	int64_t behind_ns = entry->monotonic_ns - (now_ns(CLOCK_MONOTONIC) + offsets->monotonic_ns);
	int64_t boottime_behind_ns = entry->boottime_ns - (now_ns(CLOCK_BOOTTIME) + offsets->boottime_ns);
	godwit_clocks_entry__free_unpacked(entry, NULL);
	if (boottime_behind_ns > behind_ns)
		behind_ns = boottime_behind_ns;
	if (behind_ns > WAIT_MAX_NS)
		return error_new(ETIME, "the program's clocks are %" PRId64 " ms behind what it saw last",
		                 behind_ns / 1000000);
	const struct timespec wait = {.tv_nsec = behind_ns > 0 ? behind_ns : 0};
	if (behind_ns > 0)
		nanosleep(&wait, NULL);
	return NULL;
}
