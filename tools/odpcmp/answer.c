/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <infiniband/verbs.h>
#include <stdarg.h>
#include <string.h>

#include "odpcmp.h"

void answer_set(struct answer *answer, const char *text)
{
	snprintf(answer->text, sizeof(answer->text), "%.31s", text);
	answer->note[0] = '\0';
	answer->state = ANSWER_GOOD;
}

void answer_na(struct answer *answer)
{
	answer_set(answer, "n/a");
	answer->state = ANSWER_NA;
}

const char *answer_brief(const struct answer *answer, char *buf, size_t len)
{
	const struct aftermath *after = &answer->after;
	int at;

	if (!after->known)
		return answer->text;
	at = snprintf(buf, len, "%s", answer->text);
	if (strcmp(after->truncater, "ok"))
		at += snprintf(buf + at, len - at, "; %s", after->truncater);
	if (strcmp(after->told, "-"))
		at += snprintf(buf + at, len - at, "; %s", after->told);
	if (after->lost > 0)
		snprintf(buf + at, len - at, "; %d bytes lost", after->lost);
	return buf;
}

const char *errno_name(int err, char *buf, size_t len)
{
	const char *name = strerrorname_np(err);

	if (name)
		snprintf(buf, len, "%s", name);
	else
		snprintf(buf, len, "errno %d", err);
	return buf;
}

void answer_refused(struct answer *answer, int err)
{
	char text[sizeof(answer->text) + sizeof("reg ")];

	errno_name(err, answer->error, sizeof(answer->error));
	snprintf(text, sizeof(text), "reg %s", answer->error);
	answer_set(answer, text);
}

/* As verbs.h spells them, without the prefix. */
static const char *const wc_names[] = {
	[IBV_WC_SUCCESS] = "SUCCESS",
	[IBV_WC_LOC_LEN_ERR] = "LOC_LEN_ERR",
	[IBV_WC_LOC_QP_OP_ERR] = "LOC_QP_OP_ERR",
	[IBV_WC_LOC_EEC_OP_ERR] = "LOC_EEC_OP_ERR",
	[IBV_WC_LOC_PROT_ERR] = "LOC_PROT_ERR",
	[IBV_WC_WR_FLUSH_ERR] = "WR_FLUSH_ERR",
	[IBV_WC_MW_BIND_ERR] = "MW_BIND_ERR",
	[IBV_WC_BAD_RESP_ERR] = "BAD_RESP_ERR",
	[IBV_WC_LOC_ACCESS_ERR] = "LOC_ACCESS_ERR",
	[IBV_WC_REM_INV_REQ_ERR] = "REM_INV_REQ_ERR",
	[IBV_WC_REM_ACCESS_ERR] = "REM_ACCESS_ERR",
	[IBV_WC_REM_OP_ERR] = "REM_OP_ERR",
	[IBV_WC_RETRY_EXC_ERR] = "RETRY_EXC_ERR",
	[IBV_WC_RNR_RETRY_EXC_ERR] = "RNR_RETRY_EXC_ERR",
	[IBV_WC_LOC_RDD_VIOL_ERR] = "LOC_RDD_VIOL_ERR",
	[IBV_WC_REM_INV_RD_REQ_ERR] = "REM_INV_RD_REQ_ERR",
	[IBV_WC_REM_ABORT_ERR] = "REM_ABORT_ERR",
	[IBV_WC_INV_EECN_ERR] = "INV_EECN_ERR",
	[IBV_WC_INV_EEC_STATE_ERR] = "INV_EEC_STATE_ERR",
	[IBV_WC_FATAL_ERR] = "FATAL_ERR",
	[IBV_WC_RESP_TIMEOUT_ERR] = "RESP_TIMEOUT_ERR",
	[IBV_WC_GENERAL_ERR] = "GENERAL_ERR",
};

static const char *wc_name(int status, char *buf, size_t len)
{
	if (status >= 0 && (size_t)status < ARRAY_SIZE(wc_names) && wc_names[status])
		return wc_names[status];
	snprintf(buf, len, "WC_%d", status);
	return buf;
}

/* Records the status; one that is not success is also the answer. */
void answer_wc(struct answer *answer, int status, int here)
{
	char number[2][16], text[sizeof(answer->text)];
	const char *name = wc_name(status, number[0], sizeof(number[0]));

	snprintf(answer->status, sizeof(answer->status), "IBV_WC_%.30s", name);
	if (status == IBV_WC_SUCCESS)
		return;
	if (here < 0)
		snprintf(text, sizeof(text), "%.30s", name);
	else
		snprintf(text, sizeof(text), "%.15s/%.15s", name,
			 wc_name(here, number[1], sizeof(number[1])));
	answer_set(answer, text);
}

void answer_fail(struct answer *answer, const char *text, const char *fmt, ...)
{
	va_list ap;

	snprintf(answer->text, sizeof(answer->text), "%s", text);
	va_start(ap, fmt);
	vsnprintf(answer->note, sizeof(answer->note), fmt, ap);
	va_end(ap);
	answer->state = ANSWER_FAILED;
}

void answer_step(struct answer *answer, const char *what)
{
	snprintf(answer->note, sizeof(answer->note), "%s", what);
}

void answer_step_failed(struct answer *answer, int ret)
{
	char name[24], what[sizeof(answer->note)];

	memcpy(what, answer->note, sizeof(what));
	answer_fail(answer, "failed", "%.100s: %s", what, errno_name(-ret, name, sizeof(name)));
}
