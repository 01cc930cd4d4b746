"""A dialect for each answer that Google leaves open, one at a time, and the worst of all.

A name says what differs from the default. Whoever is tried under each of them knows
which answer broke it.
"""

from collections.abc import Mapping

from local_cloud.vertex_records import Code, Dialect, Names, Origin

_UNIMPLEMENTED = ("WaitOperation", "ListOperations", "CancelOperation")

# A copy shows within 35 seconds of being taken, and is proven within another 20.
WORST = Dialect(
    names=Names.NUMBERS,
    existing_id=None,
    in_flight_id=None,
    unimplemented=frozenset(_UNIMPLEMENTED),
    cancels=False,
    origin=Origin.ROOT,
    proof_after_seconds=40.0,
    model_after_seconds=0.0,
    leaves_wreck=True,
    stale_seconds=15.0,
    operation_after_seconds=20.0,
    shows_after_seconds=20.0,
    refuses_in_operation=True,
    keeps_labels=False,
    copies_are_new_kind=True,
)

DIALECTS: Mapping[str, Dialect] = {
    "default": Dialect(),
    "names-by-number": Dialect(names=Names.NUMBERS),
    "existing-id-aborted": Dialect(existing_id=Code.ABORTED),
    "existing-id-fails-later": Dialect(existing_id=None),
    "in-flight-id-aborted": Dialect(in_flight_id=Code.ABORTED),
    "in-flight-id-fails-later": Dialect(in_flight_id=None),
    "refused-in-operation": Dialect(refuses_in_operation=True),
    "no-wait": Dialect(unimplemented=frozenset({"WaitOperation"})),
    "no-list": Dialect(unimplemented=frozenset({"ListOperations"})),
    "location-list-empty": Dialect(lists_by_location=False),
    "no-location-list": Dialect(lists_by_location=None),
    "no-cancel": Dialect(unimplemented=frozenset({"CancelOperation"})),
    "cancel-ignored": Dialect(cancels=False),
    "cancel-denied": Dialect(denies_cancel=True),
    "copy-names-root": Dialect(origin=Origin.ROOT),
    "proof-absent": Dialect(proof_after_seconds=None),
    "proof-late": Dialect(proof_after_seconds=30.0),
    "model-at-once": Dialect(model_after_seconds=0.0),
    "model-before-end": Dialect(model_after_seconds=10.0),
    "wreck": Dialect(leaves_wreck=True),
    "wreck-of-early-model": Dialect(leaves_wreck=True, model_after_seconds=0.0),
    "stale-reads": Dialect(stale_seconds=30.0),
    "operation-late": Dialect(operation_after_seconds=30.0),
    "shows-late": Dialect(shows_after_seconds=30.0),
    "labels-lost": Dialect(keeps_labels=False),
    "copies-of-new-kind": Dialect(copies_are_new_kind=True),
    "worst": WORST,
}
