/* reduction-probe.c - a model's answers to windows whose tokens are made fewer in many ways, for
 * tools/reduction_table.py; no test.
 *
 *   reduction-probe MODEL WAY...
 *
 * A WAY is LIST@SHARE[/THRESHOLD], with + between the LIST's none, pool, eagle, drop and close, and
 * a budget of SHARE per cent of the window's tokens, or grid@SIDE,CELLS: a square of so many SigLIP
 * tokens a side and an Eagle picture of at most so many tokens (0: all).  A window on stdin is six
 * 32-bit numbers in the machine's byte order: frames, width, height, questions, frame interval in
 * ms and 0; then the frames' RGB bytes, then each question as a 32-bit length and its bytes.
 * Answers come as lines: WAY, vision tokens, the same before, text.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valley.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *text; /* as it was given */
  ValleyReduction reduction;
  double share;
  gboolean is_grid;
  guint side, cells;
} Way;

typedef struct {
  guint32 n_frames, width, height, n_questions, interval_ms, reserved;
} Header;

static void G_GNUC_NORETURN
fail (const char *what, GError *error)
{
  fprintf (stderr, "reduction-probe: %s: %s\n", what,
           error != NULL ? error->message : "expected otherwise");
  exit (1);
}

static Way
parse_way (const char *text)
{
  Way way = { .text = text, .share = 100 };
  g_auto (GStrv) halves = g_strsplit_set (text, "@/", 3), names = NULL;

  way.is_grid = strcmp (halves[0], "grid") == 0;
  if (way.is_grid && halves[1] != NULL && sscanf (halves[1], "%u,%u", &way.side, &way.cells) == 2)
    return way;
  names = g_strsplit (halves[0], "+", -1);
  way.reduction.pool = g_strv_contains ((const char *const *) names, "pool");
  way.reduction.eagle = g_strv_contains ((const char *const *) names, "eagle");
  way.reduction.drop = g_strv_contains ((const char *const *) names, "drop");
  way.reduction.close = g_strv_contains ((const char *const *) names, "close");
  if (way.is_grid || halves[1] == NULL)
    fail (text, NULL);
  way.share = g_ascii_strtod (halves[1], NULL);
  if (halves[2] != NULL)
    way.reduction.drop_threshold = g_ascii_strtod (halves[2], NULL);
  return way;
}

/* ---- pictures ------------------------------------------------------------- */

static gboolean
choose_sizes (ValleyModel *model, const Way *way, const Header *h, ValleyInputSizes *sizes,
              GError **error)
{
  ValleyReduction reduction = way->reduction;
  guint n_eagle;

  if (!valley_model_input_sizes (model, h->width, h->height, NULL, sizes, error))
    return FALSE;
  if (!way->is_grid) {
    reduction.max_frames = h->n_frames;
    reduction.max_vision_tokens
        = way->share < 100 ? (guint) (sizes->n_tokens * h->n_frames * way->share / 100) : 0;
    return valley_model_input_sizes (model, h->width, h->height, &reduction, sizes, error);
  }
  n_eagle = sizes->eagle_width / 28 * (sizes->eagle_height / 28);
  reduction = (ValleyReduction){ .max_vision_tokens = sizes->n_tokens - n_eagle + way->cells,
                                 .max_frames = 1,
                                 .eagle = way->cells > 0 };
  if (!valley_model_input_sizes (model, h->width, h->height, &reduction, sizes, error))
    return FALSE;
  sizes->siglip_side = way->side;
  return TRUE;
}

static ValleyPicture *
make_picture (ValleyModel *model, const Header *h, guint index, const guint8 *rgb,
              const ValleyInputSizes *sizes, GError **error)
{
  g_autofree guint8 *siglip = g_malloc (3 * sizes->siglip_width * sizes->siglip_height + 1);
  g_autofree guint8 *eagle = g_malloc (3 * sizes->eagle_width * sizes->eagle_height + 1);

  valley_image_resize (rgb, 3 * (gsize) h->width, h->width, h->height, 3, siglip,
                       3 * (gsize) sizes->siglip_width, sizes->siglip_width, sizes->siglip_height);
  valley_image_resize (rgb, 3 * (gsize) h->width, h->width, h->height, 3, eagle,
                       3 * (gsize) sizes->eagle_width, sizes->eagle_width, sizes->eagle_height);
  return valley_picture_new (model, index * (guint64) h->interval_ms * 1000000, sizes, siglip,
                             eagle, error);
}

