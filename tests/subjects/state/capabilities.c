/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * capabilities(7) of threads: all five sets, securebits, keepcaps, no_new_privs; one thread has none at all.
 */
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "crew.h"

#define BIT(cap) (UINT64_C(1) << (cap))

struct privileges {
	uint64_t inheritable, permitted, effective, ambient;
	uint64_t dropped; /* from the bounding set */
	int securebits;
	int no_new_privs;
};

/* The runner is root without CAP_SYS_RESOURCE. Above 31 there are some, too. */
static const struct privileges wanted[CREW] = {
	{
		.inheritable = BIT(CAP_NET_RAW) | BIT(CAP_CHOWN) | BIT(CAP_CHECKPOINT_RESTORE),
		.permitted = BIT(CAP_NET_RAW) | BIT(CAP_SETPCAP) | BIT(CAP_CHECKPOINT_RESTORE) | BIT(CAP_KILL),
		.effective = BIT(CAP_SETPCAP) | BIT(CAP_KILL),
		.ambient = BIT(CAP_NET_RAW) | BIT(CAP_CHECKPOINT_RESTORE),
		.dropped = BIT(CAP_SYS_MODULE) | BIT(CAP_BPF),
		.securebits = SECBIT_KEEP_CAPS | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED,
		.no_new_privs = 1,
	},
	{.permitted = BIT(CAP_SYS_PTRACE) | BIT(CAP_SETPCAP) | BIT(CAP_PERFMON),
         .effective = BIT(CAP_PERFMON),
         .securebits = SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS_LOCKED},
	{.no_new_privs = 1, .dropped = BIT(CAP_MKNOD), .securebits = SECBIT_NO_CAP_AMBIENT_RAISE},
	{.inheritable = BIT(CAP_AUDIT_READ), .permitted = BIT(CAP_AUDIT_READ), .ambient = BIT(CAP_AUDIT_READ)},
};

static uint64_t bounding_at_start;

static void set_sets(const struct subject *subject, uint64_t inheritable, uint64_t permitted, uint64_t effective)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct data[2] = {
		{(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
	};

	if (syscall(SYS_capset, &header, data) != 0)
		subject_fail(subject, "capset: errno %d", errno);
}

static struct privileges look(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	struct privileges now = {
		.securebits = prctl(PR_GET_SECUREBITS),
		.no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
	};

	syscall(SYS_capget, &header, data);
	now.inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
	now.permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	now.effective = data[0].effective | (uint64_t)data[1].effective << 32;
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
			now.ambient |= BIT(cap);
		if (prctl(PR_CAPBSET_READ, cap) == 0)
			now.dropped |= BIT(cap);
	}
	return now;
}

static void set_up(const struct subject *subject, int number)
{
	const struct privileges *want = &wanted[number];
	uint64_t all = look().permitted;

	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (want->dropped & BIT(cap))
			prctl(PR_CAPBSET_DROP, cap);
	set_sets(subject, want->inheritable, all, all);
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if ((want->ambient & BIT(cap)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) != 0)
			subject_fail(subject, "ambient capability %d: errno %d", cap, errno);
	if (prctl(PR_SET_SECUREBITS, want->securebits) != 0)
		subject_fail(subject, "securebits: errno %d", errno);
	if (want->no_new_privs)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	set_sets(subject, want->inheritable, want->permitted, want->effective);
}

static void check(const struct subject *subject, int number)
{
	const struct privileges *want = &wanted[number];
	const struct privileges now = look();

	if (now.inheritable != want->inheritable || now.permitted != want->permitted ||
	    now.effective != want->effective || now.ambient != want->ambient)
		subject_fail(subject, "thread %d: inheritable %#jx, permitted %#jx, effective %#jx, ambient %#jx",
		             number, (uintmax_t)now.inheritable, (uintmax_t)now.permitted, (uintmax_t)now.effective,
		             (uintmax_t)now.ambient);
	if (now.dropped != (want->dropped | bounding_at_start))
		subject_fail(subject, "thread %d: %#jx are not in the bounding set", number, (uintmax_t)now.dropped);
	if (now.securebits != want->securebits || now.no_new_privs != want->no_new_privs)
		subject_fail(subject, "thread %d: securebits %#x, no_new_privs %d", number, (unsigned)now.securebits,
		             now.no_new_privs);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	bounding_at_start = look().dropped;
	return crew_main(argc, argv, &job);
}
