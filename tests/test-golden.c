/* test-golden.c - the whole engine against activations that transformers' own modules and
 * torch gave (tools/reference/).  In f32 every stage must agree within a share of its
 * largest magnitude, in the order of computation, so that the first wrong one is named; the greedy
 * tokens must be the same.  In bf16 the logits must stay near.
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include "npy.h"
#include "reftensors.h"
#include "which-device.h"

#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <math.h>

/* The aim is 1e-4; half of that also tells the two kinds of GELU apart, and is several times
 * what a mere order of summation makes. */
#define STAGE_TOLERANCE 5e-5
#define BF16_TOLERANCE 5e-2
#define F16_TOLERANCE 1e-2
#define FRAME_NS (500 * G_GUINT64_CONSTANT (1000000))

static const char *const names[] = { "ovis-softmax", "ovis-argmax", "conv-adapter", "pixel-shuffle",
                                     "image-tiled",  "qwen3-navit", "qwen3-bias" };

typedef struct {
  const char *label;
  ValleyPrecision precision;
  gboolean strict;
  enum { ON_CPU = 1, ON_GPU = 2 } where;
} Mode;

static const Mode modes[] = {
  { "f32-strict", VALLEY_PRECISION_F32, TRUE, ON_CPU },
  { "f32", VALLEY_PRECISION_F32, FALSE, ON_CPU | ON_GPU },
  { "bf16", VALLEY_PRECISION_BF16, FALSE, ON_CPU | ON_GPU },
  { "f16", VALLEY_PRECISION_F16, FALSE, ON_GPU },
};

static double
tolerance_of (ValleyPrecision precision)
{
  return precision == VALLEY_PRECISION_F16 ? F16_TOLERANCE : BF16_TOLERANCE;
}

typedef struct {
  const char *name;
  const Mode *mode;
  char *dir, *dump_dir;
  JsonParser *parser;
  JsonObject *golden;
  RefFile *ref;
  ValleyModel *model;
  ValleySession *session;
  double worst; /* deviation met so far */
} Run;

/* ---- comparison ---- */

/* The largest |got - want| as a share of the largest |want|; INFINITY when anything is not
 * finite, so that no comparison with a tolerance lets a NaN pass. */
static double
relative_error (const float *got, const float *want, gsize n)
{
  double worst = 0, magnitude = 0;

  for (gsize i = 0; i < n; i++) {
    if (!isfinite (got[i]) || !isfinite (want[i]))
      return INFINITY;
    worst = MAX (worst, fabs ((double) got[i] - want[i]));
    magnitude = MAX (magnitude, fabs (want[i]));
  }
  return magnitude > 0 ? worst / magnitude : (worst > 0 ? INFINITY : 0);
}

static void
test_comparison (void)
{
  const float want[] = { 1, -2, 0.5f };
  const float near[] = { 1.00005f, -2, 0.5f }, far[] = { 1, -2, 0.501f }, nan[] = { 1, -2, NAN };
  const float zeros[] = { 0, 0, 0 };

  g_assert_cmpfloat (relative_error (near, want, 3), <=, STAGE_TOLERANCE);
  g_assert_cmpfloat (relative_error (far, want, 3), >, STAGE_TOLERANCE);
  g_assert_true (isinf (relative_error (nan, want, 3)));
  g_assert_true (isinf (relative_error (want, zeros, 3)));
  g_assert_cmpfloat (relative_error (zeros, zeros, 3), ==, 0);
}

/* ---- one run of one golden ---- */

static JsonArray *
golden_array (Run *run, const char *key)
{
  g_assert_true (json_object_has_member (run->golden, key));
  return json_object_get_array_member (run->golden, key);
}

static const RefTensor *
pixels (Run *run, const char *name)
{
  const RefTensor *tensor = ref_file_get (run->ref, name, REF_U8, 3);
  g_assert_nonnull (tensor);
  g_assert_cmpuint (tensor->shape[2], ==, 3);
  return tensor;
}

static Run *
run_open (const char *name, const Mode *mode)
{
  GError *error = NULL;
  Run *run = g_new0 (Run, 1);
  ValleyModelOptions options = {
    .device = test_device (), .precision = mode->precision, .threads = 2, .strict = mode->strict
  };

  run->name = name;
  run->mode = mode;
  run->dir = g_build_filename (g_getenv ("GOLDEN_DIR"), name, NULL);
  run->dump_dir = g_dir_make_tmp ("valley-golden-XXXXXX", &error);
  g_assert_no_error (error);

  g_autofree char *golden = g_build_filename (run->dir, "golden.json", NULL);
  run->parser = json_parser_new ();
  json_parser_load_from_file (run->parser, golden, &error);
  g_assert_no_error (error);
  run->golden = json_node_get_object (json_parser_get_root (run->parser));

  g_autofree char *activations = g_build_filename (run->dir, "activations.safetensors", NULL);
  run->ref = ref_file_read (activations, &error);
  g_assert_no_error (error);

  run->model = valley_model_open (run->dir, &options, &error);
  g_assert_no_error (error);
  valley_model_load (run->model, NULL, &error);
  g_assert_no_error (error);
  run->session = valley_session_new (
      run->model, &(ValleySessionOptions){ .dump_dir = run->dump_dir, .keep_logits = TRUE },
      &error);
  g_assert_no_error (error);
  return run;
}

