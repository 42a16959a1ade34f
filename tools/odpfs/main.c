/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* odpfs: options, the mount, the session. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odpfs.h"

/* Enough that some are left while others wait for the backing file system. */
#define MIN_THREADS 64

struct odpfs odpfs = {.root_fd = -1, .timeout = 1.0};

struct options {
	char *backing, *mountpoint;
	char *policy, *uodp, *lease, *timeout;
	bool fsname;
	int n_names; /* arguments that are no options */
};

static const char usage[] =
	"Usage: odpfs [OPTION]... BACKING MOUNTPOINT\n"
	"Show the directory BACKING at MOUNTPOINT as a file system that takes care of the\n"
	"memory regions on its files before a truncate takes their blocks away. Unmount\n"
	"with: fusermount3 -u MOUNTPOINT\n"
	"\n"
	"    -o policy=POLICY       what happens to regions: odp, pinned, scratch, revoke,\n"
	"                           lease, kill or deny (default: as each region says);\n"
	"                           implies uodp=require\n"
	"    -o lease_ms=N          how long the owner of a region has for lease and kill\n"
	"                           (default: /proc/sys/fs/lease-break-time)\n"
	"    -o uodp=auto           be a plain file system if there is no run directory\n"
	"    -o uodp=require        fail then\n"
	"    -o uodp=off            be one in any case\n"
	"    -o timeout=SECONDS     how long the kernel keeps names and attributes\n"
	"                           (default: 1)\n"
	"\n";

void odpfs_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("odpfs: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
}

__attribute__((noreturn)) static void usage_die(void)
{
	fputs("Try 'odpfs --help'.\n", stderr);
	exit(ODPFS_USAGE);
}

enum { KEY_FSNAME };

#define OPTION(text, field)                                                                        \
	{                                                                                          \
		text, offsetof(struct options, field), 0                                           \
	}
static const struct fuse_opt option_spec[] = {
	OPTION("policy=%s", policy),         OPTION("uodp=%s", uodp),
	OPTION("lease_ms=%s", lease),        OPTION("timeout=%s", timeout),
	FUSE_OPT_KEY("fsname=", KEY_FSNAME), FUSE_OPT_END,
};

/* 0: the argument is ours; 1: libfuse's. */
static int option_take(void *data, const char *arg, int key, struct fuse_args *args)
{
	struct options *options = data;

	(void)args;
	if (key == KEY_FSNAME)
		options->fsname = true;
	if (key != FUSE_OPT_KEY_NONOPT)
		return 1;
	if (options->n_names == 0)
		options->backing = strdup(arg);
	else if (options->n_names == 1)
		options->mountpoint = strdup(arg);
	options->n_names++;
	return 0;
}

static unsigned lease_parse(const char *text)
{
	char *end;
	unsigned long ms;

	if (!text)
		return 0;
	errno = 0;
	ms = strtoul(text, &end, 10);
	if (errno || *end || end == text || *text == '-' || ms < 1 || ms > 86400000) {
		odpfs_note("lease_ms takes milliseconds from 1 to 86400000, not \"%s\"", text);
		usage_die();
	}
	return (unsigned)ms;
}

static double timeout_parse(const char *text)
{
	char *end;
	double seconds;

	if (!text)
		return 1.0;
	errno = 0;
	seconds = strtod(text, &end);
	if (errno || *end || end == text || !(seconds >= 0 && seconds <= 1e6)) {
		odpfs_note("timeout takes seconds from 0 to 1000000, not \"%s\"", text);
		usage_die();
	}
	return seconds;
}

static void help_print(void)
{
	fputs(usage, stdout);
	fputs("Options of FUSE programs:\n", stdout);
	fuse_cmdline_help();
	fuse_lowlevel_help();
	fputs("\nSee odpfs(1) and uodp(7).\n", stdout);
}

static void options_parse(struct options *options, struct fuse_args *args,
			  struct fuse_cmdline_opts *common, struct recall_options *recall)
{
	if (fuse_opt_parse(args, options, option_spec, option_take) ||
	    fuse_parse_cmdline(args, common))
		usage_die();
	if (common->show_help || common->show_version) {
		if (common->show_help)
			help_print();
		else
			printf("odpfs " UODP_VERSION " (libfuse %s)\n", fuse_pkgversion());
		exit(fflush(stdout) ? ODPFS_FAILED : ODPFS_OK);
	}
	if (options->n_names != 2) {
		odpfs_note(options->n_names < 2 ? "BACKING and MOUNTPOINT are needed"
						: "BACKING and MOUNTPOINT, and no more");
		usage_die();
	}
	if (common->singlethread) {
		odpfs_note("-s: it takes several threads; a truncate may wait for a read");
		usage_die();
	}
	*recall = (struct recall_options){.policy = options->policy,
					  .uodp = options->uodp,
					  .lease_ms = lease_parse(options->lease)};
	if (recall_options_check(recall))
		usage_die();
	odpfs.timeout = timeout_parse(options->timeout);
}

static char *path_resolve(const char *what, const char *path)
{
	char *real = realpath(path, NULL);

	if (!real) {
		odpfs_note("%s %s: %s", what, path, strerror(errno));
		exit(ODPFS_FAILED);
	}
	return real;
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '/' || (n == 1 && path[n]));
}

