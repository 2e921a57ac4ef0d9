/* bench_windows.c - `valley bench windows`: what each window policy costs beside recomputing
 * every window, as a table, CSV or JSON.
 *
 * Ratios of rows come from the schedule alone, over many windows; times from a few windows.
 * SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* For each policy with --json, so that all of it ends within the minute on a busy machine. */
#define MORE_MS 4000
/* How many windows the schedule is counted over. */
#define COUNTED_WINDOWS 512

static const char *const policy_names[] = { "tumbling", "anchored", "sliding", "streaming" };

/* Each adds a saving to the one before it.  The first two differ from naive recomputation in
 * keeping encodings, and what the policy keeps of keys and values. */
static const struct {
  const char *name;
  gboolean arrival, draft, still, unchanged;
} variants[] = {
  { "cache", FALSE, FALSE, FALSE, FALSE },
  { "cache+arrival", TRUE, FALSE, FALSE, FALSE },
  { "cache+arrival+draft", TRUE, TRUE, FALSE, FALSE },
  { "cache+arrival", TRUE, FALSE, TRUE, FALSE },
  { "cache+arrival+unchanged", TRUE, FALSE, TRUE, TRUE },
};
#define ALL_SAVINGS 2 /* of a scene that moves */

typedef struct {
  const char *policy, *savings, *scene;
  guint window, hop;
  double prefill_ratio, prefill_ratio_fixed, encode_ratio;
  guint64 predicted_bytes;
  BenchFigures figures;
} Row;

typedef struct {
  Bench bench;
  FILE *csv; /* or NULL */
  gboolean json, all_variants;
  guint n_rows;
} Report;

/* ---- output ---- */

static double
ratio (double a, double b)
{
  return b > 0 ? a / b : 0;
}

static void
print_json (Report *report, const Row *row)
{
  const BenchFigures *f = &row->figures;

  printf ("%s{\"policy\":\"%s\",\"window\":%u,\"hop\":%u,\"prefill_ratio\":%.3f,"
          "\"first_token_ratio\":%.3f,\"hop_ms\":%.3f,\"kv_bytes\":%" G_GUINT64_FORMAT
          ",\"exact\":%s,\"first_token_ms\":%.3f,\"naive_first_token_ms\":%.3f,"
          "\"hops_per_second\":%.3f,\"naive_hop_ms\":%.3f,\"encoding_bytes\":%" G_GUINT64_FORMAT
          ",\"predicted_bytes\":%" G_GUINT64_FORMAT "}",
          report->n_rows > 0 ? "," : "", row->policy, row->window, row->hop, row->prefill_ratio,
          f->first_token_ratio, f->hop_ms, f->kv_bytes, f->exact ? "true" : "false",
          f->first_token_ms, f->naive_first_token_ms, ratio (1000, f->hop_ms), f->naive_hop_ms,
          f->encoding_bytes, row->predicted_bytes);
}

static void
print_text (const Row *row)
{
  const BenchFigures *f = &row->figures;

  printf ("%2u %2u %-9s %-24s %-6s %7.2f %7.2f %7.2f %8.1f %8.1f %7.1f %7.2f %6.2f  %s\n",
          row->window, row->hop, row->policy, row->savings, row->scene, row->prefill_ratio,
          row->encode_ratio, f->first_token_ratio, f->first_token_ms, f->hop_ms,
          ratio (1000, f->hop_ms), f->kv_bytes / 1e6, f->encoding_bytes / 1e6,
          !f->compared ? "-"
          : f->exact   ? "yes"
                       : "no");
}

static void
print_text_header (void)
{
  printf (" W  H policy    savings                  scene  prefill  encode   first    first      "
          "hop   hops/s   KV    enc.  exact\n"
          "                                                  times   times   times       ms       "
          "ms           MB    MB\n");
}

static void
write_csv_header (FILE *csv)
{
  fputs ("window,hop,policy,savings,scene,prefill_ratio,prefill_ratio_fixed,encode_ratio,"
         "first_token_ratio,first_token_ms,naive_first_token_ms,hop_ms,naive_hop_ms,"
         "hops_per_second,kv_bytes,encoding_bytes,predicted_bytes,frames_pushed,frames_encoded,"
         "drafted,accepted,drift_samples,drift_agreements,drift_mean,exact\n",
         csv);
}