static void
run_close (Run *run)
{
  GDir *dir = g_dir_open (run->dump_dir, 0, NULL);
  const char *file;

  while (dir && (file = g_dir_read_name (dir))) {
    g_autofree char *path = g_build_filename (run->dump_dir, file, NULL);
    g_unlink (path);
  }
  g_clear_pointer (&dir, g_dir_close);
  g_rmdir (run->dump_dir);

  valley_session_free (run->session);
  valley_model_unref (run->model);
  ref_file_free (run->ref);
  g_object_unref (run->parser);
  g_free (run->dump_dir);
  g_free (run->dir);
  g_free (run);
}

static ValleyPicture *
frame_picture (Run *run, guint index)
{
  g_autofree char *siglip_name = g_strdup_printf ("frame.%u.siglip.pixels", index);
  g_autofree char *eagle_name = g_strdup_printf ("frame.%u.eagle.pixels", index);
  const RefTensor *siglip = NULL, *eagle = pixels (run, eagle_name);
  ValleyInputSizes sizes = { .eagle_width = eagle->shape[1], .eagle_height = eagle->shape[0] };
  GError *error = NULL;

  if (g_hash_table_contains (run->ref->tensors, siglip_name)) { /* a model may lack this tower */
    siglip = pixels (run, siglip_name);
    sizes.siglip_width = siglip->shape[1];
    sizes.siglip_height = siglip->shape[0];
  }
  ValleyPicture *picture
      = valley_picture_new (run->model, index * FRAME_NS, &sizes,
                            siglip != NULL ? siglip->data : NULL, eagle->data, &error);
  g_assert_no_error (error);
  return picture;
}

static ValleyPicture *
tiled_picture (Run *run)
{
  const RefTensor *rgb = pixels (run, "image.rgb");
  GError *error = NULL;

  ValleyPicture *picture = valley_picture_new_tiled (run->model, rgb->data, rgb->shape[1] * 3,
                                                     rgb->shape[1], rgb->shape[0], &error);
  g_assert_no_error (error);
  return picture;
}

static void
push_pictures (Run *run)
{
  gboolean lone = json_object_has_member (run->golden, "image");
  guint n = lone ? 1 : json_object_get_int_member (run->golden, "frames");
  GError *error = NULL;

  for (guint i = 0; i < n; i++) {
    ValleyPicture *picture = lone ? tiled_picture (run) : frame_picture (run, i);
    valley_session_push (run->session, picture, FALSE, &error);
    g_assert_no_error (error);
    valley_picture_unref (picture);
  }
}

static const ValleyResult *
answer (Run *run)
{
  ValleyRequest request = {
    .prompt = json_object_get_string_member (run->golden, "prompt"),
    .system_prompt = json_object_get_string_member (run->golden, "system"),
    .max_new_tokens = json_object_get_int_member (run->golden, "max_new_tokens"),
  };
  GError *error = NULL;
  ValleyStep step;

  valley_session_begin (run->session, &request, &error);
  g_assert_no_error (error);
  while ((step = valley_session_next (run->session, &error)) == VALLEY_STEP_TOKEN)
    g_assert_cmpuint (valley_session_result (run->session)->n_output_tokens, <=,
                      request.max_new_tokens);
  g_assert_no_error (error);
  g_assert_cmpint (step, ==, VALLEY_STEP_DONE);
  return valley_session_result (run->session);
}

/* ---- what is checked ---- */

static gboolean
check_ids (Run *run, const char *key, const gint32 *got, guint n_got)
{
  JsonArray *want = golden_array (run, key);
  guint n_want = json_array_get_length (want);

  for (guint i = 0; i < MIN (n_got, n_want); i++)
    if (got[i] != json_array_get_int_element (want, i)) {
      g_test_fail_printf ("%s: %s: number %u is %d, expected %d", run->name, key, i, got[i],
                          (int) json_array_get_int_element (want, i));
      return FALSE;
    }
  if (n_got != n_want)
    g_test_fail_printf ("%s: %s: %u of them, expected %u", run->name, key, n_got, n_want);
  return n_got == n_want;
}

