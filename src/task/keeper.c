/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "task/cgroup.h"
#include "task/keeper.h"
#include "util/alloc.h"

enum keeper_word { KEEPER_ADD, KEEPER_DROP, KEEPER_COMMIT, KEEPER_STOP };

/* One message; descriptors come beside it: unix(7), SCM_RIGHTS. */
struct message {
	enum keeper_word word;
	uint32_t id;
	void (*undo)(const void *bytes, const int *fds, size_t fd_count); /* the same address in both: it is our fork */
	size_t size_bytes;
	uint8_t bytes[KEEPER_BYTES_MAX];
};

struct entry {
	struct message message;
	int fds[KEEPER_FDS_MAX];
	size_t fd_count;
	struct entry *next; /* the one before it */
};

struct keeper {
	int socket; /* owned */
	pid_t pid;
	uint32_t last_id;
};

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(KEEPER_FDS_MAX * sizeof(int))];
};

/* ---- In the keeper ---- */

static void forget(struct entry *entry)
{
	for (size_t i = 0; i < entry->fd_count; i++)
		close(entry->fds[i]);
	free(entry);
}

static void remove_entry(struct entry **last, uint32_t id)
{
	for (struct entry **at = last; *at; at = &(*at)->next)
		if ((*at)->message.id == id) {
			struct entry *found = *at;

			*at = found->next;
			forget(found);
			return;
		}
}

/* False at the end: nobody is left at the other one. */
static bool receive(int socket, struct entry *entry)
{
	union control control;
	struct iovec vector = {.iov_base = &entry->message, .iov_len = sizeof(entry->message)};
	struct msghdr header = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	ssize_t n;

	do {
		n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n != sizeof(entry->message))
		return false;
	const struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
	if (rights && rights->cmsg_type == SCM_RIGHTS) {
		entry->fd_count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(entry->fds, CMSG_DATA(rights), entry->fd_count * sizeof(int));
	}
	return true;
}

static void forget_all(struct entry **last)
{
	while (*last) {
		struct entry *entry = *last;

		*last = entry->next;
		forget(entry);
	}
}

static void undo_all(struct entry *last)
{
	while (last) {
		struct entry *entry = last;

		last = entry->next;
		entry->message.undo(entry->message.bytes, entry->fds, entry->fd_count);
		forget(entry);
	}
}

/* Returns false when it was told to stop, true when the other side has died. */
static bool listen_until_end(int socket, struct entry **last)
{
	for (;;) {
		struct entry *entry = xalloc(sizeof(*entry));
		char acknowledgement = 0;

		if (!receive(socket, entry)) {
			free(entry);
			return true;
		}
		enum keeper_word word = entry->message.word;
		if (word == KEEPER_COMMIT)
			forget_all(last);
		if (word == KEEPER_DROP)
			remove_entry(last, entry->message.id);
		if (entry->message.undo) {
			entry->next = *last;
			*last = entry;
		} else {
			forget(entry);
		}
		/* If nobody reads it any more, the next receive() tells. */
		ssize_t sent = send(socket, &acknowledgement, 1, MSG_NOSIGNAL);
		(void)sent;
		if (word == KEEPER_STOP)
			return false;
	}
}

__attribute__((noreturn)) static void be_keeper(int socket)
{
	struct entry *last = NULL;
	sigset_t all;

	setsid();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "keeper");
	/* Not even the standard streams: who waits for their end waits for godwit, not for this. */
	dup3(socket, 3, 0);
	syscall(SYS_close_range, 0, 2, 0);
	syscall(SYS_close_range, 4, UINT32_MAX, 0);
	cgroup_leave();
	if (listen_until_end(3, &last))
		undo_all(last);
	_exit(0);
}

/* ---- Here ---- */

struct error *keeper_start(struct keeper **ret_keeper)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_new(errno, "socketpair");
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		be_keeper(pair[1]);
	}
	int saved_errno = errno;
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return error_new(saved_errno, "fork");
	}
	*ret_keeper = xalloc(sizeof(**ret_keeper));
	**ret_keeper = (struct keeper){.socket = pair[0], .pid = pid};
	return NULL;
}

static struct error *exchange(const struct keeper *keeper, const struct message *message, const int *fds,
                              size_t fd_count)
{
	union control control = {0};
	struct message copy = *message;
	struct iovec vector = {.iov_base = &copy, .iov_len = sizeof(copy)};
	struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
	char acknowledgement;

	if (fd_count) {
		header.msg_control = control.room;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
	}
	if (sendmsg(keeper->socket, &header, MSG_NOSIGNAL) < 0)
		return error_new(errno, "message to the keeper");
	ssize_t n;
	do {
		n = recv(keeper->socket, &acknowledgement, 1, 0);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? NULL : error_new(n < 0 ? errno : ECONNRESET, "the keeper has ended");
}

static struct error *hand_over(struct keeper *keeper, enum keeper_word word, const struct keeper_undo *undo)
{
	struct message message = {
		.word = word,
		.id = keeper->last_id + 1,
		.undo = undo->undo,
		.size_bytes = undo->size_bytes,
	};

	assert(undo->size_bytes <= KEEPER_BYTES_MAX && undo->fd_count <= KEEPER_FDS_MAX);
	if (undo->size_bytes)
		memcpy(message.bytes, undo->bytes, undo->size_bytes);
	TRY(exchange(keeper, &message, undo->fds, undo->fd_count));
	keeper->last_id++;
	return NULL;
}

struct error *keeper_add(struct keeper *keeper, const struct keeper_undo *undo, uint32_t *ret_id)
{
	TRY(hand_over(keeper, KEEPER_ADD, undo));
	*ret_id = keeper->last_id;
	return NULL;
}

struct error *keeper_commit(struct keeper *keeper, const struct keeper_undo *undo)
{
	const struct keeper_undo none = {0};

	return hand_over(keeper, KEEPER_COMMIT, undo ? undo : &none);
}

struct error *keeper_drop(struct keeper *keeper, uint32_t id)
{
	const struct message message = {.word = KEEPER_DROP, .id = id};

	return id ? exchange(keeper, &message, NULL, 0) : NULL;
}

void keeper_stop(struct keeper *keeper)
{
	const struct message message = {.word = KEEPER_STOP};

	if (!keeper)
		return;
	error_free(exchange(keeper, &message, NULL, 0));
	close(keeper->socket);
	while (waitpid(keeper->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	free(keeper);
}
