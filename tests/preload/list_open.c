/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Prints the list of devices, and what opening each of them gives. */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <infiniband/verbs.h>

static void import_one(int fd)
{
	struct ibv_context *ctx = ibv_import_device(fd);

	printf("import: %s\n", ctx ? "made" : strerror(errno));
	if (ctx)
		ibv_close_device(ctx);
	close(fd);
}

static void open_one(struct ibv_device *dev)
{
	struct ibv_context *ctx;
	struct ibv_comp_channel *channel;

	printf("%s %016" PRIx64 " ", ibv_get_device_name(dev), be64toh(ibv_get_device_guid(dev)));
	ctx = ibv_open_device(dev);
	if (!ctx) {
		printf("%s\n", strerror(errno));
		return;
	}
	channel = ibv_create_comp_channel(ctx);
	printf("open, channel %s\n", channel ? "made" : strerror(errno));
	if (channel && ibv_destroy_comp_channel(channel))
		printf("channel busy\n");
	import_one(dup(ctx->cmd_fd));
	ibv_close_device(ctx);
}

int main(void)
{
	/* Twice: lists are made and freed again. */
	for (int round = 0; round < 2; round++) {
		int num = -1;
		struct ibv_device **list = ibv_get_device_list(&num);

		if (!list) {
			printf("no list: %s\n", strerror(errno));
			return 1;
		}
		printf("%d devices\n", num);
		for (int i = 0; i < num; i++)
			open_one(list[i]);
		if (list[num])
			printf("the list has no end\n");
		ibv_free_device_list(list);
	}
	return 0;
}
