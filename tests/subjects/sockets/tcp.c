/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Rarer states of tcp(7) from the inside: connections without window scaling and timestamps, with small segments; both
 * halves being closed at once (CLOSING), the last one with much that isn't sent (LAST_ACK), one with much that was sent and
 * not heard, ended ones with and without something unread; a port that is bound and not used; and epolls that watch
 * connections, by level, by edge and once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#include "sockets.h"

enum { SMALL_SEGMENT = 555, LAST_BYTES = 200000, FIRST_BYTES = 60000, UNHEARD_SEGMENTS = 20, WAIT_MS = 10000 };

/* States, as TCP_INFO tells them. */
enum { FIN_WAIT1 = 4, CLOSED = 7, IN_LAST_ACK = 9, IN_CLOSING = 11 };

struct pair {
	int one, other;
};

static int make_listener(const struct subject *subject)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	set(subject, fd, SOL_SOCKET, SO_REUSEADDR, 1);
	check(subject, bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 5) == 0, "listen");
	return fd;
}

static struct pair connect_to(const struct subject *subject, int listener, int segment)
{
	struct sockaddr_in address = {0};
	socklen_t size = sizeof(address);
	struct pair pair = {.one = socket(AF_INET, SOCK_STREAM, 0)};

	if (segment)
		set(subject, pair.one, IPPROTO_TCP, TCP_MAXSEG, segment);
	getsockname(listener, (struct sockaddr *)&address, &size);
	check(subject, connect(pair.one, (struct sockaddr *)&address, size) == 0, "connect");
	pair.other = accept(listener, NULL, NULL);
	check(subject, pair.other >= 0, "accept");
	return pair;
}

static struct tcp_info info_of(int fd)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
	return info;
}

static void wait_for_state(const struct subject *subject, int fd, int state)
{
	for (int i = 0; i < WAIT_MS; i++) {
		if (info_of(fd).tcpi_state == state)
			return;
		poll(NULL, 0, 1);
	}
	subject_fail(subject, "state %d, not %d", info_of(fd).tcpi_state, state);
}

/* The rest waits for room at the other end. */
static void wait_for_silence(const struct subject *subject, int fd)
{
	for (int i = 0; i < WAIT_MS && info_of(fd).tcpi_unacked > 0; i++)
		poll(NULL, 0, 1);
	if (info_of(fd).tcpi_unacked > 0)
		subject_fail(subject, "%u segments on their way", info_of(fd).tcpi_unacked);
}

static void write_setting(const struct subject *subject, const char *name, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/%s", name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(subject, fd >= 0 && write(fd, value, 1) == 1 && close(fd) == 0, name);
}

/* As with a peer of long ago. */
static struct pair connect_plainly(const struct subject *subject, int listener, int segment)
{
	static const char *const settings[] = {"tcp_timestamps", "tcp_window_scaling", "tcp_sack"};

	for (size_t i = 0; i < 3; i++)
		write_setting(subject, settings[i], "0");
	struct pair pair = connect_to(subject, listener, segment);
	for (size_t i = 0; i < 3; i++)
		write_setting(subject, settings[i], "1");
	return pair;
}

static void talk(const struct subject *subject, const char *what, const struct pair *pair)
{
	char byte = 0;

	if (send(pair->one, "x", 1, 0) != 1 || recv(pair->other, &byte, 1, 0) != 1 || byte != 'x' ||
	    send(pair->other, "y", 1, 0) != 1 || recv(pair->one, &byte, 1, 0) != 1 || byte != 'y')
		subject_fail(subject, "%s: they don't talk, errno %d", what, errno);
}

/* Large ones follow the peer's window. */
static int is_other_segment(const struct tcp_info *now, const struct tcp_info *before)
{
	return before->tcpi_snd_mss <= SMALL_SEGMENT && now->tcpi_snd_mss != before->tcpi_snd_mss;
}

