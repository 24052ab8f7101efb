/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * tree_ticker [-s] ADDRESS DIR: a tree of processes for faults, which knows whether it is whole.
 *
 *     root ─┬─ child, with threads, ── grandchild
 *           ├─ a child that is stopped, with -s
 *           └─ a child that has ended with a status, which nobody has asked for
 *
 * Each millisecond a number goes round: by a pipe from the root to the child, by TCP to the grandchild, by a pipe back. Each of
 * the three counts it in memory that they share and writes a page of its own. The child serves counters at port 6379 of
 * ADDRESS (bench/counter_server.h).
 *
 * DIR/ready appears when all are there, with a line for each: its PID, and R, T or Z as it has to be. SIGUSR2 to the root
 * makes DIR/report-1, -2 ...: how many of the pages, counts and states are not as they were. The one that is stopped is
 * continued for that, and stops itself again.
 */
#include <arpa/inet.h>
#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../bench/counter_server.h"

enum { PAGES = 256, PAGE_WORDS = 512, THREADS = 3, ENDED_STATUS = 42 };
enum role { ROOT, CHILD, GRANDCHILD, STOPPED, ENDED, ROLES };

/* What goes round; wrong grows on the way when all is to be looked at. */
struct message {
	uint64_t number;
	uint32_t looks;
	uint32_t wrong;
};

struct link {
	int from, to;
};

struct process {
	enum role role;
	uint64_t written;
	uint64_t *memory;
};

struct tree {
	const char *dir;
	struct link first, last, to_stopped, from_stopped;
	volatile uint64_t *counts; /* shared, of each role */
	pid_t pids[ROLES];         /* 0: there is none */
	unsigned int reports;
};

static uint64_t pattern(const struct process *process, uint64_t page, uint64_t turn)
{
	uint64_t x = ((uint64_t)process->role << 56) + page * UINT64_C(0x9e3779b97f4a7c15) + turn;

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ (x >> 31);
}

/* Page after page: which turn wrote it last follows from how many there were. */
static void write_page(const struct tree *tree, struct process *process)
{
	uint64_t page = process->written % PAGES;
	uint64_t turn = ++process->written;

	for (size_t i = 0; i < PAGE_WORDS; i++)
		process->memory[page * PAGE_WORDS + i] = pattern(process, page, turn);
	tree->counts[process->role]++;
}

static bool is_whole(const struct process *process, uint64_t page)
{
	uint64_t back = (process->written - 1 - page) % PAGES;
	uint64_t expected = pattern(process, page, process->written - back);

	for (size_t i = 0; i < PAGE_WORDS; i++)
		if (process->memory[page * PAGE_WORDS + i] != expected)
			return false;
	return true;
}

static uint32_t count_wrong(const struct tree *tree, const struct process *process)
{
	uint32_t wrong = tree->counts[process->role] != process->written;

	for (uint64_t page = 0; page < PAGES; page++)
		wrong += !is_whole(process, page);
	return wrong;
}

static struct process begin(const struct tree *tree, enum role role)
{
	size_t size_bytes = (size_t)PAGES * PAGE_WORDS * sizeof(uint64_t);
	struct process process = {
		.role = role,
		.memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	};

	if (process.memory == MAP_FAILED)
		err(1, "memory");
	for (int i = 0; i < PAGES; i++)
		write_page(tree, &process);
	return process;
}

static bool receive(int fd, struct message *message)
{
	size_t done = 0;

	while (done < sizeof(*message)) {
		ssize_t n = read(fd, (char *)message + done, sizeof(*message) - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void send_on(int fd, const struct message *message)
{
	if (write(fd, message, sizeof(*message)) != sizeof(*message))
		err(1, "write");
}

/* ---- The others ---- */

static void serve(const struct tree *tree, enum role role, int in, int out)
{
	struct process process = begin(tree, role);
	struct message message;

	while (receive(in, &message)) {
		write_page(tree, &process);
		message.wrong += message.looks ? count_wrong(tree, &process) : 0;
		send_on(out, &message);
		if (role == STOPPED)
			raise(SIGSTOP);
	}
	_exit(1);
}

static struct link make_pipe(void)
{
	int fds[2];

	if (pipe(fds) != 0)
		err(1, "pipe");
	return (struct link){.from = fds[0], .to = fds[1]};
}

static struct link make_connection(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct link link = {.to = socket(AF_INET, SOCK_STREAM, 0)};

	if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
	    connect(link.to, (struct sockaddr *)&address, size) != 0)
		err(1, "connect");
	link.from = accept(listener, NULL, NULL);
	close(listener);
	return link;
}

static void *sleep_for_ever(void *argument)
{
	(void)argument;
	for (;;)
		pause();
	return NULL;
}

static void start_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, sleep_for_ever, NULL) != 0)
			err(1, "thread");
}

static pid_t fork_or_fail(void)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	return pid;
}

static pid_t start(const struct tree *tree, enum role role, int in, int out)
{
	pid_t pid = fork_or_fail();

	if (pid == 0)
		serve(tree, role, in, out);
	return pid;
}

