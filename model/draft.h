/* draft.h - guesses how an answer goes on from how the previous one went.
 *
 * Consecutive windows of a stream mostly get nearly the same answer.  What is proposed here is
 * computed in one pass with the token before and checked against what the model says itself, so
 * a wrong guess costs time and changes nothing.  No model in here, only token ids.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* More are never proposed at a time. */
#define VALLEY_MAX_DRAFT 15

typedef struct _ValleyDraft ValleyDraft;

ValleyDraft *valley_draft_new (void);
void valley_draft_free (ValleyDraft *draft); /* NULL is fine */
/* A new answer begins, to be compared with the last that was kept. */
void valley_draft_begin (ValleyDraft *draft);
/* The answer's next token. */
void valley_draft_add (ValleyDraft *draft, gint32 id);
/* How the answer may go on: at most @most ids, and none where a wrong guess is too likely. */
gsize valley_draft_propose (const ValleyDraft *draft, gint32 *ids, gsize most);
/* The answer is complete. */
void valley_draft_keep (ValleyDraft *draft);
