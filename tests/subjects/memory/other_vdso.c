/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A vDSO that no kernel here has: its functions are at other places than in the kernel's, as in one of another build. What
 * the program has of it goes on working: addresses that libc has looked up, addresses that it looks up by itself, and
 * calls that are being made all the time.
 *
 * The functions __vdso_NAME are moved into the zeros behind the code, where they are jumps to where they were, which stays
 * known as NAME.
 */
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "subject.h"

enum { ENTRY_BYTES = 16, TRAMPOLINE_BYTES = 128, PAGE_BYTES = 4096, NS_PER_S = 1000 * 1000 * 1000 };

struct functions {
	int (*clock_gettime)(clockid_t clock, struct timespec *time);
	int (*clock_getres)(clockid_t clock, struct timespec *resolution);
	int (*gettimeofday)(struct timeval *time, void *zone);
	time_t (*time)(time_t *time);
	long (*getcpu)(unsigned *cpu, unsigned *node, void *unused);
};

struct image {
	uint8_t *start;
	Elf64_Sym *symbols;
	size_t count;
	const char *names;
	size_t end_of_code;
};

static void fail_to_set_up(const struct subject *subject, const char *what)
{
	subject_skip(subject, "the vDSO: %s", what);
}

static struct image find_image(const struct subject *subject)
{
	struct image image = {.start = (uint8_t *)getauxval(AT_SYSINFO_EHDR)};

	if (!image.start)
		fail_to_set_up(subject, "there is none");
	const Elf64_Ehdr *elf = (const Elf64_Ehdr *)image.start;
	const Elf64_Phdr *headers = (const Elf64_Phdr *)(image.start + elf->e_phoff);
	/* Behind the functions there is more: what the kernel has read from it when it began, and section headers. */
	image.end_of_code = elf->e_shoff + (size_t)elf->e_shnum * elf->e_shentsize;
	for (unsigned i = 0; i < elf->e_phnum; i++) {
		const Elf64_Dyn *dynamic = (const Elf64_Dyn *)(image.start + headers[i].p_offset);

		for (; headers[i].p_type == PT_DYNAMIC && dynamic->d_tag != DT_NULL; dynamic++) {
			if (dynamic->d_tag == DT_SYMTAB)
				image.symbols = (Elf64_Sym *)(image.start + dynamic->d_un.d_ptr);
			if (dynamic->d_tag == DT_STRTAB)
				image.names = (const char *)image.start + dynamic->d_un.d_ptr;
		}
	}
	if (!image.symbols || !image.names)
		fail_to_set_up(subject, "no symbols");
	image.count = (size_t)(image.names - (const char *)image.symbols) / sizeof(Elf64_Sym);
	return image;
}

static void *find_function(const struct subject *subject, const struct image *image, const char *name)
{
	for (size_t i = 0; i < image->count; i++)
		if (strcmp(image->names + image->symbols[i].st_name, name) == 0)
			return image->start + image->symbols[i].st_value;
	fail_to_set_up(subject, name);
	return NULL;
}

/* Where it can't be written otherwise: proc_pid_mem(5). */
static void put(const struct subject *subject, int fd, void *at, const void *bytes, size_t size_bytes)
{
	if (pwrite(fd, bytes, size_bytes, (off_t)(uintptr_t)at) != (ssize_t)size_bytes)
		fail_to_set_up(subject, "can't be written");
}

static void move_functions(const struct subject *subject, const struct image *image)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	size_t to = (image->end_of_code + ENTRY_BYTES) & ~(size_t)(ENTRY_BYTES - 1);
	size_t end = ((image->end_of_code + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1)) - TRAMPOLINE_BYTES;

	for (size_t i = 0; i < image->count; i++) {
		Elf64_Sym symbol = image->symbols[i];
		uint8_t jump[ENTRY_BYTES] = {0xe9}; /* jmp, 32 bits from behind it */
		int32_t distance = (int32_t)(symbol.st_value - to) - 5;

		if (strncmp(image->names + symbol.st_name, "__vdso_", 7) != 0)
			continue;
		if (to + sizeof(jump) > end)
			fail_to_set_up(subject, "no room behind its code");
		memcpy(jump + 1, &distance, sizeof(distance));
		put(subject, fd, image->start + to, jump, sizeof(jump));
		symbol.st_value = to;
		symbol.st_size = sizeof(jump);
		put(subject, fd, &image->symbols[i], &symbol, sizeof(symbol));
		to += sizeof(jump);
	}
	close(fd);
}

