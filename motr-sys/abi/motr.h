/* What src/bindings.rs is made of, by scripts/bindings. */
#include "types.h"
#include "functions.h"
