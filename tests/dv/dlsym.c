/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A program that knows uodp only when it runs under uodprun. */
#include <dlfcn.h>
#include <stdio.h>

#include <infiniband/uodpdv.h>

int main(void)
{
	__typeof__(&uodpdv_is_supported) supported;
	struct ibv_device **list;
	int n = 0, ours = 0;

	supported = (__typeof__(supported))dlsym(RTLD_DEFAULT, "uodpdv_is_supported");
	list = ibv_get_device_list(&n);
	if (!supported || !list) {
		printf("%s\n", supported ? "no devices" : "no direct verbs");
		return 1;
	}
	for (int i = 0; i < n; i++) {
		printf("%s: %d\n", ibv_get_device_name(list[i]), supported(list[i]));
		ours += supported(list[i]);
	}
	ibv_free_device_list(list);
	return ours == 1 ? 0 : 1;
}
