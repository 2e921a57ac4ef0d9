/* bench.h - what the files of `valley bench` share.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "options.h"

/* ---- bench_model.c ---- */

/* The model that --model, or --config and --layers, name; loaded. */
ValleyModel *bench_model_open (const Options *options, GError **error);

/* ---- bench_frames.c: a made-up stream ---- */

typedef struct _BenchFrames BenchFrames;

BenchFrames *bench_frames_new (ValleyModel *model);
void bench_frames_free (BenchFrames *frames); /* NULL is fine */
/* Frame @number, or with @still frame 0's picture at @number's time; to unref.  What was made is
 * kept, so that a measured second use costs nothing. */
ValleyPicture *bench_frames_get (BenchFrames *frames, guint number, gboolean still, GError **error);
guint64 bench_frames_pts_ns (guint number);
guint bench_frames_number (guint64 pts_ns);
gboolean bench_frames_sizes (const BenchFrames *frames, ValleyInputSizes *sizes, GError **error);

/* ---- bench_measure.c: one policy beside naive recomputation ---- */

typedef struct {
  ValleyWindowPolicy policy;
  guint window, hop;  /* in frames */
  gboolean arrival;   /* frames are prefilled when they come, else when the window closes */
  gboolean draft;     /* answers are drafted from the previous ones */
  gboolean still;     /* every frame is the same picture */
  gboolean unchanged; /* with `still`: equal windows are not answered again */
} BenchCase;

typedef struct {
  double first_token_ms, naive_first_token_ms; /* from the last frame's arrival; medians */
  double first_token_ratio;                    /* median of each window's own */
  double hop_ms, naive_hop_ms;                 /* all work between two answers; means */
  guint64 kv_bytes, encoding_bytes;            /* at their peaks */
  guint64 naive_kv_bytes, naive_encoding_bytes;
  guint64 frames_pushed, frames_encoded, drafted, accepted;
  guint64 drift_samples, drift_agreements; /* streaming */
  double drift_mean;                       /* in nats */
  gboolean compared;                       /* with naive recomputation, */
  gboolean exact;                          /* and every logit had its bits */
} BenchFigures;

typedef struct {
  ValleyModel *model;
  BenchFrames *frames;
  const char *prompt;
  guint max_new_tokens;
  guint n_windows; /* to compare, */
  guint more_ms;   /* and up to 24 more until so much time has passed */
} Bench;

/* Naive is run beside it, in turn, unless the case is `still`. */
gboolean bench_measure (const Bench *bench, const BenchCase *what, BenchFigures *figures,
                        GError **error);

/* ---- bench_windows.c ---- */

gboolean bench_windows_command (const Options *options, GError **error);

/* ---- bench_gpu.c ---- */

gboolean bench_gpu_command (const Options *options, GError **error);