static void
push_window (ValleyModel *model, ValleySession *session, const Way *way, const Header *h,
             const guint8 *rgb)
{
  ValleyInputSizes sizes;
  GError *error = NULL;

  valley_session_reset (session);
  if (!choose_sizes (model, way, h, &sizes, &error))
    fail (way->text, error);
  for (guint i = 0; i < h->n_frames; i++) {
    ValleyPicture *picture
        = make_picture (model, h, i, rgb + i * 3 * (gsize) h->width * h->height, &sizes, &error);

    if (picture == NULL || !valley_session_push (session, picture, i == 0, &error))
      fail (way->text, error);
    valley_picture_unref (picture);
  }
}

/* ---- answers -------------------------------------------------------------- */

static void
ask (ValleySession *session, const Way *way, const char *question)
{
  const ValleyRequest request = { .prompt = question, .max_new_tokens = 60 };
  const ValleyResult *result;
  GError *error = NULL;
  g_autofree char *text = NULL;
  ValleyStep step = VALLEY_STEP_TOKEN;

  if (!valley_session_begin (session, &request, &error))
    fail (way->text, error);
  while (step == VALLEY_STEP_TOKEN)
    step = valley_session_next (session, &error);
  if (step == VALLEY_STEP_ERROR)
    fail (way->text, error);
  result = valley_session_result (session);
  text = g_strescape (result->text, NULL);
  printf ("%s\t%u\t%u\t%s\n", way->text, result->n_vision_tokens, result->n_vision_tokens_before,
          text);
}

static void *
read_bytes (gsize n)
{
  char *bytes = g_malloc0 (n + 1);

  if (fread (bytes, 1, n, stdin) != n)
    fail ("stdin ended within a window", NULL);
  return bytes;
}

static gboolean
answer_window (ValleyModel *model, ValleySession *session, GArray *ways)
{
  g_autoptr (GPtrArray) questions = g_ptr_array_new_with_free_func (g_free);
  g_autofree guint8 *rgb = NULL;
  Header h;

  if (fread (&h, sizeof h, 1, stdin) != 1)
    return FALSE;
  rgb = read_bytes (3 * (gsize) h.width * h.height * h.n_frames);
  for (guint i = 0; i < h.n_questions; i++) {
    g_autofree guint32 *length = read_bytes (sizeof *length);

    g_ptr_array_add (questions, read_bytes (*length));
  }
  for (guint i = 0; i < ways->len; i++) {
    const Way *way = &g_array_index (ways, Way, i);

    push_window (model, session, way, &h, rgb);
    for (guint q = 0; q < questions->len; q++)
      ask (session, way, g_ptr_array_index (questions, q));
  }
  fflush (stdout);
  return TRUE;
}

int
main (int argc, char **argv)
{
  const ValleyModelOptions options = { .threads = 1 };
  g_autoptr (GArray) ways = g_array_new (FALSE, FALSE, sizeof (Way));
  GError *error = NULL;
  ValleyModel *model;
  ValleySession *session = NULL;

  for (int i = 2; i < argc; i++) {
    Way way = parse_way (argv[i]);

    g_array_append_val (ways, way);
  }
  model = argc > 2 ? valley_model_open (argv[1], &options, &error) : NULL;
  if (model != NULL && valley_model_load (model, NULL, &error))
    session = valley_session_new (model, NULL, &error);
  if (session == NULL)
    fail ("expected MODEL WAY...", error);
  while (answer_window (model, session, ways))
    ;
  valley_session_free (session);
  valley_model_unref (model);
  return 0;
}
