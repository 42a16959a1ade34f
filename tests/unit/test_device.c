/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The devices' names and addresses, and the files that stand in for sysfs. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "suite.h"
#include "uodp.h"

static char run_dir[64];
static struct uodp_device *devs;
static unsigned num_devs;

static struct uodp_device *named(const char *name)
{
	for (unsigned i = 0; i < num_devs; i++)
		if (!strcmp(devs[i].name, name))
			return &devs[i];
	CU_FAIL_FATAL("no such device");
	return NULL;
}

static void ipv4(const char *name, char text[INET_ADDRSTRLEN])
{
	union ibv_gid gid;

	CU_ASSERT_EQUAL(uodp_device_gid(named(name), 1, &gid), 0);
	CU_ASSERT(!memcmp(gid.raw, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12));
	inet_ntop(AF_INET, gid.raw + 12, text, INET_ADDRSTRLEN);
}

static void test_list(void)
{
	CU_ASSERT_EQUAL_FATAL(num_devs, 5);
	for (unsigned i = 0; i < num_devs; i++) {
		CU_ASSERT_EQUAL(devs[i].index, i);
		CU_ASSERT(!strcmp(devs[i].ndev, "lo"));
		for (unsigned j = 0; j < i; j++) {
			CU_ASSERT_NOT_EQUAL(devs[i].uverbs, devs[j].uverbs);
			CU_ASSERT_NOT_EQUAL(devs[i].rdev, devs[j].rdev);
		}
	}
	CU_ASSERT(!uodp_is_device(NULL));
}

/* uodp<N> is 127.0.0.<N + 1>; all others are far from there. */
static void test_ipv4(void)
{
	char text[INET_ADDRSTRLEN];

	ipv4("uodp0", text);
	CU_ASSERT_STRING_EQUAL(text, "127.0.0.1");
	ipv4("uodp253", text);
	CU_ASSERT_STRING_EQUAL(text, "127.0.0.254");
	for (unsigned i = 2; i < 5; i++) {
		ipv4(devs[i].name, text);
		CU_ASSERT(!strncmp(text, "127.", 4));
		CU_ASSERT(atoi(text + 4) >= 128);
	}
}

static void test_gids(void)
{
	union ibv_gid a, b;

	CU_ASSERT_EQUAL(uodp_device_gid(&devs[0], UODP_NUM_GIDS, &a), -EINVAL);
	for (unsigned i = 0; i < num_devs; i++) {
		CU_ASSERT_EQUAL(uodp_device_gid(&devs[i], 0, &a), 0);
		CU_ASSERT(!memcmp(a.raw, "\xfe\x80\0\0\0\0\0\0", 8));
		CU_ASSERT(!memcmp(a.raw + 8, &devs[i].guid, 8));
		for (unsigned j = 0; j < i; j++) {
			CU_ASSERT(memcmp(&a, &devs[j].gids[0], sizeof(a)));
			CU_ASSERT_EQUAL(uodp_device_gid(&devs[j], 1, &b), 0);
			CU_ASSERT(memcmp(&b, &devs[i].gids[1], sizeof(b)));
		}
	}
}

static void path_of(char *path, size_t size, const char *file)
{
	snprintf(path, size, "%s/" UODP_SYSFS_DIR "/uodp0/%s", run_dir, file);
}

static bool file_is(const char *file, const char *want)
{
	char path[256], text[128];
	ssize_t n;
	int fd;

	path_of(path, sizeof(path), file);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	return !strcmp(text, want);
}

/* As the kernel writes them, the line's end included. */
static void test_files(void)
{
	CU_ASSERT(file_is("ports/1/gids/1", "0000:0000:0000:0000:0000:ffff:7f00:0001\n"));
	CU_ASSERT(file_is("ports/1/gid_attrs/types/0", "RoCE v2\n"));
	CU_ASSERT(file_is("ports/1/gid_attrs/types/1", "RoCE v2\n"));
	CU_ASSERT(file_is("ports/1/gid_attrs/ndevs/1", "lo\n"));
	CU_ASSERT(file_is("ports/1/pkeys/0", "0xffff\n"));
	CU_ASSERT(file_is("ports/1/state", "4: ACTIVE\n"));
	CU_ASSERT(file_is("ports/1/link_layer", "Ethernet\n"));
	CU_ASSERT(file_is("node_type", "1: CA\n"));
	CU_ASSERT(!file_is("ports/1/gids/2", ""));
}

static ino_t inode_of(const char *file)
{
	char path[256];
	struct stat st;

	path_of(path, sizeof(path), file);
	return stat(path, &st) ? 0 : st.st_ino;
}

/* What is right stays; nobody who has it open is disturbed. */
static void test_files_stay(void)
{
	ino_t before = inode_of("ports/1/gids/0");

	CU_ASSERT_NOT_EQUAL(before, 0);
	CU_ASSERT_EQUAL(uodp_sysfs_write(named("uodp0"), run_dir), 0);
	CU_ASSERT_EQUAL(inode_of("ports/1/gids/0"), before);
}

static void damage(const char *file, const char *text)
{
	char path[256];
	int fd;

	path_of(path, sizeof(path), file);
	fd = open(path, O_WRONLY | O_TRUNC);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_files_mended(void)
{
	char path[256];

	damage("ports/1/gids/1",
	       "rubbish that is longer than any line that ought to be in there, much\n");
	damage("ports/1/pkeys/0", "");
	path_of(path, sizeof(path), "node_type");
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(symlink("/etc/passwd", path), 0);
	path_of(path, sizeof(path), "fw_ver");
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
	CU_ASSERT_EQUAL(uodp_sysfs_write(named("uodp0"), run_dir), 0);
	test_files();
	CU_ASSERT(file_is("fw_ver", UODP_VERSION "\n"));
}

static void test_no_directory(void)
{
	CU_ASSERT_EQUAL(uodp_sysfs_write(named("uodp0"), "/nonexistent"), -ENOENT);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a list of devices", test_list},
		{"IPv4 addresses", test_ipv4},
		{"GIDs", test_gids},
		{"files as the kernel's", test_files},
		{"right files stay", test_files_stay},
		{"damaged files are mended", test_files_mended},
		{"no run directory", test_no_directory},
		CU_TEST_INFO_NULL,
	};

	if (getenv("UODP_DIR")) {
		snprintf(run_dir, sizeof(run_dir), "%s", getenv("UODP_DIR"));
	} else {
		strcpy(run_dir, "/tmp/uodp-unit.XXXXXX");
		if (!mkdtemp(run_dir))
			return 1;
		setenv("UODP_DIR", run_dir, 1);
	}
	setenv("UODP_DEVICES", "uodp0,uodp253,uodp254,uodp01,left", 1);
	num_devs = uodp_devices(&devs);
	return suite_run("device", tests);
}
