/* engine-fixture.h - what the tests of the whole engine share: a model with one session, made-up
 * pictures, answers that can be compared in bits.  Whatever fails unexpectedly ends the test.
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine.h"

#define FRAME_NS (500 * G_GUINT64_CONSTANT (1000000))
#define QUESTION "What is the signal? Answer picture, bars, black or snow."

typedef struct {
  ValleyModel *model;
  ValleySession *session;
} Fixture;

typedef struct {
  gint32 ids[64];
  guint n_ids;
  char *text;
  float *logits;
  gsize n_logits;
} Answer;

/* The folder of a golden, to free. */
char *golden_dir (const char *name);
ValleyModel *open_model (const char *dir, ValleyPrecision precision);

void fixture_open (Fixture *f, const char *dir, ValleyPrecision precision);
void fixture_close (Fixture *f);
/* For g_test_add: opens the golden that @data names (NULL: ovis-softmax) in f32. */
void fixture_setup (Fixture *f, gconstpointer data);
void fixture_teardown (Fixture *f, gconstpointer data);

/* A picture of its own for every number. */
ValleyPicture *make_picture (ValleyModel *model, guint number);
gboolean fixture_push (Fixture *f, guint number, GError **error);
void fixture_push_frames (Fixture *f, guint first, guint last);
/* Begins and steps to the end; FALSE with the first error. */
gboolean fixture_run (Fixture *f, const ValleyRequest *request, GError **error);
/* QUESTION, greedily, with its logits. */
void fixture_ask (Fixture *f, guint max_new_tokens, Answer *answer);

void answer_take (Fixture *f, Answer *answer);
void answer_clear (Answer *answer);
/* The same ids, text and logits, bit by bit. */
void answer_assert_same (const Answer *a, const Answer *b);
