/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The network lock, on real connections between namespaces. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/unit.h"
#include "network/lock.h"
#include "network/ruleset.h"
#include "util/alloc.h"
#include "wire.h"

struct fixture {
	struct wire wire;
	int server; /* on a, port 4000 */
	int client; /* on client */
};

static struct sockaddr_in at(const char *address, uint16_t port)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};

	assert_int_equal(inet_pton(AF_INET, address, &name.sin_addr), 1);
	return name;
}

static int listen_at(const char *address, uint16_t port)
{
	struct sockaddr_in name = at(address, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

static void set_up_pair(struct fixture *fixture)
{
	struct sockaddr_in server = at("10.99.0.1", 4000);

	wire_enter(&fixture->wire, WIRE_A);
	int listener = listen_at("10.99.0.1", 4000);
	wire_enter(&fixture->wire, WIRE_CLIENT);
	fixture->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fixture->client, (struct sockaddr *)&server, sizeof(server)), 0);
	fixture->server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fixture->server >= 0);
	close(listener);
	wire_enter(&fixture->wire, WIRE_A);
}

static int set_up(void **state)
{
	set_up_pair(*state);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	close(fixture->server);
	close(fixture->client);
	return 0;
}

static struct flow flow_of(int fd)
{
	struct sockaddr_in local = {0};
	struct sockaddr_in remote = {0};
	socklen_t size = sizeof(local);
	struct flow flow = {.family = AF_INET};

	assert_int_equal(getsockname(fd, (struct sockaddr *)&local, &size), 0);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&remote, &size), 0);
	memcpy(flow.local_address, &local.sin_addr, 4);
	memcpy(flow.remote_address, &remote.sin_addr, 4);
	flow.local_port = local.sin_port;
	flow.remote_port = remote.sin_port;
	return flow;
}

static bool arrives(int from, int to, int timeout_ms)
{
	struct pollfd wait = {.fd = to, .events = POLLIN};
	char byte = 0;

	assert_int_equal(send(from, "x", 1, MSG_NOSIGNAL), 1);
	return poll(&wait, 1, timeout_ms) == 1 && recv(to, &byte, 1, 0) == 1 && byte == 'x';
}

static void wait_until_arrived(int to)
{
	struct pollfd wait = {.fd = to, .events = POLLIN};
	char byte;

	assert_int_equal(poll(&wait, 1, 30000), 1);
	assert_int_equal(recv(to, &byte, 1, 0), 1);
}

static void test_an_open_lock_drops_nothing(void **state)
{
	const struct fixture *fixture = *state;
	auto_net_lock struct net_lock *lock = NULL;
	uint64_t dropped = 77;

	assert_ok(net_lock_open(&lock));
	assert_true(arrives(fixture->client, fixture->server, 30000));
	assert_true(arrives(fixture->server, fixture->client, 30000));
	assert_ok(net_lock_dropped(lock, &dropped));
	assert_int_equal(dropped, 0);
}

static void test_an_engaged_lock_holds_packets_of_both_directions_until_it_is_released(void **state)
{
	const struct fixture *fixture = *state;
	auto_net_lock struct net_lock *lock = NULL;
	struct flow flow = flow_of(fixture->server);
	uint64_t dropped = 0;

	assert_ok(net_lock_open(&lock));
	assert_ok(net_lock_engage(lock, &flow, 1));
	assert_false(arrives(fixture->client, fixture->server, 50));
	assert_false(arrives(fixture->server, fixture->client, 50));
	assert_ok(net_lock_dropped(lock, &dropped));
	assert_true(dropped >= 2);
	assert_ok(net_lock_release(lock));
	wait_until_arrived(fixture->server);
	wait_until_arrived(fixture->client);
	assert_true(arrives(fixture->client, fixture->server, 30000));
}

