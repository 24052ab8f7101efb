/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A map from a pair of numbers, as a device and an inode, to a number. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/own.h"

struct number_map;

/* Never NULL. */
struct number_map *number_map_new(void);
void number_map_free(struct number_map *map);
DEFINE_OWNED(struct number_map *, number_map_free)
#define auto_number_map AUTO(number_map_free)

/* Puts (first, second) into the map, unless it is there: then false, and the map is as it was. */
bool number_map_add(struct number_map *map, uint64_t first, uint64_t second, uint64_t value);

/* False: not there, and *ret_value is not set. */
bool number_map_find(const struct number_map *map, uint64_t first, uint64_t second, uint64_t *ret_value);

/* As number_map_find(), and takes it out of the map. */
bool number_map_remove(struct number_map *map, uint64_t first, uint64_t second, uint64_t *ret_value);

/* Takes any one out of the map. False: it is empty. */
bool number_map_pop(struct number_map *map, uint64_t *ret_value);
