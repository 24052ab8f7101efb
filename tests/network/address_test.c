/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Addresses removed, put back, added and announced, between namespaces. */

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/unit.h"
#include "network/address.h"
#include "wire.h"

static struct ip_address ip(const char *text)
{
	struct ip_address ip;

	assert_true(ip_address_parse(text, &ip));
	return ip;
}

/* What ip(8) says of an interface, without what counts down. */
static char *shown(const char *what)
{
	char *text = calloc(1, 65536);
	FILE *pipe = popen(what, "re"); /* NOLINT(cert-env33-c): our own words */

	assert_non_null(pipe);
	assert_true(fread(text, 1, 65535, pipe) > 0);
	pclose(pipe);
	return text;
}

static const char show_all[] = "ip -d address show dev eth0 | sed 's/ nodad//' && ip route show table all dev eth0 && "
			       "ip -6 route show dev eth0 | sort";

static bool can_bind(const char *text)
{
	struct ip_address address = ip(text);
	struct sockaddr_in ipv4 = {.sin_family = AF_INET};
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
	auto_fd int fd = socket(address.family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(&ipv4.sin_addr, address.bytes, 4);
	memcpy(&ipv6.sin6_addr, address.bytes, 16);
	if (address.family == AF_INET)
		return bind(fd, (struct sockaddr *)&ipv4, sizeof(ipv4)) == 0;
	return bind(fd, (struct sockaddr *)&ipv6, sizeof(ipv6)) == 0;
}

static void test_an_address_is_found_with_its_prefix_and_interface(void **state)
{
	struct ip_address wanted = ip("10.99.0.1");
	struct ip_address absent = ip("10.99.0.77");
	struct interface_address found;

	wire_enter(*state, WIRE_A);
	assert_ok(address_find(&wanted, &found));
	assert_int_equal(found.prefix_bits, 24);
	assert_int_equal(found.interface_index, if_nametoindex("eth0"));
	auto_error struct error *error = address_find(&absent, &found);
	assert_non_null(error);
	assert_int_equal(error_errnum(error), EADDRNOTAVAIL);
}

static void test_an_address_belongs_where_its_subnet_is(void **state)
{
	struct ip_address near = ip("fd99::abcd");
	struct ip_address far = ip("10.98.0.1");
	struct interface_address place;

	wire_enter(*state, WIRE_B);
	assert_ok(address_place(&near, &place));
	assert_int_equal(place.prefix_bits, 64);
	assert_int_equal(place.interface_index, if_nametoindex("eth0"));
	assert_memory_equal(place.ip.bytes, near.bytes, 16);
	auto_error struct error *error = address_place(&far, &place);
	assert_non_null(error);
	assert_int_equal(error_errnum(error), EADDRNOTAVAIL);
}

static void test_removing_a_primary_address_leaves_its_secondaries(void **state)
{
	struct ip_address primary = ip("10.99.0.1");
	auto_address_note struct address_note *note = NULL;

	wire_enter(*state, WIRE_A);
	wire_run("ip address add 10.99.0.11/24 dev eth0 label eth0:x && ip address add 10.99.0.12/24 dev eth0");
	wire_run("ip route add default via 10.99.0.254 && ip route add 10.50.0.0/16 dev eth0 src 10.99.0.1");
	auto_free char *before = shown(show_all);
	assert_ok(address_note(&primary, &note));
	double start = wire_now_us();
	assert_ok(address_remove(note));
	printf("removed in %.0f us\n", wire_now_us() - start);
	assert_false(can_bind("10.99.0.1"));
	assert_true(can_bind("10.99.0.11"));
	assert_true(can_bind("10.99.0.12"));

	start = wire_now_us();
	assert_ok(address_put_back(note));
	printf("put back in %.0f us\n", wire_now_us() - start);
	assert_true(can_bind("10.99.0.1"));
	auto_free char *after = shown(show_all);
	assert_string_equal(before, after);
	wire_run("ip address delete 10.99.0.11/24 dev eth0 && ip address delete 10.99.0.12/24 dev eth0");
	wire_run("ip route flush 10.50.0.0/16 && ip route delete default");
}

static void test_putting_back_the_only_address_brings_its_routes_back(void **state)
{
	struct ip_address only = ip("10.99.0.1");
	auto_address_note struct address_note *note = NULL;

	wire_enter(*state, WIRE_A);
	wire_run("ip route add default via 10.99.0.254 && ip route add 10.50.0.0/16 dev eth0 src 10.99.0.1 metric 7");
	auto_free char *before = shown(show_all);
	assert_ok(address_note(&only, &note));
	assert_ok(address_remove(note));
	assert_ok(address_put_back(note));
	assert_ok(address_put_back(note)); /* once more does no harm */
	auto_free char *after = shown(show_all);
	assert_string_equal(before, after);
	wire_run("ip route flush 10.50.0.0/16 && ip route delete default");
}

static void test_an_ipv6_address_comes_back_usable_at_once(void **state)
{
	struct ip_address address = ip("fd99::55");
	auto_address_note struct address_note *note = NULL;

	wire_enter(*state, WIRE_A);
	/* An address that has been checked long ago, without IFA_F_NODAD. */
	wire_run("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad && ip address add fd99::55/64 dev eth0 && "
	         "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad");
	assert_ok(address_note(&address, &note));
	assert_ok(address_remove(note));
	assert_false(can_bind("fd99::55"));
	assert_ok(address_put_back(note));
	assert_true(can_bind("fd99::55"));
	wire_run("ip address delete fd99::55/64 dev eth0");
}

static void test_an_added_address_is_usable_at_once_and_deleted_again(void **state)
{
	struct interface_address address = {.ip = ip("fd99::77"), .prefix_bits = 64};

	wire_enter(*state, WIRE_B);
	address.interface_index = (int)if_nametoindex("eth0");
	assert_ok(address_add(&address));
	assert_ok(address_add(&address));
	assert_true(can_bind("fd99::77"));
	assert_ok(address_delete(&address));
	assert_ok(address_delete(&address));
	assert_false(can_bind("fd99::77"));
}

/* Nobody listens: it is refused, which takes a packet each way. */
static void knock(const struct ip_address *address)
{
	struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(9)};
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	auto_fd int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(&ipv4.sin_addr, address->bytes, 4);
	memcpy(&ipv6.sin6_addr, address->bytes, 16);
	int r = address->family == AF_INET ? connect(fd, (struct sockaddr *)&ipv4, sizeof(ipv4))
	                                   : connect(fd, (struct sockaddr *)&ipv6, sizeof(ipv6));
	assert_int_equal(r, -1);
	assert_int_equal(errno, ECONNREFUSED);
}

