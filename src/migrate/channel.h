/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The one connection of a migration: bytes in order, both ways, with time limits.
 *
 * Over a child ssh(1) that runs "godwit receive" on the other host, as rsync does it; over TLS 1.3 with a key that both
 * sides have (RFC 8446, section 2.2); or over two descriptors that are there already. One thread at a time uses it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/error.h"

struct channel;

/* Without a reply from the other side for that long, it counts as cut off. */
enum { CHANNEL_PATIENCE_MS = 15000 };

/* Both descriptors are handed over; they may be the same. */
struct channel *channel_over_fds(int read_fd, int write_fd);

/* How to reach a host by ssh(1). All borrowed. */
struct ssh_target {
	const char *command;     /* "ssh", or what stands for it, with its arguments; split at spaces */
	const char *host;        /* [user@]host */
	const char *remote_path; /* how godwit is called there, split at spaces by the remote shell */
	const char *options;     /* of godwit receive, quoted for that shell: channel_quote() */
};
/* Words as a shell understands them. The caller frees. */
char *channel_quote(const char *const *words, size_t count);

MUST_USE struct error *channel_over_ssh(const struct ssh_target *target, struct channel **ret_channel);

/* Why the other side never answered, if ssh knows: for an error that came before its first answer. Consumes error. */
MUST_USE struct error *channel_explain(struct channel *channel, struct error *error);

enum { CHANNEL_KEY_BYTES = 32 };

/* Reads a key: 64 hex digits in a file that nobody else may read. */
MUST_USE struct error *channel_read_key(const char *path, uint8_t ret_key[CHANNEL_KEY_BYTES]);

/* address is "host:port" or "[v6]:port". */
MUST_USE struct error *channel_connect_tls(const char *address, const uint8_t key[CHANNEL_KEY_BYTES],
                                           struct channel **ret_channel);

/* A listening socket; the caller closes it. */
MUST_USE struct error *channel_listen(const char *address, int *ret_fd);
/* Takes over fd, which accept(2) has returned. */
MUST_USE struct error *channel_accept_tls(int fd, const uint8_t key[CHANNEL_KEY_BYTES], struct channel **ret_channel);

void channel_free(struct channel *channel);
DEFINE_OWNED(struct channel *, channel_free)
#define auto_channel AUTO(channel_free)

/* Exactly that many bytes, or an error: ECONNRESET where the other side has ended, ETIMEDOUT after timeout_ms (-1: as
 * long as it takes). */
MUST_USE struct error *channel_read(struct channel *channel, void *bytes, size_t size_bytes, int timeout_ms);

/* What was written is the last: lets the other side read it, and takes no notice of what it still writes, until it ends the
 * connection, for a second at most. One that is closed with unread bytes may lose what it has written: a TCP socket
 * resets (RFC 1122, section 4.2.2.13). */
void channel_linger(struct channel *channel);

/* From now on waiting for input ends with the error EINTR when fd (borrowed; -1: none) has something to read. */
void channel_watch(struct channel *channel, int fd);

/* From then on (CLOCK_MONOTONIC; 0: never) nothing is written any more, and a write that waits ends, with ETIMEDOUT. */
void channel_set_deadline(struct channel *channel, uint64_t deadline_ns);

/* All of it, and all that was put before, or an error. iov is used up. */
MUST_USE struct error *channel_write(struct channel *channel, struct iovec *iov, size_t count);

/* The same, but small pieces may wait for channel_write(): many of them then go with one system call. */
MUST_USE struct error *channel_put(struct channel *channel, struct iovec *iov, size_t count);

/* Bytes written so far. */
uint64_t channel_written(const struct channel *channel);
