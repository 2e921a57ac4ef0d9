/* test-result.c - captions, JSON lines, bus structures and prompts.
 * SPDX-License-Identifier: Apache-2.0 */
#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#include "result.h"

/* ---- captions ------------------------------------------------------------ */

static void
test_caption (void)
{
  static const struct {
    const char *text, *expected;
  } cases[] = {
    { "A red circle.", "A red circle." },
    { "  A red circle. \n\n", "A red circle." },
    { "one\ntwo", "one\ntwo" },
    { "one\n\n\ntwo", "one\ntwo" },
    { "one\r\n\r\ntwo\r", "one\ntwo" },
    { "one\n  \t \ntwo", "one\ntwo" },
    { "a --> b", "a \342\206\222 b" },
    { "a ---> b -->", "a -\342\206\222 b \342\206\222" },
    { "00:00.000 --> 00:02.000", "00:00.000 \342\206\222 00:02.000" },
    { "a\001b\033[31mc\177", "ab[31mc" },
    { "a\tb", "a b" },
    { "gr\303\266\303\237er", "gr\303\266\303\237er" },
    { "bad \303( byte", "bad \357\277\275( byte" },
    { "", NULL },
    { " \n\t\n ", NULL },
    { "\001\002", NULL },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree gchar *caption = gst_valley_caption_text (cases[i].text, -1);

    g_assert_cmpstr (caption, ==, cases[i].expected);
  }
}

static void
test_caption_nul (void)
{
  g_autofree gchar *caption = gst_valley_caption_text ("a\0b", 3);

  g_assert_nonnull (caption);
  g_assert_true (g_utf8_validate (caption, -1, NULL));
  g_assert_true (g_str_has_prefix (caption, "a"));
  g_assert_true (g_str_has_suffix (caption, "b"));
}

/* tx3g counts bytes in 16 bits; the cut must not split a character. */
static void
test_caption_long (void)
{
  GString *text = g_string_new ("x");
  g_autofree gchar *caption = NULL;

  while (text->len < 100000)
    g_string_append (text, "\342\206\222");
  caption = gst_valley_caption_text (text->str, (gssize) text->len);
  g_assert_cmpuint (strlen (caption), <=, 65535);
  g_assert_cmpuint (strlen (caption), >, 65531);
  g_assert_true (g_utf8_validate (caption, -1, NULL));
  g_string_free (text, TRUE);
}

/* Whatever the bytes: the encoders' rules hold, and cleaning twice changes nothing. */
static void
test_caption_random (void)
{
  static const char alphabet[] = "ab-->-\n\n\r \t\303\266\342\206\001\177\377";
  guint32 seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);

  g_test_message ("seed %u", seed);
  for (guint round = 0; round < 5000; round++) {
    char text[64];
    guint length = (guint) g_rand_int_range (rand, 0, sizeof (text));
    g_autofree gchar *once = NULL, *twice = NULL;

    for (guint i = 0; i < length; i++)
      text[i] = alphabet[g_rand_int_range (rand, 0, sizeof (alphabet))];
    once = gst_valley_caption_text (text, (gssize) length);
    if (once == NULL)
      continue;
    g_assert_true (g_utf8_validate (once, -1, NULL));
    g_assert_null (strstr (once, "-->"));
    g_assert_null (strstr (once, "\n\n"));
    g_assert_false (g_str_has_suffix (once, "\n"));
    twice = gst_valley_caption_text (once, -1);
    g_assert_cmpstr (twice, ==, once);
  }
}

/* ---- chunks -------------------------------------------------------------- */