/* told: it tells the root what its own child's PID is. */
static void be_child(const struct tree *tree, const char *address, int told)
{
	struct link connection = make_connection();
	pid_t grandchild = start(tree, GRANDCHILD, connection.from, tree->last.to);

	close(connection.from);
	counter_server_start(address, 6379);
	start_threads();
	if (write(told, &grandchild, sizeof(grandchild)) != sizeof(grandchild))
		err(1, "write");
	close(told);
	serve(tree, CHILD, tree->first.from, connection.to);
}

static void start_child(struct tree *tree, const char *address)
{
	struct link told = make_pipe();

	tree->pids[CHILD] = fork_or_fail();
	if (tree->pids[CHILD] == 0)
		be_child(tree, address, told.to);
	close(told.to);
	if (read(told.from, &tree->pids[GRANDCHILD], sizeof(pid_t)) != sizeof(pid_t))
		err(1, "read");
	close(told.from);
}

/* ---- The root ---- */

static uint32_t check_ended(const struct tree *tree)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)tree->pids[ENDED], &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
	       info.si_pid != tree->pids[ENDED] || info.si_status != ENDED_STATUS;
}

static uint32_t ask_stopped(const struct tree *tree)
{
	struct message message = {.looks = 1};
	int status;

	if (!tree->pids[STOPPED])
		return 0;
	/* It stops behind its answer, so not the other way round. */
	kill(tree->pids[STOPPED], SIGCONT);
	send_on(tree->to_stopped.to, &message);
	if (!receive(tree->from_stopped.from, &message))
		errx(1, "the one that is stopped has ended");
	return message.wrong + (waitpid(tree->pids[STOPPED], &status, WUNTRACED) < 0 || !WIFSTOPPED(status));
}

static uint32_t go_round(const struct tree *tree, struct process *root, uint32_t looks)
{
	const struct message sent = {.number = root->written, .looks = looks};
	struct message message;

	write_page(tree, root);
	send_on(tree->first.to, &sent);
	if (!receive(tree->last.from, &message))
		errx(1, "what went round has not come back");
	return message.wrong + (message.number != sent.number) + (looks ? count_wrong(tree, root) : 0);
}

static FILE *open_draft(const struct tree *tree)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/draft", tree->dir);
	FILE *file = fopen(path, "we");
	if (!file)
		err(1, "%s", path);
	return file;
}

static void publish(const struct tree *tree, FILE *file, const char *name)
{
	char draft[4096];
	char path[4096];

	snprintf(draft, sizeof(draft), "%s/draft", tree->dir);
	snprintf(path, sizeof(path), "%s/%s", tree->dir, name);
	if (fclose(file) != 0 || rename(draft, path) != 0)
		err(1, "%s", path);
}

static void report(struct tree *tree, struct process *root, uint32_t wrong)
{
	char name[32];

	wrong += go_round(tree, root, 1) + ask_stopped(tree) + check_ended(tree);
	FILE *file = open_draft(tree);
	fprintf(file, "{\"corrupt_pages\": %u}\n", wrong);
	snprintf(name, sizeof(name), "report-%u", ++tree->reports);
	publish(tree, file, name);
}

static void start_all(struct tree *tree, const char *address, bool has_stopped)
{
	tree->first = make_pipe();
	tree->last = make_pipe();
	tree->to_stopped = make_pipe();
	tree->from_stopped = make_pipe();
	tree->pids[ROOT] = getpid();
	start_child(tree, address);
	if (has_stopped)
		tree->pids[STOPPED] = start(tree, STOPPED, tree->to_stopped.from, tree->from_stopped.to);
	tree->pids[ENDED] = fork_or_fail();
	if (tree->pids[ENDED] == 0)
		_exit(ENDED_STATUS);
}

int main(int argc, char **argv)
{
	static const struct timespec pace = {.tv_nsec = 1000000};
	struct tree tree = {.dir = argv[argc - 1]};
	sigset_t asked;

	if (argc < 3)
		errx(2, "usage: see the head of tree_ticker.c");
	sigemptyset(&asked);
	sigaddset(&asked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &asked, NULL);
	tree.counts =
		mmap(NULL, PAGE_WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tree.counts == MAP_FAILED)
		err(1, "shared memory");
	start_all(&tree, argv[argc - 2], argc > 3);
	struct process root = begin(&tree, ROOT);
	uint32_t wrong = ask_stopped(&tree) + go_round(&tree, &root, 1);
	FILE *ready = open_draft(&tree);
	for (int i = 0; i < ROLES; i++)
		if (tree.pids[i])
			fprintf(ready, "%d %c\n", tree.pids[i], "RRRTZ"[i]);
	publish(&tree, ready, "ready");
	for (;;) {
		wrong += go_round(&tree, &root, 0);
		if (sigtimedwait(&asked, NULL, &pace) == SIGUSR2)
			report(&tree, &root, wrong);
	}
}