/* The neighbour's table says where the address is, without asking. */
static void check_moves(const struct wire *wire, const char *text)
{
	struct ip_address address_ip = ip(text);
	auto_address_note struct address_note *note = NULL;

	wire_enter(wire, WIRE_CLIENT);
	knock(&address_ip);
	wire_enter(wire, WIRE_A);
	assert_ok(address_note(&address_ip, &note));
	assert_ok(address_remove(note));
	struct interface_address address = *address_noted(note);

	wire_enter(wire, WIRE_B);
	address.interface_index = (int)if_nametoindex("eth0");
	assert_ok(address_add(&address));
	assert_ok(address_announce(&address));
	auto_free char *there = shown("ip -o link show dev eth0 | sed 's/.*ether //; s/ .*//'");
	there[strcspn(there, "\n")] = '\0';
	wire_enter(wire, WIRE_CLIENT);
	wire_run("for i in $(seq 1000); do ip neighbor show %s | grep -q %s && exit 0; sleep 0.01; done; "
	         "ip neighbor; exit 1",
	         text, there);

	wire_enter(wire, WIRE_B);
	assert_ok(address_delete(&address));
	wire_enter(wire, WIRE_A);
	assert_ok(address_put_back(note));
	assert_ok(address_announce(address_noted(note)));
}

static void test_neighbours_learn_where_an_ipv4_address_went(void **state)
{
	check_moves(*state, "10.99.0.1");
}

static void test_neighbours_learn_where_an_ipv6_address_went(void **state)
{
	check_moves(*state, "fd99::1");
}

static void test_announcing_on_loopback_does_nothing(void **state)
{
	struct interface_address address = {.ip = ip("127.0.0.1"), .prefix_bits = 8};

	wire_enter(*state, WIRE_A);
	address.interface_index = (int)if_nametoindex("lo");
	assert_ok(address_announce(&address));
	address.ip = ip("::1");
	assert_ok(address_announce(&address));
}

int main(void)
{
	struct wire wire;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_an_address_is_found_with_its_prefix_and_interface, &wire),
		cmocka_unit_test_prestate(test_an_address_belongs_where_its_subnet_is, &wire),
		cmocka_unit_test_prestate(test_removing_a_primary_address_leaves_its_secondaries, &wire),
		cmocka_unit_test_prestate(test_putting_back_the_only_address_brings_its_routes_back, &wire),
		cmocka_unit_test_prestate(test_an_ipv6_address_comes_back_usable_at_once, &wire),
		cmocka_unit_test_prestate(test_an_added_address_is_usable_at_once_and_deleted_again, &wire),
		cmocka_unit_test_prestate(test_neighbours_learn_where_an_ipv4_address_went, &wire),
		cmocka_unit_test_prestate(test_neighbours_learn_where_an_ipv6_address_went, &wire),
		cmocka_unit_test_prestate(test_announcing_on_loopback_does_nothing, &wire),
	};

	wire_open(&wire);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
