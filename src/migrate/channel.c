/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "migrate/channel.h"
#include "migrate/tls.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/negative_errno.h"
#include "util/procfs.h"

enum { SSH_END_MS = 1000, LINGER_NS = 1000 * 1000 * 1000 };

struct channel {
	int read_fd, write_fd; /* owned; may be the same */
	struct tls *tls;       /* owned; NULL: none */
	int watched_fd;        /* borrowed; -1: none */
	uint64_t deadline_ns;  /* of writes; 0: none */
	pid_t ssh;             /* 0: none */
	uint64_t written_bytes;
	uint8_t *out; /* owned: what was put and not written yet */
	size_t out_bytes;
	uint8_t *in; /* owned: what was read and not asked for yet, without TLS, which has a buffer of its own */
	size_t in_start, in_end;
};

enum {
	OUT_BYTES = 64 << 10, /* what is larger isn't copied */
	IN_BYTES = 16 << 10,
};

struct channel *channel_over_fds(int read_fd, int write_fd)
{
	struct channel *channel = xalloc(sizeof(*channel));

	channel->read_fd = read_fd;
	channel->write_fd = write_fd;
	channel->out = xalloc(OUT_BYTES);
	channel->in = xalloc(IN_BYTES);
	channel->watched_fd = -1;
	return channel;
}

/* It ends when its input does, but not while its own connection is cut. */
static void end_ssh(pid_t ssh)
{
	struct pollfd ended = {.fd = procfs_open_pid(ssh), .events = POLLIN};

	if (ended.fd < 0 || poll(&ended, 1, SSH_END_MS) != 1)
		kill(ssh, SIGKILL);
	if (ended.fd >= 0)
		close(ended.fd);
	while (waitpid(ssh, NULL, 0) < 0 && errno == EINTR)
		continue;
}

void channel_free(struct channel *channel)
{
	if (!channel)
		return;
	tls_free(channel->tls);
	close(channel->read_fd);
	if (channel->write_fd != channel->read_fd)
		close(channel->write_fd);
	if (channel->ssh)
		end_ssh(channel->ssh);
	free(channel->out);
	free(channel->in);
	free(channel);
}

/* ---- ssh ---- */

enum { WORDS_MAX = 32 };

static void quote(const char *word, FILE *out)
{
	fputc('\'', out);
	for (; *word; word++)
		fputs(*word == '\'' ? "'\\''" : (char[]){*word, '\0'}, out);
	fputc('\'', out);
}

char *channel_quote(const char *const *words, size_t count)
{
	char *quoted = NULL;
	size_t size_bytes = 0;
	FILE *out = open_memstream(&quoted, &size_bytes);

	if (!out)
		abort();
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			fputc(' ', out);
		quote(words[i], out);
	}
	fclose(out);
	return quoted;
}

/* In a child that shares nothing we need: the words of the command, then host and what to run there. failure_fd tells
 * our parent why that wasn't possible. */
__attribute__((noreturn)) static void be_ssh(const struct ssh_target *target, int fd, int failure_fd)
{
	auto_free char *command = xformat("%s", target->command);
	auto_free char *remote = xformat("%s receive %s", target->remote_path, target->options ? target->options : "");
	char *words[WORDS_MAX + 3];
	size_t count = 0;
	char *rest = NULL;
	sigset_t none;

	for (char *word = strtok_r(command, " ", &rest); word && count < WORDS_MAX; word = strtok_r(NULL, " ", &rest))
		words[count++] = word;
	auto_free char *host = xformat("%s", target->host);
	words[count++] = host;
	words[count++] = remote;
	words[count] = NULL;
	/* Ctrl-C is for us: we end it in order. Of our blocked signals it knows nothing. */
	setpgid(0, 0);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	execvp(words[0], words);
	/* The number of bytes is what tells; a lost one would be told as a connection that has ended. */
	if (write(failure_fd, &errno, sizeof(errno)) < 0)
		_exit(126);
	_exit(127);
}

/* Whether ssh could be started: its end of the pipe closes when it has been. */
static struct error *await_start(const struct ssh_target *target, int fd)
{
	int failure;
	ssize_t n;

