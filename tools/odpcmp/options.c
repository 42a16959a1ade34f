/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"

#ifndef UODP_VERSION
#define UODP_VERSION "unknown"
#endif

enum {
	OPT_KIND = 256,
	OPT_FS,
	OPT_POLICY,
	OPT_LEASE_MS,
	OPT_EVENT,
	OPT_MR,
	OPT_OP,
	OPT_DIR,
	OPT_TIMEOUT,
	OPT_JSON,
	OPT_COMPARE,
	OPT_ACCEPT,
	OPT_SIDE_BY_SIDE,
	OPT_ALL,
	OPT_FROM,
	OPT_REPORT,
	OPT_TRAFFIC,
	OPT_TRAFFIC_MS,
	OPT_LIST,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{"ib-dev", required_argument, NULL, 'd'},
	{"ib-port", required_argument, NULL, 'i'},
	{"gid-index", required_argument, NULL, 'g'},
	{"kind", required_argument, NULL, OPT_KIND},
	{"event", required_argument, NULL, OPT_EVENT},
	{"mr", required_argument, NULL, OPT_MR},
	{"op", required_argument, NULL, OPT_OP},
	{"fs", required_argument, NULL, OPT_FS},
	{"policy", required_argument, NULL, OPT_POLICY},
	{"lease-ms", required_argument, NULL, OPT_LEASE_MS},
	{"dir", required_argument, NULL, OPT_DIR},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"json", no_argument, NULL, OPT_JSON},
	{"compare", required_argument, NULL, OPT_COMPARE},
	{"accept", required_argument, NULL, OPT_ACCEPT},
	{"side-by-side", no_argument, NULL, OPT_SIDE_BY_SIDE},
	{"all", no_argument, NULL, OPT_ALL},
	{"jobs", required_argument, NULL, 'j'},
	{"from", required_argument, NULL, OPT_FROM},
	{"report", required_argument, NULL, OPT_REPORT},
	{"traffic", optional_argument, NULL, OPT_TRAFFIC},
	{"traffic-ms", required_argument, NULL, OPT_TRAFFIC_MS},
	{"list", no_argument, NULL, OPT_LIST},
	{"verbose", no_argument, NULL, 'v'},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static void print_help(void)
{
	puts("Usage: " PROGRAM " [options]\n"
	     "Show what RDMA sees after memory changes, with pinned and with ODP regions.\n"
	     "\n"
	     "  -d, --ib-dev=NAME     the device (default: the first one)\n"
	     "  -i, --ib-port=PORT    its port (default: 1)\n"
	     "  -g, --gid-index=N     the GID (default: RoCE v2 with an IPv4 address)\n"
	     "      --kind=LIST       kinds of memory, separated by commas, or all (see --list)\n"
	     "      --event=LIST      what happens to it\n"
	     "      --mr=LIST         pinned, odp\n"
	     "      --op=LIST         read, write, send, recv, atomic\n"
	     "      --all             all kinds, events, regions and operations\n"
	     "      --fs=odpfs        ask for files on an odpfs of odpcmp's own, under every "
	     "policy\n"
	     "                        for regions whose blocks are taken away\n"
	     "      --policy=LIST     only these: odp, pinned, scratch, revoke, lease, kill, deny\n"
	     "      --lease-ms=MS     the time that lease and kill give (default: 100)\n"
	     "      --dir=DIR         where to make files on disk (default: /var/tmp)\n"
	     "      --timeout=SEC     the longest that a cell may take (default: 10)\n"
	     "  -j, --jobs=N          processes that work at once (default: 1; with --fs: 4)\n"
	     "      --json            print JSON instead of a table\n"
	     "      --compare=FILE    compare with the JSON of another run; differences are\n"
	     "                        listed and give exit status 1; of several files, one\n"
	     "                        that agrees will do\n"
	     "      --side-by-side    print the answers of all these runs in one table\n"
	     "      --accept=FILE     cells that may differ, with their reasons\n"
	     "      --from=FILE       take the answers from the JSON of a run, ask no device\n"
	     "      --report=FILE     write a page of HTML with the matrix and, of a device, an\n"
	     "                        event under traffic\n"
	     "      --traffic[=WHAT]  an event under traffic: anon:dontneed (default),\n"
	     "                        memfd:punch, memfd:truncate-grow\n"
	     "      --traffic-ms=MS   how long, for each kind of region (default: 2000)\n"
	     "      --list            list kinds, events, regions and operations\n"
	     "  -v, --verbose         one line a cell on standard error\n"
	     "      --version         print the version\n"
	     "  -h, --help            print this help\n"
	     "\n"
	     "Exit status: 0 fine; 1 a cell failed or differs, or there is no device; 2 usage.");
}

