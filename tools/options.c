/* options.c - reads the command line.  Own code and not GOption, because --frames takes every
 * word up to the next option.
 * SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* COUNT: from 1, as 0 stands for an option that was not given */
typedef enum {
  STRING,
  FILES,
  UINT,
  COUNT,
  UINT64,
  NUMBER,
  PRECISION,
  MARKERS,
  REDUCTION,
  FLAG
} Kind;

typedef struct {
  const char *name;
  Kind kind;
  guint commands; /* a mask of Command */
  gsize offset;   /* of the member of Options */
  double max;     /* of a NUMBER */
} Option;

static const Option known[] = {
  { "--model", STRING, COMMAND_RUN | COMMAND_BENCH, offsetof (Options, model_dir), 0 },
  { "--device", STRING, COMMAND_RUN | COMMAND_BENCH, offsetof (Options, device), 0 },
  { "--precision", PRECISION, COMMAND_RUN | COMMAND_BENCH, offsetof (Options, precision), 0 },
  { "--threads", UINT, COMMAND_RUN | COMMAND_BENCH, offsetof (Options, threads), 0 },
  { "--frames", FILES, COMMAND_RUN, offsetof (Options, frames), 0 },
  { "--image", STRING, COMMAND_RUN, offsetof (Options, image), 0 },
  { "--prompt", STRING, COMMAND_RUN | COMMAND_BENCH, offsetof (Options, prompt), 0 },
  { "--system", STRING, COMMAND_RUN, offsetof (Options, system_prompt), 0 },
  { "--max-new-tokens", UINT, COMMAND_RUN | COMMAND_BENCH, offsetof (Options, max_new_tokens), 0 },
  { "--max-vision-tokens", UINT, COMMAND_RUN, offsetof (Options, reduction.max_vision_tokens), 0 },
  { "--reduction", REDUCTION, COMMAND_RUN, offsetof (Options, reduction), 0 },
  { "--temperature", NUMBER, COMMAND_RUN, offsetof (Options, temperature), 100 },
  { "--top-k", UINT, COMMAND_RUN, offsetof (Options, top_k), 0 },
  { "--top-p", NUMBER, COMMAND_RUN, offsetof (Options, top_p), 1 },
  { "--seed", UINT64, COMMAND_RUN, offsetof (Options, seed), 0 },
  { "--markers", MARKERS, COMMAND_RUN, offsetof (Options, markers), 0 },
  { "--logits", STRING, COMMAND_RUN, offsetof (Options, logits_path), 0 },
  { "--dump", STRING, COMMAND_RUN, offsetof (Options, dump_dir), 0 },
  { "--metrics", FLAG, COMMAND_RUN, offsetof (Options, metrics), 0 },
  { "--json", FLAG, COMMAND_INSPECT | COMMAND_BENCH, offsetof (Options, json), 0 },
  { "--config", STRING, COMMAND_BENCH, offsetof (Options, config), 0 },
  { "--layers", COUNT, COMMAND_BENCH, offsetof (Options, layers), 0 },
  { "--window", COUNT, COMMAND_BENCH, offsetof (Options, window), 0 },
  { "--hop", COUNT, COMMAND_BENCH, offsetof (Options, hop), 0 },
  { "--windows", COUNT, COMMAND_BENCH, offsetof (Options, windows), 0 },
  { "--csv", STRING, COMMAND_BENCH, offsetof (Options, csv_path), 0 },
};

void
options_init (Options *options)
{
  *options = (Options){ .frames = g_ptr_array_new_with_free_func (g_free),
                        .arguments = g_ptr_array_new_with_free_func (g_free),
                        .reduction = { .pool = TRUE, .eagle = TRUE } };
}

void
options_clear (Options *options)
{
  g_free (options->model_dir);
  g_free (options->device);
  g_free (options->image);
  g_free (options->prompt);
  g_free (options->system_prompt);
  g_free (options->logits_path);
  g_free (options->dump_dir);
  g_free (options->config);
  g_free (options->csv_path);
  g_ptr_array_unref (options->frames);
  g_ptr_array_unref (options->arguments);
}

static gboolean G_GNUC_PRINTF (2, 3) refuse (GError **error, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_propagate_error (error,
                     g_error_new_valist (G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, format, args));
  va_end (args);
  return FALSE;
}

static gboolean
parse_uint (const Option *option, const char *text, guint64 max, guint64 *value, GError **error)
{
  guint64 min = option->kind == COUNT ? 1 : 0;

  if (g_ascii_string_to_unsigned (text, 10, min, max, value, NULL))
    return TRUE;
  return refuse (error,
                 "%s: expected a whole number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                 ", found \"%s\"",
                 option->name, min, max, text);
}

static gboolean
parse_number (const Option *option, const char *text, double *value, GError **error)
{
  char *end;

  errno = 0;
  *value = g_ascii_strtod (text, &end);
  if (end != text && *end == '\0' && errno == 0 && *value >= 0 && *value <= option->max)
    return TRUE;
  return refuse (error, "%s: expected a number from 0 to %g, found \"%s\"", option->name,
                 option->max, text);
}