static void check_options(const struct subject *subject, const char *what, const struct pair *pair,
                          const struct tcp_info *before)
{
	const struct tcp_info now = info_of(pair->one);

	if (now.tcpi_options != before->tcpi_options || now.tcpi_snd_wscale != before->tcpi_snd_wscale ||
	    now.tcpi_rcv_wscale != before->tcpi_rcv_wscale || is_other_segment(&now, before))
		subject_fail(subject, "%s: options %#x were %#x, scales %u/%u were %u/%u, segments %u were %u", what,
		             now.tcpi_options, before->tcpi_options, now.tcpi_snd_wscale, now.tcpi_rcv_wscale,
		             before->tcpi_snd_wscale, before->tcpi_rcv_wscale, now.tcpi_snd_mss, before->tcpi_snd_mss);
	talk(subject, what, pair);
}

/* ---- Ends ---- */

static void become_deaf(const struct subject *subject, int fd)
{
	struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	const struct sock_fprog program = {1, nothing};

	check(subject, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0, "filter");
}

static void hear(const struct subject *subject, int fd)
{
	const int zero = 0;

	check(subject, setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof(zero)) == 0, "no filter");
}

/* Both close when neither hears the other; then one hears that the other has closed, but not that its own end came. */
static struct pair make_closing(const struct subject *subject, int listener)
{
	struct pair pair = connect_to(subject, listener, 0);

	become_deaf(subject, pair.one);
	become_deaf(subject, pair.other);
	shutdown(pair.one, SHUT_WR);
	shutdown(pair.other, SHUT_WR);
	wait_for_state(subject, pair.one, FIN_WAIT1);
	hear(subject, pair.one);
	wait_for_state(subject, pair.one, IN_CLOSING);
	return pair;
}

static void fill(char *bytes)
{
	for (int i = 0; i < LAST_BYTES; i++)
		bytes[i] = (char)(i * 11 + i / 253);
}

/* The other end has closed and doesn't read; this one has still much to say, and then its end. */
static struct pair make_last(const struct subject *subject, int listener)
{
	static char bytes[LAST_BYTES];
	struct pair pair = connect_to(subject, listener, 0);
	char byte;

	set(subject, pair.one, SOL_SOCKET, SO_SNDBUFFORCE, LAST_BYTES * 4);
	shutdown(pair.other, SHUT_WR);
	check(subject, recv(pair.one, &byte, 1, 0) == 0, "the other end");
	fill(bytes);
	check(subject, send(pair.one, bytes, sizeof(bytes), 0) == sizeof(bytes), "send");
	shutdown(pair.one, SHUT_WR);
	wait_for_state(subject, pair.one, IN_LAST_ACK);
	wait_for_silence(subject, pair.one);
	return pair;
}

static void check_last(const struct subject *subject, const struct pair *pair)
{
	static char bytes[LAST_BYTES];
	static char expected[LAST_BYTES];
	char byte;

	fill(expected);
	/* What the other end has no room for mustn't be sent: it would be lost, and cost seconds. */
	if (info_of(pair->one).tcpi_unacked > 0)
		subject_fail(subject, "%u segments were sent into a closed window", info_of(pair->one).tcpi_unacked);
	if (recv(pair->one, &byte, 1, 0) != 0)
		subject_fail(subject, "the end of the other half isn't at its place");
	if (recv(pair->other, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes) ||
	    memcmp(bytes, expected, sizeof(bytes)) != 0)
		subject_fail(subject, "last bytes: errno %d", errno);
	if (recv(pair->other, &byte, 1, 0) != 0)
		subject_fail(subject, "no end behind the last bytes");
	wait_for_state(subject, pair->one, CLOSED);
}

static void check_closing(const struct subject *subject, const struct pair *pair)
{
	char byte;

	hear(subject, pair->other);
	if (recv(pair->one, &byte, 1, 0) != 0 || recv(pair->other, &byte, 1, 0) != 0)
		subject_fail(subject, "ends of both halves, errno %d", errno);
	wait_for_state(subject, pair->one, CLOSED);
	wait_for_state(subject, pair->other, CLOSED);
}

/* Much that was sent, and of which the other end has heard nothing. */
static struct pair make_unheard(const struct subject *subject, int listener)
{
	static char bytes[LAST_BYTES];
	/* Selective acknowledgments would delay the first repetition that counts: tcp_schedule_loss_probe() of Linux. */
	struct pair pair = connect_plainly(subject, listener, SMALL_SEGMENT);