static const char *kind_name(size_t i)
{
	return i < num_kinds ? kinds[i].name : NULL;
}

static const char *event_name(size_t i)
{
	return i < num_events ? events[i].name : NULL;
}

static const char *mr_name(size_t i)
{
	return i < NUM_MR_KINDS ? mr_names[i].name : NULL;
}

static const char *op_name(size_t i)
{
	return i < num_operations ? operations[i].name : NULL;
}

/* The first one is: none. */
static const char *policy_name(size_t i)
{
	return i + 1 < NUM_POLICIES ? policies[i + 1].name : NULL;
}

static const char *traffic_name(size_t i)
{
	return i < num_traffic_events ? traffic_events[i].name : NULL;
}

static void complain_unknown(const char *what, const char *word, const char *(*name)(size_t i))
{
	size_t i;

	fprintf(stderr, PROGRAM ": --%s: '%s' is none of", what, word);
	for (i = 0; name(i); i++)
		fprintf(stderr, "%s %s", i ? "," : "", name(i));
	fputc('\n', stderr);
}

static bool select_name(const char *what, const char *word, const char *(*name)(size_t i),
			bool *selected)
{
	bool all = !strcmp(word, "all"), found = false;
	size_t i;

	for (i = 0; name(i); i++)
		if (all || !strcmp(name(i), word))
			found = selected[i] = true;
	if (!found)
		complain_unknown(what, word, name);
	return found;
}

/* A list given twice adds up. */
static bool select_names(const char *what, const char *list, const char *(*name)(size_t i),
			 bool *selected)
{
	char *copy = strdup(list), *rest = copy, *word;
	bool good = copy;

	while (good && (word = strsep(&rest, ",")))
		good = select_name(what, word, name, selected);
	free(copy);
	return good;
}

static bool kind_usual(size_t i)
{
	return kinds[i].usual;
}

static bool event_usual(size_t i)
{
	return events[i].usual;
}

static bool op_usual(size_t i)
{
	return operations[i].usual;
}

static bool event_fs_usual(size_t i)
{
	return events[i].fs_usual;
}

static bool kind_on_disk(size_t i)
{
	return kinds[i].flags & KIND_DISK;
}

static bool kind_fs_usual(size_t i)
{
	return kind_on_disk(i) && kinds[i].usual;
}

static bool always(size_t i)
{
	(void)i;
	return true;
}

/* Nothing named means what is usual. True if something was. */
static bool complete(bool *selected, size_t num, bool (*usual)(size_t i))
{
	size_t i;

	for (i = 0; i < num; i++)
		if (selected[i])
			return true;
	for (i = 0; i < num; i++)
		selected[i] = usual(i);
	return false;
}

static bool parse_number(const char *what, const char *text, int min, int max, int *value)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (!*text || *end || number < min || number > max) {
		fprintf(stderr, PROGRAM ": --%s: '%s' is no number from %d to %d\n", what, text,
			min, max);
		return false;
	}
	*value = number;
	return true;
}

static bool parse_traffic(struct options *opt, const char *name)
{
	opt->traffic = name ? traffic_event_find(name) : &traffic_events[0];
	if (!opt->traffic)
		complain_unknown("traffic", name, traffic_name);
	return opt->traffic;
}

