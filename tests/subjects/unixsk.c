/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sockets of unix(7) from the inside: pairs of all types with what waits in them, its borders, and descriptors and
 * credentials in it; closed halves and ends; listeners with connections, under a path and an abstract name; bound
 * datagram sockets. The traps: descriptors in flight that nothing else has open, also in sockets that are in flight
 * themselves; packets of no bytes; who made a pair.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "subject.h"

enum { BACKLOG = 7, LARGE_BYTES = 150000, OTHER_UID = 4321, OTHER_GID = 8765, SEND_BUFFER = 400000, PEEK_OFFSET = 3 };

struct pair {
	int one, other;
};

struct sockets {
	struct pair stream, packets, datagrams, flight, credentials, peeked, half, closed, named_gone, reset,
		made_by_other;
	int listener, client, accepted;         /* under a path */
	int abstract_listener, ends[4];         /* clients and accepted ones of two connections */
	int receiver, sender, connected_sender; /* datagrams */
	char path[108];
};

static void check(const struct subject *subject, bool ok, const char *what)
{
	if (!ok)
		subject_fail(subject, "%s: errno %d", what, errno);
}

static struct pair make_pair(const struct subject *subject, int type)
{
	int fds[2];

	check(subject, socketpair(AF_UNIX, type, 0, fds) == 0, "socketpair");
	return (struct pair){fds[0], fds[1]};
}

static void say(const struct subject *subject, int fd, const char *text)
{
	check(subject, send(fd, text, strlen(text), 0) == (ssize_t)strlen(text), text);
}

static void expect(const struct subject *subject, const char *what, int fd, const char *text)
{
	char seen[256] = "";
	ssize_t count = recv(fd, seen, sizeof(seen) - 1, MSG_DONTWAIT);

	if (count != (ssize_t)strlen(text) || memcmp(seen, text, (size_t)count) != 0)
		subject_fail(subject, "%s: '%s' (%zd, errno %d), not '%s'", what, seen, count, errno, text);
}

static void expect_empty(const struct subject *subject, const char *what, int fd)
{
	char byte;

	if (recv(fd, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
		subject_fail(subject, "%s: not empty", what);
}

static int waiting(int fd)
{
	int bytes = -1;

	ioctl(fd, FIONREAD, &bytes);
	return bytes;
}

static unsigned char byte_at(size_t index)
{
	return (unsigned char)(index * 7 % 251);
}

static int get(int fd, int name)
{
	int value = -1;
	socklen_t size = sizeof(value);

	getsockopt(fd, SOL_SOCKET, name, &value, &size);
	return value;
}

static void set(const struct subject *subject, int fd, int name, int value)
{
	check(subject, setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)) == 0, "setsockopt");
}

static socklen_t name_address(const char *name, struct sockaddr_un *address)
{
	size_t length = strlen(name);

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, name, length);
	if (name[0] == '@')
		address->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] != '@'));
}

static void give_name(const struct subject *subject, int fd, const char *name)
{
	struct sockaddr_un address;
	socklen_t size = name_address(name, &address);

	check(subject, bind(fd, (struct sockaddr *)&address, size) == 0, name);
}

static void check_name(const struct subject *subject, const char *what, int fd, const char *name, bool is_peer)
{
	struct sockaddr_un expected;
	struct sockaddr_un seen = {0};
	socklen_t size = sizeof(seen);
	socklen_t expected_size = name_address(name, &expected);
	int r = is_peer ? getpeername(fd, (struct sockaddr *)&seen, &size)
	                : getsockname(fd, (struct sockaddr *)&seen, &size);

	if (r != 0 || size != expected_size || memcmp(&seen, &expected, size) != 0)
		subject_fail(subject, "%s: name '%s' of %u bytes, errno %d", what, seen.sun_path, size, errno);
}

/* ---- Descriptors in flight ---- */

/* Text with up to two descriptors, which are closed here. */
static void send_files(const struct subject *subject, int fd, const char *text, const int *files, size_t count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	struct iovec data = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr message = {.msg_iov = &data,
	                         .msg_iovlen = 1,
	                         .msg_control = control.bytes,
	                         .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *part = CMSG_FIRSTHDR(&message);

	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(part), files, count * sizeof(int));
	check(subject, sendmsg(fd, &message, 0) == (ssize_t)strlen(text), "sendmsg");
	for (size_t i = 0; i < count; i++)
		close(files[i]);
}