static gboolean
parse_precision (const char *text, ValleyPrecision *value, GError **error)
{
  if (strcmp (text, "auto") == 0)
    *value = VALLEY_PRECISION_AUTO;
  else if (strcmp (text, "f32") == 0)
    *value = VALLEY_PRECISION_F32;
  else if (strcmp (text, "bf16") == 0)
    *value = VALLEY_PRECISION_BF16;
  else if (strcmp (text, "f16") == 0)
    *value = VALLEY_PRECISION_F16;
  else
    return refuse (error, "--precision: expected auto, f32, bf16 or f16, found \"%s\"", text);
  return TRUE;
}

static gboolean
parse_markers (const char *text, ValleyMarkers *value, GError **error)
{
  if (strcmp (text, "keep") == 0)
    *value = VALLEY_MARKERS_KEEP;
  else if (strcmp (text, "strip") == 0)
    *value = VALLEY_MARKERS_STRIP;
  else if (strcmp (text, "split") == 0)
    *value = VALLEY_MARKERS_SPLIT;
  else
    return refuse (error, "--markers: expected keep, strip or split, found \"%s\"", text);
  return TRUE;
}

/* Names between + signs, as the element's flags are written. */
static gboolean
parse_reduction (const char *text, ValleyReduction *value, GError **error)
{
  g_auto (GStrv) names = g_strsplit (text, "+", -1);

  value->pool = value->eagle = value->drop = value->close = FALSE;
  if (strcmp (text, "none") == 0)
    return TRUE;
  for (guint i = 0; names[i] != NULL; i++)
    if (strcmp (names[i], "pool") == 0)
      value->pool = TRUE;
    else if (strcmp (names[i], "eagle") == 0)
      value->eagle = TRUE;
    else if (strcmp (names[i], "drop") == 0)
      value->drop = TRUE;
    else if (strcmp (names[i], "close") == 0)
      value->close = TRUE;
    else
      return refuse (error,
                     "--reduction: expected none, or pool, eagle, drop and close with + between "
                     "them, "
                     "found \"%s\"",
                     text);
  return names[0] != NULL || refuse (error, "--reduction: expected none, pool, eagle or drop");
}

static gboolean
store (const Option *option, const char *text, Options *options, GError **error)
{
  gpointer member = (char *) options + option->offset;
  guint64 number;

  switch (option->kind) {
  case STRING:
    g_free (*(char **) member);
    *(char **) member = g_strdup (text);
    return TRUE;
  case FILES:
    g_ptr_array_add (*(GPtrArray **) member, g_strdup (text));
    return TRUE;
  case UINT:
  case COUNT:
    if (!parse_uint (option, text, G_MAXINT, &number, error))
      return FALSE;
    *(guint *) member = (guint) number;
    return TRUE;
  case UINT64:
    return parse_uint (option, text, G_MAXUINT64, member, error);
  case NUMBER:
    return parse_number (option, text, member, error);
  case PRECISION:
    return parse_precision (text, member, error);
  case MARKERS:
    return parse_markers (text, member, error);
  case REDUCTION:
    return parse_reduction (text, member, error);
  case FLAG:
  default:
    *(gboolean *) member = TRUE;
    return TRUE;
  }
}

/* The option that @word names, with or without "=value". */
static const Option *
find_option (const char *word, Command command)
{
  gsize length = strcspn (word, "=");

  for (guint i = 0; i < G_N_ELEMENTS (known); i++)
    if ((known[i].commands & command) != 0 && strlen (known[i].name) == length
        && strncmp (word, known[i].name, length) == 0)
      return &known[i];
  return NULL;
}

/* The option at *i and what belongs to it; *i ends at its last word. */
static gboolean
parse_option (const Option *option, int argc, char **argv, int *i, Options *options, GError **error)
{
  const char *value = strchr (argv[*i], '=');

  if (option->kind == FLAG)
    return value == NULL ? store (option, NULL, options, error)
                         : refuse (error, "%s takes no value", option->name);
  if (value != NULL)
    return store (option, value + 1, options, error);
  if (*i + 1 >= argc)
    return refuse (error, "%s: expected a value after it", option->name);
  if (option->kind != FILES)
    return store (option, argv[++*i], options, error);
  while (*i + 1 < argc && argv[*i + 1][0] != '-')
    store (option, argv[++*i], options, error);
  return options->frames->len > 0
         || refuse (error, "%s: expected at least one file after it", option->name);
}

gboolean
options_parse (Options *options, Command command, int argc, char **argv, GError **error)
{
  for (int i = 0; i < argc; i++) {
    const Option *option = find_option (argv[i], command);

    if (option != NULL) {
      if (!parse_option (option, argc, argv, &i, options, error))
        return FALSE;
    } else if (argv[i][0] == '-') {
      return refuse (error, "unknown option %s", argv[i]);
    } else {
      g_ptr_array_add (options->arguments, g_strdup (argv[i]));
    }
  }
  return TRUE;
}
