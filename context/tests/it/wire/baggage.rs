use heirloom_context::Context;
use heirloom_context::wire::baggage::{LeftOut, MAX_BYTES, MAX_MEMBER_BYTES, MAX_MEMBERS, Writer, members};

use super::{TENANT, TEXT, USER, headers_of};

/// The values that are read of one line, with their names.
fn read(line: &str) -> Vec<(String, String)> {
    members(line.as_bytes()).flatten().map(|member| (member.name.into(), member.value.into())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// What is sent for the value of a text.
fn written(text: &str) -> String {
    headers_of(&Context::empty().with_var(&TEXT, text.to_owned()))["baggage"].clone()
}

#[test]
fn a_percent_sign_is_escaped_and_arrives_as_itself() {
    assert_eq!(written("%41"), "text=%2541");
    assert_eq!(written("100%25"), "text=100%2525");
    for text in ["%41", "100%25", "%", "%%", "%2"] {
        assert_eq!(read(&written(text)), pairs(&[("text", text)]));
    }
}

#[test]
fn a_percent_sign_of_a_peer_that_does_not_escape_it_is_kept_where_that_is_possible() {
    assert_eq!(
        read("a=100%,b=%4,c=%zz,d=%%41"),
        pairs(&[("a", "100%"), ("b", "%4"), ("c", "%zz"), ("d", "%A")])
    );
}

#[test]
fn an_equals_sign_may_stand_in_a_value() {
    assert_eq!(read("tok=YWJjZA==,x==,y=a=b"), pairs(&[("tok", "YWJjZA=="), ("x", "="), ("y", "a=b")]));
    // Encoded all the same: there are readers that cut a value at it.
    assert_eq!(written("YWJjZA=="), "text=YWJjZA%3D%3D");
}

#[test]
fn names_are_tokens_and_compared_as_they_are() {
    // A `%` is a letter of a token: it stands for itself.
    assert_eq!(read("user%20id=1,User=2,user=3"), pairs(&[("user%20id", "1"), ("User", "2"), ("user", "3")]));
    for malformed in ["us er=1", "us\"er=1", "=1", "user", "us(er)=1", "üser=1", "us@er=1", "us/er=1"] {
        assert_eq!(members(malformed.as_bytes()).filter(Result::is_err).count(), 1, "{malformed}");
    }
}

#[test]
fn properties_are_encoded_and_what_is_not_understood_is_kept() {
    let mut writer = Writer::new();
    let properties = [("plain", None), ("note", Some("größer, 100 %;")), ("k", Some(""))];
    writer.member("user", |out| out.write_str("7"), &properties).unwrap();
    let line = writer.finish();
    assert_eq!(line, "user=7;plain;note=gr%C3%B6%C3%9Fer%2C%20100%20%25%3B;k=");

    // Not a part of the value, and no reason to lose the member, whatever their bytes are.
    let line = "user=7;a;b = c;;%zz,text= x ;größe=é".as_bytes();
    let read: Vec<_> = members(line).map(Result::unwrap).collect();
    assert_eq!((read[0].name, &*read[0].value, read[0].properties), ("user", "7", &b"a;b = c;;%zz"[..]));
    assert_eq!((read[1].name, &*read[1].value), ("text", "x"));
    assert_eq!(read[1].properties, "größe=é".as_bytes());

    let wrong = Writer::new().member("user", |out| out.write_str("7"), &[("no token", None)]);
    assert_eq!(wrong, Err(LeftOut::Unwritable));
}

#[test]
fn a_blank_is_written_as_hexadecimal_and_a_plus_is_a_plus() {
    assert_eq!(written("a b"), "text=a%20b");
    // Encoded: there are readers that take it for a blank.
    assert_eq!(written("+49 a+b"), "text=%2B49%20a%2Bb");
    assert_eq!(read("a=+49,b=a+b,c=a%20b"), pairs(&[("a", "+49"), ("b", "a+b"), ("c", "a b")]));
}

#[test]
fn encoded_blanks_at_the_ends_are_kept_and_raw_ones_are_not() {
    assert_eq!(written(" x "), "text=%20x%20");
    assert_eq!(read("text=%20x%20"), pairs(&[("text", " x ")]));
    assert_eq!(read(" text =\t x \t, a = b"), pairs(&[("text", "x"), ("a", "b")]));
}

#[test]
fn a_value_may_be_empty_and_have_any_character() {
    assert_eq!(written(""), "text=");
    assert_eq!(written("\"\\,;\n\0\u{7f}é\u{1F600}"), "text=%22%5C%2C%3B%0A%00%7F%C3%A9%F0%9F%98%80");
    let every: String = (0..=0x2FF).filter_map(char::from_u32).collect();
    assert_eq!(read(&written(&every)), pairs(&[("text", &every)]));
}

#[test]
fn digits_of_both_cases_are_read() {
    assert_eq!(read("a=%c3%A9"), pairs(&[("a", "é")]));
}

#[test]
fn encoded_bytes_that_are_no_text_are_replaced_as_the_standard_says() {
    assert_eq!(read("a=x%FFy"), pairs(&[("a", "x\u{FFFD}y")]));
}

#[test]
fn empty_members_are_no_members() {
    assert_eq!(read(""), []);
    assert_eq!(read(" ,, a=1 ,,\t,b=2,"), pairs(&[("a", "1"), ("b", "2")]));
}

#[test]
fn a_member_with_control_characters_or_beyond_ascii_is_malformed_and_alone() {
    for bad in [&b"x=\x01"[..], b"x=\x7f", b"x=a\tb", b"x=\xc3\xa9", b"x=\xff", b"x", b"=", b"\x00=1"] {
        let line = [b"a=1,", bad, b",b=2"].concat();
        let read: Vec<_> = members(&line).map(|member| member.ok().map(|member| member.name)).collect();
        assert_eq!(read, [Some("a"), None, Some("b")], "{bad:?}");
    }
}

#[test]
fn letters_that_the_standard_wants_encoded_are_read_where_they_harm_nothing() {
    assert_eq!(read(r#"a="x y",b=\"#), pairs(&[("a", r#""x y""#), ("b", r"\")]));
}

#[test]
fn members_stand_in_the_order_of_their_variables() {
    let context =
        Context::empty().with_var(&USER, 1).with_var(&TENANT, "acme".into()).with_var(&TEXT, "x".into());
    let first = headers_of(&context)["baggage"].clone();
    // The order in which they were bound does not matter.
    let other = Context::empty().with_var(&TEXT, "x".into()).with_var(&TENANT, "acme".into());
    assert_eq!(headers_of(&other.with_var(&USER, 1))["baggage"], first);
    assert_eq!(read(&first).len(), 3);
}

/// A writer with so many members.
fn with_members(count: usize) -> Writer {
    let mut writer = Writer::new();
    for number in 0..count {
        writer.member(&format!("m{number}"), |out| out.write_str("1"), &[]).unwrap();
    }
    writer
}

#[test]
fn the_65th_member_is_left_out() {
    let mut writer = with_members(MAX_MEMBERS);
    assert_eq!(writer.member("more", |out| out.write_str("1"), &[]), Err(LeftOut::Members));
    let line = writer.finish();
    assert_eq!(read(&line).len(), 64);
    assert!(line.ends_with(",m63=1"), "{line}");
}

#[test]
fn a_member_of_4096_encoded_bytes_is_written_and_one_of_4097_is_left_out() {
    // A blank has three encoded bytes.
    let value = |bytes: usize| " ".repeat((bytes - 2) / 3) + &"x".repeat((bytes - 2) % 3);
    let mut writer = Writer::new();
    writer.member("a", |out| out.write_str(&value(MAX_MEMBER_BYTES)), &[]).unwrap();
    let too_long = writer.member("b", |out| out.write_str(&value(MAX_MEMBER_BYTES + 1)), &[]);
    assert_eq!(too_long, Err(LeftOut::MemberBytes));
    let with_property = writer.member("b", |out| out.write_str(&value(MAX_MEMBER_BYTES)), &[("p", None)]);
    assert_eq!(with_property, Err(LeftOut::MemberBytes));
    writer.member("c", |out| out.write_str("1"), &[]).unwrap();
    let line = writer.finish();
    assert_eq!(line.len(), MAX_MEMBER_BYTES + ",c=1".len());
    assert_eq!(read(&line).len(), 2);
}

#[test]
fn a_header_of_8192_encoded_bytes_is_written_and_no_byte_more() {
    let mut writer = Writer::new();
    writer.member("a", |out| out.write_str(&"x".repeat(4_000)), &[]).unwrap();
    let used = "a=".len() + 4_000 + ",b=".len();
    let rest = MAX_BYTES - used - ",c=".len() - 100;
    writer.member("b", |out| out.write_str(&"x".repeat(rest)), &[]).unwrap();
    assert_eq!(writer.member("c", |out| out.write_str(&"x".repeat(101)), &[]), Err(LeftOut::Bytes));
    writer.member("c", |out| out.write_str(&"x".repeat(100)), &[]).unwrap();
    assert_eq!(writer.finish().len(), MAX_BYTES);
}

#[test]
fn the_writer_of_a_value_without_end_is_stopped() {
    let mut writes = 0;
    let endless = |out: &mut dyn std::fmt::Write| loop {
        writes += 1;
        out.write_str("0123456789")?;
    };
    assert_eq!(Writer::new().member("a", endless, &[]), Err(LeftOut::MemberBytes));
    assert_eq!(writes, MAX_MEMBER_BYTES / 10 + 1);
}
