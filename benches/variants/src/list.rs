// Written by benches/variants/generate.

variants! {
    "same" same heirloom_same
    "plain" plain heirloom_plain
    "without-begun_yields" without_begun_yields heirloom_without_begun_yields
    "without-joiner_next" without_joiner_next heirloom_without_joiner_next
    "without-context_handover" without_context_handover heirloom_without_context_handover
    "without-lent_references" without_lent_references heirloom_without_lent_references
    "without-throttle" without_throttle heirloom_without_throttle
    "without-deputy" without_deputy heirloom_without_deputy
    "without-steal_backoff" without_steal_backoff heirloom_without_steal_backoff
    "without-search_patience" without_search_patience heirloom_without_search_patience
    "without-next_slot" without_next_slot heirloom_without_next_slot
    "without-slot_reclaim" without_slot_reclaim heirloom_without_slot_reclaim
    "without-batch_notify" without_batch_notify heirloom_without_batch_notify
    "without-pace" without_pace heirloom_without_pace
    "without-handle_stock" without_handle_stock heirloom_without_handle_stock
    "without-pins" without_pins heirloom_without_pins
    "without-borrow_count" without_borrow_count heirloom_without_borrow_count
    "without-read_short_path" without_read_short_path heirloom_without_read_short_path
}