	while ((n = read(fd, &failure, sizeof(failure))) < 0 && errno == EINTR)
		continue;
	return n == sizeof(failure) ? error_new(failure, "run %s", target->command) : NULL;
}

static struct error *start_ssh(const struct ssh_target *target, int other, pid_t *ret_child)
{
	int failure[2];

	if (pipe2(failure, O_CLOEXEC) < 0)
		return error_new(errno, "pipe");
	auto_fd int read_end = failure[0];
	auto_fd int write_end = failure[1];
	pid_t child = fork();
	if (child == 0)
		be_ssh(target, other, write_end);
	if (child < 0)
		return error_new(errno, "fork");
	close(take(write_end));
	struct error *error = await_start(target, read_end);
	if (error)
		waitpid(child, NULL, 0);
	*ret_child = child;
	return error;
}

struct error *channel_over_ssh(const struct ssh_target *target, struct channel **ret_channel)
{
	int pair[2];
	pid_t child;

	if (target->host[0] == '-')
		return error_new(0, "\"%s\" is no host", target->host);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_new(errno, "socketpair");
	auto_fd int own = pair[0];
	auto_fd int other = pair[1];
	TRY(start_ssh(target, other, &child));
	int fd = take(own);
	*ret_channel = channel_over_fds(fd, fd);
	(*ret_channel)->ssh = child;
	return NULL;
}

static struct error *explain_status(int status)
{
	if (WIFSIGNALED(status))
		return error_new(0, "ssh was ended by SIG%s", sigabbrev_np(WTERMSIG(status)));
	switch (WEXITSTATUS(status)) {
	case 255: /* ssh(1): an error of its own */
		return error_hint(error_new(0, "ssh could not connect, see its message above"),
		                  "this has to work first: ssh HOST true; --ssh 'ssh -p 2222' gives it options");
	case 126: /* a shell's: it can't be run */
	case 127: /* a shell's: there is no such command */
		return error_hint(error_new(0, "godwit can't be called there, see the message above"),
		                  "install it there, or name it: --remote-path /usr/local/sbin/godwit");
	default:
		return error_new(0, "the other side ended with status %d before it said anything", WEXITSTATUS(status));
	}
}

struct error *channel_explain(struct channel *channel, struct error *error)
{
	int status;
	int errnum = error ? error_errnum(error) : 0;

	if (!channel->ssh || (errnum != ECONNRESET && errnum != EPIPE))
		return error;
	/* It has nothing to wait for any more. */
	shutdown(channel->write_fd, SHUT_RDWR);
	while (waitpid(channel->ssh, &status, 0) < 0)
		if (errno != EINTR)
			return error;
	channel->ssh = 0;
	error_free(error);
	return explain_status(status);
}

/* ---- TLS ---- */

/* "host:port" in two. The caller frees both. False: it is something else. */
static bool split_address(const char *address, char **ret_host, char **ret_port)
{
	const char *colon = strrchr(address, ':');
	bool is_bracketed = address[0] == '[' && colon > address && colon[-1] == ']';

	if (!colon || !colon[1])
		return false;
	const char *start = address + is_bracketed;
	*ret_host = xformat("%.*s", (int)(colon - start - is_bracketed), start);
	*ret_port = xformat("%s", colon + 1);
	return true;
}

static struct error *resolve(const char *address, bool is_passive, struct addrinfo **ret_list)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = is_passive ? AI_PASSIVE : 0};
	auto_free char *host = NULL;
	auto_free char *port = NULL;

	if (!split_address(address, &host, &port))
		return error_hint(error_new(0, "\"%s\" is no HOST:PORT", address),
		                  "an IPv6 address is put into brackets: [fd77::1]:7777");
	int r = getaddrinfo(*host ? host : NULL, port, &hints, ret_list);
	if (r == EAI_SYSTEM)
		return error_new(errno, "getaddrinfo(%s)", address);
	return r ? error_new(0, "%s: %s", address, gai_strerror(r)) : NULL;
}

/* Small messages must not wait for others; and a host that has gone is noticed although nothing is due from it. */
static void tune(int fd)
{
	const int one = 1;
	const unsigned patience_ms = CHANNEL_PATIENCE_MS;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof(patience_ms));
}

