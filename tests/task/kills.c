/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * kills HIJACK THREADS KILLS [SEED]: kill -9 at random instants of a program that holds a victim with so many threads
 * and lets it go, over and over. Each time all threads of the victim go on unharmed, and nothing stays in it: no
 * mapping, no descriptor, no tracer. By turns the keeper clears what is left, and the next run does.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "victim.h"

enum { ATTEMPTS = 10000 /* of 1 ms */ };

static pid_t start(const char *hijack, pid_t victim, const char *count, bool has_keeper)
{
	char pid_text[16];

	snprintf(pid_text, sizeof(pid_text), "%d", victim);
	pid_t pid = fork();
	if (pid == 0) {
		execl(hijack, hijack, pid_text, count, "0", has_keeper ? NULL : "alone", NULL);
		err(127, "%s", hijack);
	}
	return pid;
}

static void wait_for(pid_t pid, int *ret_status)
{
	while (waitpid(pid, ret_status, 0) < 0)
		if (errno != EINTR)
			err(1, "waitpid");
}

/* Of us: proc_pid_tid_children(5). */
static bool has_other_children(pid_t victim)
{
	char text[256] = "";
	char *rest = text;
	FILE *file = fopen("/proc/thread-self/children", "re");

	if (!file)
		err(1, "children");
	const char *line = fgets(text, sizeof(text), file);
	fclose(file);
	for (long pid; line && (pid = strtol(rest, &rest, 10)) != 0;)
		if (pid != victim)
			return true;
	return false;
}

/* We are its reaper: it became our child when its maker was killed, if there was one already. */
static void wait_for_keeper(pid_t victim)
{
	siginfo_t info;

	while (has_other_children(victim)) {
		memset(&info, 0, sizeof(info));
		if (waitid(P_ALL, 0, &info, WEXITED) < 0)
			err(1, "waitid");
		if (info.si_pid == victim)
			errx(1, "the victim has ended");
	}
}

/* ---- What must be as before ---- */

struct state {
	unsigned areas, descriptors;
};

static unsigned count_lines(pid_t pid, const char *name)
{
	char path[64];
	char line[4096];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	FILE *file = fopen(path, "re");
	if (!file)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), file))
		count++;
	fclose(file);
	return count;
}

static unsigned count_descriptors(pid_t pid)
{
	char path[64];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *dir = opendir(path);
	if (!dir)
		err(1, "%s", path);
	while (readdir(dir)) /* NOLINT(concurrency-mt-unsafe): our own stream */
		count++;
	closedir(dir);
	return count;
}

static bool is_traced(pid_t pid)
{
	char path[64];
	char line[256];
	bool is_traced = false;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		is_traced |= strncmp(line, "TracerPid:", 10) == 0 && strtol(line + 10, NULL, 10) != 0;
	if (file)
		fclose(file);
	return is_traced;
}

static struct state look(pid_t pid)
{
	return (struct state){.areas = count_lines(pid, "maps"), .descriptors = count_descriptors(pid)};
}

/* A trampoline makes a copy of a page of the vDSO, but no area. */
static void check_state(pid_t pid, const struct state *before)
{
	struct state now = look(pid);

	if (is_traced(pid))
		errx(1, "the victim is still traced");
	if (now.areas != before->areas || now.descriptors != before->descriptors)
		errx(1, "the victim has %u areas and %u descriptors, not %u and %u", now.areas, now.descriptors,
		     before->areas, before->descriptors);
}

/* ---- Kills ---- */

static void sleep_ns(uint64_t ns)
{
	const struct timespec time = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

	nanosleep(&time, NULL);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void run_once(const char *hijack, pid_t victim, bool has_keeper)
{
	int status;

	wait_for(start(hijack, victim, "1", has_keeper), &status);
	if (status == 0)
		return;
	if (waitpid(victim, &status, WNOHANG) == victim)
		errx(1, "the victim has ended with status %#x", status);
	errx(1, "hijack ended with status %#x", status);
}

/* How long starting it, and holding the victim once, takes: kills fall into the first three times of that. */
static uint64_t measure(const char *hijack, pid_t victim)
{
	uint64_t start_ns = now_ns();

	run_once(hijack, victim, true);
	return now_ns() - start_ns;
}

static void kill_once(const char *hijack, struct victim *victim, bool has_keeper, uint64_t instant_ns)
{
	int status;
	pid_t pid = start(hijack, victim->pid, "0", has_keeper);

	sleep_ns(instant_ns);
	kill(pid, SIGKILL);
	wait_for(pid, &status);
	if (!WIFSIGNALED(status))
		errx(1, "hijack ended by itself with status %#x", status);
	if (has_keeper)
		wait_for_keeper(victim->pid);
	/* Killed before the keeper was there, or told what to undo; or it had none. */
	run_once(hijack, victim->pid, false);
	if (!victim_goes_on(victim))
		errx(1, "%s", victim->reason);
}

static uint64_t sum(const struct victim *victim, size_t offset)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < victim->thread_count; i++)
		total += *(const atomic_uint_fast64_t *)(const void *)((const char *)&victim->threads[i] + offset);
	return total;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		errx(2, "usage: kills HIJACK THREADS KILLS [SEED]");
	unsigned threads = (unsigned)strtoul(argv[2], NULL, 10);
	unsigned kills = (unsigned)strtoul(argv[3], NULL, 10);
	unsigned seed = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : (unsigned)time(NULL);
	struct victim *victim;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	srandom(seed);
	printf("seed %u\n", seed);
	fflush(stdout);
	victim = victim_start(threads);
	if (!victim_goes_on(victim))
		errx(1, "%s", victim->reason);
	uint64_t once_ns = measure(argv[1], victim->pid);
	struct state before = look(victim->pid);

	for (unsigned i = 0; i < kills; i++) {
		kill_once(argv[1], victim, i % 2 == 0, (uint64_t)random() % (3 * once_ns));
		check_state(victim->pid, &before);
	}
	printf("%u kills in the first %.1f ms, %u threads: %ju steps, %ju restartable sequences, %ju of them aborted, "
	       "%ju times EINTR from epoll_wait\n",
	       kills, 3 * (double)once_ns / 1e6, threads, (uintmax_t)sum(victim, offsetof(struct victim_thread, steps)),
	       (uintmax_t)sum(victim, offsetof(struct victim_thread, committed)),
	       (uintmax_t)sum(victim, offsetof(struct victim_thread, aborted)),
	       (uintmax_t)sum(victim, offsetof(struct victim_thread, broken)));
	if (!victim_end(victim))
		errx(1, "%s", victim->reason);
	return 0;
}
