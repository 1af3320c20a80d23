//! What is written is read, for every value.

use std::collections::HashMap;

use heirloom_context::wire::baggage::{MAX_BYTES, MAX_MEMBER_BYTES, Writer, members};
use heirloom_context::wire::{Inbound, REQUEST_TIMEOUT, inject_with};
use heirloom_context::{Context, context_var};
use proptest::prelude::*;

use super::{Lines, TENANT, TEXT, USER};

context_var! {
    static BLOB: Vec<u8>, wire = Wire::bytes("blob");
    static LETTER: char, wire = "letter";
}

fn inbound() -> Inbound {
    Inbound::new().var(&TENANT).var(&USER).var(&TEXT).var(&BLOB).var(&LETTER)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::support::cases(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_value_arrives_as_it_was(
        tenant: Option<String>,
        user: Option<u64>,
        text in "\\PC*",
        blob: Option<Vec<u8>>,
        letter: char,
    ) {
        let mut context = Context::empty().with_var(&TEXT, text).with_var(&LETTER, letter);
        if let Some(tenant) = tenant {
            context = context.with_var(&TENANT, tenant);
        }
        if let Some(user) = user {
            context = context.with_var(&USER, user);
        }
        if let Some(blob) = blob {
            context = context.with_var(&BLOB, blob);
        }
        let mut headers = HashMap::new();
        let injected = context.run(|| inject_with(&mut headers, REQUEST_TIMEOUT, None));
        prop_assert_eq!(injected.dropped(), []);
        let baggage = &headers["baggage"];
        prop_assert!(baggage.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{}", baggage);
        let received = inbound().extract(&headers);
        prop_assert_eq!(received.dropped(), []);
        let back = received.bind(&Context::empty());
        prop_assert_eq!(back.get(&TENANT), context.get(&TENANT));
        prop_assert_eq!(back.get(&USER), context.get(&USER));
        prop_assert_eq!(back.get(&TEXT), context.get(&TEXT));
        prop_assert_eq!(back.get(&BLOB), context.get(&BLOB));
        prop_assert_eq!(back.get(&LETTER), context.get(&LETTER));
    }

    #[test]
    fn any_bytes_are_read_without_harm(lines: Vec<Vec<u8>>) {
        let lines: Vec<_> = lines.iter().map(|line| ("baggage", &line[..])).collect();
        let received = inbound().extract(&Lines::of(&lines));
        prop_assert!(received.dropped().len() <= 66);
    }

    #[test]
    fn what_was_received_is_sent_on_as_it_was(line in "(tenant|user|text|letter|x)=[a-z0-9%;=+ \\PC]{0,12}(,(tenant|user|text|letter|x)=[a-z0-9%;=+ \\PC]{0,12}){0,9}") {
        let context = inbound().extract(&Lines::baggage(line.as_bytes())).bind(&Context::empty());
        let mut headers = HashMap::new();
        context.run(|| inject_with(&mut headers, REQUEST_TIMEOUT, None));
        let again = inbound().extract(&headers).bind(&Context::empty());
        prop_assert_eq!(again.get(&TENANT), context.get(&TENANT));
        prop_assert_eq!(again.get(&USER), context.get(&USER));
        prop_assert_eq!(again.get(&TEXT), context.get(&TEXT));
        prop_assert_eq!(again.get(&LETTER), context.get(&LETTER));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::support::cases(60),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_header_is_never_over_the_caps_and_has_whole_members(
        values in prop::collection::vec((0..3_000_usize, "[a ,%é]"), 0..80),
    ) {
        let mut writer = Writer::new();
        let mut written = Vec::new();
        for (length, letter) in values {
            let (name, value) = (format!("m{}", written.len()), letter.repeat(length));
            if writer.member(&name, |out| out.write_str(&value), &[]).is_ok() {
                written.push((name, value));
            }
        }
        let line = writer.finish();
        prop_assert!(line.len() <= MAX_BYTES);
        prop_assert!(line.split(',').all(|member| member.len() <= MAX_MEMBER_BYTES));
        let read: Vec<_> = members(line.as_bytes())
            .map(|member| member.map(|member| (member.name.to_owned(), member.value.into_owned())).unwrap())
            .collect();
        prop_assert!(read.len() <= 64);
        prop_assert_eq!(read, written);
    }
}
