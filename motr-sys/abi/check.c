/*
 * Compiles if the layout is as layout.h says: of our own types, or with HAX_MOTR_HEADERS of Motr's,
 * whose functions must then also be declared as functions.h says. scripts/check-motr-abi runs it.
 */
#include <stddef.h>

#ifdef HAX_MOTR_HEADERS
#include "conf/ha.h"
#include "conf/pvers.h"
#include "conf/rconfc.h"
#include "fid/fid.h"
#include "ha/halon/interface.h"
#include "ha/msg.h"
#include "ha/note.h"
#include "layout/pdclust.h"
#include "lib/memory.h"
#include "lib/thread.h"
#include "motr/version.h"
#include "net/net.h"
#include "spiel/spiel.h"
#else
#include "types.h"
#endif
#include "functions.h"

#define SIZE(type, n) _Static_assert(sizeof(struct type) == n, "size of " #type);
#define OFFSET(type, field, n) \
	_Static_assert(offsetof(struct type, field) == n, "offset of " #type "." #field);
#define VALUE(name, n) _Static_assert(name == n, #name);
#define FUNCTION(name) name##_fn name;
#include "layout.h"