static void paths_open(const struct options *options)
{
	int err;

	odpfs.backing = path_resolve("BACKING", options->backing);
	odpfs.mountpoint = path_resolve("MOUNTPOINT", options->mountpoint);
	if (is_below(odpfs.mountpoint, odpfs.backing)) {
		odpfs_note("%s is below %s: it would show itself; mount it elsewhere",
			   odpfs.mountpoint, odpfs.backing);
		exit(ODPFS_FAILED);
	}
	odpfs.root_fd = open(odpfs.backing, O_PATH | O_DIRECTORY | O_CLOEXEC);
	err = odpfs.root_fd < 0 ? -errno : node_init(odpfs.root_fd);
	if (err) {
		odpfs_note("BACKING %s: %s", odpfs.backing, strerror(-err));
		exit(ODPFS_FAILED);
	}
	if (backing_lock(odpfs.root_fd))
		exit(ODPFS_FAILED);
}

/* UODP_DIR may be relative to where we are now. */
static int dir_fix(void)
{
	const char *dir = getenv("UODP_DIR");
	char *here, *full;
	int err = 0;

	if (!dir || !*dir || *dir == '/')
		return 0;
	here = getcwd(NULL, 0);
	if (!here || asprintf(&full, "%s/%s", here, dir) < 0) {
		free(here);
		return -ENOMEM;
	}
	if (setenv("UODP_DIR", full, 1))
		err = -errno;
	free(here);
	free(full);
	return err;
}

/* What df and mount show; the kernel checks permissions by the attributes. */
static int mount_options_add(struct fuse_args *args, bool named)
{
	char *name = NULL;
	int err;

	if (fuse_opt_add_arg(args, "-osubtype=odpfs,default_permissions"))
		return -ENOMEM;
	if (named)
		return 0;
	if (asprintf(&name, "fsname=%s", odpfs.backing) < 0)
		return -ENOMEM;
	{
		char *escaped = NULL;

		err = fuse_opt_add_opt_escaped(&escaped, name);
		if (!err)
			err = fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, escaped);
		free(escaped);
	}
	free(name);
	return err ? -ENOMEM : 0;
}

static int session_run(const struct fuse_cmdline_opts *common)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int err;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, (unsigned)common->clone_fd);
	fuse_loop_cfg_set_max_threads(
		config, common->max_threads > MIN_THREADS ? common->max_threads : MIN_THREADS);
	err = fuse_session_loop_mt(odpfs.session, config);
	fuse_loop_cfg_destroy(config);
	return err;
}

static int serve(const struct fuse_cmdline_opts *common, const struct recall_options *recall)
{
	int err = daemon_begin(common->foreground);

	if (!err && !common->foreground)
		err = backing_relock();
	if (!err)
		err = inside_start();
	if (!err)
		err = leave_watch();
	if (!err)
		err = reclaim_start();
	if (err)
		odpfs_note("cannot start: %s", strerror(-err));
	if (!err)
		err = recall_attach(recall);
	if (err) {
		leave_now(); /* first: who waits for the status may look for the mount then */
		daemon_ready(ODPFS_FAILED);
		return ODPFS_FAILED;
	}
	daemon_ready(ODPFS_OK);
	err = session_run(common);
	if (err == -ECONNABORTED)
		err = 0; /* unmounted while the kernel had something to ask */
	if (err) {
		odpfs_note("the session ended: %s", strerror(err < 0 ? -err : err));
		leave_now();
	}
	return err ? ODPFS_FAILED : ODPFS_OK;
}

/* A recall may still wait for a lease, for someone who is gone: leave it all to exit. */
static void clean_up(bool mounted)
{
	if (aside_running())
		return;
	reclaim_stop();
	inside_stop();
	recall_detach();
	if (mounted)
		fuse_session_unmount(odpfs.session); /* closes, and frees, what it has */
	fuse_session_destroy(odpfs.session);
	dir_fini();
	node_fini();
	close(odpfs.root_fd);
	free((char *)odpfs.backing);
	free((char *)odpfs.mountpoint);
}

static int run(struct fuse_args *args, const struct options *options,
	       const struct fuse_cmdline_opts *common, const struct recall_options *recall)
{
	int status = ODPFS_FAILED;
	bool mounted;

	paths_open(options);
	odpfs.owns = geteuid() == 0;
	umask(0);
	if (dir_fix() || mount_options_add(args, options->fsname)) {
		odpfs_note("out of memory");
		return ODPFS_FAILED;
	}
	odpfs.session = fuse_session_new(args, &ops, sizeof(ops), NULL);
	if (!odpfs.session)
		usage_die(); /* it said what is wrong */
	mounted = !fuse_session_mount(odpfs.session, odpfs.mountpoint);
	if (mounted) {
		if (path_mount_dev(&odpfs.dev) || device_hook(odpfs.session)) {
			odpfs_note("cannot set the session up");
			leave_now();
		} else {
			status = serve(common, recall);
		}
	}
	clean_up(mounted);
	return status;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts common;
	struct recall_options recall;
	struct options options = {0};
	int status;

	options_parse(&options, &args, &common, &recall);
	status = run(&args, &options, &common, &recall);
	fuse_opt_free_args(&args);
	free(options.backing);
	free(options.mountpoint);
	free(options.policy);
	free(options.uodp);
	free(options.lease);
	free(options.timeout);
	free(common.mountpoint);
	return status;
}
