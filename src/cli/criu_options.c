/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stddef.h>
#include <string.h>

#include "cli/criu_options.h"

#define LEAVE_OUT "leave it out: "
#define NOT_YET "godwit can't do that; docs/limits.md tells what it can"

static const struct {
	const char *name;
	const char *letter; /* NULL: it has none */
	const char *advice;
} options[] = {
	{"ext-unix-sk", "x", LEAVE_OUT "sockets to other programs are refused by name"},
	{"link-remap", NULL, LEAVE_OUT "a deleted file with another name is refused, with what to do about it"},
	{"skip-in-flight", NULL, LEAVE_OUT "godwit waits until the program has accepted the connections"},
	{"evasive-devices", NULL, NOT_YET},
	{"force-irmap", NULL, NOT_YET},
	{"irmap-scan-path", NULL, NOT_YET},
	{"tcp-close", NULL, NOT_YET},
	{"manage-cgroups", NULL, LEAVE_OUT "control groups are not in the images"},
	{"cgroup-root", NULL, NOT_YET},
	{"freeze-cgroup", NULL, LEAVE_OUT "godwit stops the program without one"},
	{"external", NULL, NOT_YET},
	{"ext-mount-map", "M", NOT_YET},
	{"root", "r", NOT_YET},
	{"inherit-fd", NULL, NOT_YET},
	{"join-ns", "J", NOT_YET},
	{"empty-ns", NULL, NOT_YET},
	{"restore-sibling", "S", NOT_YET},
	{"exec-cmd", NULL, NOT_YET},
	{"lazy-pages", NULL, "godwit migrate sends memory before the program is stopped, which pauses it for less"},
	{"page-server", NULL, "godwit migrate sends memory to the other host"},
	{"address", NULL, "godwit migrate sends memory to the other host"},
	{"port", NULL, "godwit migrate sends memory to the other host"},
	{"auto-dedup", NULL, NOT_YET},
	{"network-lock", NULL, LEAVE_OUT "godwit locks the program's connections by nftables, in process"},
	{"display-stats", NULL, "--json tells them"},
	{"log-pid", NULL, LEAVE_OUT "there is one log"},
	{"lsm-profile", NULL, NOT_YET},
	{"stream", NULL, "godwit migrate sends everything to the other host"},
	{"timeout", NULL, "godwit migrate --max-freeze bounds the pause"},
	{"unprivileged", NULL, NOT_YET},
	{"veth-pair", NULL, NOT_YET},
	{"weak-sysctls", NULL, NOT_YET},
};

const char *criu_option_advice(const char *name)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (strcmp(name, options[i].name) == 0 || (options[i].letter && strcmp(name, options[i].letter) == 0))
			return options[i].advice;
	return NULL;
}
