/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Which transport carries a QP's work requests. */
#include "local_step.h"
#include "transport.h"

/* The last one reaches whatever the others do not. */
static const struct uodp_transport *const transports[] = {&uodp_local_transport};

void uodp_transport_choose(struct uodp_qp *qp)
{
	const size_t last = sizeof(transports) / sizeof(transports[0]) - 1;
	size_t i = 0;

	while (i < last && !transports[i]->reaches(qp))
		i++;
	qp->transport = transports[i];
}
