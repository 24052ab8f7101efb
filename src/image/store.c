/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * An image is kept as the bytes of its file, with an index beside it; so writing and sending it is no work, and a
 * message is unpacked when somebody asks for it. It was unpacked once before, when it came from outside.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <search.h>

#include "image/kinds.h"
#include "image/store.h"
#include "util/alloc.h"

/*
 * What an image from outside may ask of us. The largest messages known are those of mm-PID.img (65,530 areas of 70
 * bytes) and of core-PID.img (130 bytes for each pending signal); the largest images hold content of deleted files.
 */
static const size_t message_bytes_max = (size_t)32 << 20;
static const size_t unpacked_bytes_max = (size_t)256 << 20;
static const size_t image_bytes_max = (size_t)2 << 30;
static const size_t store_bytes_max = (size_t)4 << 30;
static const size_t image_messages_max = (size_t)4 << 20;
static const size_t store_images_max = (size_t)1 << 20;

/* Where a message stands in its image. Its raw bytes follow at once. */
struct message {
	size_t offset;
	size_t size_bytes;
	size_t raw_bytes; /* that are there */
	uint64_t raw_due; /* that are still to be put; image_raw_rest: as many as come */
};

struct image {
	enum image_kind kind;
	uint64_t id;
	uint8_t *bytes;
	size_t size_bytes;
	size_t room_bytes;
	struct message *messages;
	size_t message_count;
	size_t message_room;
};

struct image_store {
	void *tree;            /* the images by kind and id: tsearch(3) */
	struct image **images; /* in the order they came into being */
	size_t count;
	size_t room;
	size_t added_bytes; /* from outside */
};

static void image_free(struct image *image)
{
	if (!image)
		return;
	free(image->bytes);
	free(image->messages);
	free(image);
}
DEFINE_OWNED(struct image *, image_free)
#define auto_image AUTO(image_free)

