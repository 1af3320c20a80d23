//! Reading a context without entering it: entries, differences, equality, `Debug`.

use std::fmt;

use heirloom_context::{Change, Context, ContextVar, VarOptions, context_var};

use crate::support::on_a_fresh_thread;

#[derive(Clone)]
struct Secret(#[allow(dead_code, reason = "there to be hidden")] &'static str);

#[derive(Clone, Debug)]
struct Point {
    x: i32,
    y: i32,
}

#[allow(clippy::ptr_arg, reason = "the hook of a variable takes a reference to its type")]
fn shout(text: &String, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "<{}>", text.to_uppercase())
}

context_var! {
    static TOKEN: Secret;
    static POINT: Point, debug = Debug;
    static WORD: String, debug = shout;
    static PLAIN: u32;
    static VEILED: Secret, debug = |_, f| f.write_str("veiled");
    static DEFAULTED: u32 = 3, debug = Debug;
}

fn names(context: &Context) -> Vec<&'static str> {
    let mut names: Vec<_> = context.iter().map(|entry| entry.name()).collect();
    names.sort_unstable();
    names
}

fn changes(from: &Context, to: &Context) -> Vec<(&'static str, Change)> {
    let mut changes: Vec<_> = from.diff(to).iter().map(|change| (change.name(), change.change())).collect();
    changes.sort_unstable_by_key(|(name, _)| *name);
    changes
}

#[test]
fn iteration_names_each_bound_variable_once() {
    on_a_fresh_thread(|| {
        PLAIN.set(1);
        PLAIN.set(2);
        POINT.set(Point { x: 1, y: 2 });
        WORD.set("gone".into());
        WORD.unset();
        assert_eq!(DEFAULTED.get(), 3);
        let names = names(&Context::current());
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].ends_with("PLAIN") && names[1].ends_with("POINT"), "{names:?}");
    });
}

#[test]
fn entries_know_the_type_of_their_value() {
    let context = Context::empty().with_var(&PLAIN, 1);
    let entry = context.iter().next().unwrap();
    assert_eq!(entry.type_name(), std::any::type_name::<u32>());
    assert_eq!(entry.name(), PLAIN.name());
}

#[test]
fn values_show_their_text_only_where_the_variable_opted_in() {
    let context = Context::empty()
        .with_var(&TOKEN, Secret("hush"))
        .with_var(&POINT, Point { x: 1, y: 2 })
        .with_var(&WORD, "loud".to_string())
        .with_var(&PLAIN, 4711);
    let text = |name: &str| {
        context.iter().find(|entry| entry.name() == name).expect("an entry of that name").debug_text()
    };
    assert_eq!(text(TOKEN.name()), None);
    assert_eq!(text(PLAIN.name()), None);
    assert_eq!(text(POINT.name()).as_deref(), Some("Point { x: 1, y: 2 }"));
    assert_eq!(text(WORD.name()).as_deref(), Some("<LOUD>"));

    let debug = format!("{context:?}");
    assert!(debug.contains(POINT.name()) && debug.contains(TOKEN.name()), "{debug}");
    assert!(!debug.contains("hush"), "a value that did not opt in must not be printed: {debug}");
    assert!(!debug.contains("4711"), "a value that did not opt in must not be printed: {debug}");
    assert!(!format!("{:?}", context.iter().collect::<Vec<_>>()).contains("hush"));
    assert!(!format!("{:?}", Context::empty().diff(&context)).contains("hush"));
}

#[test]
fn run_time_variables_opt_in_by_their_options() {
    fn bits(number: &u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{number:08b}")
    }
    let variable = ContextVar::with_options("bits", VarOptions { debug: Some(bits), ..VarOptions::new() });
    let context = Context::empty().with_var(&variable, 5);
    assert_eq!(context.iter().next().unwrap().debug_text().as_deref(), Some("00000101"));
}

#[test]
fn iteration_ends_and_counts_as_len_does() {
    let amount = if cfg!(miri) { 20 } else { 100 };
    let variables: Vec<ContextVar<usize>> = (0..amount).map(|_| ContextVar::new("one of many")).collect();
    let mut context = Context::empty();
    for (number, variable) in variables.iter().enumerate() {
        assert_eq!(context.len(), number);
        assert_eq!(context.iter().count(), number);
        context = context.with_var(variable, number);
    }
    assert!(!context.is_empty());
    for (number, variable) in variables.iter().enumerate() {
        assert!(context.contains(variable));
        context = context.without_var(variable);
        assert!(!context.contains(variable));
        assert_eq!(context.iter().count(), amount - 1 - number);
    }
    assert!(context.is_empty());
}

