/* test-markers.c - the sections of an answer: however the text is cut into pieces, the fields
 * are the same in the end, only grow on the way, and never show a part of a marker.
 * SPDX-License-Identifier: Apache-2.0 */
#include "markers.h"

#include <string.h>

typedef struct {
  const char *label, *text;
  gboolean cut;
  const char *result;
  const char *reasoning, *summary, *caption, *conclusion; /* NULL: empty */
} Case;

static const Case cases[] = {
  { .label = "no-marker", .text = "A red circle.", .result = "A red circle." },
  { .label = "as-written", .text = " \n a < b  <= c \n", .result = " \n a < b  <= c \n" },
  { .label = "empty", .text = "", .result = "" },
  { .label = "valley2",
    .text = "<SUMMARY> I look. </SUMMARY>\n\n<CAPTION>A circle.</CAPTION>\n<REASONING>It\nmoves."
            "</REASONING>\n\n<CONCLUSION> Right. </CONCLUSION>\n",
    .result = "Right.",
    .reasoning = "It\nmoves.",
    .summary = "I look.",
    .caption = "A circle.",
    .conclusion = "Right." },
  { .label = "valley2.5",
    .text = "<think>\nTwo <vcues_1>red</vcues_1> ones.\n</think><answer>2</answer>",
    .result = "2",
    .reasoning = "Two <vcues_1>red</vcues_1> ones." },
  { .label = "answer-unmarked",
    .text = "<think>\n\n</think>\n\nA circle.\n",
    .result = "A circle.\n" },
  { .label = "thinking",
    .text = "<thinking>Hm.</thinking>\nYes.",
    .result = "Yes.",
    .reasoning = "Hm." },
  { .label = "unclosed", .text = "<think>It goes on", .result = "", .reasoning = "It goes on" },
  { .label = "unclosed-each",
    .text = "<SUMMARY>a<CAPTION>b<REASONING>c<CONCLUSION>d",
    .result = "d",
    .reasoning = "c",
    .summary = "a",
    .caption = "b",
    .conclusion = "d" },
  { .label = "unclosed-inside",
    .text = "<think>a<CAPTION>b</think>c",
    .result = "c",
    .reasoning = "a",
    .caption = "b" },
  { .label = "never-opened", .text = "a </think> b", .result = "a\nb" },
  { .label = "closed-twice", .text = "<think>a</think></think>b", .result = "b", .reasoning = "a" },
  { .label = "nested",
    .text = "<REASONING>one <CAPTION> two </CAPTION> three</REASONING> four",
    .result = "four",
    .reasoning = "one\nthree",
    .caption = "two" },
  { .label = "nested-in-itself",
    .text = "<think>a<think>b</think>c</think>d",
    .result = "d",
    .reasoning = "a\nb\nc" },
  { .label = "repeated",
    .text = "<CAPTION>a</CAPTION><CAPTION>b</CAPTION><answer>c</answer><answer>d</answer>",
    .result = "c\nd",
    .caption = "a\nb" },
  { .label = "text-around",
    .text = "Well. <CONCLUSION>Yes</CONCLUSION> Bye. ",
    .result = "Well.\nYes\nBye. ",
    .conclusion = "Yes" },
  { .label = "empty-section", .text = "<think> \n </think><answer></answer>", .result = "" },
  { .label = "not-a-marker",
    .text = "<Think>a</thinks><SUMMARY >b< think></ think><<think>c",
    .result = "<Think>a</thinks><SUMMARY >b< think></ think><",
    .reasoning = "c" },
  { .label = "almost",
    .text = "<thin<think>a</thin</think>k>",
    .result = "<thin\nk>",
    .reasoning = "a</thin" },
  { .label = "white-space-last",
    .text = "<CONCLUSION>a \n",
    .result = "a \n",
    .conclusion = "a \n" },
  { .label = "white-space-alone", .text = " \n", .result = " \n" },
  { .label = "half-said", .text = "is it <think", .result = "is it <think" },
  { .label = "half-cut", .text = "yes </answe", .cut = TRUE, .result = "yes " },
  { .label = "less-than-cut", .text = "a <", .cut = TRUE, .result = "a " },
  { .label = "less-than-said", .text = "a <", .result = "a <" },
  { .label = "characters",
    .text = "<think>\xe4\xb8\xad</think>\xf0\x9f\x98\x80<\xc3\xa9",
    .result = "\xf0\x9f\x98\x80<\xc3\xa9",
    .reasoning = "\xe4\xb8\xad" },
};

static void
check (const ValleySections *sections, const Case *test)
{
  const char *want[VALLEY_N_FIELDS] = { [VALLEY_FIELD_RESULT] = test->result,
                                        [VALLEY_FIELD_REASONING] = test->reasoning,
                                        [VALLEY_FIELD_SUMMARY] = test->summary,
                                        [VALLEY_FIELD_CAPTION] = test->caption,
                                        [VALLEY_FIELD_CONCLUSION] = test->conclusion };

  for (guint i = 0; i < VALLEY_N_FIELDS; i++)
    g_assert_cmpstr (sections->fields[i]->str, ==, want[i] != NULL ? want[i] : "");
}

static void
test_whole (gconstpointer data)
{
  const Case *test = data;
  ValleySections sections;

  valley_sections_init (&sections);
  valley_sections_add (&sections, test->text);
  valley_sections_finish (&sections, test->cut);
  check (&sections, test);
  valley_sections_clear (&sections);
}

