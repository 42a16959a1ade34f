/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Run a program with uodp devices: preload the provider, set its variables. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "uodprun/pair.h"

static const char usage[] =
	"Usage: uodprun [OPTION]... COMMAND [ARG]...\n"
	"       uodprun [OPTION]... --pair COMMAND [ARG]... [-- CLIENT [ARG]...]\n"
	"Run COMMAND with uodp devices among its RDMA devices; with --pair, run it as a server,\n"
	"and as its client, once it listens, CLIENT, or COMMAND with 127.0.0.1 at its end.\n"
	"\n"
	"  -d, --devices=NAME[,NAME]...  the devices' names (default: uodp0)\n"
	"  -o, --only                    hide all other RDMA devices\n"
	"  -D, --dir=DIR                 the run directory; processes that use the same\n"
	"                                one reach each other\n"
	"  -b, --backing=auto|pool|va    where registered memory is kept\n"
	"  -p, --pair                    run two processes, a server and its client\n"
	"  -h, --help                    print this and exit\n"
	"  -V, --version                 print the version and exit\n"
	"\n"
	"See uodprun(1) and uodp(7).\n";

void die(int status, const char *fmt, ...)
{
	va_list args;

	fputs("uodprun: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

static void env_put(const char *name, const char *value)
{
	if (setenv(name, value, 1))
		die(EXIT_SETUP, "cannot set %s: %s", name, strerror(errno));
}

/* Below the directory above the program's own: as built, and as installed. */
static bool provider_beside(char *path, size_t size)
{
	static const char *const places[] = {"lib", UODP_PROVIDER_BELOW};
	char exe[PATH_MAX], *slash;
	ssize_t n;

	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n <= 0)
		return false;
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	*slash = '\0';
	slash = strrchr(exe, '/');
	for (unsigned i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		n = snprintf(path, size, "%.*s/%s/" UODP_PROVIDER_FILE, (int)(slash - exe), exe,
			     places[i]);
		if (n < (ssize_t)size && !access(path, R_OK))
			return true;
	}
	return false;
}

static void provider_find(char *path, size_t size)
{
	if (provider_beside(path, size))
		return;
	/* Where it was to be installed. */
	snprintf(path, size, "%s", UODP_PROVIDER_DIR "/" UODP_PROVIDER_FILE);
	if (access(path, R_OK))
		die(EXIT_SETUP,
		    "cannot find the provider %s: neither beside this program (../lib) nor in %s",
		    UODP_PROVIDER_FILE, UODP_PROVIDER_DIR);
}

/* LD_PRELOAD is FIRST, the provider, and what was there before. */
static void preload_set(void)
{
	const char *first = getenv("UODP_PRELOAD_FIRST"), *old = getenv("LD_PRELOAD");
	char provider[PATH_MAX];
	char *list;

	provider_find(provider, sizeof(provider));
	/* The dynamic linker splits the list there. */
	if (strpbrk(provider, " :"))
		die(EXIT_SETUP,
		    "the path %s has a space or a colon in it, which LD_PRELOAD cannot hold",
		    provider);
	if (asprintf(&list, "%s%s%s%s%s", first ? first : "", first && *first ? ":" : "", provider,
		     old && *old ? ":" : "", old ? old : "") < 0)
		die(EXIT_SETUP, "%s", strerror(ENOMEM));
	env_put("LD_PRELOAD", list);
	free(list);
}

/*
 * The address sanitizer's runtime, where it is a library, wants to be the first one.
 * The provider may be in front of it: it hands on what both stand in front of. Not
 * preloaded itself, since what COMMAND starts in its turn would get it too.
 */
static void asan_set(void)
{
	const char *old = getenv("ASAN_OPTIONS");
	char *options;

	if (old && strstr(old, "verify_asan_link_order"))
		return;
	if (asprintf(&options, "%s%sverify_asan_link_order=0", old ? old : "",
		     old && *old ? ":" : "") < 0)
		die(EXIT_SETUP, "%s", strerror(ENOMEM));
	env_put("ASAN_OPTIONS", options);
	free(options);
}

/* Where execvp() will find NAME; false when it will not. */
static bool command_find(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH");
	size_t len;

	if (strchr(name, '/'))
		return snprintf(path, size, "%s", name) < (int)size;
	for (dirs = dirs ? dirs : "/bin:/usr/bin"; dirs; dirs = dirs[len] ? dirs + len + 1 : NULL) {
		len = strcspn(dirs, ":");
		if (snprintf(path, size, "%.*s%s%s", (int)len, dirs, len ? "/" : "", name) <
			    (int)size &&
		    !access(path, X_OK))
			return true;
	}
	return false;
}

/* The dynamic linker ignores LD_PRELOAD in programs that gain rights. */
static void command_check(const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	if (!command_find(name, path, sizeof(path)) || stat(path, &st) || !S_ISREG(st.st_mode))
		return;
	if (((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
	    ((st.st_mode & S_ISGID) && st.st_gid != getegid()))
		die(EXIT_CANNOT_RUN,
		    "%s is set-user-ID or set-group-ID: nothing can be preloaded into it", path);
}

static void backing_set(const char *value)
{
	if (strcmp(value, "auto") && strcmp(value, "pool") && strcmp(value, "va"))
		die(EXIT_USAGE, "--backing is auto, pool or va, not \"%s\"", value);
	env_put("UODP_BACKING", value);
}

static void dir_set(const char *value)
{
	char cwd[PATH_MAX], *path;

	if (!*value)
		die(EXIT_USAGE, "--dir needs a directory");
	if (*value == '/') {
		env_put("UODP_DIR", value);
		return;
	}
	/* COMMAND may change its directory before it opens a device. */
	if (!getcwd(cwd, sizeof(cwd)) || asprintf(&path, "%s/%s", cwd, value) < 0)
		die(EXIT_SETUP, "%s", strerror(errno));
	env_put("UODP_DIR", path);
	free(path);
}

static void devices_set(const char *value)
{
	if (!*value)
		die(EXIT_USAGE, "--devices needs a name");
	env_put("UODP_DEVICES", value);
}

/* Whether it is a pair. */
static bool options_parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"devices", required_argument, NULL, 'd'},
		{"only", no_argument, NULL, 'o'},
		{"dir", required_argument, NULL, 'D'},
		{"backing", required_argument, NULL, 'b'},
		{"pair", no_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	bool pair = false;
	int c;

	/* +: what follows COMMAND is COMMAND's */
	while ((c = getopt_long(argc, argv, "+d:oD:b:phV", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			devices_set(optarg);
			break;
		case 'o':
			env_put("UODP_ONLY", "1");
			break;
		case 'D':
			dir_set(optarg);
			break;
		case 'b':
			backing_set(optarg);
			break;
		case 'p':
			pair = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(fflush(stdout) ? EXIT_SETUP : 0);
		case 'V':
			puts("uodprun " UODP_VERSION);
			exit(fflush(stdout) ? EXIT_SETUP : 0);
		default:
			fputs("Try 'uodprun --help'.\n", stderr);
			exit(EXIT_USAGE);
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		exit(EXIT_USAGE);
	}
	return pair;
}

int main(int argc, char **argv)
{
	bool pair = options_parse(argc, argv);
	char **client = NULL;
	int err;

	argv += optind;
	if (pair)
		pair_split(argv, &argv, &client);
	command_check(argv[0]);
	if (pair)
		command_check(client[0]);
	preload_set();
	asan_set();
	if (pair)
		return pair_run(argv, client);
	execvp(argv[0], argv);
	err = errno;
	die(err == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "cannot run %s: %s", argv[0],
	    strerror(err));
}