static GstValleyChunk *
chunk_new (GstValleyChunkState state, GstValleyAnswerState answer_state)
{
  GstValleyChunk *chunk = g_atomic_rc_box_new0 (GstValleyChunk);
  const guint64 frames[] = { 16 * GST_SECOND, 16500 * GST_MSECOND };
  const gchar *const prompts[]
      = { "{num_frames} of {stream_id} from {start} to {end}: {timestamps} {\"a\":1} {x}",
          "And now?", NULL };
  g_autoptr (GstValleyRequest) request = gst_valley_request_new (prompts, NULL, 7, NULL, NULL);
  GstValleyAnswer *answer;

  chunk->state = state;
  chunk->window.id = 12;
  chunk->window.start = 16 * GST_SECOND;
  chunk->window.end = 18 * GST_SECOND;
  chunk->window.frames = g_array_new (FALSE, FALSE, sizeof (guint64));
  g_array_append_vals (chunk->window.frames, frames, G_N_ELEMENTS (frames));
  gst_segment_init (&chunk->segment, GST_FORMAT_TIME);
  chunk->segment.start = 10 * GST_SECOND; /* stream time is PTS - 10 s */
  gst_valley_chunk_set_request (chunk, request);
  chunk->stream_id = g_strdup ("cam-1");
  chunk->metrics = TRUE;
  chunk->unix_ns = GST_CLOCK_TIME_NONE;
  answer = &chunk->answers[0];
  answer->state = answer_state;
  if (answer_state == GST_VALLEY_ANSWER_GIVEN) {
    answer->text = g_strdup ("say \"hi\" \\ \n\001\303\266");
    answer->finish_reason = g_strdup ("stop");
    answer->confidence = 0.97;
    answer->n_vision_tokens = 392;
    answer->latency_ms = 32.44;
  }
  return chunk;
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GstValleyChunk, gst_valley_chunk_unref)

static JsonNode *
parse (const GstValleyChunk *chunk)
{
  g_autofree gchar *line = gst_valley_chunk_to_json (chunk, 0);
  GError *error = NULL;
  JsonNode *node;

  g_assert_true (g_str_has_suffix (line, "}\n"));
  g_assert_true (strchr (line, '\n') == line + strlen (line) - 1);
  node = json_from_string (line, &error);
  g_assert_no_error (error);
  return node;
}

static void
test_json (void)
{
  g_autoptr (GstValleyChunk) chunk = chunk_new (GST_VALLEY_CHUNK_CLOSED, GST_VALLEY_ANSWER_GIVEN);
  g_autoptr (JsonNode) node = parse (chunk);
  JsonObject *object = json_node_get_object (node), *metrics;
  JsonArray *times = json_object_get_array_member (object, "frame_times");

  g_assert_cmpstr (json_object_get_string_member (object, "result"), ==, chunk->answers[0].text);
  g_assert_cmpfloat (json_object_get_double_member (object, "confidence"), ==, 0.97);
  g_assert_cmpint (json_object_get_int_member (object, "chunk_id"), ==, 12);
  g_assert_cmpstr (json_object_get_string_member (object, "stream_id"), ==, "cam-1");
  g_assert_cmpfloat (json_object_get_double_member (object, "start_time"), ==, 6.0);
  g_assert_cmpfloat (json_object_get_double_member (object, "end_time"), ==, 8.0);
  g_assert_cmpint (json_object_get_int_member (object, "timestamp"), ==, 16000000000);
  g_assert_cmpint (json_object_get_int_member (object, "frame_count"), ==, 2);
  g_assert_cmpuint (json_array_get_length (times), ==, 2);
  g_assert_cmpfloat (json_array_get_double_element (times, 1), ==, 6.5);
  g_assert_cmpint (json_object_get_int_member (object, "prompt_id"), ==, 0);
  g_assert_cmpstr (json_object_get_string_member (object, "finish_reason"), ==, "stop");
  g_assert_false (json_object_has_member (object, "ntp_time"));
  g_assert_false (json_object_has_member (object, "error"));
  metrics = json_object_get_object_member (object, "metrics");
  g_assert_cmpint (json_object_get_int_member (metrics, "vision_tokens"), ==, 392);
  g_assert_cmpfloat (json_object_get_double_member (metrics, "latency_ms"), ==, 32.4);
}

static void
test_json_options (void)
{
  g_autoptr (GstValleyChunk) chunk = chunk_new (GST_VALLEY_CHUNK_CLOSED, GST_VALLEY_ANSWER_GIVEN);
  g_autoptr (JsonNode) node = NULL;
  JsonObject *object;

  chunk->metrics = FALSE;
  chunk->answers[0].confidence = NAN;
  chunk->unix_ns = 1767323045 * GST_SECOND + 678 * GST_MSECOND;
  node = parse (chunk);
  object = json_node_get_object (node);
  g_assert_false (json_object_has_member (object, "metrics"));
  g_assert_true (json_object_get_null_member (object, "confidence"));
  g_assert_cmpstr (json_object_get_string_member (object, "ntp_time"), ==,
                   "2026-01-02T03:04:05.678Z");
}