/* What one read of size bytes gives, with descriptors. */
static void expect_files(const struct subject *subject, int fd, size_t size, const char *text, int *files, size_t count)
{
	char seen[64] = "";
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec data = {.iov_base = seen, .iov_len = size};
	struct msghdr message = {.msg_iov = &data,
	                         .msg_iovlen = 1,
	                         .msg_control = control.bytes,
	                         .msg_controllen = sizeof(control.bytes)};
	ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
	struct cmsghdr *part = CMSG_FIRSTHDR(&message);
	size_t seen_count = part && part->cmsg_type == SCM_RIGHTS ? (part->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

	if (got != (ssize_t)strlen(text) || strcmp(seen, text) != 0 || seen_count != count)
		subject_fail(subject, "'%s' (%zd, errno %d) with %zu descriptors, not '%s' with %zu", seen, got, errno,
		             seen_count, text, count);
	if (count > 0)
		memcpy(files, CMSG_DATA(part), count * sizeof(int));
}

/* An eventfd in flight in a socket that is in flight, in a stream between other bytes; with a file and a pipe. */
static void make_flight(const struct subject *subject, struct sockets *sockets)
{
	struct pair inner = make_pair(subject, SOCK_DGRAM);
	const int counter = eventfd(77, 0);
	char path[256];
	int ends[2];

	sockets->flight = make_pair(subject, SOCK_STREAM);
	snprintf(path, sizeof(path), "%s/in-flight", subject->dir);
	int file = open(path, O_RDWR | O_CREAT, 0600);
	check(subject, write(file, "0123456789", 10) == 10 && lseek(file, 4, SEEK_SET) == 4, "file");
	check(subject, pipe(ends) == 0 && write(ends[1], "water", 5) == 5, "pipe");
	close(ends[1]);

	send_files(subject, inner.other, "counter", &counter, 1);
	say(subject, sockets->flight.other, "12");
	send_files(subject, sockets->flight.other, "34", (int[]){file, ends[0]}, 2);
	say(subject, sockets->flight.other, "56");
	send_files(subject, sockets->flight.other, "7", (int[]){inner.one, inner.other}, 2);
	/* One that is open here, too, must not become another description. */
	send_files(subject, sockets->flight.other, "8", (int[]){dup(sockets->stream.one)}, 1);
}

static void check_flight(const struct subject *subject, const struct sockets *sockets)
{
	int fd = sockets->flight.one;
	int files[2] = {-1, -1};
	int inner[2] = {-1, -1};
	int counter = -1;
	int again = -1;
	eventfd_t value = 0;
	char seen[16] = "";

	if (waiting(fd) != 8)
		subject_fail(subject, "in flight: %d bytes", waiting(fd));
	expect_files(subject, fd, 1, "1", NULL, 0);
	expect_files(subject, fd, 60, "234", files, 2);
	check(subject, read(files[0], seen, 16) == 6 && memcmp(seen, "456789", 6) == 0, "file in flight");
	check(subject, read(files[1], seen, 16) == 5 && memcmp(seen, "water", 5) == 0 && read(files[1], seen, 16) == 0,
	      "pipe in flight");
	expect_files(subject, fd, 60, "567", inner, 2);
	expect_files(subject, inner[0], 60, "counter", &counter, 1);
	check(subject, eventfd_read(counter, &value) == 0 && value == 77, "eventfd in flight");
	say(subject, inner[0], "still a pair");
	expect(subject, "pair that was in flight", inner[1], "still a pair");
	expect_files(subject, fd, 60, "8", &again, 1);
	check(subject, fcntl(again, F_SETFL, O_RDWR | O_NONBLOCK) == 0, "F_SETFL");
	check(subject, fcntl(sockets->stream.one, F_GETFL) & O_NONBLOCK, "the same description");
	expect_empty(subject, "in flight", fd);
}

/* ---- Pairs ---- */

static void make_pairs(const struct subject *subject, struct sockets *sockets)
{
	static unsigned char large[LARGE_BYTES];

	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = byte_at(i);
	sockets->stream = make_pair(subject, SOCK_STREAM | SOCK_CLOEXEC);
	set(subject, sockets->stream.one, SO_SNDBUF, SEND_BUFFER / 2);
	check(subject, send(sockets->stream.one, large, sizeof(large), 0) == sizeof(large), "send");
	say(subject, sockets->stream.other, "back");
	sockets->packets = make_pair(subject, SOCK_SEQPACKET | SOCK_NONBLOCK);
	say(subject, sockets->packets.one, "one");
	say(subject, sockets->packets.one, "");
	say(subject, sockets->packets.one, "three");
	sockets->datagrams = make_pair(subject, SOCK_DGRAM);
	say(subject, sockets->datagrams.one, "");
	say(subject, sockets->datagrams.one, "a datagram");
	say(subject, sockets->datagrams.one, "and another");
	sockets->peeked = make_pair(subject, SOCK_STREAM);
	set(subject, sockets->peeked.one, SO_PEEK_OFF, PEEK_OFFSET);
	say(subject, sockets->peeked.other, "abcdefgh");
	sockets->credentials = make_pair(subject, SOCK_DGRAM);
	say(subject, sockets->credentials.other, "anonymous");
	set(subject, sockets->credentials.one, SO_PASSCRED, 1);
	say(subject, sockets->credentials.other, "signed");
}

static void make_ends(const struct subject *subject, struct sockets *sockets)
{
	sockets->half = make_pair(subject, SOCK_STREAM);
	say(subject, sockets->half.one, "last words");
	shutdown(sockets->half.one, SHUT_WR);
	sockets->closed = make_pair(subject, SOCK_STREAM);
	say(subject, sockets->closed.other, "testament");
	close(sockets->closed.other);
	sockets->named_gone = make_pair(subject, SOCK_STREAM);
	give_name(subject, sockets->named_gone.other, "@godwit gone");
	close(sockets->named_gone.other);
	sockets->reset = make_pair(subject, SOCK_STREAM);
	say(subject, sockets->reset.one, "never read");
	close(sockets->reset.other);
	check(subject, setegid(OTHER_GID) == 0 && seteuid(OTHER_UID) == 0, "seteuid");
	sockets->made_by_other = make_pair(subject, SOCK_SEQPACKET);
	check(subject, seteuid(0) == 0 && setegid(0) == 0, "seteuid back");
}

static void check_large(const struct subject *subject, int fd)
{
	static unsigned char large[LARGE_BYTES + 1];

	if (waiting(fd) != LARGE_BYTES || recv(fd, large, sizeof(large), MSG_DONTWAIT) != LARGE_BYTES)
		subject_fail(subject, "stream: errno %d", errno);
	for (size_t i = 0; i < LARGE_BYTES; i++)
		if (large[i] != byte_at(i))
			subject_fail(subject, "stream: byte %zu", i);
}

static void check_signed(const struct subject *subject, int fd, const char *text, pid_t pid)
{
	char seen[64] = "";
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control = {0};
	struct iovec data = {.iov_base = seen, .iov_len = sizeof(seen) - 1};
	struct msghdr message = {.msg_iov = &data,
	                         .msg_iovlen = 1,
	                         .msg_control = control.bytes,
	                         .msg_controllen = sizeof(control.bytes)};
	struct ucred credentials = {.pid = -1};

	check(subject, recvmsg(fd, &message, MSG_DONTWAIT) > 0, text);
	if (CMSG_FIRSTHDR(&message))
		memcpy(&credentials, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(credentials));
	if (strcmp(seen, text) != 0 || credentials.pid != pid || (pid && credentials.uid != 0))
		subject_fail(subject, "%s: '%s' from %d, user %u", text, seen, credentials.pid, credentials.uid);
}

static void check_pairs(const struct subject *subject, const struct sockets *sockets)
{
	check_large(subject, sockets->stream.other);
	expect(subject, "the other way", sockets->stream.one, "back");
	if (get(sockets->stream.one, SO_SNDBUF) != SEND_BUFFER || fcntl(sockets->stream.one, F_GETFD) != FD_CLOEXEC)
		subject_fail(subject, "stream: buffer of %d", get(sockets->stream.one, SO_SNDBUF));
	expect(subject, "packet", sockets->packets.other, "one");
	expect(subject, "packet of no bytes", sockets->packets.other, "");
	expect(subject, "last packet", sockets->packets.other, "three");
	expect_empty(subject, "packets", sockets->packets.other);
	expect(subject, "datagram of no bytes", sockets->datagrams.other, "");
	expect(subject, "datagram", sockets->datagrams.other, "a datagram");
	expect(subject, "last datagram", sockets->datagrams.other, "and another");
	expect_empty(subject, "datagrams", sockets->datagrams.other);
	char peeked[3] = "";
	if (get(sockets->peeked.one, SO_PEEK_OFF) != PEEK_OFFSET ||
	    recv(sockets->peeked.one, peeked, 2, MSG_PEEK) != 2 || strcmp(peeked, "de") != 0)
		subject_fail(subject, "peek offset: %d, '%s'", get(sockets->peeked.one, SO_PEEK_OFF), peeked);
	check_signed(subject, sockets->credentials.one, "anonymous", 0);
	check_signed(subject, sockets->credentials.one, "signed", getpid());
	say(subject, sockets->credentials.other, "later");
	check_signed(subject, sockets->credentials.one, "later", getpid());
}

static void check_ends(const struct subject *subject, const struct sockets *sockets)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	signal(SIGPIPE, SIG_IGN);
	expect(subject, "closed half", sockets->half.other, "last words");
	expect(subject, "closed half, at its end", sockets->half.other, "");
	say(subject, sockets->half.other, "open half");
	expect(subject, "open half", sockets->half.one, "open half");
	check(subject, send(sockets->half.one, "x", 1, 0) < 0 && errno == EPIPE, "closed half, written");
	expect(subject, "closed end", sockets->closed.one, "testament");
	expect(subject, "closed end, at its end", sockets->closed.one, "");
	check_name(subject, "closed end", sockets->named_gone.one, "@godwit gone", true);
	check(subject, recv(sockets->reset.one, &size, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET, "reset");
	if (getsockopt(sockets->made_by_other.one, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
	    peer.pid != getpid() || peer.uid != OTHER_UID || peer.gid != OTHER_GID)
		subject_fail(subject, "SO_PEERCRED: %d, %u, %u", peer.pid, peer.uid, peer.gid);
}

/* ---- Names ---- */

static int bind_to(const struct subject *subject, int type, const char *name)
{
	int fd = socket(AF_UNIX, type, 0);

	give_name(subject, fd, name);
	return fd;
}

static int connect_to(const struct subject *subject, int type, const char *name)
{
	struct sockaddr_un address;
	socklen_t size = name_address(name, &address);
	int fd = socket(AF_UNIX, type, 0);

	check(subject, fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0, name);
	return fd;
}

static void make_names(const struct subject *subject, struct sockets *sockets)
{
	char path[108];

	snprintf(sockets->path, sizeof(sockets->path), "%s/socket", subject->dir);
	sockets->listener = bind_to(subject, SOCK_STREAM, sockets->path);
	check(subject, listen(sockets->listener, BACKLOG) == 0 && chmod(sockets->path, 0620) == 0, "listen");
	sockets->client = connect_to(subject, SOCK_STREAM, sockets->path);
	sockets->accepted = accept(sockets->listener, NULL, NULL);
	say(subject, sockets->client, "question");
	sockets->abstract_listener = bind_to(subject, SOCK_SEQPACKET, "@godwit subject");
	check(subject, listen(sockets->abstract_listener, 7) == 0, "listen");
	for (size_t i = 0; i < 4; i += 2) {
		sockets->ends[i] = connect_to(subject, SOCK_SEQPACKET, "@godwit subject");
		sockets->ends[i + 1] = accept(sockets->abstract_listener, NULL, NULL);
	}
	snprintf(path, sizeof(path), "%s/receiver", subject->dir);
	sockets->receiver = bind_to(subject, SOCK_DGRAM, path);
	sockets->connected_sender = connect_to(subject, SOCK_DGRAM, path);
	sockets->sender = bind_to(subject, SOCK_DGRAM, "@godwit sender");
	struct sockaddr_un address;
	socklen_t size = name_address(path, &address);
	check(subject, sendto(sockets->sender, "letter", 6, 0, (struct sockaddr *)&address, size) == 6, "sendto");
	say(subject, sockets->connected_sender, "unsigned letter");
}

static void talk(const struct subject *subject, const char *what, int one, int other)
{
	say(subject, one, "there");
	expect(subject, what, other, "there");
	say(subject, other, "and back");
	expect(subject, what, one, "and back");
}

/* One more than that may wait: unix_recvq_full() of Linux. */
static void check_backlog(const struct subject *subject, const char *path)
{
	struct sockaddr_un address;
	socklen_t size = name_address(path, &address);
	int count = 0;

	for (; count <= 2 * BACKLOG; count++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

		if (connect(fd, (struct sockaddr *)&address, size) != 0)
			break;
	}
	if (errno != EAGAIN || count != BACKLOG + 1)
		subject_fail(subject, "%d clients may wait, errno %d", count, errno);
}

static void check_listeners(const struct subject *subject, const struct sockets *sockets)
{
	struct stat stat = {0};

	check_name(subject, "listener", sockets->listener, sockets->path, false);
	check_name(subject, "accepted", sockets->accepted, sockets->path, false);
	check_name(subject, "client", sockets->client, sockets->path, true);
	expect(subject, "accepted", sockets->accepted, "question");
	talk(subject, "client", sockets->client, sockets->accepted);
	if (lstat(sockets->path, &stat) != 0 || !S_ISSOCK(stat.st_mode) || (stat.st_mode & 07777) != 0620)
		subject_fail(subject, "socket's file: mode %o", stat.st_mode);
	int client = connect_to(subject, SOCK_STREAM, sockets->path);
	talk(subject, "new client", client, accept(sockets->listener, NULL, NULL));
	for (size_t i = 0; i < 4; i += 2) {
		check_name(subject, "abstract accepted", sockets->ends[i + 1], "@godwit subject", false);
		talk(subject, "abstract", sockets->ends[i], sockets->ends[i + 1]);
	}
	check_backlog(subject, sockets->path);
	client = connect_to(subject, SOCK_SEQPACKET, "@godwit subject");
	talk(subject, "new abstract client", client, accept(sockets->abstract_listener, NULL, NULL));
	check(subject, get(sockets->listener, SO_ACCEPTCONN) == 1, "SO_ACCEPTCONN");
}

static void check_datagrams(const struct subject *subject, const struct sockets *sockets)
{
	struct sockaddr_un from = {0};
	socklen_t size = sizeof(from);
	char seen[16] = "";
	char path[108];

	snprintf(path, sizeof(path), "%s/receiver", subject->dir);
	check_name(subject, "connected sender", sockets->connected_sender, path, true);
	if (recvfrom(sockets->receiver, seen, sizeof(seen), MSG_DONTWAIT, (struct sockaddr *)&from, &size) != 6 ||
	    strcmp(seen, "letter") != 0 || memcmp(from.sun_path, "\0godwit sender", 14) != 0)
		subject_fail(subject, "letter: '%s' from '%s', errno %d", seen, from.sun_path + 1, errno);
	expect(subject, "letter without a name", sockets->receiver, "unsigned letter");
	say(subject, sockets->connected_sender, "later letter");
	expect(subject, "later letter", sockets->receiver, "later letter");
	check(subject, connect_to(subject, SOCK_DGRAM, path) >= 0, "receiver's path");
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct sockets sockets;

	make_pairs(&subject, &sockets);
	make_flight(&subject, &sockets);
	make_ends(&subject, &sockets);
	make_names(&subject, &sockets);

	subject_ready(&subject);

	check_pairs(&subject, &sockets);
	check_flight(&subject, &sockets);
	check_ends(&subject, &sockets);
	check_listeners(&subject, &sockets);
	check_datagrams(&subject, &sockets);
	return subject_pass(&subject);
}
