/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "objects/pty_hold.h"
#include "util/alloc.h"

enum { STATE, MASTER, INPUT, INPUT_READ, INPUT_WRITE, OUTPUT, OUTPUT_READ, OUTPUT_WRITE, FD_COUNT };

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(FD_COUNT * sizeof(int))];
};

static struct error *put_into(int socket, const struct pty *pty)
{
	const int fds[FD_COUNT] = {
		[STATE] = pty->state_fd,
		[MASTER] = pty->master,
		[INPUT] = pty->input.file,
		[INPUT_READ] = pty->input.pipe[0],
		[INPUT_WRITE] = pty->input.pipe[1],
		[OUTPUT] = pty->output.file,
		[OUTPUT_READ] = pty->output.pipe[0],
		[OUTPUT_WRITE] = pty->output.pipe[1],
	};
	union control control = {0};
	char byte = 0;
	struct iovec vector = {.iov_base = &byte, .iov_len = 1};
	const struct msghdr header = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	return sendmsg(socket, &header, MSG_NOSIGNAL) < 0 ? error_new(errno, "descriptors of a terminal") : NULL;
}

struct error *pty_hold(int master, int *ret_bundle)
{
	auto_pty struct pty *pty = NULL;
	int ends[2];

	TRY(pty_open(master, &pty));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_new(errno, "socketpair for a terminal");
	auto_fd int inside = ends[0];
	auto_fd int bundle = ends[1];
	TRY(put_into(inside, pty));
	*ret_bundle = take(bundle);
	return NULL;
}

struct error *pty_hold_open(int bundle, struct pty **ret_pty)
{
	auto_pty struct pty *pty = pty_empty();
	union control control = {0};
	char byte;
	struct iovec vector = {.iov_base = &byte, .iov_len = 1};
	struct msghdr header = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	int fds[FD_COUNT];

	/* What is only looked at stays for the next one: each gets descriptors of its own. */
	if (recvmsg(bundle, &header, MSG_PEEK | MSG_CMSG_CLOEXEC) < 0 ||
	    control.header.cmsg_len != CMSG_LEN(sizeof(fds)))
		return error_new(errno, "descriptors of a terminal");
	memcpy(fds, CMSG_DATA(&control.header), sizeof(fds));
	*pty = (struct pty){
		.master = fds[MASTER],
		.slave = -1,
		.input = {fds[INPUT], {fds[INPUT_READ], fds[INPUT_WRITE]}},
		.output = {fds[OUTPUT], {fds[OUTPUT_READ], fds[OUTPUT_WRITE]}},
		.state_fd = fds[STATE],
	};
	TRY(pty_map(pty));
	*ret_pty = take(pty);
	return NULL;
}

struct error *pty_hold_go_on(int bundle, uint32_t before)
{
	auto_pty struct pty *pty = NULL;

	(void)before;
	TRY(pty_hold_open(bundle, &pty));
	return pty_is_apart(pty) ? pty_put_back(pty) : NULL;
}
