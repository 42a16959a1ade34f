/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <string.h>

#include "mad.h"

/* The common header (table 101). */
enum { BASE_VERSION = 1, CLASS_CM = 7, CLASS_VERSION = 2, METHOD_SEND = 3 };
enum { AT_BASE, AT_CLASS, AT_VERSION, AT_METHOD, AT_TID = 8, AT_ATTR = 16 };

void mad_init(struct cm_mad *mad, enum cm_attr attr, uint64_t tid)
{
	memset(mad, 0, sizeof(*mad));
	mad->raw[AT_BASE] = BASE_VERSION;
	mad->raw[AT_CLASS] = CLASS_CM;
	mad->raw[AT_VERSION] = CLASS_VERSION;
	mad->raw[AT_METHOD] = METHOD_SEND;
	for (int i = 0; i < 8; i++)
		mad->raw[AT_TID + i] = (uint8_t)(tid >> (56 - 8 * i));
	mad->raw[AT_ATTR + 1] = (uint8_t)attr;
}

bool mad_valid(const struct cm_mad *mad)
{
	return mad->raw[AT_BASE] == BASE_VERSION && mad->raw[AT_CLASS] == CLASS_CM &&
	       mad->raw[AT_VERSION] == CLASS_VERSION && mad->raw[AT_METHOD] == METHOD_SEND &&
	       !mad->raw[AT_ATTR];
}

enum cm_attr mad_attr(const struct cm_mad *mad)
{
	return mad->raw[AT_ATTR + 1];
}

uint64_t mad_tid(const struct cm_mad *mad)
{
	uint64_t tid = 0;

	for (int i = 0; i < 8; i++)
		tid = tid << 8 | mad->raw[AT_TID + i];
	return tid;
}

uint64_t mad_get(const struct cm_mad *mad, struct cm_field field)
{
	uint64_t value = 0;

	for (unsigned i = field.bit; i < field.bit + field.bits; i++)
		value = value << 1 | (mad->raw[MAD_HEADER + i / 8] >> (7 - i % 8) & 1);
	return value;
}

void mad_set(struct cm_mad *mad, struct cm_field field, uint64_t value)
{
	for (unsigned i = field.bit + field.bits; i-- > field.bit; value >>= 1) {
		uint8_t *byte = &mad->raw[MAD_HEADER + i / 8], mask = 0x80 >> i % 8;

		*byte = value & 1 ? *byte | mask : *byte & ~mask;
	}
}
