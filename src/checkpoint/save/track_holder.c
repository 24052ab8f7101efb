/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/save/track_holder.h"
#include "util/alloc.h"
#include "util/procfs.h"

#define HOLDER_DIR "/run/godwit"

enum { BACKLOG = 4, PATIENCE_S = 10 }; /* with another command that is at work */

enum holder_word { HOLDER_STATE = 1, HOLDER_BEGIN, HOLDER_DONE };

/* The one kind of message. */
struct message {
	uint32_t word;
	uint32_t track;
	int32_t fd; /* its number in the holder; -1: none */
	uint32_t padding;
	struct folder_id folder;
};

static struct error *holder_address(pid_t pid, struct sockaddr_un *ret_address)
{
	struct stat namespace;
	uint64_t start_time;
	int r = procfs_start_time(pid, &start_time);

	if (r < 0)
		return error_new(-r, "start time of process %d", pid);
	if (stat("/proc/self/ns/pid", &namespace) < 0)
		return error_new(errno, "stat(/proc/self/ns/pid)");
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), HOLDER_DIR "/tracker-%" PRIu64 "-%d-%" PRIu64,
	         (uint64_t) namespace.st_ino, pid, start_time);
	return NULL;
}

static struct error *open_socket(int *ret_fd)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_new(errno, "socket(AF_UNIX)");
	*ret_fd = fd;
	return NULL;
}

/* ---- In the holder ---- */

struct held {
	pid_t pid;
	int pidfd, listener;
	int ready; /* -1: it has been told that we listen */
	struct tracker_kept kept;
	struct folder_id folder;
	bool is_broken; /* pages were told to a command that didn't save them */
};

static void answer(struct held *held, int connection, const struct message *message)
{
	const struct message done = {.word = HOLDER_DONE};

	if (message->word == HOLDER_BEGIN)
		held->is_broken = true;
	if (message->word == HOLDER_DONE) {
		held->folder = message->folder;
		held->is_broken = false;
	}
	/* If nobody reads it any more, the next recv() tells. */
	ssize_t sent = send(connection, &done, sizeof(done), MSG_NOSIGNAL);
	(void)sent;
}

/* One command, to its end. */
static void serve(struct held *held)
{
	auto_fd int connection = accept4(held->listener, NULL, NULL, SOCK_CLOEXEC);
	struct message message = {
		.word = HOLDER_STATE,
		.track = held->kept.track,
		.fd = held->kept.fd,
		.folder = held->folder,
	};

	if (connection < 0 || send(connection, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message))
		return;
	while (recv(connection, &message, sizeof(message), 0) == sizeof(message))
		answer(held, connection, &message);
}

static bool has_ended(int pidfd)
{
	struct pollfd end = {.fd = pidfd, .events = POLLIN};

	return poll(&end, 1, 0) > 0;
}

static void serve_all(struct held *held)
{
	struct pollfd events[] = {{.fd = held->pidfd, .events = POLLIN}, {.fd = held->listener, .events = POLLIN}};

	while (!held->is_broken) {
		if (poll(events, 2, -1) < 0 && errno != EINTR)
			return;
		if (events[0].revents)
			return;
		if (events[1].revents)
			serve(held);
	}
}

/* Nothing of whoever started us: no stream, session, folder; only the descriptors that are needed, from 3 on. */
static void leave_all(struct held *held)
{
	int *const fds[] = {&held->pidfd, &held->listener, &held->ready, &held->kept.fd};
	const int count = sizeof(fds) / sizeof(fds[0]);
	const int first = 3;
	const int room = 100;

	for (int i = 0; i < count; i++)
		if (*fds[i] >= 0)
			*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, room);
	syscall(SYS_close_range, 0, room - 1, 0);
	for (int i = 0; i < count; i++)
		if (*fds[i] >= 0)
			*fds[i] = dup3(*fds[i], first + i, O_CLOEXEC);
	syscall(SYS_close_range, first + count, UINT32_MAX, 0);
	setsid();
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "godwit-tracker");
	if (chdir("/") < 0)
		_exit(1);
}

/* The child, which ends as soon as its child listens or has failed; that one is init's from then on. */
__attribute__((noreturn)) static void be_holder(struct held *held, const struct sockaddr_un *address)
{
	sigset_t none;
	int ready[2];
	char byte;

	if (pipe2(ready, O_CLOEXEC) < 0)
		_exit(1);
	pid_t child = fork();
	if (child != 0) {
		close(ready[1]);
		_exit(child > 0 && read(ready[0], &byte, 1) == 1 ? 0 : 1);
	}
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	held->ready = ready[1];
	/* Before it is told that we are here: then no signal to the command's group or session ends us. */
	leave_all(held);
	/* Here, because whoever connects is told the process that made this call: unix(7), SO_PEERCRED. */
	if (listen(held->listener, BACKLOG) < 0 || write(held->ready, "", 1) != 1)
		_exit(1);
	close(take(held->ready));
	serve_all(held);
	/* Who finds nobody at the address starts another one, which needs the program free of what we have in it. Who
	 * has connected waits for our end: connect_served(). */
	if (!has_ended(held->pidfd))
		tracker_keep_end(held->pid, &held->kept);
	unlink(address->sun_path);
	_exit(0);
}

/* ---- Starting it ---- */