static void test_a_lock_leaves_other_connections_alone(void **state)
{
	struct fixture *fixture = *state;
	struct fixture other = *fixture;
	auto_net_lock struct net_lock *lock = NULL;
	struct flow flow = flow_of(fixture->server);

	set_up_pair(&other);
	assert_ok(net_lock_open(&lock));
	assert_ok(net_lock_engage(lock, &flow, 1));
	assert_true(arrives(other.client, other.server, 30000));
	assert_true(arrives(other.server, other.client, 30000));
	close(other.client);
	close(other.server);
}

static void test_a_lock_works_on_ipv6(void **state)
{
	const struct fixture *fixture = *state;
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(4006)};
	auto_net_lock struct net_lock *lock = NULL;
	auto_fd int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct flow flow = {.family = AF_INET6, .local_port = htons(4006)};
	socklen_t size = sizeof(name);

	inet_pton(AF_INET6, "fd99::1", &name.sin6_addr);
	memcpy(flow.local_address, &name.sin6_addr, 16);
	assert_int_equal(bind(listener, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(listener, 1), 0);
	wire_enter(&fixture->wire, WIRE_CLIENT);
	auto_fd int client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&name, sizeof(name)), 0);
	auto_fd int server = accept4(listener, (struct sockaddr *)&name, &size, SOCK_CLOEXEC);
	memcpy(flow.remote_address, &name.sin6_addr, 16);
	flow.remote_port = name.sin6_port;

	wire_enter(&fixture->wire, WIRE_A);
	assert_true(arrives(client, server, 30000));
	assert_ok(net_lock_open(&lock));
	assert_ok(net_lock_engage(lock, &flow, 1));
	assert_false(arrives(client, server, 50));
	net_lock_free(take(lock));
	wait_until_arrived(server);
}

/* Also true if it was refused. */
static bool gets_an_answer(const struct fixture *fixture, uint16_t port)
{
	struct sockaddr_in name = at("10.99.0.1", port);

	wire_enter(&fixture->wire, WIRE_CLIENT);
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	(void)connect(fd, (struct sockaddr *)&name, sizeof(name)); /* EINPROGRESS */
	int ready = poll(&wait, 1, 100);
	wire_enter(&fixture->wire, WIRE_A);
	return ready == 1;
}

static void test_a_locked_listener_neither_accepts_nor_refuses(void **state)
{
	const struct fixture *fixture = *state;
	auto_net_lock struct net_lock *lock = NULL;
	auto_fd int here = listen_at("10.99.0.1", 4001);
	auto_fd int anywhere = listen_at("0.0.0.0", 4002);
	struct flow flows[] = {
		{.family = AF_INET, .is_listener = true, .local_address = {10, 99, 0, 1}, .local_port = htons(4001)},
		{.family = AF_INET, .is_listener = true, .local_port = htons(4002)},
		/* Nobody listens there: unlocked, a connection is refused. */
		{.family = AF_INET, .is_listener = true, .local_port = htons(4003)},
	};

	assert_true(gets_an_answer(fixture, 4001));
	assert_true(gets_an_answer(fixture, 4002));
	assert_true(gets_an_answer(fixture, 4003));
	assert_ok(net_lock_open(&lock));
	assert_ok(net_lock_engage(lock, flows, 3));
	assert_false(gets_an_answer(fixture, 4001));
	assert_false(gets_an_answer(fixture, 4002));
	assert_false(gets_an_answer(fixture, 4003));
	assert_true(gets_an_answer(fixture, 4000));
	assert_true(here >= 0 && anywhere >= 0);
}