/* Of connect(2), too: socket(7). */
static void limit_writes(int fd, unsigned patience_ms)
{
	const struct timeval patience = {.tv_sec = patience_ms / 1000,
	                                 .tv_usec = (suseconds_t)(patience_ms % 1000) * 1000};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

static int connect_to_any(const struct addrinfo *list)
{
	for (const struct addrinfo *at = list; at; at = at->ai_next) {
		auto_fd int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			continue;
		limit_writes(fd, CHANNEL_PATIENCE_MS);
		if (connect(fd, at->ai_addr, at->ai_addrlen) == 0)
			return take(fd);
		if (errno == EINPROGRESS)
			errno = ETIMEDOUT;
	}
	return negative_errno();
}

struct error *channel_connect_tls(const char *address, const uint8_t key[CHANNEL_KEY_BYTES],
                                  struct channel **ret_channel)
{
	struct addrinfo *list;

	TRY(resolve(address, false, &list));
	int fd = connect_to_any(list);
	freeaddrinfo(list);
	if (fd < 0)
		return error_hint(error_new(-fd, "connect to %s", address),
		                  "is \"godwit receive --listen\" running there?");
	tune(fd);
	auto_channel struct channel *channel = channel_over_fds(fd, fd);
	TRY(tls_connect(fd, key, &channel->tls), "%s", address);
	*ret_channel = take(channel);
	return NULL;
}

struct error *channel_listen(const char *address, int *ret_fd)
{
	const int one = 1;
	struct addrinfo *list;

	TRY(resolve(address, true, &list));
	auto_fd int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is_listening = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	                    bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, 4) == 0;
	int saved_errno = errno;
	freeaddrinfo(list);
	if (!is_listening)
		return error_new(saved_errno, "listen on %s", address);
	*ret_fd = take(fd);
	return NULL;
}

struct error *channel_accept_tls(int fd, const uint8_t key[CHANNEL_KEY_BYTES], struct channel **ret_channel)
{
	auto_channel struct channel *channel = channel_over_fds(fd, fd);

	tune(fd);
	TRY(tls_accept(fd, key, &channel->tls));
	*ret_channel = take(channel);
	return NULL;
}

/* ---- Bytes ---- */

static struct error *wait_for_input(struct channel *channel, int timeout_ms)
{
	struct pollfd inputs[] = {
		{.fd = channel->read_fd, .events = POLLIN},
		{.fd = channel->watched_fd, .events = POLLIN},
	};

	if (channel->tls ? tls_pending(channel->tls) : channel->in_start < channel->in_end)
		return NULL;
	for (;;) {
		int n = poll(inputs, 2, timeout_ms);

		if (n > 0 && inputs[1].revents)
			return error_new(EINTR, "stopped by a signal");
		if (n > 0)
			return NULL;
		if (n == 0)
			return error_new(ETIMEDOUT, "no answer from the other host within %d ms", timeout_ms);
		if (errno != EINTR)
			return error_new(errno, "poll");
	}
}

/* As read(2): at least a byte, from the buffer if there is one. Little things are read with what follows them. */
static ssize_t read_some(struct channel *channel, uint8_t *bytes, size_t size_bytes)
{
	if (channel->tls)
		return tls_read(channel->tls, bytes, size_bytes);
	if (channel->in_start == channel->in_end) {
		if (size_bytes >= IN_BYTES)
			return read(channel->read_fd, bytes, size_bytes);
		ssize_t n = read(channel->read_fd, channel->in, IN_BYTES);
		if (n <= 0)
			return n;
		channel->in_start = 0;
		channel->in_end = (size_t)n;
	}
	size_t some = channel->in_end - channel->in_start;
	if (some > size_bytes)
		some = size_bytes;
	memcpy(bytes, channel->in + channel->in_start, some);
	channel->in_start += some;
	return (ssize_t)some;
}

