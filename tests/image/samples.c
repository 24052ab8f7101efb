/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>

#include "ghost-file.pb-c.h"
#include "image/kinds.h"
#include "image/samples.h"
#include "ipc-msg.pb-c.h"
#include "ipc-sem.pb-c.h"
#include "pipe-data.pb-c.h"
#include "sk-packet.pb-c.h"
#include "tcp-stream.pb-c.h"
#include "util/alloc.h"

enum { LIST_ITEMS = 4 };

static size_t item_bytes(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_ENUM:
		return sizeof(uint32_t);
	}
	return 0;
}

static void fill_enum(const ProtobufCFieldDescriptor *field, void *item)
{
	const ProtobufCEnumDescriptor *type = field->descriptor;
	int value = type->values[type->n_values - 1].value;

	memcpy(item, &value, sizeof(value));
}

static void fill_bytes(void *item)
{
	ProtobufCBinaryData bytes = {.len = 128, .data = xalloc(128)};

	memset(bytes.data, 0xb7, bytes.len);
	memcpy(item, &bytes, sizeof(bytes));
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as our own message types are nested */
static void fill_item(const ProtobufCFieldDescriptor *field, void *item)
{
	const uint64_t number = 0x101 * (uint64_t)field->id + 0x7;
	void *pointer;

	switch (field->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		pointer = sample_message(field->descriptor);
		memcpy(item, &pointer, sizeof(pointer));
		return;
	case PROTOBUF_C_TYPE_STRING:
		pointer = xformat("/%s", field->name);
		memcpy(item, &pointer, sizeof(pointer));
		return;
	case PROTOBUF_C_TYPE_BYTES:
		fill_bytes(item);
		return;
	case PROTOBUF_C_TYPE_ENUM:
		fill_enum(field, item);
		return;
	case PROTOBUF_C_TYPE_BOOL:
		memcpy(item, &(protobuf_c_boolean){1}, sizeof(protobuf_c_boolean));
		return;
	default:
		memcpy(item, &number, item_bytes(field)); /* little-endian */
	}
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as our own message types are nested */
static void fill_field(const ProtobufCFieldDescriptor *field, char *message)
{
	const size_t count = LIST_ITEMS;

	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		char *items = xalloc(count * item_bytes(field));

		for (size_t i = 0; i < count; i++)
			fill_item(field, items + i * item_bytes(field));
		memcpy(message + field->quantifier_offset, &count, sizeof(count));
		memcpy(message + field->offset, &items, sizeof(items));
		return;
	}
	if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset)
		memcpy(message + field->quantifier_offset, &(protobuf_c_boolean){1}, sizeof(protobuf_c_boolean));
	fill_item(field, message + field->offset);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as our own message types are nested */
ProtobufCMessage *sample_message(const ProtobufCMessageDescriptor *type)
{
	ProtobufCMessage *message = xalloc(type->sizeof_message);

	protobuf_c_message_init(type, message);
	for (unsigned i = 0; i < type->n_fields; i++)
		fill_field(&type->fields[i], (char *)message);
	/* The others come behind it. */
	if (type == &ipc_msg_entry__descriptor)
		((IpcMsgEntry *)message)->qnum = SAMPLE_MESSAGES - 1;
	return message;
}

/* Makes the message tell of raw_bytes behind it, if messages of its type do so. */
static void tell_raw_bytes(ProtobufCMessage *message, uint32_t raw_bytes)
{
	if (message->descriptor == &pipe_data_entry__descriptor)
		((PipeDataEntry *)message)->bytes = raw_bytes;
	if (message->descriptor == &sk_packet_entry__descriptor)
		((SkPacketEntry *)message)->length = raw_bytes;
	if (message->descriptor == &ipc_sem_entry__descriptor)
		((IpcSemEntry *)message)->nsems = raw_bytes / sizeof(uint16_t);
	if (message->descriptor == &ipc_msg__descriptor)
		((IpcMsg *)message)->msize = raw_bytes;
	if (message->descriptor == &ghost_chunk_entry__descriptor)
		((GhostChunkEntry *)message)->len = raw_bytes;
	if (message->descriptor == &tcp_stream_entry__descriptor) {
		((TcpStreamEntry *)message)->inq_len = 1;
		((TcpStreamEntry *)message)->outq_len = raw_bytes - 1;
	}
}

static void put_message(struct image_store *store, enum image_kind kind, uint64_t id, ProtobufCMessage *message)
{
	uint8_t raw[SAMPLE_RAW_BYTES];

	memset(raw, 0xa5, sizeof(raw));
	tell_raw_bytes(message, sizeof(raw));
	image_put(store, kind, id, message);
	if (image_raw_bytes(kind, message) > 0) {
		image_put_bytes(store, kind, id, raw, 1);
		image_put_bytes(store, kind, id, raw + 1, sizeof(raw) - 1);
	}
	protobuf_c_message_free_unpacked(message, NULL);
}

static void put_chunked(struct image_store *store)
{
	for (size_t i = 0; i < SAMPLE_MESSAGES; i++)
		put_message(store, IMAGE_GHOST_FILE, SAMPLE_CHUNKED_ID,
		            sample_message(image_message(IMAGE_GHOST_FILE, i)));
}

uint64_t sample_id(enum image_kind kind)
{
	return image_has_id(kind) ? SAMPLE_ID : 0;
}

void sample_put(struct image_store *store, enum image_kind kind)
{
	if (kind == IMAGE_GHOST_FILE) {
		ProtobufCMessage *whole = sample_message(&ghost_file_entry__descriptor);

		((GhostFileEntry *)whole)->chunks = false;
		put_message(store, kind, SAMPLE_ID, whole);
		put_chunked(store);
		return;
	}
	for (size_t i = 0; i < SAMPLE_MESSAGES; i++)
		put_message(store, kind, sample_id(kind), sample_message(image_message(kind, i)));
}