/* Fields that are there only when there is something to say, in both forms. */
static void
test_optional_fields (void)
{
  static const char *const names[]
      = { "reasoning", "summary", "caption", "conclusion", "frames_dropped", "max_new_tokens" };
  g_autoptr (GstValleyChunk) chunk = chunk_new (GST_VALLEY_CHUNK_CLOSED, GST_VALLEY_ANSWER_GIVEN);
  g_autoptr (JsonNode) without = parse (chunk);
  g_autoptr (JsonNode) with = NULL;
  g_autoptr (GstStructure) bare = gst_valley_chunk_to_structure (chunk, 0);
  g_autoptr (GstStructure) full = NULL;
  JsonObject *object = json_node_get_object (without);
  guint number = 0;

  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    g_assert_false (json_object_has_member (object, names[i]));
    g_assert_false (gst_structure_has_field (bare, names[i]));
  }
  for (guint i = 0; i < GST_VALLEY_N_SECTIONS; i++)
    chunk->answers[0].sections[i] = g_strconcat ("about \"", names[i], "\"\n", NULL);
  chunk->answers[0].n_frames_dropped = 3;
  chunk->answers[0].max_new_tokens = 41;
  with = parse (chunk);
  object = json_node_get_object (with);
  full = gst_valley_chunk_to_structure (chunk, 0);
  for (guint i = 0; i < GST_VALLEY_N_SECTIONS; i++) {
    g_assert_cmpstr (json_object_get_string_member (object, names[i]), ==,
                     chunk->answers[0].sections[i]);
    g_assert_cmpstr (gst_structure_get_string (full, names[i]), ==, chunk->answers[0].sections[i]);
  }
  g_assert_cmpint (json_object_get_int_member (object, "frames_dropped"), ==, 3);
  g_assert_cmpint (json_object_get_int_member (object, "max_new_tokens"), ==, 41);
  g_assert_true (gst_structure_get_uint (full, "frames_dropped", &number));
  g_assert_cmpuint (number, ==, 3);
  g_assert_true (gst_structure_get_uint (full, "max_new_tokens", &number));
  g_assert_cmpuint (number, ==, 41);
}

static void
test_json_failed (void)
{
  g_autoptr (GstValleyChunk) failed = chunk_new (GST_VALLEY_CHUNK_CLOSED, GST_VALLEY_ANSWER_FAILED);
  g_autoptr (GstValleyChunk) dropped
      = chunk_new (GST_VALLEY_CHUNK_DROPPED, GST_VALLEY_ANSWER_AWAITED);
  g_autoptr (JsonNode) first = NULL;
  g_autoptr (JsonNode) second = parse (dropped);

  failed->answers[0].error = g_strdup ("out of \"memory\"");
  first = parse (failed);
  g_assert_cmpstr (json_object_get_string_member (json_node_get_object (first), "error"), ==,
                   failed->answers[0].error);
  g_assert_true (json_object_get_null_member (json_node_get_object (first), "result"));
  g_assert_true (json_object_get_boolean_member (json_node_get_object (second), "dropped"));
}

static void
test_structure (void)
{
  g_autoptr (GstValleyChunk) chunk = chunk_new (GST_VALLEY_CHUNK_CLOSED, GST_VALLEY_ANSWER_GIVEN);
  g_autoptr (GstStructure) structure = gst_valley_chunk_to_structure (chunk, 0);
  gdouble start = 0;
  guint64 id = 0;

  g_assert_true (gst_structure_has_name (structure, "valleyinfer/result"));
  g_assert_cmpstr (gst_structure_get_string (structure, "result"), ==, chunk->answers[0].text);
  g_assert_true (gst_structure_get_double (structure, "start_time", &start));
  g_assert_cmpfloat (start, ==, 6.0);
  g_assert_true (gst_structure_get_uint64 (structure, "chunk_id", &id));
  g_assert_cmpuint (id, ==, 12);
  g_assert_cmpuint (gst_value_array_get_size (gst_structure_get_value (structure, "frame_times")),
                    ==, 2);
  g_assert_true (gst_structure_has_field_typed (structure, "metrics", GST_TYPE_STRUCTURE));
}