static struct functions look_up(const struct subject *subject, const struct image *image)
{
	return (struct functions){
		.clock_gettime = find_function(subject, image, "__vdso_clock_gettime"),
		.clock_getres = find_function(subject, image, "__vdso_clock_getres"),
		.gettimeofday = find_function(subject, image, "__vdso_gettimeofday"),
		.time = find_function(subject, image, "__vdso_time"),
		.getcpu = find_function(subject, image, "__vdso_getcpu"),
	};
}

/* ---- Looking ---- */

static int64_t ns(const struct timespec *time)
{
	return (int64_t)time->tv_sec * NS_PER_S + time->tv_nsec;
}

/* Seconds since 1970 as the kernel tells it. */
static time_t seconds_now(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
	return now.tv_sec;
}

static bool is_now(time_t told)
{
	time_t now = seconds_now();

	return told >= now - 10 && told <= now + 1;
}

static void check_clock(const struct subject *subject, const struct functions *functions, clockid_t clock)
{
	struct timespec before;
	struct timespec told = {0};
	struct timespec after;
	struct timespec fine = {0};
	enum { COARSE_NS = 50 * 1000 * 1000 };

	syscall(SYS_clock_gettime, clock, &before);
	if (functions->clock_gettime(clock, &told) != 0)
		subject_fail(subject, "clock %d: no time", clock);
	syscall(SYS_clock_gettime, clock, &after);
	if (ns(&told) < ns(&before) - COARSE_NS || ns(&told) > ns(&after))
		subject_fail(subject, "clock %d: %jd ns, not %jd to %jd", clock, (intmax_t)ns(&told),
		             (intmax_t)ns(&before), (intmax_t)ns(&after));
	if (functions->clock_getres(clock, &fine) != 0 || ns(&fine) <= 0 || ns(&fine) > COARSE_NS)
		subject_fail(subject, "clock %d: resolution of %jd ns", clock, (intmax_t)ns(&fine));
}

static void check(const struct subject *subject, const struct functions *functions)
{
	static const clockid_t clocks[] = {CLOCK_REALTIME,         CLOCK_MONOTONIC, CLOCK_REALTIME_COARSE,
	                                   CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME,  CLOCK_THREAD_CPUTIME_ID};
	struct timeval time_of_day = {0};
	unsigned cpu = UINT32_MAX;

	for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++)
		check_clock(subject, functions, clocks[i]);
	if (!is_now(functions->time(NULL)))
		subject_fail(subject, "time: %jd", (intmax_t)functions->time(NULL));
	if (functions->gettimeofday(&time_of_day, NULL) != 0 || !is_now(time_of_day.tv_sec))
		subject_fail(subject, "gettimeofday: %jd", (intmax_t)time_of_day.tv_sec);
	if (functions->getcpu(&cpu, NULL, NULL) != 0 || cpu >= CPU_SETSIZE)
		subject_fail(subject, "getcpu: %u", cpu);
}

/* ---- All the time ---- */

static atomic_bool is_over;

struct caller {
	const struct subject *subject;
	const struct functions *functions;
};

/* Most of the time it is inside of the vDSO. */
static void *call_always(void *context)
{
	const struct caller *caller = context;
	struct timespec former = {0};

	while (!is_over) {
		struct timespec now = {0};

		caller->functions->clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
		if (ns(&now) < ns(&former))
			subject_fail(caller->subject, "a clock went back from %jd to %jd", (intmax_t)ns(&former),
			             (intmax_t)ns(&now));
		former = now;
		if (!is_now(caller->functions->time(NULL)))
			subject_fail(caller->subject, "time in between: %jd", (intmax_t)former.tv_sec);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct image image = find_image(&subject);
	struct functions libc = {clock_gettime, clock_getres, (int (*)(struct timeval *, void *))gettimeofday, time,
	                         NULL};
	struct functions former = look_up(&subject, &image);
	pthread_t thread;

	libc.getcpu = former.getcpu; /* of which libc has none that takes three */
	move_functions(&subject, &image);
	struct functions moved = look_up(&subject, &image);
	struct caller caller = {.subject = &subject, .functions = &moved};
	if (moved.time == former.time)
		subject_fail(&subject, "the functions are where they were");
	if (pthread_create(&thread, NULL, call_always, &caller) != 0)
		subject_fail(&subject, "pthread_create");

	subject_ready(&subject);

	is_over = true;
	pthread_join(thread, NULL);
	struct functions found = look_up(&subject, &image);
	check(&subject, &found);
	check(&subject, &moved);
	check(&subject, &libc);
	return subject_pass(&subject);
}
