/* markers.h - the sections that reasoning models mark in their answers, taken apart while the
 * text arrives:
 *
 *   <SUMMARY> <CAPTION> <REASONING> <CONCLUSION>   Valley2's chain of thought
 *   <think> <answer>                               Valley2.5 (and <thinking>)
 *
 * each up to its closing marker (</SUMMARY> ...), the closing marker of a section around it, or
 * the end.  A section inside another one interrupts it; a closing marker that closes nothing is
 * left out, and so is white space beside a marker.  Pieces of one field are joined by a newline.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef enum {
  VALLEY_FIELD_RESULT, /* the answer: <answer>, <CONCLUSION>, and what is in no section */
  VALLEY_FIELD_REASONING,
  VALLEY_FIELD_SUMMARY,
  VALLEY_FIELD_CAPTION,
  VALLEY_FIELD_CONCLUSION, /* <CONCLUSION> alone */
  VALLEY_N_FIELDS
} ValleyField;

typedef struct {
  GString *fields[VALLEY_N_FIELDS]; /* they only ever grow */
  GArray *open;                     /* ValleyField: the sections around here, innermost last */
  GString *held;                    /* what may yet become a marker */
  GString *space;                   /* white space whose right neighbour is not known yet */
  gboolean beside_marker;           /* nothing but white space since the last one */
} ValleySections;

void valley_sections_init (ValleySections *sections);
void valley_sections_clear (ValleySections *sections); /* zeroed memory is fine */
/* @text: more of the answer, in whole characters. */
void valley_sections_add (ValleySections *sections, const char *text);
/* No more text.  What is held back was text after all, unless the answer was @cut short: then
 * it is half a marker and left out. */
void valley_sections_finish (ValleySections *sections, gboolean cut);

/* Whether @text is one of the markers, opening or closing. */
gboolean valley_is_marker (const char *text);