static int image_compare(const void *left, const void *right)
{
	const struct image *a = left;
	const struct image *b = right;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

static void tree_keeps_its_images(void *image)
{
	(void)image;
}

struct image_store *image_store_new(void)
{
	return xalloc(sizeof(struct image_store));
}

void image_store_free(struct image_store *store)
{
	if (!store)
		return;
	tdestroy(store->tree, tree_keeps_its_images);
	for (size_t i = 0; i < store->count; i++)
		image_free(store->images[i]);
	free(store->images);
	free(store);
}

/* Room for one more item in an array that grows. */
static void *array_grow(void *items, size_t count, size_t *room, size_t item_bytes)
{
	if (count < *room)
		return items;
	*room = *room ? *room * 2 : 4;
	return xrealloc(items, *room * item_bytes);
}

static struct image *image_find(const struct image_store *store, enum image_kind kind, uint64_t id)
{
	const struct image key = {.kind = kind, .id = id};
	struct image *const *node = tfind(&key, &store->tree, image_compare);

	return node ? *node : NULL;
}

static struct image *image_new(enum image_kind kind, uint64_t id)
{
	struct image *image = xalloc(sizeof(*image));

	image->kind = kind;
	image->id = id;
	return image;
}

/* Takes image over. There must be none of that name. */
static void store_insert(struct image_store *store, struct image *image)
{
	if (!tsearch(image, &store->tree, image_compare))
		abort();
	store->images = array_grow(store->images, store->count, &store->room, sizeof(struct image *));
	store->images[store->count++] = image;
}

static void image_index(struct image *image, const struct message *message)
{
	image->messages =
		array_grow(image->messages, image->message_count, &image->message_room, sizeof(struct message));
	image->messages[image->message_count++] = *message;
}

/* Room for more bytes at the end of the image. */
static uint8_t *image_extend(struct image *image, size_t size_bytes)
{
	size_t needed = image->size_bytes + size_bytes;

	if (needed > image->room_bytes) {
		image->room_bytes = needed > image->room_bytes * 2 ? needed : image->room_bytes * 2;
		image->bytes = xrealloc(image->bytes, image->room_bytes);
	}
	uint8_t *end = &image->bytes[image->size_bytes];
	image->size_bytes = needed;
	return end;
}

/* Nothing is due: all bytes that the messages told of are there. */
static bool image_is_complete(const struct image *image)
{
	if (image->message_count == 0)
		return true;
	uint64_t due = image->messages[image->message_count - 1].raw_due;
	return due == 0 || due == image_raw_rest;
}

void image_put(struct image_store *store, enum image_kind kind, uint64_t id, const ProtobufCMessage *message)
{
	struct image *image = image_find(store, kind, id);
	size_t size_bytes = protobuf_c_message_get_packed_size(message);
	uint32_t length = htole32((uint32_t)size_bytes);

	if (!image) {
		image = image_new(kind, id);
		store_insert(store, image);
	}
	assert(id == 0 || image_has_id(kind));
	assert(message->descriptor == image_message(kind, image->message_count));
	assert(image_is_complete(image));

	uint8_t *end = image_extend(image, sizeof(length) + size_bytes);
	memcpy(end, &length, sizeof(length));
	protobuf_c_message_pack(message, end + sizeof(length));
	image_index(image, &(struct message){
				   .offset = image->size_bytes - size_bytes,
				   .size_bytes = size_bytes,
				   .raw_due = image_raw_bytes(kind, message),
			   });
}

void image_put_bytes(struct image_store *store, enum image_kind kind, uint64_t id, const void *bytes, size_t size_bytes)
{
	struct image *image = image_find(store, kind, id);

	assert(image && image->message_count > 0);
	struct message *message = &image->messages[image->message_count - 1];
	assert(size_bytes <= message->raw_due);

	if (size_bytes > 0)
		memcpy(image_extend(image, size_bytes), bytes, size_bytes);
	message->raw_bytes += size_bytes;
	if (message->raw_due != image_raw_rest)
		message->raw_due -= size_bytes;
}

size_t image_count(const struct image_store *store, enum image_kind kind, uint64_t id)
{
	const struct image *image = image_find(store, kind, id);

	return image ? image->message_count : 0;
}

struct error *image_get(const struct image_store *store, enum image_kind kind, uint64_t id, size_t index,
                        ProtobufCMessage **ret_message)
{
	const struct image *image = image_find(store, kind, id);
	char name[IMAGE_NAME_MAX];

	if (!image || index >= image->message_count) {
		image_file_name(kind, id, name);
		return image ? error_new(ENOENT, "%s: message %zu of %zu", name, index, image->message_count)
		             : error_new(ENOENT, "%s", name);
	}
	const struct message *message = &image->messages[index];
	ProtobufCMessage *unpacked = protobuf_c_message_unpack(image_message(kind, index), NULL, message->size_bytes,
	                                                       &image->bytes[message->offset]);
	if (!unpacked) {
		image_file_name(kind, id, name);
		return error_new(EBADMSG, "%s: unpack message %zu", name, index);
	}
	*ret_message = unpacked;
	return NULL;
}

void image_get_bytes(const struct image_store *store, enum image_kind kind, uint64_t id, size_t index,
                     const uint8_t **ret_bytes, size_t *ret_size_bytes)
{
	const struct image *image = image_find(store, kind, id);
	const struct message none = {0};
	const struct message *message = image && index < image->message_count ? &image->messages[index] : &none;

	*ret_size_bytes = message->raw_bytes;
	*ret_bytes = message->raw_bytes ? &image->bytes[message->offset + message->size_bytes] : NULL;
}

bool image_store_file(const struct image_store *store, size_t n, struct image_file *ret_file)
{
	if (n >= store->count)
		return false;
	const struct image *image = store->images[n];

	assert(image_is_complete(image));
	*ret_file = (struct image_file){image->kind, image->id, image->bytes, image->size_bytes};
	return true;
}

/* ---- What comes from outside ---- */

/* A few bytes can stand for many messages, or for as many fields we don't know: what they become is bounded, too. */
static void *bounded_alloc(void *left_bytes, size_t size_bytes)
{
	size_t *left = left_bytes;

	if (size_bytes > *left)
		return NULL;
	*left -= size_bytes;
	return malloc(size_bytes);
}

static void bounded_free(void *left_bytes, void *memory)
{
	(void)left_bytes;
	free(memory);
}

/* Unpacks the message to see whether it can be, and asks it how many raw bytes there are. */
static struct error *check_message(const struct image *image, const uint8_t *bytes, size_t size_bytes,
                                   uint64_t *ret_raw_bytes)
{
	size_t left_bytes = unpacked_bytes_max;
	ProtobufCAllocator bounded = {bounded_alloc, bounded_free, &left_bytes};
	const ProtobufCMessageDescriptor *type = image_message(image->kind, image->message_count);

	ProtobufCMessage *message = protobuf_c_message_unpack(type, &bounded, size_bytes, bytes);
	if (!message)
		return error_new(EBADMSG, "not a %s", type->name);
	*ret_raw_bytes = image_raw_bytes(image->kind, message);
	protobuf_c_message_free_unpacked(message, &bounded);
	return NULL;
}

/* Indexes the message that begins at *offset, and moves that behind its raw bytes. */
static struct error *parse_message(struct image *image, size_t *offset)
{
	size_t left_bytes = image->size_bytes - *offset;
	uint64_t raw_bytes = 0;
	uint32_t length;

	if (image->message_count == image_messages_max)
		return error_new(E2BIG, "no more than %zu are read", image_messages_max);
	if (left_bytes < sizeof(length))
		return error_new(EBADMSG, "cut off in its length");
	memcpy(&length, &image->bytes[*offset], sizeof(length));
	length = le32toh(length);
	left_bytes -= sizeof(length);
	if (length > message_bytes_max)
		return error_new(E2BIG, "has %u bytes; no more than %zu are read", length, message_bytes_max);
	if (length > left_bytes)
		return error_new(EBADMSG, "has %u bytes, but only %zu are there", length, left_bytes);
	left_bytes -= length;

	size_t start = *offset + sizeof(length);
	TRY(check_message(image, &image->bytes[start], length, &raw_bytes));
	if (raw_bytes == image_raw_rest)
		raw_bytes = left_bytes;
	if (raw_bytes > left_bytes)
		return error_new(EBADMSG, "tells of %llu bytes behind it, but only %zu are there",
		                 (unsigned long long)raw_bytes, left_bytes);

	image_index(image, &(struct message){.offset = start, .size_bytes = length, .raw_bytes = raw_bytes});
	*offset = start + length + raw_bytes;
	return NULL;
}

static struct error *parse_messages(struct image *image)
{
	size_t offset = 0;

	while (offset < image->size_bytes)
		TRY(parse_message(image, &offset), "message %zu", image->message_count);
	return NULL;
}

static struct error *image_from_bytes(const struct image_file *file, struct image **ret_image)
{
	auto_image struct image *image = image_new(file->kind, file->id);

	image->bytes = malloc(file->size_bytes ? file->size_bytes : 1);
	if (!image->bytes)
		return error_new(ENOMEM, "%zu bytes", file->size_bytes);
	if (file->size_bytes)
		memcpy(image->bytes, file->bytes, file->size_bytes);
	image->size_bytes = file->size_bytes;
	image->room_bytes = file->size_bytes;
	TRY(parse_messages(image));
	*ret_image = take(image);
	return NULL;
}

static struct error *check_room(const struct image_store *store, const struct image_file *file)
{
	if (file->size_bytes > image_bytes_max)
		return error_new(E2BIG, "has %zu bytes; no more than %zu are read", file->size_bytes, image_bytes_max);
	if (file->size_bytes > store_bytes_max - store->added_bytes)
		return error_new(E2BIG, "with it, the images would have more than %zu bytes", store_bytes_max);
	if (store->count >= store_images_max)
		return error_new(E2BIG, "no more than %zu images are read", store_images_max);
	if (image_find(store, file->kind, file->id))
		return error_new(EEXIST, "is there twice");
	return NULL;
}

struct error *image_store_add(struct image_store *store, const struct image_file *file)
{
	char name[IMAGE_NAME_MAX];
	struct image *image = NULL;

	if (file->kind >= IMAGE_KIND_COUNT)
		return error_new(EBADMSG, "image of unknown kind %u", file->kind);
	image_file_name(file->kind, file->id, name);
	if (file->id != 0 && !image_has_id(file->kind))
		return error_new(EBADMSG, "%s: has id %#llx", name, (unsigned long long)file->id);
	TRY(check_room(store, file), "%s", name);
	TRY(image_from_bytes(file, &image), "%s", name);
	store->added_bytes += file->size_bytes;
	store_insert(store, image);
	return NULL;
}