static void test_a_lock_goes_when_its_process_is_killed(void **state)
{
	const struct fixture *fixture = *state;
	struct flow flow = flow_of(fixture->server);
	int ready[2];
	char byte;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t child = fork();
	if (child == 0) {
		auto_net_lock struct net_lock *lock = NULL;
		auto_error struct error *error = net_lock_open(&lock);

		if (error || net_lock_engage(lock, &flow, 1) || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_false(arrives(fixture->client, fixture->server, 50));
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	wait_until_arrived(fixture->server);
}

static void test_many_connections_are_locked_in_one_step(void **state)
{
	enum { COUNT = 10000 };
	auto_net_lock struct net_lock *lock = NULL;
	auto_free struct flow *flows = xalloc(COUNT * sizeof(*flows));
	static const int counts[] = {1, 10, 100, 1000, COUNT};

	(void)state;
	for (int i = 0; i < COUNT; i++)
		flows[i] = (struct flow){.family = i % 2 ? AF_INET : AF_INET6,
		                         .remote_address = {10, 1, (uint8_t)(i >> 8), (uint8_t)i},
		                         .local_port = htons(80),
		                         .remote_port = htons((uint16_t)i)};
	assert_ok(net_lock_open(&lock));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		double start = wire_now_us();
		assert_ok(net_lock_engage(lock, flows, (size_t)counts[i]));
		double locked = wire_now_us();
		assert_ok(net_lock_release(lock));
		printf("%5d connections: locked in %.0f us, released in %.0f us\n", counts[i], locked - start,
		       wire_now_us() - locked);
	}
}

/* proc(5): field 22. The name of a test has no spaces. */
static struct error *keep(const struct lock_holder *holder, const struct flow *flows, size_t count)
{
	auto_net_lock struct net_lock *via = NULL;

	TRY(net_lock_open(&via));
	return kept_lock_put(via, holder, flows, count);
}

static struct error *unlock(const struct flow *flows, size_t count)
{
	auto_net_lock struct net_lock *via = NULL;

	TRY(net_lock_open(&via));
	return kept_locks_unlock(via, flows, count);
}

static struct lock_holder own_holder(void)
{
	struct lock_holder holder = {.pid = getpid()};
	char text[1024] = "";
	FILE *file = fopen("/proc/self/stat", "re");
	char *rest = text;

	assert_non_null(file);
	assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	for (int n = 1; n < 22; n++)
		strsep(&rest, " ");
	holder.start_time = strtoull(rest, NULL, 10);
	return holder;
}

static void test_a_kept_lock_stays_until_it_is_removed(void **state)
{
	const struct fixture *fixture = *state;
	struct flow flow = flow_of(fixture->server);
	struct lock_holder holder = own_holder();
	auto_free struct kept_lock *locks = NULL;
	size_t count = 0;
	size_t removed = 77;

	assert_ok(keep(&holder, &flow, 1));
	assert_ok(keep(&holder, &flow, 1)); /* replaces it */
	assert_false(arrives(fixture->client, fixture->server, 50));
	assert_ok(kept_locks_sweep(&removed));
	assert_int_equal(removed, 0);
	assert_ok(kept_locks_list(&locks, &count));
	assert_int_equal(count, 1);
	assert_int_equal(locks[0].holder.pid, holder.pid);
	assert_int_equal(locks[0].holder.start_time, holder.start_time);
	assert_false(locks[0].is_stale);
	assert_true(locks[0].dropped_packets >= 1);
	assert_ok(kept_lock_remove(&holder));
	wait_until_arrived(fixture->server);
	assert_ok(kept_lock_remove(&holder)); /* none is no error */
}

static void test_a_kept_lock_of_a_task_that_is_gone_is_swept(void **state)
{
	const struct fixture *fixture = *state;
	struct flow flow = flow_of(fixture->server);
	struct lock_holder alive = own_holder();
	struct lock_holder reused = {.pid = alive.pid, .start_time = alive.start_time - 1};
	size_t removed = 0;
	size_t count = 0;
	auto_free struct kept_lock *locks = NULL;

	assert_ok(keep(&alive, &flow, 1));
	assert_ok(keep(&reused, &flow, 1));
	wire_run("nft 'add table inet godwit-12-34; add table inet godwit-own-5; add table inet other'");
	assert_ok(kept_locks_sweep(&removed));
	assert_int_equal(removed, 1);
	assert_ok(kept_locks_list(&locks, &count));
	assert_int_equal(count, 1);
	wire_run("nft 'delete table inet godwit-12-34; delete table inet godwit-own-5; delete table inet other'");
	assert_ok(kept_lock_remove(&alive));
}

static void test_flows_are_unlocked_wherever_they_are_kept(void **state)
{
	const struct fixture *fixture = *state;
	struct flow flows[] = {
		flow_of(fixture->server),
		{.family = AF_INET6, .local_port = 1, .remote_port = 2, .remote_address = {1}},
		{.family = AF_INET, .is_listener = true, .local_port = 3},
	};
	struct lock_holder holder = own_holder();
	struct lock_holder other = {.pid = holder.pid, .start_time = 1};
	auto_free struct kept_lock *locks = NULL;
	size_t count = 0;

	assert_ok(keep(&holder, flows, 3));
	assert_ok(keep(&other, flows, 1));
	/* What isn't part of an IPv4 listener must not count. */
	flows[2].remote_port = 99;
	flows[2].local_address[15] = 99;
	assert_false(arrives(fixture->client, fixture->server, 50));
	assert_ok(unlock(flows, 1));
	wait_until_arrived(fixture->server);
	assert_ok(kept_locks_list(&locks, &count));
	assert_int_equal(count, 1); /* the one that has more */
	assert_int_equal(locks[0].holder.start_time, holder.start_time);
	free(take(locks));
	assert_ok(unlock(flows, 3));
	assert_ok(kept_locks_list(&locks, &count));
	assert_int_equal(count, 0);
}

struct noted {
	struct ruleset_note wanted;
	int found;
};

static struct error *look_for_note(const char *name, const struct ruleset_note *note, void *context)
{
	struct noted *noted = context;

	noted->found += strcmp(name, "godwit-noted") == 0 && note->namespace_id == noted->wanted.namespace_id &&
	                note->made_s == noted->wanted.made_s;
	return NULL;
}

/* The first bytes of a note were taken for a comment without an end where a namespace's number ends in 00. */
static void test_a_note_is_none_of_nft(void **state)
{
	struct noted noted = {.wanted = {.namespace_id = 0xf0000200, .made_s = 0x1234567800}};
	const struct ruleset_table table = {.name = "godwit-noted", .note = noted.wanted};
	auto_ruleset_batch struct ruleset_batch *batch = ruleset_batch_new();
	auto_netlink struct netlink *netlink = NULL;

	(void)state;
	assert_ok(netlink_open(NETLINK_NETFILTER, &netlink));
	ruleset_add_table(batch, &table);
	assert_ok(ruleset_commit(batch, netlink));
	wire_run("nft list ruleset | grep -q godwit-noted");
	assert_ok(ruleset_tables(netlink, look_for_note, &noted));
	assert_int_equal(noted.found, 1);
	ruleset_delete_table(batch, table.name);
	assert_ok(ruleset_commit(batch, netlink));
}

#define CONNECTED(test) cmocka_unit_test_prestate_setup_teardown(test, set_up, tear_down, &fixture)

int main(void)
{
	struct fixture fixture;
	const struct CMUnitTest tests[] = {
		CONNECTED(test_an_open_lock_drops_nothing),
		CONNECTED(test_an_engaged_lock_holds_packets_of_both_directions_until_it_is_released),
		CONNECTED(test_a_lock_leaves_other_connections_alone),
		CONNECTED(test_a_lock_works_on_ipv6),
		CONNECTED(test_a_locked_listener_neither_accepts_nor_refuses),
		CONNECTED(test_a_lock_goes_when_its_process_is_killed),
		cmocka_unit_test(test_many_connections_are_locked_in_one_step),
		CONNECTED(test_a_kept_lock_stays_until_it_is_removed),
		CONNECTED(test_a_kept_lock_of_a_task_that_is_gone_is_swept),
		CONNECTED(test_flows_are_unlocked_wherever_they_are_kept),
		CONNECTED(test_a_note_is_none_of_nft),
	};

	wire_open(&fixture.wire);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
