//! Shows a language that is put on and taken off as on a stack: a mail to a French, a German and an
//! English recipient in one request, a note to an administrator in between, and a text that is
//! rendered later in the language it was written in.

use std::fmt;

use heirloom::context::future::join_all;
use heirloom::{Context, context_var, yield_now};

context_var! {
    /// The language in which texts are rendered.
    static LANGUAGE: &'static str = "en";
    /// Who is written to.
    static RECIPIENT: &'static str;
}

/// A text of the catalogue in the current language.
fn translate(text: &'static str) -> &'static str {
    match (LANGUAGE.get(), text) {
        ("fr", "Hello") => "Bonjour",
        ("fr", "Your order is on its way") => "Votre commande est en route",
        ("fr", "Goodbye") => "Au revoir",
        ("de", "Hello") => "Guten Tag",
        ("de", "Your order is on its way") => "Ihre Bestellung ist unterwegs",
        ("de", "Goodbye") => "Auf Wiedersehen",
        ("de", "Mail sent to") => "Mail gesendet an",
        _ => text,
    }
}

/// A text that is rendered when it is needed, in the language that was current when it was made.
struct Deferred {
    text: &'static str,
    context: Context,
}

fn deferred(text: &'static str) -> Deferred {
    Deferred { text, context: Context::current() }
}

impl fmt::Display for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.context.run(|| translate(self.text)))
    }
}

/// The administrator reads German, whichever user the mail is for.
async fn note_for_the_administrator() -> String {
    let _language = LANGUAGE.bind("de");
    yield_now().await;
    format!("{} {}", translate("Mail sent to"), RECIPIENT.get().unwrap_or("?"))
}

/// Writes in the current language; it takes no language and passes none on.
async fn write_mail() -> (String, String) {
    let mut mail = format!("{}, {}. ", translate("Hello"), RECIPIENT.get().unwrap_or("?"));
    yield_now().await;
    let note = note_for_the_administrator().await;
    mail += translate("Your order is on its way");
    yield_now().await;
    mail += ". ";
    mail += translate("Goodbye");
    (mail + "!", note)
}

const RECIPIENTS: [(&str, &str); 3] = [("Amélie", "fr"), ("Jürgen", "de"), ("Kim", "en")];

const EXPECTED: [&str; 3] = [
    "Bonjour, Amélie. Votre commande est en route. Au revoir!",
    "Guten Tag, Jürgen. Ihre Bestellung ist unterwegs. Auf Wiedersehen!",
    "Hello, Kim. Your order is on its way. Goodbye!",
];

fn check(written: &[(String, String)]) {
    for ((mail, note), (expected, (name, _))) in written.iter().zip(EXPECTED.iter().zip(RECIPIENTS)) {
        assert_eq!(mail, expected);
        assert_eq!(note, &format!("Mail gesendet an {name}"));
    }
}

#[heirloom::main]
pub(crate) async fn main() {
    println!("one after the other:");
    let mut written = Vec::new();
    let mut subject = None;
    for (name, language) in RECIPIENTS {
        let _recipient = RECIPIENT.bind(name);
        let _language = LANGUAGE.bind(language);
        let (mail, note) = write_mail().await;
        println!("  {mail:<68} ({note})");
        written.push((mail, note));
        if language == "fr" {
            subject = Some(deferred("Your order is on its way"));
        }
        // Here the guards go, and with them the language; also after a `?` or a panic.
    }
    check(&written);
    assert_eq!(LANGUAGE.get(), "en");

    println!("all three at once, in one task, each branch in a layer of its own:");
    let branches = RECIPIENTS.map(|(name, language)| async move {
        RECIPIENT.set(name);
        LANGUAGE.set(language);
        write_mail().await
    });
    let written = join_all(branches).await;
    for (mail, _) in &written {
        println!("  {mail}");
    }
    check(&written);

    let subject = subject.expect("one of them is French");
    println!("written in French, rendered now: {subject}");
    println!("the same text out here:          {}", translate("Your order is on its way"));
    assert_eq!(subject.to_string(), "Votre commande est en route");
    assert_eq!(translate("Your order is on its way"), "Your order is on its way");
}
