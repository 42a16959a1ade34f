/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Plots of an event under traffic. */
#include <math.h>
#include <string.h>

#include "report.h"

enum {
	WIDTH = 1000,
	HEIGHT = 230,
	LEFT = 66,
	RIGHT = 16,
	TOP = 38,
	BOTTOM = 34,
};

struct plot {
	FILE *out;
	const struct traffic *traffic;
	double max_ms;
	double max; /* of the values */
	double min; /* where the axis is logarithmic, else 0 */
};

static double plot_x(const struct plot *plot, double ms)
{
	return LEFT + ms / plot->max_ms * (WIDTH - LEFT - RIGHT);
}

static double plot_y(const struct plot *plot, double value)
{
	double part = value / plot->max;

	if (plot->min > 0)
		part = value > plot->min ? log(value / plot->min) / log(plot->max / plot->min) : 0;
	return HEIGHT - BOTTOM - fmin(part, 1) * (HEIGHT - TOP - BOTTOM);
}

/* The next of 1, 2, 5, 10, ... that divides max into five steps at most. */
static double nice_step(double max)
{
	double power = pow(10, floor(log10(max / 5))), rest = max / 5 / power;

	return (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10) * power;
}

static void plot_line(const struct plot *plot, double value)
{
	double y = plot_y(plot, value);

	fprintf(plot->out,
		"<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f />"
		"<text x=%d y=%.1f text-anchor=end>%.10g</text>\n",
		LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4, value);
}

static void plot_axes(struct plot *plot, const char *title)
{
	double step, value;
	int ms;

	fprintf(plot->out,
		"<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"%s\">\n"
		"<text class=title x=%d y=22>%s</text>\n",
		WIDTH, HEIGHT, title, LEFT, title);
	if (plot->min > 0) {
		plot->max = pow(10, ceil(log10(plot->max)));
		for (value = plot->min; value <= plot->max * 1.001; value *= 10)
			plot_line(plot, value);
	} else {
		step = nice_step(plot->max);
		plot->max = ceil(plot->max / step) * step;
		for (value = 0; value <= plot->max * 1.001; value += step)
			plot_line(plot, value);
	}
	for (ms = 0; ms <= plot->max_ms; ms += plot->max_ms > 5000 ? 1000 : 250)
		fprintf(plot->out, "<text x=%.1f y=%d text-anchor=middle>%g s</text>\n",
			plot_x(plot, ms), HEIGHT - 12, ms / 1e3);
}

static const struct traffic_curve *curve_of(const struct traffic *traffic, size_t mr)
{
	const struct traffic_curve *curve = &traffic->curves[mr];

	return curve->asked && !*curve->error ? curve : NULL;
}

static void plot_events(const struct plot *plot)
{
	const struct traffic_curve *curve = NULL;
	size_t mr, i;

	for (mr = 0; mr < NUM_MR_KINDS && !curve; mr++)
		curve = curve_of(plot->traffic, mr);
	for (i = 0; curve && i < curve->num_events; i++)
		fprintf(plot->out, "<line class=event x1=%.1f x2=%.1f y1=%d y2=%d />\n",
			plot_x(plot, curve->events_ms[i]), plot_x(plot, curve->events_ms[i]), TOP,
			HEIGHT - BOTTOM);
}

static void plot_key(const struct plot *plot)
{
	int x = WIDTH - RIGHT - 330;
	size_t mr;

	for (mr = 0; mr < NUM_MR_KINDS; mr++, x += 100)
		if (curve_of(plot->traffic, mr))
			fprintf(plot->out,
				"<rect class=\"dot %s\" x=%d y=13 width=18 height=3 />"
				"<text class=%s x=%d y=20>%s</text>\n",
				mr_names[mr].name, x, mr_names[mr].name, x + 24,
				mr_names[mr].title);
	fprintf(plot->out,
		"<line class=event x1=%d x2=%d y1=8 y2=22 /><text x=%d y=20>the "
		"event</text></svg>\n",
		x + 10, x + 10, x + 18);
}

static double bin_rate(const struct traffic *traffic, const struct traffic_bin *bin)
{
	return traffic_rate(traffic, bin);
}

static double bin_slowest(const struct traffic *traffic, const struct traffic_bin *bin)
{
	(void)traffic;
	return bin->slowest_ns / 1e3;
}

static double bin_errors(const struct traffic *traffic, const struct traffic_bin *bin)
{
	(void)traffic;
	return bin->errors;
}

typedef double bin_value(const struct traffic *traffic, const struct traffic_bin *bin);

