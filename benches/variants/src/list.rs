// Written by benches/variants/generate.

variants! {
    "same" same heirloom_same
    "plain" plain heirloom_plain
    "without-throttle" without_throttle heirloom_without_throttle
    "without-search_patience" without_search_patience heirloom_without_search_patience
    "without-next_slot" without_next_slot heirloom_without_next_slot
    "without-slot_reclaim" without_slot_reclaim heirloom_without_slot_reclaim
    "without-batch_notify" without_batch_notify heirloom_without_batch_notify
    "without-pace" without_pace heirloom_without_pace
    "without-lone_task" without_lone_task heirloom_without_lone_task
    "without-injector_share" without_injector_share heirloom_without_injector_share
    "without-fine_timers" without_fine_timers heirloom_without_fine_timers
    "without-pins" without_pins heirloom_without_pins
    "without-borrowed-bindings" without_borrowed_bindings heirloom_without_borrowed_bindings
    "without-short-lookup" without_short_lookup heirloom_without_short_lookup
    "without-single-owner-drop" without_single_owner_drop heirloom_without_single_owner_drop
    "without-spare-handles" without_spare_handles heirloom_without_spare_handles
    "without-in-place" without_in_place heirloom_without_in_place
}
