/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What the other side has said before it ended the connection is what the user reads, not that a write failed. */
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/unit.h"
#include "migrate/frames.h"
#include "util/alloc.h"

enum { CHUNK_BYTES = 1 << 20 };

static const uint8_t key[CHANNEL_KEY_BYTES] = {11, 33, 97};

/* What receive does with a frame that it can't take. */
__attribute__((noreturn)) static void refuse(struct channel *channel, bool says_why)
{
	auto_frame struct frame frame = {0};
	auto_error struct error *error = frame_receive(channel, CHANNEL_PATIENCE_MS, &frame);

	if (!error && says_why) {
		auto_error struct error *why = error_hint(error_new(0, "no room for it"), "make some");

		error = frame_send_answer(channel, why, NULL);
		channel_linger(channel);
	}
	channel_free(channel);
	_exit(error ? 1 : 0);
}

/* Writes until that fails. */
static struct error *send_all(struct channel *channel)
{
	static const uint8_t chunk[CHUNK_BYTES];

	for (;;)
		TRY(frame_send(channel, FRAME_IMAGE, chunk, sizeof(chunk)));
}

static void expect_reason(struct channel *channel, bool says_why)
{
	auto_error struct error *error = frame_reason(channel, send_all(channel));

	assert_non_null(error);
	auto_free char *line = error_line(error);
	if (says_why)
		assert_string_equal(line, "on the other host: no room for it");
	else
		assert_non_null(strstr(line, "write to the other host"));
}

static void wait_for(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void over_socket_pair(bool says_why)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid_t child = fork();
	if (child == 0) {
		close(pair[0]);
		refuse(channel_over_fds(pair[1], pair[1]), says_why);
	}
	close(pair[1]);
	auto_channel struct channel *channel = channel_over_fds(pair[0], pair[0]);
	expect_reason(channel, says_why);
	wait_for(child);
}

static void test_reason_is_read_from_a_socket_pair(void **state)
{
	(void)state;
	over_socket_pair(true);
}

static void test_without_a_reason_the_failure_stays(void **state)
{
	(void)state;
	over_socket_pair(false);
}

static void test_reason_is_read_over_tls(void **state)
{
	struct sockaddr_in name;
	socklen_t name_bytes = sizeof(name);
	struct channel *channel = NULL;
	int listener;

	(void)state;
	assert_ok(channel_listen("127.0.0.1:0", &listener));
	assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &name_bytes), 0);
	pid_t child = fork();
	if (child == 0) {
		auto_error struct error *error = channel_accept_tls(accept(listener, NULL, NULL), key, &channel);

		if (error)
			_exit(1);
		refuse(channel, true);
	}
	auto_free char *address = xformat("127.0.0.1:%d", ntohs(name.sin_port));
	assert_ok(channel_connect_tls(address, key, &channel));
	expect_reason(channel, true);
	channel_free(channel);
	close(listener);
	wait_for(child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reason_is_read_from_a_socket_pair),
		cmocka_unit_test(test_without_a_reason_the_failure_stays),
		cmocka_unit_test(test_reason_is_read_over_tls),
	};

	/* A write to who has ended is an error here, as in godwit. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
