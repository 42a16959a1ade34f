/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* odpctl: options, subcommands, messages. */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odpctl.h"

static const char usage[] =
	"Usage: odpctl [OPTION]... [devices | processes | qps | cqs | mrs | stats | caps]\n"
	"       odpctl [OPTION]... {unplug | plug} DEVICE\n"
	"       odpctl [OPTION]... --file=FILE {mrs | revoke}\n"
	"Show what is attached to a run directory of uodp; without a subcommand, an\n"
	"overview. Take a device away from its programs, and give it back.\n"
	"\n"
	"  devices            the devices, their addresses, and who has them open\n"
	"  processes          the attached processes, and what each of them holds\n"
	"  qps                queue pairs\n"
	"  cqs                completion queues\n"
	"  mrs                memory regions, pinned and on demand, with their faults\n"
	"  stats              page faults and invalidations, summed up by device\n"
	"  caps               what this host allows, and what each missing thing costs\n"
	"  unplug DEVICE      end the device for the processes that have it open, and\n"
	"                     let no other open it\n"
	"  plug DEVICE        let processes open it again\n"
	"  revoke             end the access through the memory regions on a file\n"
	"\n"
	"  -j, --json         print JSON\n"
	"  -p, --pid=PID      show, or act on, this process alone\n"
	"  -f, --file=FILE    memory regions on this file alone, whoever owns them\n"
	"  -r, --range=START[:LENGTH]\n"
	"                     on these bytes of it\n"
	"  -D, --dir=DIR      the run directory (default: as for uodprun)\n"
	"  -h, --help         print this and exit\n"
	"  -V, --version      print the version and exit\n"
	"\n"
	"See odpctl(1) and uodp(7).\n";

static const struct subcommand {
	const char *name;
	void (*show)(struct ctl *ctl);
	bool dir;    /* looks at the run directory */
	bool device; /* its argument names a device */
} subcommands[] = {
	{"devices", devices_show, true, false}, {"processes", processes_show, true, false},
	{"qps", qps_show, true, false},         {"cqs", cqs_show, true, false},
	{"mrs", mrs_show, true, false},         {"stats", stats_show, true, false},
	{"caps", caps_show, false, false},      {"unplug", unplug_run, true, true},
	{"plug", plug_run, true, true},         {"revoke", revoke_run, true, false},
};

static const struct subcommand overview = {"overview", overview_show, true, false};

static void line_print(const char *fmt, va_list args)
{
	fflush(stdout);
	fputs("odpctl: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
}

void ctl_note(struct ctl *ctl, const char *fmt, ...)
{
	va_list args;

	if (ctl->quiet)
		return;
	va_start(args, fmt);
	line_print(fmt, args);
	va_end(args);
}

void ctl_incomplete(struct ctl *ctl, const char *fmt, ...)
{
	va_list args;

	ctl->status = CTL_FAILED;
	if (ctl->quiet)
		return;
	va_start(args, fmt);
	line_print(fmt, args);
	va_end(args);
}

void ctl_fail(struct ctl *ctl, const char *text)
{
	if (ctl->json) {
		struct json_object *error = json_object_new_object();

		json_object_object_add(error, "error", json_object_new_string(text));
		puts(json_object_to_json_string_ext(error, JSON_C_TO_STRING_SPACED |
								   JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(error);
	}
	exit(CTL_FAILED);
}

void ctl_die(struct ctl *ctl, const char *fmt, ...)
{
	char line[512], text[sizeof(line)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	text_clean(text, sizeof(text), line, sizeof(line));
	ctl_note(ctl, "%s", text);
	ctl_fail(ctl, text);
}

void *ctl_realloc(void *p, size_t size)
{
	p = realloc(p, size);
	if (!p) {
		fputs("odpctl: out of memory\n", stderr);
		exit(CTL_FAILED);
	}
	return p;
}

__attribute__((noreturn, format(printf, 1, 2))) static void usage_die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line_print(fmt, args);
	va_end(args);
	fputs("Try 'odpctl --help'.\n", stderr);
	exit(CTL_USAGE);
}

__attribute__((noreturn)) static void print_and_exit(const char *text)
{
	fputs(text, stdout);
	exit(fflush(stdout) ? CTL_FAILED : CTL_OK);
}

static pid_t pid_parse(const char *text)
{
	char *end;
	long pid;

	errno = 0;
	pid = strtol(text, &end, 10);
	if (errno || *end || end == text || pid < 1 || pid > INT_MAX)
		usage_die("--pid takes the number of a process, not \"%s\"", text);
	return (pid_t)pid;
}

static void dir_set(const char *value)
{
	if (!*value)
		usage_die("--dir needs a directory");
	if (setenv("UODP_DIR", value, 1))
		usage_die("--dir: %s", strerror(errno));
}

static const struct subcommand *subcommand_find(const char *name)
{
	for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
		if (!strcmp(name, subcommands[i].name))
			return &subcommands[i];
	usage_die("there is no subcommand \"%s\"", name);
}

static const struct subcommand *options_parse(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},        {"pid", required_argument, NULL, 'p'},
		{"dir", required_argument, NULL, 'D'},   {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},     {"file", required_argument, NULL, 'f'},
		{"range", required_argument, NULL, 'r'}, {0},
	};
	const char *range = NULL;
	const struct subcommand *sub = &overview;
	int c;

	while ((c = getopt_long(argc, argv, "jp:D:f:r:hV", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			ctl->json = true;
			break;
		case 'p':
			ctl->pid = pid_parse(optarg);
			break;
		case 'f':
			file_set(ctl, optarg);
			break;
		case 'r':
			range = optarg;
			break;
		case 'D':
			dir_set(optarg);
			break;
		case 'h':
			print_and_exit(usage);
		case 'V':
			print_and_exit("odpctl " UODP_VERSION "\n");
		default:
			fputs("Try 'odpctl --help'.\n", stderr);
			exit(CTL_USAGE);
		}
	}
	if (optind < argc)
		sub = subcommand_find(argv[optind++]);
	if (sub->device && optind == argc)
		usage_die("%s needs the name of a device", sub->name);
	if (sub->device)
		ctl->device = argv[optind++];
	if (optind < argc)
		usage_die("one subcommand at a time, not \"%s\" too", argv[optind]);
	if (range && (!ctl->file.path || !range_set(&ctl->file, range)))
		usage_die("--range takes START[:LENGTH], in bytes of a --file, not \"%s\"", range);
	if (ctl->file.path && sub->show != mrs_show && sub->show != revoke_run)
		usage_die("%s takes no --file", sub->name);
	if (sub->show == revoke_run && !ctl->file.path)
		usage_die("revoke needs a --file");
	if (ctl->pid && !sub->dir)
		usage_die("%s is about the host: it takes no --pid", sub->name);
	return sub;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.dir_fd = -1, .domain_fd = -1};
	const struct subcommand *sub = options_parse(&ctl, argc, argv);

	if (sub->dir)
		domain_open(&ctl);
	sub->show(&ctl);
	if (fflush(stdout) || ferror(stdout)) {
		ctl_note(&ctl, "cannot write: %s", strerror(errno));
		return CTL_FAILED;
	}
	return ctl.status;
}