static gboolean
check_stage (Run *run, const char *stage)
{
  const RefTensor *want = ref_file_get (run->ref, stage, REF_F32, 2);
  g_autofree char *path = g_strdup_printf ("%s/%s.npy", run->dump_dir, stage);
  g_autoptr (GError) error = NULL;
  NpyMatrix got;

  g_assert_nonnull (want);
  if (!npy_read (path, &got, &error)) {
    g_test_fail_printf ("%s: %s", run->name, error->message);
    return FALSE;
  }
  g_autofree float *data = got.data;
  if (got.rows != want->shape[0] || got.cols != want->shape[1]) {
    g_test_fail_printf ("%s: first wrong stage is %s: shape %zux%zu, expected %zux%zu", run->name,
                        stage, got.rows, got.cols, want->shape[0], want->shape[1]);
    return FALSE;
  }
  double off = relative_error (data, want->data, got.rows * got.cols);
  if (!(off <= STAGE_TOLERANCE)) {
    g_test_fail_printf ("%s: first wrong stage is %s: off by %g of its largest magnitude",
                        run->name, stage, off);
    return FALSE;
  }
  run->worst = MAX (run->worst, off);
  return TRUE;
}

/* Every float tensor of the reference is a stage, and every stage is compared. */
static gboolean
check_stages (Run *run)
{
  JsonArray *stages = golden_array (run, "stages");
  GHashTableIter iter;
  RefTensor *tensor;
  guint n_floats = 0;

  g_hash_table_iter_init (&iter, run->ref->tensors);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *) &tensor))
    n_floats += tensor->type == REF_F32;
  g_assert_cmpuint (n_floats, ==, json_array_get_length (stages));

  for (guint i = 0; i < n_floats; i++) {
    const char *stage = json_array_get_string_element (stages, i);
    if (!g_str_equal (stage, "logits") && !check_stage (run, stage))
      return FALSE;
  }
  return TRUE;
}

/* Steps are compared while the tokens agree: after another word all is different. */
static gboolean
check_logits (Run *run, const ValleyResult *result, double tolerance)
{
  const RefTensor *want = ref_file_get (run->ref, "logits", REF_F32, 2);
  JsonArray *tokens = golden_array (run, "tokens");
  gsize n_steps, n_vocabulary;

  g_assert_nonnull (want);
  const float *got = valley_session_logits (run->session, &n_steps, &n_vocabulary);
  g_assert_nonnull (got);
  g_assert_cmpuint (n_steps, ==, result->n_output_tokens);
  g_assert_cmpuint (n_vocabulary, ==, want->shape[1]);
  for (gsize i = 0; i < n_steps * n_vocabulary; i++)
    g_assert_true (isfinite (got[i]));
  for (gsize i = 0; i < MIN (n_steps, want->shape[0]); i++) {
    double off = relative_error (got + i * n_vocabulary,
                                 (const float *) want->data + i * n_vocabulary, n_vocabulary);
    if (!(off <= tolerance)) {
      g_test_fail_printf ("%s: logits of step %zu are off by %g of their largest magnitude",
                          run->name, i, off);
      return FALSE;
    }
    run->worst = MAX (run->worst, off);
    if (result->output_ids[i] != json_array_get_int_element (tokens, i))
      break;
  }
  return TRUE;
}

static void
check_answer (Run *run, const ValleyResult *result)
{
  const RefTensor *rows = ref_file_get (run->ref, "llm.embeddings", REF_F32, 2);

  g_assert_cmpuint (result->n_input_tokens, ==, rows->shape[0]);
  if (!check_ids (run, "tokens", result->output_ids, result->n_output_tokens))
    return;
  g_assert_cmpstr (result->text, ==, json_object_get_string_member (run->golden, "text"));
  g_assert_cmpstr (result->finish_reason, ==,
                   json_object_get_string_member (run->golden, "finish_reason"));
}

typedef struct {
  const char *name;
  const Mode *mode;
} Case;

static void
test_golden (gconstpointer data)
{
  const Case *test = data;
  Run *run = run_open (test->name, test->mode);

  push_pictures (run);
  const ValleyResult *result = answer (run);
  if (check_ids (run, "input_ids", result->input_ids, result->n_input_ids)) {
    if (run->mode->precision != VALLEY_PRECISION_F32)
      check_logits (run, result, tolerance_of (run->mode->precision));
    else if (check_stages (run) && check_logits (run, result, STAGE_TOLERANCE))
      check_answer (run, result);
  }
  g_test_message ("largest deviation: %g", run->worst);
  run_close (run);
}

int
main (int argc, char **argv)
{
  static Case cases[G_N_ELEMENTS (names) * G_N_ELEMENTS (modes)];
  Case *test = cases;

  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  g_test_add_func ("/golden/comparison", test_comparison);
  for (gsize n = 0; n < G_N_ELEMENTS (names); n++)
    for (gsize m = 0; m < G_N_ELEMENTS (modes); m++, test++) {
      g_autofree char *path = g_strdup_printf ("/golden/%s/%s", names[n], modes[m].label);
      *test = (Case){ names[n], &modes[m] };
      if (modes[m].where & (test_on_cpu () ? ON_CPU : ON_GPU))
        g_test_add_data_func (path, test, test_golden);
    }
  return g_test_run ();
}