static bool parse_compare(struct options *opt, const char *path)
{
	if (opt->compared < MAX_COMPARED) {
		opt->compare[opt->compared++] = path;
		return true;
	}
	fprintf(stderr, PROGRAM ": --compare: at most %d files\n", MAX_COMPARED);
	return false;
}

static bool parse_option(struct options *opt, int c, const char *arg)
{
	int number;

	switch (c) {
	case 'd':
		opt->device = arg;
		return true;
	case 'i':
		return parse_number("ib-port", arg, 1, 255, &opt->port);
	case 'g':
		return parse_number("gid-index", arg, 0, 65535, &opt->gid_index);
	case 'v':
		opt->verbose = true;
		return true;
	case OPT_KIND:
		return select_names("kind", arg, kind_name, opt->kinds);
	case OPT_EVENT:
		return select_names("event", arg, event_name, opt->events);
	case OPT_MR:
		return select_names("mr", arg, mr_name, opt->mrs);
	case OPT_OP:
		return select_names("op", arg, op_name, opt->ops);
	case OPT_FS:
		opt->fs = true;
		if (strcmp(arg, "odpfs"))
			fprintf(stderr, PROGRAM ": --fs: '%s' is none of odpfs\n", arg);
		return !strcmp(arg, "odpfs");
	case OPT_POLICY:
		return select_names("policy", arg, policy_name, opt->policies + 1);
	case OPT_LEASE_MS:
		if (!parse_number("lease-ms", arg, 1, 60000, &number))
			return false;
		opt->lease_ms = number;
		opt->lease_named = true;
		return true;
	case OPT_DIR:
		opt->dir = arg;
		return true;
	case OPT_TIMEOUT:
		if (!parse_number("timeout", arg, 1, 3600, &number))
			return false;
		opt->timeout = number;
		return true;
	case OPT_JSON:
		opt->json = true;
		return true;
	case OPT_COMPARE:
		return parse_compare(opt, arg);
	case OPT_SIDE_BY_SIDE:
		opt->beside = true;
		return true;
	case OPT_ACCEPT:
		opt->accept = arg;
		return true;
	case OPT_ALL:
		opt->all = true;
		return true;
	case 'j':
		if (!parse_number("jobs", arg, 1, MAX_JOBS, &number))
			return false;
		opt->jobs = number;
		opt->jobs_named = true;
		return true;
	case OPT_FROM:
		opt->from = arg;
		return true;
	case OPT_REPORT:
		opt->report = arg;
		return true;
	case OPT_TRAFFIC:
		return parse_traffic(opt, arg);
	case OPT_TRAFFIC_MS:
		if (!parse_number("traffic-ms", arg, 500, TRAFFIC_MAX_MS, &number))
			return false;
		opt->traffic_ms = number;
		return true;
	case OPT_LIST:
		opt->list = true;
		return true;
	default:
		return false;
	}
}

static bool file_selected(const struct options *opt)
{
	size_t i;

	for (i = 0; i < num_kinds; i++)
		if (opt->kinds[i] && kind_on_disk(i))
			return true;
	return false;
}

static bool policy_named(const struct options *opt)
{
	size_t i;

	for (i = 1; i < NUM_POLICIES; i++)
		if (opt->policies[i])
			return true;
	return false;
}

enum options_result options_parse(struct options *opt, int argc, char **argv)
{
	bool all;
	int c;

