/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A lab: hosts made of namespaces on one machine, joined by a bridge, with a script running beside them.
 *
 *     machine ── lab (PID, mount, network, UTS, IPC) ── a, b, client (each the same again)
 *                 bridge, /run/shared, the script        eth0: 10.77.0.1, .2, .3 and fd77::1, ::2, ::3
 *
 * The lab's processes live in a PID namespace of their own whose init dies with the process that asked for it
 * (PR_SET_PDEATHSIG), and the hosts' PID namespaces lie inside of it: so nothing is left, whoever is killed and how.
 * Network devices and mounts go with their namespaces. Nothing has a name that a second lab could collide with.
 *
 * Each host has its own /proc, /sys, /run, /dev/shm, /dev/pts and /var/lib/godwit, and numbers its processes from
 * another start than its neighbours, so that a PID of one is free on the other. The rest of the file system is the
 * machine's and the same everywhere; /run/shared is a tmpfs that all hosts and the script share.
 */
#pragma once

#define LAB_SHARED "/run/shared"
#define LAB_HOSTS_MAX 3

/*
 * Runs argv beside the first host_count hosts (without any network between them if there is only one). Returns the
 * exit status for a shell. Exits with 77 (meson: skipped) where the caller isn't root.
 */
int lab_run(unsigned int host_count, char **argv);