#[test]
fn diff_names_what_was_added_removed_and_replaced() {
    let from = Context::empty().with_var(&PLAIN, 1).with_var(&WORD, "old".into()).with_var(&DEFAULTED, 1);
    let to = from.without_var(&PLAIN).with_var(&WORD, "new".into()).with_var(&POINT, Point { x: 0, y: 0 });
    assert_eq!(
        changes(&from, &to),
        {
            let mut expected = vec![
                (PLAIN.name(), Change::Removed),
                (POINT.name(), Change::Added),
                (WORD.name(), Change::Replaced),
            ];
            expected.sort_unstable_by_key(|(name, _)| *name);
            expected
        },
        "seen from `from`, and nothing of what stayed"
    );
    assert_eq!(
        changes(&to, &from).into_iter().map(|(_, change)| change).collect::<Vec<_>>(),
        [Change::Added, Change::Removed, Change::Replaced],
        "and the other way round"
    );
    let point = from.diff(&to).into_iter().find(|change| change.change() == Change::Added).unwrap();
    assert_eq!(point.type_name(), std::any::type_name::<Point>());
}

#[test]
fn diff_of_equal_contexts_is_empty() {
    let context = Context::empty().with_var(&PLAIN, 1).with_var(&WORD, "same".into());
    assert!(context.diff(&context).is_empty());
    assert!(context.diff(&context.clone()).is_empty());
    assert!(Context::empty().diff(&Context::empty()).is_empty());
    let there_and_back = context.with_var(&DEFAULTED, 1).without_var(&DEFAULTED);
    assert!(context.diff(&there_and_back).is_empty());
}

#[test]
fn contexts_are_equal_when_the_very_same_values_are_bound() {
    let one = Context::empty().with_var(&PLAIN, 1);
    assert_eq!(one, one.clone());
    assert_eq!(one, one.with_var(&WORD, "more".into()).without_var(&WORD));
    assert_ne!(one, Context::empty().with_var(&PLAIN, 1), "an equal value is not the same value");
    assert_ne!(one, one.with_var(&PLAIN, 1));
    assert_ne!(one, Context::empty());
    assert_ne!(one, one.with_var(&WORD, "more".into()));
    assert_eq!(one.without_var(&PLAIN), Context::empty());
    assert_eq!(one.without_var(&WORD), one, "to remove what is not there changes nothing");
}

#[test]
fn the_order_of_binding_is_of_no_account() {
    let (first, second) = (ContextVar::<u32>::new("first"), ContextVar::<u32>::new("second"));
    let base = Context::empty().with_var(&first, 1).with_var(&second, 2);
    // The same two values, bound again in the other order by resets.
    let again = base.run(|| {
        let second_token = second.unset();
        let first_token = first.unset();
        second.reset(second_token).unwrap();
        first.reset(first_token).unwrap();
        Context::current()
    });
    assert_eq!(base, again);
    assert!(base.diff(&again).is_empty());
}

#[test]
fn current_equals_the_context_that_was_entered() {
    let context = Context::empty().with_var(&PLAIN, 1).with_var(&WORD, "here".into());
    context.run(|| {
        assert_eq!(Context::current(), context);
        PLAIN.scope(2, || assert_ne!(Context::current(), context));
        assert_eq!(Context::current(), context);
    });
}

#[test]
fn the_fields_of_a_point_are_read() {
    // `Point` derives `Debug` for the entries; its fields are read here so that the type is an
    // ordinary one.
    let context = Context::empty().with_var(&POINT, Point { x: 3, y: 4 });
    let point = context.get(&POINT).unwrap();
    assert_eq!((point.x, point.y), (3, 4));
}

#[test]
fn a_type_without_debug_may_be_shown_by_a_closure() {
    on_a_fresh_thread(|| {
        VEILED.set(Secret("veil"));
        let shown = format!("{:?}", Context::current());
        assert!(shown.contains("veiled") && !shown.contains("veil\""), "{shown}");
    });
}