	*opt = (struct options){
		.port = 1,
		.gid_index = -1,
		.dir = "/var/tmp",
		.timeout = 10,
		.jobs = 1,
		.lease_ms = 100,
		.traffic_ms = 2000,
	};
	while ((c = getopt_long(argc, argv, "d:i:g:j:vh", long_options, NULL)) != -1) {
		if (c == 'h') {
			print_help();
			return OPTIONS_DONE;
		}
		if (c == OPT_VERSION) {
			puts(PROGRAM " " UODP_VERSION);
			return OPTIONS_DONE;
		}
		if (!parse_option(opt, c, optarg))
			return OPTIONS_BAD;
	}
	if (optind < argc) {
		fprintf(stderr, PROGRAM ": '%s' is no option\n", argv[optind]);
		return OPTIONS_BAD;
	}
	if ((opt->accept || opt->beside) && !opt->compared) {
		fprintf(stderr, PROGRAM ": --%s needs --compare\n",
			opt->accept ? "accept" : "side-by-side");
		return OPTIONS_BAD;
	}
	if (opt->fs && (opt->from || opt->traffic)) {
		fputs(PROGRAM ": --fs asks a device for cells, without --from and --traffic\n",
		      stderr);
		return OPTIONS_BAD;
	}
	if (!opt->fs && ((!opt->from && policy_named(opt)) || opt->lease_named)) {
		fprintf(stderr, PROGRAM ": --%s needs --fs odpfs\n",
			opt->lease_named ? "lease-ms" : "policy");
		return OPTIONS_BAD;
	}
	if (opt->traffic && opt->from) {
		fputs(PROGRAM ": --traffic needs a device, --from has none\n", stderr);
		return OPTIONS_BAD;
	}
	if (opt->report && !opt->from && !opt->fs && !opt->traffic)
		opt->traffic = &traffic_events[0];
	/* A saved run is shown as it is. */
	all = opt->all || opt->from;
	if (opt->fs) {
		complete(opt->kinds, num_kinds, all ? kind_on_disk : kind_fs_usual);
		if (!file_selected(opt)) {
			fputs(PROGRAM
			      ": --fs odpfs is for kinds of memory that are files in --dir\n",
			      stderr);
			return OPTIONS_BAD;
		}
		opt->events_named =
			complete(opt->events, num_events, all ? always : event_fs_usual);
	}
	opt->kinds_named = complete(opt->kinds, num_kinds, all ? always : kind_usual);
	opt->events_named |= complete(opt->events, num_events, all ? always : event_usual);
	if (opt->fs || opt->from)
		complete(opt->policies + 1, NUM_POLICIES - 1, always);
	opt->policies[0] = !opt->fs;
	if (opt->fs && !opt->jobs_named)
		opt->jobs = 4;
	complete(opt->mrs, NUM_MR_KINDS, always);
	complete(opt->ops, num_operations, all ? always : op_usual);
	return OPTIONS_RUN;
}

static void list_names(FILE *out, const char *title, const char *name_of_option, size_t num,
		       const char *(*name)(size_t i), const char *(*help)(size_t i),
		       bool (*usual)(size_t i))
{
	size_t i;

	fprintf(out, "%s (--%s)\n", title, name_of_option);
	for (i = 0; i < num; i++)
		fprintf(out, "%s %-20s %s\n", usual(i) ? "*" : " ", name(i), help(i));
}

static const char *kind_help(size_t i)
{
	return kinds[i].help;
}

static const char *event_help(size_t i)
{
	return events[i].help;
}

static const char *policy_help(size_t i)
{
	return policies[i + 1].help;
}

static const char *mr_help(size_t i)
{
	return mr_names[i].help;
}

static const char *op_help(size_t i)
{
	return operations[i].help;
}

void options_list(FILE *out)
{
	list_names(out, "kinds of memory", "kind", num_kinds, kind_name, kind_help, kind_usual);
	list_names(out, "events", "event", num_events, event_name, event_help, event_usual);
	list_names(out, "memory regions", "mr", NUM_MR_KINDS, mr_name, mr_help, always);
	list_names(out, "operations", "op", num_operations, op_name, op_help, op_usual);
	list_names(out, "policies, with --fs odpfs", "policy", NUM_POLICIES - 1, policy_name,
		   policy_help, always);
	fputs("* what is asked when none of its list is named\n", out);
}