/* ---- prompts ------------------------------------------------------------- */

static void
test_placeholders (void)
{
  g_autoptr (GstValleyChunk) chunk = chunk_new (GST_VALLEY_CHUNK_CLOSED, GST_VALLEY_ANSWER_GIVEN);
  g_autofree gchar *prompt = gst_valley_chunk_prompt (chunk, 0, chunk->window.frames);

  g_assert_cmpstr (prompt, ==, "2 of cam-1 from 6.0 to 8.0: 6.0, 6.5 {\"a\":1} {x}");
}

static void
test_seconds (void)
{
  static const struct {
    guint64 ns;
    const char *text;
  } cases[] = { { 0, "0.0" },           { 33333333, "0.033" },
                { 999999999, "1.0" },   { 10000000000, "10.0" },
                { 1250000000, "1.25" }, { 3600100000000, "3600.1" } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    GString *out = g_string_new (NULL);

    gst_valley_append_seconds (out, cases[i].ns);
    g_assert_cmpstr (out->str, ==, cases[i].text);
    g_string_free (out, TRUE);
  }
}

static void
test_generation_config (void)
{
  GError *error = NULL;
  const gchar *const prompts[] = { "p", NULL };
  GstValleyRequest *request = gst_valley_request_new (
      prompts, "s", 5,
      "max_new_tokens=9, temperature=0.7,top_k=40,top_p=0.9,seed=18446744073709551615,"
      "repetition_penalty=1.1,stop=.,stop=END",
      &error);
  ValleyRequest engine;

  g_assert_no_error (error);
  engine = gst_valley_request_engine (request, request->prompts[0]);
  g_assert_cmpuint (engine.max_new_tokens, ==, 9);
  g_assert_cmpfloat (engine.temperature, ==, 0.7);
  g_assert_cmpuint (engine.top_k, ==, 40);
  g_assert_cmpfloat (engine.top_p, ==, 0.9);
  g_assert_cmpuint (engine.seed, ==, G_MAXUINT64);
  g_assert_cmpfloat (engine.repetition_penalty, ==, 1.1);
  g_assert_cmpstr (engine.stop[0], ==, ".");
  g_assert_cmpstr (engine.stop[1], ==, "END");
  g_assert_null (engine.stop[2]);
  gst_valley_request_unref (request);
}

static void
test_generation_config_errors (void)
{
  static const char *bad[] = { "temperature",
                               "temperature=",
                               "temperature=warm",
                               "temperature=-1",
                               "temperature=nan",
                               "top_p=1.5",
                               "top_k=-3",
                               "top_k=1e30",
                               "max_new_tokens=0",
                               "seed=99999999999999999999999",
                               "beams=4",
                               "top_k=4;top_p=1",
                               "=4",
                               "repetition_penalty=0" };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    const gchar *const prompts[] = { "p", NULL };
    GError *error = NULL;

    g_assert_null (gst_valley_request_new (prompts, NULL, 5, bad[i], &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
    g_assert_nonnull (strstr (error->message, "expected"));
    g_error_free (error);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  gst_init (&argc, &argv);
  g_test_add_func ("/result/caption", test_caption);
  g_test_add_func ("/result/caption-nul", test_caption_nul);
  g_test_add_func ("/result/caption-long", test_caption_long);
  g_test_add_func ("/result/caption-random", test_caption_random);
  g_test_add_func ("/result/json", test_json);
  g_test_add_func ("/result/json-options", test_json_options);
  g_test_add_func ("/result/optional-fields", test_optional_fields);
  g_test_add_func ("/result/json-failed", test_json_failed);
  g_test_add_func ("/result/structure", test_structure);
  g_test_add_func ("/request/placeholders", test_placeholders);
  g_test_add_func ("/request/seconds", test_seconds);
  g_test_add_func ("/request/generation-config", test_generation_config);
  g_test_add_func ("/request/generation-config-errors", test_generation_config_errors);
  return g_test_run ();
}
