/* options.h - the command line of `valley`, as a checked struct.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <valley.h>

typedef struct {
  char *model_dir; /* NULL: the bundled model */
  char *device;
  ValleyPrecision precision;
  guint threads;
  GPtrArray *frames; /* paths, in order */
  char *image;
  char *prompt, *system_prompt;
  ValleyReduction reduction; /* of the frames; max_frames is not set */
  guint max_new_tokens, top_k;
  double temperature, top_p;
  guint64 seed;
  ValleyMarkers markers;
  char *logits_path, *dump_dir;
  gboolean metrics, json;
  char *config; /* bench: a config.json, of which layers are kept (0: all) */
  guint layers;
  guint window, hop, windows; /* bench: 0: several, several, the default */
  char *csv_path;
  GPtrArray *arguments; /* what is left: inspect's folder, bench's subject */
} Options;

void options_init (Options *options);
void options_clear (Options *options);

typedef enum { COMMAND_RUN = 1, COMMAND_INSPECT = 2, COMMAND_BENCH = 4 } Command;

/* Reads the words after the command's name.  An error (G_OPTION_ERROR) is the user's. */
gboolean options_parse (Options *options, Command command, int argc, char **argv, GError **error);