struct error *channel_read(struct channel *channel, void *bytes, size_t size_bytes, int timeout_ms)
{
	for (size_t done = 0; done < size_bytes;) {
		TRY(wait_for_input(channel, timeout_ms));
		ssize_t n = read_some(channel, (uint8_t *)bytes + done, size_bytes - done);

		if (n == 0)
			return error_new(ECONNRESET, "the other side has ended the connection");
		if (n < 0 && errno != EINTR)
			return error_new(errno, "read from the other host");
		done += n > 0 ? (size_t)n : 0;
	}
	return NULL;
}

void channel_linger(struct channel *channel)
{
	uint64_t end_ns = clock_now_ns() + LINGER_NS;

	/* Where it is a pipe, who reads it isn't disturbed by what we don't read. */
	(void)shutdown(channel->write_fd, SHUT_WR);
	for (uint64_t now_ns = clock_now_ns(); now_ns < end_ns; now_ns = clock_now_ns()) {
		auto_error struct error *error = wait_for_input(channel, (int)((end_ns - now_ns) / 1000000) + 1);

		if (error || read_some(channel, channel->out, OUT_BYTES) <= 0)
			return;
	}
}

/* writev(2) may take a part. */
static void skip(struct iovec **iov, size_t *count, size_t size_bytes)
{
	while (*count > 0 && size_bytes >= (*iov)->iov_len) {
		size_bytes -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + size_bytes;
		(*iov)->iov_len -= size_bytes;
	}
}

void channel_watch(struct channel *channel, int fd)
{
	channel->watched_fd = fd;
}

void channel_set_deadline(struct channel *channel, uint64_t deadline_ns)
{
	channel->deadline_ns = deadline_ns;
	limit_writes(channel->write_fd, CHANNEL_PATIENCE_MS);
}

/* Each write is limited to what is left: it may take a part, and then ends early enough. */
static bool is_in_time(const struct channel *channel)
{
	if (channel->deadline_ns == 0)
		return true;
	uint64_t now_ns = clock_now_ns();
	if (now_ns >= channel->deadline_ns)
		return false;
	limit_writes(channel->write_fd, (unsigned)((channel->deadline_ns - now_ns) / 1000000 + 1));
	return true;
}

static struct error *write_all(struct channel *channel, struct iovec *iov, size_t count)
{
	skip(&iov, &count, 0);
	while (count > 0) {
		if (!is_in_time(channel))
			return error_new(ETIMEDOUT, "write to the other host");
		ssize_t n = channel->tls ? tls_write(channel->tls, iov->iov_base, iov->iov_len)
		                         : writev(channel->write_fd, iov, (int)count);

		if (n < 0 && errno != EINTR)
			return error_new(errno == EAGAIN ? ETIMEDOUT : errno, "write to the other host");
		channel->written_bytes += n > 0 ? (uint64_t)n : 0;
		skip(&iov, &count, n > 0 ? (size_t)n : 0);
	}
	int r = channel->tls ? tls_flush(channel->tls) : 0;
	return r < 0 ? error_new(-r, "write to the other host") : NULL;
}

static struct error *write_out(struct channel *channel)
{
	struct iovec out = {.iov_base = channel->out, .iov_len = channel->out_bytes};

	channel->out_bytes = 0;
	return out.iov_len > 0 ? write_all(channel, &out, 1) : NULL;
}

static size_t total_of(const struct iovec *iov, size_t count)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += iov[i].iov_len;
	return total;
}

struct error *channel_put(struct channel *channel, struct iovec *iov, size_t count)
{
	size_t total = total_of(iov, count);

	if (total > OUT_BYTES - channel->out_bytes)
		TRY(write_out(channel));
	if (total > OUT_BYTES)
		return write_all(channel, iov, count);
	for (size_t i = 0; i < count; i++) {
		if (iov[i].iov_len > 0)
			memcpy(channel->out + channel->out_bytes, iov[i].iov_base, iov[i].iov_len);
		channel->out_bytes += iov[i].iov_len;
	}
	return NULL;
}

struct error *channel_write(struct channel *channel, struct iovec *iov, size_t count)
{
	TRY(channel_put(channel, iov, count));
	return write_out(channel);
}

uint64_t channel_written(const struct channel *channel)
{
	return channel->written_bytes;
}