static void
write_csv (FILE *csv, const Row *row)
{
  const BenchFigures *f = &row->figures;

  fprintf (csv, "%u,%u,%s,%s,%s,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,", row->window,
           row->hop, row->policy, row->savings, row->scene, row->prefill_ratio,
           row->prefill_ratio_fixed, row->encode_ratio, f->first_token_ratio, f->first_token_ms,
           f->naive_first_token_ms, f->hop_ms, f->naive_hop_ms, ratio (1000, f->hop_ms));
  fprintf (csv,
           "%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT
           ",%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT
           ",%" G_GUINT64_FORMAT ",%.6f,%s\n",
           f->kv_bytes, f->encoding_bytes, row->predicted_bytes, f->frames_pushed,
           f->frames_encoded, f->drafted, f->accepted, f->drift_samples, f->drift_agreements,
           f->drift_mean,
           !f->compared ? ""
           : f->exact   ? "1"
                        : "0");
}

static void
print_row (Report *report, const Row *row)
{
  if (report->json)
    print_json (report, row);
  else
    print_text (row);
  if (report->csv != NULL)
    write_csv (report->csv, row);
  fflush (stdout);
  report->n_rows++;
}

/* ---- one window and hop ---- */

/* Recomputing windows of W frames, as measured beside @other. */
static void
print_naive (Report *report, const Row *other)
{
  Row row = *other;

  row.policy = "naive";
  row.savings = "none";
  row.prefill_ratio = row.prefill_ratio_fixed = row.encode_ratio = 1;
  row.predicted_bytes = 0;
  row.figures = (BenchFigures){ .first_token_ms = other->figures.naive_first_token_ms,
                                .naive_first_token_ms = other->figures.naive_first_token_ms,
                                .first_token_ratio = 1,
                                .hop_ms = other->figures.naive_hop_ms,
                                .naive_hop_ms = other->figures.naive_hop_ms,
                                .kv_bytes = other->figures.naive_kv_bytes,
                                .encoding_bytes = other->figures.naive_encoding_bytes,
                                .compared = TRUE,
                                .exact = TRUE };
  print_row (report, &row);
}

/* Whether @error only means that the policy is not for this model; then it is said and cleared. */
static gboolean
is_left_out (ValleyWindowPolicy policy, const Row *row, GError **error)
{
  if (!g_error_matches (*error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT)
      && !g_error_matches (*error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT)
      && !g_error_matches (*error, VALLEY_ERROR, VALLEY_ERROR_MEMORY))
    return FALSE;
  fprintf (stderr, "valley: %s windows of %u frames, %u apart, are left out: %s\n",
           policy_names[policy], row->window, row->hop, (*error)->message);
  g_clear_error (error);
  return TRUE;
}

static gboolean
count (Report *report, ValleyWindowPolicy policy, Row *row, GError **error)
{
  const ValleyWindowing windowing
      = { .policy = policy, .window_frames = row->window, .hop_frames = row->hop };
  ValleyWindowingCounts counts;
  ValleyInputSizes sizes;

  if (!valley_windowing_count (&windowing, COUNTED_WINDOWS, &counts, error)
      || !bench_frames_sizes (report->bench.frames, &sizes, error)
      || !valley_model_admits (report->bench.model, &windowing, &sizes, &row->predicted_bytes,
                               error))
    return FALSE;
  row->prefill_ratio = (double) counts.frames_shown / (double) counts.frames_prefilled;
  row->prefill_ratio_fixed
      = (double) counts.windows * row->window / (double) counts.frames_prefilled;
  row->encode_ratio = (double) counts.frames_shown / (double) counts.frames_pushed;
  return TRUE;
}

static gboolean
measure (Report *report, ValleyWindowPolicy policy, guint variant, Row *row, GError **error)
{
  const BenchCase what = { .policy = policy,
                           .window = row->window,
                           .hop = row->hop,
                           .arrival = variants[variant].arrival,
                           .draft = variants[variant].draft,
                           .still = variants[variant].still,
                           .unchanged = variants[variant].unchanged };

  row->policy = policy_names[policy];
  row->savings = variants[variant].name;
  row->scene = what.still ? "still" : "moving";
  return bench_measure (&report->bench, &what, &row->figures, error);
}

