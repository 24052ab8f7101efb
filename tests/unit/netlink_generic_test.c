/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Numbers of NETLINK_GENERIC: those of this host are taken from it, and what another host would say is made up. */
#include "lib/unit.h"
#include "objects/netlink_generic.h"

/* Group 16 is notify of nlctrl, on all hosts. */
static const uint32_t groups[] = {1U << 15};

static void save(GodwitSocketEntry *extras)
{
	godwit_socket_entry__init(extras);
	assert_ok(netlink_generic_save(groups, 1, extras));
	assert_true(extras->n_families > 0);
}

static void test_the_same_host_has_the_same_numbers(void **state)
{
	GodwitSocketEntry extras;

	(void)state;
	save(&extras);
	assert_ok(netlink_generic_check(&extras));
	netlink_generic_free(&extras);
}

static void test_only_groups_that_are_listened_to_are_named(void **state)
{
	GodwitSocketEntry extras;

	(void)state;
	save(&extras);
	assert_int_equal(extras.n_groups, 1);
	assert_string_equal(extras.groups[0]->name, "nlctrl/notify");
	netlink_generic_free(&extras);
}

static void test_a_family_with_another_number_is_refused(void **state)
{
	GodwitSocketEntry extras;

	(void)state;
	save(&extras);
	extras.families[0]->number += 1000;
	assert_error(netlink_generic_check(&extras), 0, "for the program, but here");
	netlink_generic_free(&extras);
}

static void test_a_number_of_another_group_is_refused(void **state)
{
	GodwitSocketEntry extras;

	(void)state;
	save(&extras);
	extras.groups[0]->name[0] = 'N';
	assert_error(netlink_generic_check(&extras), 0, "for the program, but here");
	netlink_generic_free(&extras);
}

static void test_a_family_that_is_not_here_does_no_harm(void **state)
{
	GodwitSocketEntry extras;

	(void)state;
	save(&extras);
	extras.families[0]->name[0] = 'N';
	extras.families[0]->number += 1000;
	assert_ok(netlink_generic_check(&extras));
	netlink_generic_free(&extras);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_host_has_the_same_numbers),
		cmocka_unit_test(test_only_groups_that_are_listened_to_are_named),
		cmocka_unit_test(test_a_family_with_another_number_is_refused),
		cmocka_unit_test(test_a_number_of_another_group_is_refused),
		cmocka_unit_test(test_a_family_that_is_not_here_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
