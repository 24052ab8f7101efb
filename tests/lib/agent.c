/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "lab.h"

#define JOBS_MAX 256
#define REQUEST_MAX 131072
#define STRINGS_MAX 2048

struct job {
	pid_t pid;      /* 0: free */
	int connection; /* -1: nobody waits */
};

struct agent {
	int listener;
	int children; /* signalfd for SIGCHLD */
	struct job jobs[JOBS_MAX];
};

struct request {
	char text[REQUEST_MAX];
	char *strings[STRINGS_MAX + 1];
	enum agent_kind kind;
	const char *folder;
	char **argv;
	char **env;
	int fds[3];
};

static struct sockaddr_un agent_address(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.%s.agent", LAB_SHARED, name);
	return address;
}

int agent_listen(const char *name)
{
	struct sockaddr_un address = agent_address(name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 64) != 0)
		err(1, "%s", address.sun_path);
	return fd;
}

/* Appends a string with its NUL; the request is ours, so too long is our mistake. */
static size_t add_string(char *text, size_t used, const char *string)
{
	size_t size = strlen(string) + 1;

	if (size > REQUEST_MAX - used)
		errx(1, "arguments and environment are too long");
	memcpy(text + used, string, size);
	return used + size;
}

static size_t write_request(char *text, enum agent_kind kind, char **argv)
{
	char folder[4096];
	char number[16];
	unsigned int count = 0;
	size_t used;

	if (!getcwd(folder, sizeof(folder)))
		err(1, "getcwd");
	while (argv[count])
		count++;
	used = add_string(text, 0, (char[]){(char)kind, '\0'});
	used = add_string(text, used, folder);
	snprintf(number, sizeof(number), "%u", count);
	used = add_string(text, used, number);
	for (char **arg = argv; *arg; arg++)
		used = add_string(text, used, *arg);
	for (char **variable = environ; *variable; variable++)
		used = add_string(text, used, *variable);
	return used;
}

int agent_ask(const char *name, enum agent_kind kind, char **argv, const int fds[3])
{
	static char text[REQUEST_MAX];
	struct sockaddr_un address = agent_address(name);
	struct iovec iov = {.iov_base = text, .iov_len = write_request(text, kind, argv)};
	union {
		char bytes[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(3 * sizeof(int));
	memcpy(CMSG_DATA(rights), fds, 3 * sizeof(int));
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		err(255, "host %s", name);
	if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		err(255, "ask host %s", name);
	return fd;
}

bool agent_answer(int connection, struct agent_answer *ret_answer)
{
	return recv(connection, ret_answer, sizeof(*ret_answer), 0) == sizeof(*ret_answer);
}

/* Splits the text into strings. False for a request that isn't one. */
static bool parse_request(struct request *request, size_t size)
{
	char *end = request->text + size;
	unsigned int count = 0;
	unsigned long argc;

	if (size == 0 || end[-1] != '\0')
		return false;
	for (char *at = request->text; at < end && count < STRINGS_MAX; at += strlen(at) + 1)
		request->strings[count++] = at;
	request->strings[count] = NULL;
	if (count < 4)
		return false;
	request->kind = (enum agent_kind)request->strings[0][0];
	request->folder = request->strings[1];
	argc = strtoul(request->strings[2], NULL, 10);
	if (argc == 0 || argc > count - 3)
		return false;
	/* The arguments need a NULL behind them, where the environment begins: move them down by one. */
	memmove(request->strings + 2, request->strings + 3, argc * sizeof(char *));
	request->strings[2 + argc] = NULL;
	request->argv = request->strings + 2;
	request->env = request->strings + 3 + argc;
	return true;
}

static bool receive_request(int connection, struct request *request)
{
	struct iovec iov = {.iov_base = request->text, .iov_len = sizeof(request->text)};
	union {
		char bytes[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t size = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *rights = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (!rights || rights->cmsg_type != SCM_RIGHTS || rights->cmsg_len != CMSG_LEN(3 * sizeof(int)))
		return false;
	memcpy(request->fds, CMSG_DATA(rights), 3 * sizeof(int));
	return parse_request(request, (size_t)size);
}

static _Noreturn void become(const struct request *request)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	for (int fd = 0; fd < 3; fd++)
		dup2(request->fds[fd], fd);
	close_range(3, ~0U, 0);
	if (chdir(request->folder) != 0)
		err(126, "%s", request->folder);
	execvpe(request->argv[0], request->argv, request->env);
	err(127, "%s", request->argv[0]);
}

static struct job *free_job(struct agent *agent)
{
	for (unsigned int i = 0; i < JOBS_MAX; i++)
		if (agent->jobs[i].pid == 0)
			return &agent->jobs[i];
	return NULL;
}

static void accept_request(struct agent *agent)
{
	static struct request request;
	struct job *job = free_job(agent);
	int connection = accept4(agent->listener, NULL, NULL, SOCK_CLOEXEC);

	if (connection < 0)
		return;
	if (!job || !receive_request(connection, &request)) {
		close(connection);
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		become(&request);
	for (int i = 0; i < 3; i++)
		close(request.fds[i]);
	send(connection, &(struct agent_answer){.pid = pid}, sizeof(struct agent_answer), MSG_NOSIGNAL);
	if (pid < 0 || request.kind == AGENT_START) {
		close(connection);
		return;
	}
	*job = (struct job){.pid = pid, .connection = connection};
}

static void reap(struct agent *agent)
{
	struct signalfd_siginfo ignored;
	struct agent_answer answer;

	if (read(agent->children, &ignored, sizeof(ignored)) < 0)
		return;
	while ((answer.pid = waitpid(-1, &answer.wait_status, WNOHANG)) > 0) {
		for (unsigned int i = 0; i < JOBS_MAX; i++) {
			struct job *job = &agent->jobs[i];

			if (job->pid != answer.pid)
				continue;
			send(job->connection, &answer, sizeof(answer), MSG_NOSIGNAL);
			close(job->connection);
			job->pid = 0;
		}
	}
}

static void serve_once(struct agent *agent)
{
	struct pollfd polled[JOBS_MAX + 2] = {{.fd = agent->listener, .events = POLLIN},
	                                      {.fd = agent->children, .events = POLLIN}};

	for (unsigned int i = 0; i < JOBS_MAX; i++)
		polled[i + 2] = (struct pollfd){.fd = agent->jobs[i].pid ? agent->jobs[i].connection : -1};
	if (poll(polled, JOBS_MAX + 2, -1) < 0)
		return;
	for (unsigned int i = 0; i < JOBS_MAX; i++) {
		if (!(polled[i + 2].revents & (POLLHUP | POLLERR)))
			continue;
		/* Whoever asked is gone, as when a terminal closes. */
		kill(-agent->jobs[i].pid, SIGHUP);
		close(agent->jobs[i].connection);
		agent->jobs[i].pid = 0;
	}
	if (polled[1].revents)
		reap(agent);
	if (polled[0].revents)
		accept_request(agent);
}

_Noreturn void agent_serve(int listener)
{
	struct agent agent = {.listener = listener};
	sigset_t children;

	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	agent.children = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (agent.children < 0)
		err(1, "signalfd");
	for (;;)
		serve_once(&agent);
}
