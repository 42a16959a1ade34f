/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Connection management datagrams (IBTA volume 1, chapter 12; tables 106 to 120), as
 * they are on the wire: 256 bytes, most significant bit first.
 */
#ifndef UODP_CM_MAD_H
#define UODP_CM_MAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAD_SIZE 256
#define MAD_HEADER 24
struct cm_mad {
	uint8_t raw[MAD_SIZE];
};

/* Attribute IDs of the class (table 104). */
enum cm_attr {
	CM_REQ = 0x10,
	CM_MRA = 0x11,
	CM_REJ = 0x12,
	CM_REP = 0x13,
	CM_RTU = 0x14,
	CM_DREQ = 0x15,
	CM_DREP = 0x16,
	CM_SIDR_REQ = 0x17,
	CM_SIDR_REP = 0x18,
};

/* Which message an MRA or REJ answers. */
enum cm_about { CM_ABOUT_REQ, CM_ABOUT_REP, CM_ABOUT_OTHER };

/* Reasons of a REJ (table 109) that are used here. */
enum cm_reason {
	CM_REJ_NO_RESOURCES = 3,
	CM_REJ_TIMEOUT = 4,
	CM_REJ_INVALID_SERVICE_ID = 8,
	CM_REJ_STALE_CONN = 10,
	CM_REJ_CONSUMER_DEFINED = 28,
};

/* A field: where it begins, in bits behind the MAD's header, and how many bits. */
struct cm_field {
	uint16_t bit, bits;
};
#define CM_FIELD(byte, bit, bits) ((struct cm_field){(byte)*8 + (bit), bits})

/* Bits of a byte are counted from the most significant one. */
#define REQ_LOCAL_COMM CM_FIELD(0, 0, 32)
#define REQ_SERVICE_ID CM_FIELD(8, 0, 64)
#define REQ_CA_GUID CM_FIELD(16, 0, 64)
#define REQ_QKEY CM_FIELD(28, 0, 32)
#define REQ_QPN CM_FIELD(32, 0, 24)
#define REQ_RESPONDER_RESOURCES CM_FIELD(35, 0, 8)
#define REQ_INITIATOR_DEPTH CM_FIELD(39, 0, 8)
#define REQ_REMOTE_TIMEOUT CM_FIELD(43, 0, 5)
#define REQ_TRANSPORT CM_FIELD(43, 5, 2)
#define REQ_FLOW_CONTROL CM_FIELD(43, 7, 1)
#define REQ_PSN CM_FIELD(44, 0, 24)
#define REQ_LOCAL_TIMEOUT CM_FIELD(47, 0, 5)
#define REQ_RETRY_COUNT CM_FIELD(47, 5, 3)
#define REQ_PKEY CM_FIELD(48, 0, 16)
#define REQ_MTU CM_FIELD(50, 0, 4)
#define REQ_RNR_RETRY CM_FIELD(50, 5, 3)
#define REQ_MAX_RETRIES CM_FIELD(51, 0, 4)
#define REQ_SRQ CM_FIELD(51, 4, 1)
#define REQ_EXT_TRANSPORT CM_FIELD(51, 5, 3)
#define REQ_LOCAL_LID CM_FIELD(52, 0, 16)
#define REQ_REMOTE_LID CM_FIELD(54, 0, 16)
#define REQ_LOCAL_GID 56
#define REQ_REMOTE_GID 72
#define REQ_FLOW_LABEL CM_FIELD(88, 0, 20)
#define REQ_RATE CM_FIELD(91, 2, 6)
#define REQ_TRAFFIC_CLASS CM_FIELD(92, 0, 8)
#define REQ_HOP_LIMIT CM_FIELD(93, 0, 8)
#define REQ_SL CM_FIELD(94, 0, 4)
#define REQ_SUBNET_LOCAL CM_FIELD(94, 4, 1)
#define REQ_ACK_TIMEOUT CM_FIELD(95, 0, 5)
#define REQ_PRIVATE 140
#define REQ_PRIVATE_LEN 92

/* These two lead every message but the SIDR ones and the REQ, which has one. */
#define MSG_LOCAL_COMM CM_FIELD(0, 0, 32)
#define MSG_REMOTE_COMM CM_FIELD(4, 0, 32)

#define MRA_ABOUT CM_FIELD(8, 0, 2)
#define MRA_TIMEOUT CM_FIELD(9, 0, 5)

#define REJ_ABOUT CM_FIELD(8, 0, 2)
#define REJ_REASON CM_FIELD(10, 0, 16)
#define REJ_PRIVATE 84
#define REJ_PRIVATE_LEN 148

#define REP_QKEY CM_FIELD(8, 0, 32)
#define REP_QPN CM_FIELD(12, 0, 24)
#define REP_PSN CM_FIELD(20, 0, 24)
#define REP_RESPONDER_RESOURCES CM_FIELD(24, 0, 8)
#define REP_INITIATOR_DEPTH CM_FIELD(25, 0, 8)
#define REP_ACK_DELAY CM_FIELD(26, 0, 5)
#define REP_FLOW_CONTROL CM_FIELD(26, 7, 1)
#define REP_RNR_RETRY CM_FIELD(27, 0, 3)
#define REP_SRQ CM_FIELD(27, 3, 1)
#define REP_CA_GUID CM_FIELD(28, 0, 64)
#define REP_PRIVATE 36
#define REP_PRIVATE_LEN 196

#define DREQ_REMOTE_QPN CM_FIELD(8, 0, 24)

#define SIDR_REQ_ID CM_FIELD(0, 0, 32)
#define SIDR_REQ_PKEY CM_FIELD(4, 0, 16)
#define SIDR_REQ_SERVICE_ID CM_FIELD(8, 0, 64)
#define SIDR_REQ_PRIVATE 16
#define SIDR_REQ_PRIVATE_LEN 216
#define SIDR_REP_ID CM_FIELD(0, 0, 32)
#define SIDR_REP_STATUS CM_FIELD(4, 0, 8)
#define SIDR_REP_QPN CM_FIELD(8, 0, 24)
#define SIDR_REP_SERVICE_ID CM_FIELD(12, 0, 64)
#define SIDR_REP_QKEY CM_FIELD(20, 0, 32)
#define SIDR_REP_PRIVATE 96
#define SIDR_REP_PRIVATE_LEN 136

/* What rdma_cm puts first into the private data of a REQ and a SIDR REQ (annex A11). */
#define CMA_HEADER 36

/* Zeroes but for the header: ATTR, of the transaction TID. */
void mad_init(struct cm_mad *mad, enum cm_attr attr, uint64_t tid);
/* Is it a message of this class and version? */
bool mad_valid(const struct cm_mad *mad);
enum cm_attr mad_attr(const struct cm_mad *mad);
uint64_t mad_tid(const struct cm_mad *mad);
uint64_t mad_get(const struct cm_mad *mad, struct cm_field field);
void mad_set(struct cm_mad *mad, struct cm_field field, uint64_t value);
/* The bytes at BYTE behind the header. */
static inline uint8_t *mad_at(struct cm_mad *mad, unsigned byte)
{
	return mad->raw + MAD_HEADER + byte;
}

#endif
