/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Whether a process listens, asked without connecting: that would use up the only
 * connection that most servers of this kind accept.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cm/services.h"
#include "pair.h"

/* Has process PID a descriptor of the socket with this inode? */
static bool has_socket(const char *pid, unsigned long inode)
{
	char path[PATH_MAX], target[64], want[64];
	struct dirent *e;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	snprintf(want, sizeof(want), "socket:[%lu]", inode);
	dir = opendir(path);
	while (dir && !found && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);

		if (n > 0) {
			target[n] = '\0';
			found = !strcmp(target, want);
		}
	}
	if (dir)
		closedir(dir);
	return found;
}

/* TABLE is "tcp" or "tcp6": proc(5). The fourth field is the state, 0A is LISTEN. */
static bool listens_tcp(const char *pid, const char *table)
{
	char path[64], line[512];
	unsigned state;
	unsigned long inode;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/net/%s", pid, table);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*s %*s %*s %x %*s %*s %*s %*s %*s %lu", &state, &inode) ==
				2 &&
			state == 0x0a && inode && has_socket(pid, inode);
	if (f)
		fclose(f);
	return found;
}

/*
 * The run directory, as the processes that are started will find it (odp_dir_get()).
 * libodp is not linked: uodprun is to say itself, wherever it is copied, what it misses.
 */
static void run_dir(char *path, size_t size)
{
	const char *dir = getenv("UODP_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	if (dir && *dir)
		snprintf(path, size, "%s", dir);
	else if (xdg && *xdg == '/' && !stat(xdg, &st) && S_ISDIR(st.st_mode) &&
		 st.st_uid == geteuid())
		snprintf(path, size, "%s/uodp", xdg);
	else
		snprintf(path, size, "/dev/shm/uodp-%u", (unsigned)geteuid());
}

/* The table is read without its lock: one record's pid and flags are all that counts. */
static bool listens_cm(unsigned long pid)
{
	static const struct cm_services *table;
	char dir[PATH_MAX / 2], path[PATH_MAX];
	struct stat st;
	int fd;

	if (!table) {
		run_dir(dir, sizeof(dir));
		snprintf(path, sizeof(path), "%s/" CM_SERVICES_FILE, dir);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0 && !fstat(fd, &st) && st.st_size == sizeof(*table))
			table = mmap(NULL, sizeof(*table), PROT_READ, MAP_SHARED, fd, 0);
		if (table == MAP_FAILED)
			table = NULL;
		if (fd >= 0)
			close(fd);
	}
	for (unsigned i = 0; table && i < CM_SERVICES_RECORDS; i++) {
		const struct cm_service_record *r = &table->records[i];
		/* relaxed: nothing else of the record is read. */
		uint32_t flags = __atomic_load_n(&r->flags, __ATOMIC_RELAXED);

		if (flags & CM_SERVICE_USED && flags & CM_SERVICE_LISTENS &&
		    __atomic_load_n(&r->pid, __ATOMIC_RELAXED) == pid)
			return true;
	}
	return false;
}

/* Field 5 of /proc/PID/stat; -1: it has ended. */
static pid_t group_of(const char *pid)
{
	char path[64], buf[512];
	const char *p = NULL;
	int group = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	f = fopen(path, "re");
	if (f && fgets(buf, sizeof(buf), f))
		p = strrchr(buf, ')');
	if (!p || sscanf(p, ") %*c %*d %d", &group) != 1)
		group = -1;
	if (f)
		fclose(f);
	return group;
}

bool group_listens(pid_t group)
{
	DIR *proc = opendir("/proc");
	bool found = false;
	struct dirent *e;

	while (proc && !found && (e = readdir(proc)))
		found = isdigit((unsigned char)e->d_name[0]) && group_of(e->d_name) == group &&
			(listens_tcp(e->d_name, "tcp") || listens_tcp(e->d_name, "tcp6") ||
			 listens_cm(strtoul(e->d_name, NULL, 10)));
	if (proc)
		closedir(proc);
	return found;
}
