/* wing-other.c - a wing for another engine: test-wing.c expects to see it refused.
 * SPDX-License-Identifier: Apache-2.0 */
#include "wing.h"

extern const VALLEY_API ValleyWing valley_wing;
const ValleyWing valley_wing = {
  .version = VALLEY_WING_VERSION + 1,
  .ops_bytes = sizeof (ValleyOps),
};
