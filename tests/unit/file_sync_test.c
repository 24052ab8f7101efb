/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Which file systems other hosts may see, too. */
#include <linux/magic.h>

#include "checkpoint/save/file_sync.h"
#include "lib/unit.h"

static void test_file_systems_of_the_network_are_remote(void **state)
{
	static const uint64_t types[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,  CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
	                                 AFS_SUPER_MAGIC, CEPH_SUPER_MAGIC, CODA_SUPER_MAGIC, NCP_SUPER_MAGIC,
	                                 V9FS_MAGIC,      FUSE_SUPER_MAGIC, OCFS2_SUPER_MAGIC};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_true(file_sync_is_remote(types[i]));
}

/* statfs(2) may give it with its sign: f_type is a long. */
static void test_a_type_with_its_highest_bit_is_known(void **state)
{
	(void)state;
	assert_true(file_sync_is_remote((uint64_t)(int32_t)CIFS_SUPER_MAGIC));
}

static void test_local_ones_are_not(void **state)
{
	static const uint64_t types[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,       BTRFS_SUPER_MAGIC, TMPFS_MAGIC,
	                                 PROC_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, HUGETLBFS_MAGIC,   0};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_false(file_sync_is_remote(types[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_systems_of_the_network_are_remote),
		cmocka_unit_test(test_a_type_with_its_highest_bit_is_known),
		cmocka_unit_test(test_local_ones_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
