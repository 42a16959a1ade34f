/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "odpcmp.h"

#ifndef UODP_VERSION
#define UODP_VERSION "unknown"
#endif

enum {
	OPT_KIND = 256,
	OPT_EVENT,
	OPT_MR,
	OPT_OP,
	OPT_DIR,
	OPT_TIMEOUT,
	OPT_JSON,
	OPT_COMPARE,
	OPT_FROM,
	OPT_LIST,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "ib-dev", required_argument, NULL, 'd' },
	{ "ib-port", required_argument, NULL, 'i' },
	{ "gid-index", required_argument, NULL, 'g' },
	{ "kind", required_argument, NULL, OPT_KIND },
	{ "event", required_argument, NULL, OPT_EVENT },
	{ "mr", required_argument, NULL, OPT_MR },
	{ "op", required_argument, NULL, OPT_OP },
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "compare", required_argument, NULL, OPT_COMPARE },
	{ "from", required_argument, NULL, OPT_FROM },
	{ "list", no_argument, NULL, OPT_LIST },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static void print_help(void)
{
	puts("Usage: " PROGRAM " [options]\n"
	     "Show what RDMA sees after memory changes, with pinned and with ODP regions.\n"
	     "\n"
	     "  -d, --ib-dev=NAME     the device (default: the first one)\n"
	     "  -i, --ib-port=PORT    its port (default: 1)\n"
	     "  -g, --gid-index=N     the GID (default: RoCE v2 with an IPv4 address)\n"
	     "      --kind=LIST       kinds of memory, separated by commas (see --list)\n"
	     "      --event=LIST      what happens to it\n"
	     "      --mr=LIST         pinned, odp\n"
	     "      --op=LIST         read, write\n"
	     "      --dir=DIR         where to make files on disk (default: /var/tmp)\n"
	     "      --timeout=SEC     the longest that a cell may take (default: 10)\n"
	     "      --json            print JSON instead of a table\n"
	     "      --compare=FILE    compare with the JSON of another run; differences are\n"
	     "                        listed and give exit status 1\n"
	     "      --from=FILE       take the answers from the JSON of a run, ask no device\n"
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

static void complain_unknown(const char *what, const char *word, const char *(*name)(size_t i))
{
	size_t i;

	fprintf(stderr, PROGRAM ": --%s: '%s' is none of", what, word);
	for (i = 0; name(i); i++)
		fprintf(stderr, "%s %s", i ? "," : "", name(i));
	fputc('\n', stderr);
}

/* A list given twice adds up. */
static bool select_names(const char *what, const char *list, const char *(*name)(size_t i),
			 bool *selected)
{
	char *copy = strdup(list), *rest = copy, *word;
	bool good = copy;
	size_t i;

	while (good && (word = strsep(&rest, ","))) {
		for (i = 0; name(i) && strcmp(name(i), word); i++)
			;
		good = name(i);
		if (good)
			selected[i] = true;
		else
			complain_unknown(what, word, name);
	}
	free(copy);
	return good;
}

/* Nothing named means everything. True if something was. */
static bool complete(bool *selected, size_t num)
{
	size_t i;

	for (i = 0; i < num; i++)
		if (selected[i])
			return true;
	memset(selected, true, num * sizeof(*selected));
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

static bool parse_option(struct options *opt, int c, const char *arg)
{
	int seconds;

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
	case OPT_DIR:
		opt->dir = arg;
		return true;
	case OPT_TIMEOUT:
		if (!parse_number("timeout", arg, 1, 3600, &seconds))
			return false;
		opt->timeout = seconds;
		return true;
	case OPT_JSON:
		opt->json = true;
		return true;
	case OPT_COMPARE:
		opt->compare = arg;
		return true;
	case OPT_FROM:
		opt->from = arg;
		return true;
	case OPT_LIST:
		opt->list = true;
		return true;
	default:
		return false;
	}
}

enum options_result options_parse(struct options *opt, int argc, char **argv)
{
	int c;

	*opt = (struct options){ .port = 1, .gid_index = -1, .dir = "/var/tmp", .timeout = 10 };
	while ((c = getopt_long(argc, argv, "d:i:g:vh", long_options, NULL)) != -1) {
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
	opt->kinds_named = complete(opt->kinds, num_kinds);
	opt->events_named = complete(opt->events, num_events);
	complete(opt->mrs, NUM_MR_KINDS);
	complete(opt->ops, num_operations);
	return OPTIONS_RUN;
}

void options_list(FILE *out)
{
	size_t i;

	fputs("kinds of memory (--kind)\n", out);
	for (i = 0; i < num_kinds; i++)
		fprintf(out, "  %-14s %s\n", kinds[i].name, kinds[i].help);
	fputs("events (--event)\n", out);
	for (i = 0; i < num_events; i++)
		fprintf(out, "  %-14s %s\n", events[i].name, events[i].help);
	fputs("memory regions (--mr)\n", out);
	for (i = 0; i < NUM_MR_KINDS; i++)
		fprintf(out, "  %-14s %s\n", mr_names[i].name, mr_names[i].help);
	fputs("operations (--op)\n", out);
	for (i = 0; i < num_operations; i++)
		fprintf(out, "  %-14s %s\n", operations[i].name, operations[i].help);
}
