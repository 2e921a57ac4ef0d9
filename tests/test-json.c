/* test-json.c - what is refused before json-glib sees it, and that what is left stays text.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>

#include "json.h"
#include "scratch.h"

static void
assert_refused (const char *text, gsize length, const char *expected)
{
  g_autoptr (GError) error = NULL;
  JsonObject *object = valley_json_parse (text, length, "some.json", &error);

  if (object != NULL)
    g_error ("accepted: %.60s", text);
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
  g_assert_nonnull (strstr (error->message, "some.json"));
  if (strstr (error->message, expected) == NULL)
    g_error ("%.60s: \"%s\" does not say %s", text, error->message, expected);
}

static void
test_strings (void)
{
  static const struct {
    const char *text, *value; /* NULL: refused */
  } strings[] = {
    { "\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80" },
    { "\"\\u00e9\\\\u0000\"", "\xc3\xa9\\u0000" },
    { "\"a\\\"]{\"", "a\"]{" },
    { "\"\\ud800x\"", NULL },
    { "\"\\ud800\"", NULL },
    { "\"\\ud800\\n\"", NULL },
    { "\"\\ud800\\ud800\"", NULL },
    { "\"\\udc00\\ud800\"", NULL },
    { "\"x\\uDFFF\"", NULL },
    { "\"\\u0000\"", NULL },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++) {
    g_autofree char *text = g_strdup_printf ("{\"a\":%s}", strings[i].text);
    g_autoptr (JsonObject) object = NULL;
    g_autoptr (GError) error = NULL;

    if (strings[i].value == NULL) {
      assert_refused (text, strlen (text),
                      "strings without NUL characters and unpaired surrogates");
      continue;
    }
    object = valley_json_parse (text, strlen (text), "some.json", &error);
    g_assert_no_error (error);
    g_assert_cmpstr (json_object_get_string_member (object, "a"), ==, strings[i].value);
  }
  assert_refused ("{\"a\":\"x\0y\"}", 11, "NUL");
}

/* Every cut of an escape ends in an error and not behind the text. */
static void
test_cut (void)
{
  static const char text[] = "{\"a\":\"\\ud83d\\ude00\\n\"}";

  for (gsize n = 1; n < strlen (text); n++) {
    g_autofree char *part = g_memdup2 (text, n);

    assert_refused (part, n, "");
  }
}

static void
test_many_values (void)
{
  GString *text = g_string_new ("{\"a\":[0");

  for (guint i = 0; i < 5000000; i++)
    g_string_append (text, ",0");
  g_string_append (text, "]}");
  assert_refused (text->str, text->len, "values");
  g_string_free (text, TRUE);
}

/* What json-glib alone takes and reads as something else than other parsers do. */
static void
test_grammar (void)
{
  static const struct {
    const char *text, *expected; /* NULL: JSON */
  } cases[] = {
    { " {\"a\" : [ -0.5e+3 , 0e1, 1E-2 , true,false,null , {} , [] ] , \"b\":\"\\/\" }\r\n\t",
      NULL },
    { "{\"a\":9223372036854775807,\"b\":-9223372036854775808,\"c\":1e30}", NULL },
    { "{\"a\":-9223372036854775809}", "integers of at least -2^63 at byte 25" },
    { "{\"a\":-99999999999999999999}", "integers" },
    { "{\"a\":010}", "leading zeros" },
    { "{\"a\":0x10}", ", or a closing bracket at byte 6" },
    { "{\"a\":1.}", "a digit" },
    { "{\"a\":.5}", "a value" },
    { "{\"a\":+1}", "a value" },
    { "{\"a\":- 5}", "a digit" },
    { "{\"a\":1e}", "a digit" },
    { "{\"a\":1e+}", "a digit" },
    { "{\"a\":1.5.5}", ", or a closing bracket" },
    { "{\"a\":-}", "a digit" },
    { "{\"a\":NaN}", "a value" },
    { "{\"a\":Infinity}", "a value" },
    { "{\"a\":-Infinity}", "a digit" },
    { "{\"a\":truely}", ", or a closing bracket" },
    { "{\"a\":tru", "a value" },
    { "{\"a\":\"\\355\"}", "escapes" },
    { "{\"a\":\"\\x\"}", "escapes" },
    { "{\"a\":\"\\u00e\"}", "escapes" },
    { "{\"a\":\"x\ny\"}", "control characters" },
    { "{\"a\":\"x}", "closing quote" },
    { "{\"a\":\"\xed\xa0\x80\"}", "UTF-8 at byte 6" },
    { "\xef\xbb\xbf{}", "a value at byte 0" },
    { "{}{}", "nothing behind the value at byte 2" },
    { "{} 7", "nothing behind" },
    { "{},", "nothing behind" },
    { "{}}", "nothing behind" },
    { "{\"a\":1/**/}", "closing bracket" },
    { "{\"a\":1 \"b\":2}", "closing bracket" },
    { "{\"a\":1,}", "a key" },
    { "{\"a\":[1,]}", "a value" },
    { "{\"a\":[,1]}", "a value or ]" },
    { "{,}", "a key or }" },
    { "{\"a\"}", ":" },
    { "{\"a\" 1}", ":" },
    { "{\"a\"::1}", "a value" },
    { "{a:1}", "a key" },
    { "{1:1}", "a key" },
    { "{\"a\":[1}", "closing bracket" },
    { "{\"a\":1]", "closing bracket" },
    { "{\"a\":[1]", "the rest of it" },
    { "}", "a value" },
    { "]", "a value" },
    { " ", "a value" },
    { "", "a value" },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autoptr (JsonObject) object = NULL;
    g_autoptr (GError) error = NULL;

    if (cases[i].expected != NULL) {
      assert_refused (cases[i].text, strlen (cases[i].text), cases[i].expected);
      continue;
    }
    object = valley_json_parse (cases[i].text, strlen (cases[i].text), "some.json", &error);
    g_assert_no_error (error);
  }
}

static void
nest (GString *text, guint depth)
{
  g_string_assign (text, "{\"a\":");
  for (guint i = 1; i < depth; i++)
    g_string_append_c (text, '[');
  for (guint i = 1; i < depth; i++)
    g_string_append_c (text, ']');
  g_string_append_c (text, '}');
}

static void
test_depth (void)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  JsonObject *object;

  nest (text, 64);
  object = valley_json_parse (text->str, text->len, "some.json", &error);
  g_assert_no_error (error);
  json_object_unref (object);
  nest (text, 65);
  assert_refused (text->str, text->len, "nested");
}

static void
test_twice (void)
{
  assert_refused ("{\"b\":{\"a\":1,\"a\":2}}", 19, "twice");
}

/* Nobody writes into the pipe: reading it would never end. */
static void
test_pipe (void)
{
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "config.json", NULL);
  g_autoptr (GError) error = NULL;

  g_assert_cmpint (mkfifo (path, 0600), ==, 0);
  g_assert_null (valley_json_read (path, 1000, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
  g_assert_nonnull (strstr (error->message, "config.json"));
  scratch_remove (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/json/strings", test_strings);
  g_test_add_func ("/json/cut", test_cut);
  g_test_add_func ("/json/grammar", test_grammar);
  g_test_add_func ("/json/depth", test_depth);
  g_test_add_func ("/json/many-values", test_many_values);
  g_test_add_func ("/json/twice", test_twice);
  g_test_add_func ("/json/pipe", test_pipe);
  return g_test_run ();
}
