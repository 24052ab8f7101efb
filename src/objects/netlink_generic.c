/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/genetlink.h>
#include <stdlib.h>
#include <string.h>

#include "objects/netlink_generic.h"
#include "util/alloc.h"
#include "util/netlink.h"

enum { REQUEST_BYTES = 64 };

struct names {
	GodwitNetlinkName **list; /* owned, with what they point to */
	size_t count;
};

/* All that this host has. */
struct registry {
	struct names families, groups;
};

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++) {
		free(names->list[i]->name);
		free(names->list[i]);
	}
	free(names->list);
}

static void registry_free(struct registry *registry)
{
	names_free(&registry->families);
	names_free(&registry->groups);
}
#define auto_registry __attribute__((cleanup(registry_free)))

/* Takes name over. */
static void add(struct names *names, char *name, uint32_t number)
{
	GodwitNetlinkName *added = xalloc(sizeof(*added));

	godwit_netlink_name__init(added);
	added->name = name;
	added->number = number;
	names->list = xrealloc(names->list, (names->count + 1) * sizeof(GodwitNetlinkName *));
	names->list[names->count++] = added;
}

/* ---- What the kernel tells ---- */

static const char *text_of(const struct nlattr *attribute)
{
	return attribute && mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0 ? mnl_attr_get_str(attribute) : NULL;
}

static void take_groups(const struct nlattr *list, const char *family, struct names *groups)
{
	for (const struct nlattr *group = netlink_next_nested(list, NULL); group;
	     group = netlink_next_nested(list, group)) {
		const char *name = text_of(netlink_nested(group, CTRL_ATTR_MCAST_GRP_NAME));
		const struct nlattr *number = netlink_nested(group, CTRL_ATTR_MCAST_GRP_ID);

		if (name && number && mnl_attr_validate(number, MNL_TYPE_U32) >= 0)
			add(groups, xformat("%s/%s", family, name), mnl_attr_get_u32(number));
	}
}

static struct error *take_family(const struct nlmsghdr *answer, void *context)
{
	struct registry *registry = context;
	const size_t header_bytes = sizeof(struct genlmsghdr);
	const char *name = text_of(netlink_attribute(answer, header_bytes, CTRL_ATTR_FAMILY_NAME));
	const struct nlattr *number = netlink_attribute(answer, header_bytes, CTRL_ATTR_FAMILY_ID);
	const struct nlattr *groups = netlink_attribute(answer, header_bytes, CTRL_ATTR_MCAST_GROUPS);

	if (!name || !number || mnl_attr_validate(number, MNL_TYPE_U16) < 0)
		return error_new(EBADMSG, "family of NETLINK_GENERIC without a name or number");
	add(&registry->families, xformat("%s", name), mnl_attr_get_u16(number));
	if (groups)
		take_groups(groups, name, &registry->groups);
	return NULL;
}

static struct error *read_registry(struct registry *registry)
{
	char buffer[REQUEST_BYTES] = {0};
	auto_netlink struct netlink *netlink = NULL;

	TRY(netlink_open(NETLINK_GENERIC, &netlink));
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	request->nlmsg_type = GENL_ID_CTRL;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->nlmsg_seq = netlink_next_sequence(netlink);
	struct genlmsghdr *header = mnl_nlmsg_put_extra_header(request, sizeof(*header));
	header->cmd = CTRL_CMD_GETFAMILY;
	header->version = 2;
	return error_wrap(netlink_dump(netlink, request, take_family, registry), "families of NETLINK_GENERIC");
}

/* ---- Saving ---- */

static bool is_member(const uint32_t *groups, size_t word_count, uint32_t number)
{
	return number > 0 && (number - 1) / 32 < word_count && groups[(number - 1) / 32] >> (number - 1) % 32 & 1;
}

struct error *netlink_generic_save(const uint32_t *groups, size_t word_count, GodwitSocketEntry *extras)
{
	auto_registry struct registry registry = {0};
	struct names joined = {0};

	TRY(read_registry(&registry));
	for (size_t i = 0; i < registry.groups.count; i++) {
		const GodwitNetlinkName *group = registry.groups.list[i];

		if (is_member(groups, word_count, group->number))
			add(&joined, xformat("%s", group->name), group->number);
	}
	extras->n_families = registry.families.count;
	extras->families = take(registry.families.list);
	registry.families.count = 0;
	extras->n_groups = joined.count;
	extras->groups = joined.list;
	return NULL;
}

void netlink_generic_free(GodwitSocketEntry *extras)
{
	struct names families = {.list = extras->families, .count = extras->n_families};
	struct names groups = {.list = extras->groups, .count = extras->n_groups};

	names_free(&families);
	names_free(&groups);
	extras->families = NULL;
	extras->groups = NULL;
	extras->n_families = 0;
	extras->n_groups = 0;
}

/* ---- On the next host ---- */

/* One that this host doesn't have does no harm: whoever asks for it is told so. */
static struct error *compare(const GodwitNetlinkName *there, const struct names *here)
{
	for (size_t i = 0; i < here->count; i++) {
		const GodwitNetlinkName *name = here->list[i];

		if ((strcmp(name->name, there->name) == 0) != (name->number == there->number))
			return error_new(0, "generic netlink: %s is number %u for the program, but here %s is %u",
			                 there->name, there->number, name->name, name->number);
	}
	return NULL;
}

static struct error *compare_all(GodwitNetlinkName *const *there, size_t count, const struct names *here)
{
	for (size_t i = 0; i < count; i++)
		TRY(compare(there[i], here));
	return NULL;
}

struct error *netlink_generic_check(const GodwitSocketEntry *extras)
{
	auto_registry struct registry registry = {0};

	if (!extras || extras->n_families == 0)
		return NULL;
	TRY(read_registry(&registry));
	struct error *error = compare_all(extras->families, extras->n_families, &registry.families);
	if (!error)
		error = compare_all(extras->groups, extras->n_groups, &registry.groups);
	return error_hint(error, "the same modules have to be loaded on both hosts, in the same order");
}
