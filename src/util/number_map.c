/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <search.h>

#include "util/alloc.h"
#include "util/number_map.h"

struct pair {
	uint64_t first, second;
	uint64_t value;
};

/* The C library's balanced tree. */
struct number_map {
	void *root;
};

static int compare(const void *left, const void *right)
{
	const struct pair *a = left;
	const struct pair *b = right;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	if (a->second != b->second)
		return a->second < b->second ? -1 : 1;
	return 0;
}

/* The tree hands out its nodes, whose first member is our pointer: tsearch(3). */
static struct pair *node_pair(void *node)
{
	return *(struct pair **)node;
}

struct number_map *number_map_new(void)
{
	return xalloc(sizeof(struct number_map));
}

void number_map_free(struct number_map *map)
{
	if (!map)
		return;
	tdestroy(map->root, free);
	free(map);
}

bool number_map_add(struct number_map *map, uint64_t first, uint64_t second, uint64_t value)
{
	struct pair *pair = xalloc(sizeof(*pair));

	*pair = (struct pair){.first = first, .second = second, .value = value};
	void *node = tsearch(pair, &map->root, compare);
	if (!node)
		abort(); /* no memory: as xalloc() */
	if (node_pair(node) == pair)
		return true;
	free(pair);
	return false;
}

bool number_map_find(const struct number_map *map, uint64_t first, uint64_t second, uint64_t *ret_value)
{
	const struct pair key = {.first = first, .second = second};
	void *node = tfind(&key, &map->root, compare);

	if (!node)
		return false;
	*ret_value = node_pair(node)->value;
	return true;
}

static void take_out(struct number_map *map, struct pair *pair, uint64_t *ret_value)
{
	*ret_value = pair->value;
	tdelete(pair, &map->root, compare);
	free(pair);
}

bool number_map_remove(struct number_map *map, uint64_t first, uint64_t second, uint64_t *ret_value)
{
	const struct pair key = {.first = first, .second = second};
	void *node = tfind(&key, &map->root, compare);

	if (!node)
		return false;
	take_out(map, node_pair(node), ret_value);
	return true;
}

bool number_map_pop(struct number_map *map, uint64_t *ret_value)
{
	if (!map->root)
		return false;
	take_out(map, node_pair(map->root), ret_value);
	return true;
}