	/* Heard first: so that more may be on its way than at the beginning. */
	fill(bytes);
	check(subject, send(pair.one, bytes, FIRST_BYTES, 0) == FIRST_BYTES, "send");
	check(subject, recv(pair.other, bytes, FIRST_BYTES, MSG_WAITALL) == FIRST_BYTES, "receive");
	become_deaf(subject, pair.other);
	check(subject, send(pair.one, bytes, FIRST_BYTES, 0) == FIRST_BYTES, "send");
	if (info_of(pair.one).tcpi_unacked < UNHEARD_SEGMENTS)
		subject_fail(subject, "only %u segments are on their way", info_of(pair.one).tcpi_unacked);
	return pair;
}

static void check_unheard(const struct subject *subject, const struct pair *pair)
{
	static char bytes[LAST_BYTES];
	static char expected[LAST_BYTES];

	fill(expected);
	/* It is known to have been sent: who acknowledges it is believed. */
	if (info_of(pair->one).tcpi_unacked < UNHEARD_SEGMENTS)
		subject_fail(subject, "%u segments are still on their way", info_of(pair->one).tcpi_unacked);
	hear(subject, pair->other);
	if (recv(pair->other, bytes, FIRST_BYTES, MSG_WAITALL) != FIRST_BYTES ||
	    memcmp(bytes, expected, FIRST_BYTES) != 0)
		subject_fail(subject, "what nobody had heard: errno %d", errno);
	talk(subject, "one that was not heard", pair);
}

/* Both halves are closed, and the last words of the other end wait. */
static int make_ended(const struct subject *subject, int listener, const char *words)
{
	struct pair pair = connect_to(subject, listener, 0);

	check(subject, send(pair.other, words, strlen(words), 0) == (ssize_t)strlen(words), "send");
	shutdown(pair.one, SHUT_WR);
	close(pair.other);
	wait_for_state(subject, pair.one, CLOSED);
	return pair.one;
}

/* The other end has broken it off, which nobody has looked at yet. */
static int make_reset(const struct subject *subject, int listener)
{
	const struct linger at_once = {1, 0};
	struct pair pair = connect_to(subject, listener, 0);

	talk(subject, "one that will be reset", &pair);
	setsockopt(pair.other, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(pair.other);
	wait_for_state(subject, pair.one, CLOSED);
	return pair.one;
}

static void check_reset(const struct subject *subject, int fd)
{
	char byte;

	if (recv(fd, &byte, 1, MSG_DONTWAIT) != -1 || errno != ECONNRESET)
		subject_fail(subject, "one that was reset: errno %d", errno);
	if (recv(fd, &byte, 1, MSG_DONTWAIT) != 0)
		subject_fail(subject, "one that was reset doesn't end: errno %d", errno);
}

static void check_ended(const struct subject *subject, int fd, const char *words, const struct sockaddr_in *name)
{
	struct sockaddr_in now = {0};
	socklen_t size = sizeof(now);
	char bytes[16] = "";

	if (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) != (ssize_t)strlen(words) || strcmp(bytes, words) != 0)
		subject_fail(subject, "last words: %s, errno %d", bytes, errno);
	if (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) != 0 || get(fd, SOL_SOCKET, SO_ERROR) != 0)
		subject_fail(subject, "no end behind them, errno %d", errno);
	if (send(fd, "x", 1, MSG_NOSIGNAL) != -1 || errno != EPIPE)
		subject_fail(subject, "sent to one that has ended, errno %d", errno);
	getsockname(fd, (struct sockaddr *)&now, &size);
	if (now.sin_port != name->sin_port || now.sin_addr.s_addr != name->sin_addr.s_addr)
		subject_fail(subject, "its name has changed");
}

/* ---- epoll ---- */

static int watch(const struct subject *subject, const struct pair *pair, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};
	int epoll = epoll_create1(0);

	check(subject, epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, pair->one, &event) == 0, "watch");
	return epoll;
}

/* The data of the event that comes in time; 0: none. */
static uint64_t event_of(int epoll, int timeout_ms)
{
	struct epoll_event event = {0};

	return epoll_wait(epoll, &event, 1, timeout_ms) == 1 ? event.data.u64 : 0;
}

