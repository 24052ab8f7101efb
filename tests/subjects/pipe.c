/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Pipes from the inside: content, size, packets, an end that is opened twice, ends that are closed. The traps: reading
 * the content would take it out; packets must not run together; who has lost the other end must see that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "subject.h"

enum { LARGE_BYTES = 150000, LARGE_CAPACITY = 256 * 1024 };

struct pipes {
	int large[2];   /* more than 64 KiB, size changed */
	int packets[2]; /* O_DIRECT */
	int again;      /* the reading end of packets, opened again */
	int eof[2];     /* no writer any more; content left */
	int broken[2];  /* no reader any more */
};

static void make_pipe(const struct subject *subject, int ends[2], int flags, const char *content)
{
	if (pipe2(ends, flags) != 0 || write(ends[1], content, strlen(content)) != (ssize_t)strlen(content))
		subject_fail(subject, "pipe2: errno %d", errno);
}

/* A byte of the large content; its period is no power of two. */
static unsigned char byte_at(size_t index)
{
	return (unsigned char)(index * 7 % 251);
}

static void fill_large(const struct subject *subject, int fd)
{
	static unsigned char bytes[LARGE_BYTES];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = byte_at(i);
	if (fcntl(fd, F_SETPIPE_SZ, LARGE_CAPACITY) != LARGE_CAPACITY || write(fd, bytes, sizeof(bytes)) != LARGE_BYTES)
		subject_fail(subject, "large: errno %d", errno);
}

static struct pipes make(const struct subject *subject)
{
	struct pipes pipes;
	char path[64];

	make_pipe(subject, pipes.large, O_NONBLOCK | O_CLOEXEC, "");
	fill_large(subject, pipes.large[1]);
	make_pipe(subject, pipes.packets, O_DIRECT | O_NONBLOCK, "one");
	if (write(pipes.packets[1], "three", 5) != 5)
		subject_fail(subject, "packet: errno %d", errno);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", pipes.packets[0]);
	pipes.again = open(path, O_RDONLY | O_NONBLOCK);
	make_pipe(subject, pipes.eof, 0, "the last words");
	close(pipes.eof[1]);
	make_pipe(subject, pipes.broken, 0, "");
	close(pipes.broken[0]);
	return pipes;
}

static void check_large(const struct subject *subject, const int ends[2])
{
	static unsigned char bytes[LARGE_BYTES + 1];
	int unread = 0;

	if (ioctl(ends[0], FIONREAD, &unread) != 0 || unread != LARGE_BYTES)
		subject_fail(subject, "large: %d bytes", unread);
	if (fcntl(ends[0], F_GETPIPE_SZ) != LARGE_CAPACITY)
		subject_fail(subject, "large: size %d", fcntl(ends[0], F_GETPIPE_SZ));
	if (read(ends[0], bytes, sizeof(bytes)) != LARGE_BYTES)
		subject_fail(subject, "large: read: errno %d", errno);
	for (size_t i = 0; i < LARGE_BYTES; i++)
		if (bytes[i] != byte_at(i))
			subject_fail(subject, "large: byte %zu is %u", i, bytes[i]);
	if (fcntl(ends[0], F_GETFL) != O_NONBLOCK || fcntl(ends[1], F_GETFL) != (O_WRONLY | O_NONBLOCK) ||
	    fcntl(ends[1], F_GETFD) != FD_CLOEXEC)
		subject_fail(subject, "large: flags %#o and %#o", fcntl(ends[0], F_GETFL), fcntl(ends[1], F_GETFL));
}

static void check_read(const struct subject *subject, const char *what, int fd, const char *expected)
{
	char seen[64] = "";
	ssize_t count = read(fd, seen, sizeof(seen) - 1);

	if (count != (ssize_t)strlen(expected) || strcmp(seen, expected) != 0)
		subject_fail(subject, "%s: '%s' (%zd, errno %d), not '%s'", what, seen, count, errno, expected);
}

static void check_ends(const struct subject *subject, const struct pipes *pipes)
{
	check_read(subject, "first packet", pipes->packets[0], "one");
	if (write(pipes->packets[1], "later", 5) != 5)
		subject_fail(subject, "later packet: errno %d", errno);
	check_read(subject, "second packet, through the end that was opened again", pipes->again, "three");
	check_read(subject, "later packet", pipes->packets[0], "later");
	if (fcntl(pipes->packets[1], F_GETFL) != (O_WRONLY | O_DIRECT | O_NONBLOCK))
		subject_fail(subject, "packets: flags %#o", fcntl(pipes->packets[1], F_GETFL));

	check_read(subject, "pipe without a writer", pipes->eof[0], "the last words");
	check_read(subject, "pipe without a writer, at its end", pipes->eof[0], "");

	signal(SIGPIPE, SIG_IGN);
	if (write(pipes->broken[1], "x", 1) != -1 || errno != EPIPE)
		subject_fail(subject, "pipe without a reader: errno %d", errno);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct pipes pipes = make(&subject);

	subject_ready(&subject);

	check_large(&subject, pipes.large);
	check_ends(&subject, &pipes);
	return subject_pass(&subject);
}