/* *has_naive: recomputation of W frames has been told of; it is measured beside any policy that
 * shows so many. */
static gboolean
run_policy (Report *report, ValleyWindowPolicy policy, Row *row, gboolean *has_naive,
            GError **error)
{
  if (!count (report, policy, row, error))
    return FALSE;
  for (guint v = 0; v < G_N_ELEMENTS (variants); v++) {
    const BenchFigures before = row->figures;

    if (!report->all_variants && v != ALL_SAVINGS)
      continue;
    if (!measure (report, policy, v, row, error))
      return FALSE;
    if (variants[v].still) { /* naive costs the same whatever the pictures show */
      row->figures.naive_first_token_ms = before.naive_first_token_ms;
      row->figures.naive_hop_ms = before.naive_hop_ms;
      row->figures.first_token_ratio
          = ratio (before.naive_first_token_ms, row->figures.first_token_ms);
    } else if (!*has_naive && policy != VALLEY_WINDOWS_ANCHORED) {
      print_naive (report, row);
      *has_naive = TRUE;
    }
    print_row (report, row);
  }
  return TRUE;
}

static gboolean
run_pair (Report *report, guint window, guint hop, GError **error)
{
  gboolean has_naive = FALSE;

  for (guint policy = 0; policy < G_N_ELEMENTS (policy_names); policy++) {
    g_autoptr (GError) reason = NULL;
    Row row = { .window = window, .hop = hop };

    if (run_policy (report, policy, &row, &has_naive, &reason)
        || is_left_out (policy, &row, &reason))
      continue;
    g_propagate_error (error, g_steal_pointer (&reason));
    return FALSE;
  }
  return TRUE;
}

/* Hops 1, 2, 4 ... up to the window's length, or the one asked for. */
static gboolean
run_window (Report *report, const Options *options, guint window, GError **error)
{
  if (options->hop != 0)
    return options->hop > window || run_pair (report, window, options->hop, error);
  for (guint hop = 1; hop <= window; hop *= 2)
    if (!run_pair (report, window, hop, error))
      return FALSE;
  return TRUE;
}

static gboolean
run_all (Report *report, const Options *options, GError **error)
{
  if (options->window != 0)
    return run_window (report, options, options->window, error);
  for (guint window = 4; window <= 32; window *= 2)
    if (!run_window (report, options, window, error))
      return FALSE;
  return TRUE;
}

static gboolean
close_output (Report *report, const char *path, GError **error)
{
  gboolean failed = fflush (stdout) != 0 || ferror (stdout) != 0;

  if (failed)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "cannot write to standard output");
  if (report->csv == NULL)
    return !failed;
  if ((ferror (report->csv) | fclose (report->csv)) == 0)
    return !failed;
  if (!failed)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "cannot write %s", path);
  return FALSE;
}

static gboolean
open_csv (Report *report, const char *path, GError **error)
{
  if (path == NULL)
    return TRUE;
  report->csv = fopen (path, "w");
  if (report->csv == NULL) {
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "cannot write %s: %s", path,
                 g_strerror (errno));
    return FALSE;
  }
  write_csv_header (report->csv);
  return TRUE;
}

gboolean
bench_windows_command (const Options *options, GError **error)
{
  Report report = { .json = options->json };
  Bench *bench = &report.bench;
  gboolean done;

  bench->model = bench_model_open (options, error);
  if (bench->model == NULL)
    return FALSE;
  bench->frames = bench_frames_new (bench->model);
  bench->prompt = options->prompt != NULL ? options->prompt : "Describe the video.";
  bench->max_new_tokens = options->max_new_tokens != 0 ? options->max_new_tokens : 16;
  bench->n_windows = options->windows != 0 ? options->windows : options->json ? 9 : 5;
  bench->more_ms = options->json && options->windows == 0 ? MORE_MS : 0;
  report.all_variants = !options->json;
  done = open_csv (&report, options->csv_path, error);
  if (done) {
    if (report.json)
      fputs ("{\"rows\":[", stdout);
    else
      print_text_header ();
    done = run_all (&report, options, error);
    if (report.json)
      fputs ("]}\n", stdout);
    done = close_output (&report, options->csv_path, done ? error : NULL) && done;
  }
  bench_frames_free (bench->frames);
  valley_model_unref (bench->model);
  return done;
}