/* One whose holder was killed is in the way. */
static struct error *bind_to(const struct sockaddr_un *address, int *ret_fd)
{
	auto_fd int fd = -1;

	if (mkdir(HOLDER_DIR, 0700) < 0 && errno != EEXIST)
		return error_new(errno, "mkdir(" HOLDER_DIR ")");
	TRY(open_socket(&fd));
	unlink(address->sun_path);
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 || chmod(address->sun_path, 0600) < 0)
		return error_new(errno, "bind to %s", address->sun_path);
	*ret_fd = take(fd);
	return NULL;
}

struct error *holder_start(pid_t pid, const struct tracker_kept *kept, const struct folder_id *folder)
{
	struct sockaddr_un address;
	auto_fd int listener = -1;
	auto_fd int pidfd = procfs_open_pid(pid);

	if (pidfd < 0)
		return error_new(-pidfd, "process %d", pid);
	TRY(holder_address(pid, &address));
	TRY(bind_to(&address, &listener));
	struct held held = {
		.pid = pid, .pidfd = pidfd, .listener = listener, .ready = -1, .kept = *kept, .folder = *folder};
	pid_t child = fork();
	if (child == 0)
		be_holder(&held, &address);
	int status = child < 0 ? errno : 0;
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	if (status == 0)
		return NULL;
	unlink(address.sun_path);
	return error_new(child < 0 ? status : 0, "start of the tracker of process %d", pid);
}

/* ---- Commands ---- */

struct holder {
	int socket; /* owned */
};

void holder_free(struct holder *holder)
{
	if (!holder)
		return;
	close(holder->socket);
	free(holder);
}

static struct error *receive(const struct holder *holder, struct message *ret_message)
{
	ssize_t n = recv(holder->socket, ret_message, sizeof(*ret_message), 0);

	if (n < 0 && errno == EAGAIN)
		return error_hint(error_new(EBUSY, "another godwit is saving the program"),
		                  "try again when it has ended");
	if (n != sizeof(*ret_message))
		return error_new(n < 0 ? errno : ECONNRESET, "the tracker of the program has ended");
	return NULL;
}

/* Only to one of our own user: what it says decides what is left out. */
static struct error *copy_fd(const struct holder *holder, const struct message *state, int *ret_fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(holder->socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return error_new(errno, "getsockopt(SO_PEERCRED)");
	if (peer.uid != geteuid())
		return error_new(EPERM, "the tracker belongs to user %u", peer.uid);
	*ret_fd = -1;
	if (state->fd < 0)
		return NULL;
	auto_fd int pidfd = procfs_open_pid(peer.pid);
	*ret_fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, state->fd, 0);
	return *ret_fd < 0 ? error_new(errno, "pidfd_getfd(tracker %d, fd %d)", peer.pid, state->fd) : NULL;
}

static struct error *connect_holder(pid_t pid, struct holder **ret_holder)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un address;
	auto_fd int fd = -1;

	*ret_holder = NULL;
	TRY(holder_address(pid, &address));
	TRY(open_socket(&fd));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != ENOENT && errno != ECONNREFUSED)
			return error_new(errno, "connect to %s", address.sun_path);
		/* It was killed, if it was ever there. */
		unlink(address.sun_path);
		return NULL;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return error_new(errno, "setsockopt(SO_RCVTIMEO)");
	*ret_holder = xalloc(sizeof(**ret_holder));
	(*ret_holder)->socket = take(fd);
	return NULL;
}

/* One that is ending, or has just been killed, still takes connections, and goes without a word: then there is none. */
static struct error *connect_served(pid_t pid, struct holder **ret_holder, struct message *ret_state)
{
	for (;;) {
		auto_holder struct holder *holder = NULL;

		TRY(connect_holder(pid, &holder));
		struct error *error = holder ? receive(holder, ret_state) : NULL;
		if (error && error_errnum(error) == ECONNRESET) {
			error_free(error);
			continue;
		}
		*ret_holder = error ? NULL : take(holder);
		return error;
	}
}

struct error *holder_find(pid_t pid, struct holder **ret_holder, struct tracker_kept *ret_kept,
                          struct folder_id *ret_folder)
{
	auto_holder struct holder *holder = NULL;
	struct message state;

	*ret_holder = NULL;
	TRY(connect_served(pid, &holder, &state));
	if (!holder)
		return NULL;
	if (state.track != TRACK_USERFAULTFD && state.track != TRACK_SOFT_DIRTY)
		return error_new(EPROTO, "the tracker of the program is of another godwit");
	TRY(copy_fd(holder, &state, &ret_kept->fd));
	ret_kept->track = (enum track)state.track;
	*ret_folder = state.folder;
	*ret_holder = take(holder);
	return NULL;
}

static struct error *tell(const struct holder *holder, const struct message *message)
{
	struct message answer;

	if (send(holder->socket, message, sizeof(*message), MSG_NOSIGNAL) != sizeof(*message))
		return error_new(errno, "the tracker of the program has ended");
	return receive(holder, &answer);
}

struct error *holder_begin(struct holder *holder)
{
	return tell(holder, &(const struct message){.word = HOLDER_BEGIN});
}

struct error *holder_done(struct holder *holder, const struct folder_id *folder)
{
	return tell(holder, &(const struct message){.word = HOLDER_DONE, .folder = *folder});
}