/* Where the axis is logarithmic, nothing has no place on it: a gap. */
static void plot_curve(const struct plot *plot, size_t mr, bin_value *value)
{
	const struct traffic_curve *curve = curve_of(plot->traffic, mr);
	bool drawn, drawing = false;
	double x, v;
	size_t i;

	for (i = 0; curve && i < curve->num_bins; i++) {
		x = plot_x(plot, (i + 0.5) * TRAFFIC_BIN_MS);
		v = value(plot->traffic, &curve->bins[i]);
		drawn = v > 0 || plot->min <= 0;
		if (drawn && !drawing) /* the point twice: a dot, if it stays alone */
			fprintf(plot->out, "<polyline class=\"curve %s\" points=\"%.1f,%.1f ",
				mr_names[mr].name, x, plot_y(plot, v));
		if (drawn)
			fprintf(plot->out, "%.1f,%.1f ", x, plot_y(plot, v));
		if (drawing && !drawn)
			fputs("\"/>\n", plot->out);
		drawing = drawn;
	}
	if (drawing)
		fputs("\"/>\n", plot->out);
}

static void plot_bins(struct plot *plot, const char *title, bin_value *value)
{
	const struct traffic_curve *curve;
	double highest = 0;
	size_t mr, i;

	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		curve = curve_of(plot->traffic, mr);
		for (i = 0; curve && i < curve->num_bins; i++)
			highest = fmax(highest, value(plot->traffic, &curve->bins[i]));
	}
	if (highest <= 0)
		return;
	plot->max = highest;
	plot_axes(plot, title);
	plot_events(plot);
	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		plot_curve(plot, mr, value);
	plot_key(plot);
}

/* Counters only grow: drawn as they stand. */
static void plot_faults(struct plot *plot)
{
	const struct traffic_curve *curve;
	double highest = 0;
	bool counted = false;
	size_t mr, i;

	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		curve = curve_of(plot->traffic, mr);
		if (!curve || !curve->num_samples)
			continue;
		counted = true;
		highest = fmax(highest, curve->samples[curve->num_samples - 1].faults);
	}
	if (highest <= 0) {
		fprintf(plot->out, "<p class=note>Page faults: %s.\n",
			counted ? "the device counted none"
				: "no counters are to be had of this device");
		return;
	}
	plot->max = highest;
	plot_axes(plot, "page faults of the region, so far");
	plot_events(plot);
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		curve = curve_of(plot->traffic, mr);
		if (!curve)
			continue;
		fprintf(plot->out, "<polyline class=\"curve %s\" points=\"", mr_names[mr].name);
		for (i = 0; i < curve->num_samples; i++)
			fprintf(plot->out, "%.1f,%.1f ", plot_x(plot, curve->samples[i].ms),
				plot_y(plot, curve->samples[i].faults));
		fputs("\"/>\n", plot->out);
	}
	plot_key(plot);
}

static void print_summary(const struct report *r)
{
	const struct traffic *traffic = r->traffic;
	struct traffic_summary sum;
	size_t mr;

	fputs("<div class=scroll><table class=plain><tr><th>region<th>throughput"
	      "<th>median of 10 ms<th>slowest transfer<th>events<th>the event takes<th>errors"
	      "<th>page faults</tr>\n",
	      r->out);
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		if (!traffic->curves[mr].asked)
			continue;
		fprintf(r->out, "<tr><td>%s", mr_names[mr].title);
		if (*traffic->curves[mr].error) {
			fputs("<td colspan=7>", r->out);
			report_text(r->out, traffic->curves[mr].error);
			continue;
		}
		sum = traffic_sum_up(traffic, mr);
		fprintf(r->out,
			"<td>%.0f MB/s<td>%.0f MB/s<td>%.0f µs<td>%zu<td>%.2f ms<td>%llu<td>",
			sum.rate, sum.rate_between, sum.slowest_us, traffic->curves[mr].num_events,
			sum.event_ms, (unsigned long long)sum.errors);
		if (traffic->curves[mr].num_samples)
			fprintf(r->out, "%llu", (unsigned long long)sum.faults);
	}
	fputs("</table></div>\n", r->out);
}

void report_traffic(const struct report *r)
{
	const struct traffic *traffic = r->traffic;
	struct plot plot = {.out = r->out, .traffic = traffic};
	size_t mr;

	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		plot.max_ms =
			fmax(plot.max_ms, (double)traffic->curves[mr].num_bins * TRAFFIC_BIN_MS);
	fputs("<section><h2>Under traffic: ", r->out);
	report_text(r->out, traffic->event->what);
	fprintf(r->out,
		"</h2>\n<p class=note>A peer reads and writes %zu KiB page after page, %zu bytes "
		"at a "
		"time, one transfer under way; the event strikes all of it every %d ms. One run "
		"for "
		"each kind of region, drawn over each other.\n",
		traffic->region >> 10, traffic->transfer, TRAFFIC_PERIOD_MS);
	if (plot.max_ms > 0) {
		plot_bins(&plot, "throughput, MB/s (10 ms each)", bin_rate);
		plot_faults(&plot);
		plot.min = 1;
		plot_bins(&plot, "slowest transfer in 10 ms, µs", bin_slowest);
		plot.min = 0;
		plot_bins(&plot, "transfers that failed in 10 ms", bin_errors);
	}
	print_summary(r);
	fputs("</section>\n", r->out);
}
