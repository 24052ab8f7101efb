/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Which groups a datagram socket is a member of, and through which interface it sends to groups: ip(7), ipv6(7).
 *
 * No call lists the memberships of a socket. But /proc/net/igmp and igmp6 name the groups that anybody on this host is a
 * member of, and getsockopt(MCAST_MSFILTER) says of one group whether this socket is a member, and from whom it takes
 * packets: so it is asked about each of them.
 *
 * IP_MULTICAST_IF tells an address, not an interface: one that was chosen by its number alone can't be seen.
 */
#pragma once

#include "godwit-sockets.pb-c.h"
#include "objects/objects.h"

/* Into extras, which owns what it gets until multicast_free(). Runs frozen. */
MUST_USE struct error *multicast_save(const struct open_file *file, int fd, GodwitSocketEntry *extras);
void multicast_free(GodwitSocketEntry *extras);

/* For a socket that is bound. extras may be NULL. */
MUST_USE struct error *multicast_restore(int fd, const GodwitSocketEntry *extras);

/* Of open_files: the groups of this host, as they were read last. */
struct multicast_groups;
void multicast_groups_free(struct multicast_groups *groups);