/* Adds @text a character at a time; every field only grows. */
static void
trickle (ValleySections *sections, const char *text)
{
  GString *seen[VALLEY_N_FIELDS];

  for (guint i = 0; i < VALLEY_N_FIELDS; i++)
    seen[i] = g_string_new (NULL);
  for (const char *p = text, *next; *p != '\0'; p = next) {
    char character[7] = { 0 };

    next = g_utf8_next_char (p);
    memcpy (character, p, (gsize) (next - p));
    valley_sections_add (sections, character);
    for (guint i = 0; i < VALLEY_N_FIELDS; i++) {
      const GString *field = sections->fields[i];

      g_assert_cmpuint (field->len, >=, seen[i]->len);
      g_assert_cmpmem (field->str, seen[i]->len, seen[i]->str, seen[i]->len);
      g_string_append (seen[i], field->str + seen[i]->len);
    }
  }
  for (guint i = 0; i < VALLEY_N_FIELDS; i++)
    g_string_free (seen[i], TRUE);
}

static void
test_trickle (gconstpointer data)
{
  const Case *test = data;
  ValleySections sections;

  valley_sections_init (&sections);
  trickle (&sections, test->text);
  valley_sections_finish (&sections, test->cut);
  check (&sections, test);
  valley_sections_clear (&sections);
}

/* What is shown while the text arrives. */
static void
test_held_back (void)
{
  static const char text[] = "a <b <think>c </th</think> d";
  static const char *const shown[] = { "a", "a", "a", "a <b", "a <b", "a <b" };
  ValleySections sections;

  valley_sections_init (&sections);
  for (gsize i = 0; text[i] != '\0'; i++) {
    char byte[2] = { text[i], '\0' };

    valley_sections_add (&sections, byte);
    if (i < G_N_ELEMENTS (shown))
      g_assert_cmpstr (sections.fields[VALLEY_FIELD_RESULT]->str, ==, shown[i]);
    g_assert_null (strstr (sections.fields[VALLEY_FIELD_RESULT]->str, "<t"));
  }
  g_assert_cmpstr (sections.fields[VALLEY_FIELD_RESULT]->str, ==, "a <b\nd");
  g_assert_cmpstr (sections.fields[VALLEY_FIELD_REASONING]->str, ==, "c </th");
  valley_sections_clear (&sections);
}

/* Any mixture: pieces make no difference, and of what is no marker and no white space nothing
 * is lost (conclusions count twice). */
static void
test_random (void)
{
  static const char *const parts[] = { "<think>",
                                       "</think>",
                                       "<answer>",
                                       "</answer>",
                                       "<SUMMARY>",
                                       "</SUMMARY>",
                                       "<CAPTION>",
                                       "</CAPTION>",
                                       "<CONCLUSION>",
                                       "</CONCLUSION>",
                                       "<",
                                       "</",
                                       "<th",
                                       "</CAP",
                                       "x",
                                       "y z",
                                       " ",
                                       "\n",
                                       ">",
                                       "\xc3\xa9" };
  guint32 seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);

  g_test_message ("seed %u", seed);
  for (guint round = 0; round < 1000; round++) {
    g_autoptr (GString) text = g_string_new (NULL);
    guint n = (guint) g_rand_int_range (rand, 0, 20);
    ValleySections whole, pieces;

    for (guint i = 0; i < n; i++)
      g_string_append (text, parts[g_rand_int_range (rand, 0, G_N_ELEMENTS (parts))]);
    valley_sections_init (&whole);
    valley_sections_init (&pieces);
    valley_sections_add (&whole, text->str);
    trickle (&pieces, text->str);
    valley_sections_finish (&whole, round % 2 != 0);
    valley_sections_finish (&pieces, round % 2 != 0);
    for (guint i = 0; i < VALLEY_N_FIELDS; i++) {
      g_assert_cmpstr (whole.fields[i]->str, ==, pieces.fields[i]->str);
      g_assert_true (g_utf8_validate (whole.fields[i]->str, -1, NULL));
      g_assert_null (strstr (whole.fields[i]->str, "<think>"));
      g_assert_null (strstr (whole.fields[i]->str, "</CONCLUSION>"));
    }
    valley_sections_clear (&whole);
    valley_sections_clear (&pieces);
  }
}

static void
test_is_marker (void)
{
  g_assert_true (valley_is_marker ("<SUMMARY>"));
  g_assert_true (valley_is_marker ("</CONCLUSION>"));
  g_assert_true (valley_is_marker ("<think>"));
  g_assert_false (valley_is_marker ("<cor>"));
  g_assert_false (valley_is_marker ("<|im_end|>"));
  g_assert_false (valley_is_marker ("<SUMMARY"));
  g_assert_false (valley_is_marker ("<SUMMARY>a"));
  g_assert_false (valley_is_marker ("<"));
  g_assert_false (valley_is_marker (""));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *whole = g_strconcat ("/markers/whole/", cases[i].label, NULL);
    g_autofree char *pieces = g_strconcat ("/markers/trickle/", cases[i].label, NULL);

    g_test_add_data_func (whole, &cases[i], test_whole);
    g_test_add_data_func (pieces, &cases[i], test_trickle);
  }
  g_test_add_func ("/markers/held-back", test_held_back);
  g_test_add_func ("/markers/random", test_random);
  g_test_add_func ("/markers/is-marker", test_is_marker);
  return g_test_run ();
}