static void check_watches(const struct subject *subject, const int epolls[3], const struct pair *pair)
{
	struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 0x3333333333};
	char bytes[8];

	if (event_of(epolls[0], WAIT_MS) != 0x1111111111)
		subject_fail(subject, "no event by level");
	(void)event_of(epolls[1], 0); /* once more, as is promised for those that were carried */
	if (event_of(epolls[1], 0) != 0)
		subject_fail(subject, "an event by edge without an edge");
	if (event_of(epolls[2], 0) != 0)
		subject_fail(subject, "a second event of one that comes once");
	check(subject, send(pair->other, "2", 1, 0) == 1, "send");
	if (event_of(epolls[1], WAIT_MS) != 0x2222222222)
		subject_fail(subject, "no event by edge");
	epoll_ctl(epolls[2], EPOLL_CTL_MOD, pair->one, &again);
	if (event_of(epolls[2], WAIT_MS) != 0x3333333333)
		subject_fail(subject, "no event of one that was asked for again");
	check(subject, recv(pair->one, bytes, sizeof(bytes), 0) == 2 && event_of(epolls[0], 0) == 0, "all is read");
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct sockaddr_in bound_to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in found = {0};
	struct sockaddr_in ended_name = {0};
	struct sockaddr_in silent_name = {0};
	socklen_t size = sizeof(bound_to);
	int listener = make_listener(&subject);
	struct pair plain = connect_plainly(&subject, listener, 0);
	struct pair small = connect_to(&subject, listener, SMALL_SEGMENT);
	struct pair closing = make_closing(&subject, listener);
	struct pair last = make_last(&subject, listener);
	struct pair unheard = make_unheard(&subject, listener);
	int ended = make_ended(&subject, listener, "last words");
	int silent = make_ended(&subject, listener, "");
	int reset = make_reset(&subject, listener);
	struct pair watched = connect_to(&subject, listener, 0);
	const int epolls[3] = {
		watch(&subject, &watched, EPOLLIN, 0x1111111111),
		watch(&subject, &watched, EPOLLIN | EPOLLET, 0x2222222222),
		watch(&subject, &watched, EPOLLIN | EPOLLONESHOT, 0x3333333333),
	};
	int bound = socket(AF_INET, SOCK_STREAM, 0);
	const struct tcp_info plain_info = info_of(plain.one);
	const struct tcp_info small_info = info_of(small.one);

	getsockname(ended, (struct sockaddr *)&ended_name, &size);
	getsockname(silent, (struct sockaddr *)&silent_name, &size);
	check(&subject, bind(bound, (struct sockaddr *)&bound_to, sizeof(bound_to)) == 0, "bind");
	getsockname(bound, (struct sockaddr *)&bound_to, &size);
	if (plain_info.tcpi_options & (TCPI_OPT_TIMESTAMPS | TCPI_OPT_WSCALE | TCPI_OPT_SACK) ||
	    small_info.tcpi_snd_mss > SMALL_SEGMENT)
		subject_fail(&subject, "options %#x, segments of %u", plain_info.tcpi_options, small_info.tcpi_snd_mss);
	check(&subject, send(watched.other, "1", 1, 0) == 1, "send");
	if (event_of(epolls[1], WAIT_MS) == 0 || event_of(epolls[2], WAIT_MS) == 0)
		subject_fail(&subject, "no event");

	subject_ready(&subject);

	check_options(&subject, "plain", &plain, &plain_info);
	check_options(&subject, "small", &small, &small_info);
	check_watches(&subject, epolls, &watched);
	check_last(&subject, &last);
	check_unheard(&subject, &unheard);
	check_ended(&subject, ended, "last words", &ended_name);
	check_reset(&subject, reset);
	check_ended(&subject, silent, "", &silent_name);
	check_closing(&subject, &closing);
	getsockname(bound, (struct sockaddr *)&found, &size);
	if (found.sin_port != bound_to.sin_port || listen(bound, 1) != 0)
		subject_fail(&subject, "bound to port %u, not %u", ntohs(found.sin_port), ntohs(bound_to.sin_port));
	return subject_pass(&subject);
}
